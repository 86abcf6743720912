//! Servers that say that they are asked too much: nobody asks them before the time that they name, and who was turned
//! away is patient as long as others are served.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// What is known of each server that complained.
#[derive(Default)]
pub(crate) struct Paces {
    servers: Mutex<HashMap<String, Pace>>,
}

#[derive(Default)]
struct Pace {
    /// When it may be asked again.
    until: Option<Instant>,
    /// Requests that were answered since it first complained.
    served: u64,
}

impl Paces {
    /// How long a server is yet to be left alone.
    pub fn pause(&self, server: &str) -> Option<Duration> {
        let until = self.servers.lock().get(server)?.until?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// A server wants to be left alone for a while. False if that is known already.
    pub fn complain(&self, server: &str, wait: Duration) -> bool {
        let mut servers = self.servers.lock();
        let pace = servers.entry(server.to_owned()).or_default();
        let now = Instant::now();
        let is_new = pace.until.is_none_or(|until| until <= now);
        pace.until = pace.until.max(Some(now + wait));
        is_new
    }

    /// A request was answered.
    pub fn serve(&self, server: &str) {
        if let Some(pace) = self.servers.lock().get_mut(server) {
            pace.served += 1;
        }
    }

    /// A number that grows while requests are answered.
    pub fn served(&self, server: &str) -> u64 {
        self.servers.lock().get(server).map_or(0, |pace| pace.served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn complaints_end() {
        let paces = Paces::default();
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(60));
        assert_eq!(paces.pause("a"), None);
        paces.serve("a");
        assert_eq!(paces.served("a"), 0);
        assert!(paces.complain("a", short));
        assert!(!paces.complain("a", short));
        assert!(paces.pause("a").is_some_and(|left| left <= short) && paces.pause("b").is_none());
        paces.serve("a");
        assert_eq!((paces.served("a"), paces.served("b")), (1, 0));
        tokio::time::sleep(2 * short).await;
        assert_eq!(paces.pause("a"), None);
        assert!(paces.complain("a", long));
        // The longer one counts.
        assert!(!paces.complain("a", short));
        assert!(paces.pause("a").is_some_and(|left| left > short));
    }
}
