//! What a failed attempt means, and how long to wait for the next.

use crate::error::ErrorKind;
use std::time::{Duration, SystemTime};

/// What a status means, by the reference's rules.
pub(crate) fn classify(status: u16) -> ErrorKind {
    match status {
        404 | 410 => ErrorKind::NotFound,
        401 | 403 | 407 => ErrorKind::Forbidden,
        429 | 408 => ErrorKind::Transient,
        400..=499 => ErrorKind::Misc,
        // Not implemented, version not supported, captive portal.
        501 | 505 | 511 => ErrorKind::Misc,
        _ => ErrorKind::Transient,
    }
}

/// Statuses that mean success.
pub(crate) fn is_success(status: u16) -> bool {
    matches!(status, 200 | 201 | 204 | 206 | 304)
}

/// Longest that a server may make us wait, in seconds.
const LONGEST: u64 = 300;

/// The wait before the attempt after number `attempt` (from 1): it doubles, with up to half of a doubling at random so
/// that many clients do not come back together. Servers that are asked too much say so, and how long to wait.
pub(crate) fn delay(base: Duration, attempt: u32, status: Option<u16>, retry_after: Option<u64>) -> Duration {
    if let Some(seconds) = retry_after {
        return Duration::from_secs(seconds.min(LONGEST));
    }
    let base = if status == Some(429) { base * 240 } else { base };
    let exponent = f64::from(attempt.saturating_sub(1).min(16)) + random() * 0.5;
    base.mul_f64(exponent.exp2()).min(Duration::from_secs(LONGEST))
}

/// What `Retry-After` says in seconds from now: their number, or a date.
pub(crate) fn retry_after(value: &str) -> Option<u64> {
    let value = value.trim();
    value.parse().ok().or_else(|| {
        let until = httpdate::parse_http_date(value).ok()?;
        Some(until.duration_since(SystemTime::now()).map_or(0, |left| left.as_secs() + 1))
    })
}

/// A number in 0..1, good enough to spread clients.
fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        use ErrorKind::*;
        let all = [(404, NotFound), (403, Forbidden), (407, Forbidden), (429, Transient), (408, Transient)];
        for (status, kind) in
            all.into_iter().chain([(400, Misc), (500, Transient), (503, Transient), (501, Misc)])
        {
            assert_eq!(classify(status), kind, "{status}");
        }
    }

    #[test]
    fn delays() {
        let base = Duration::from_millis(250);
        for attempt in 1..5u32 {
            let wait = delay(base, attempt, Some(500), None);
            let least = base * 2u32.pow(attempt - 1);
            assert!(wait >= least && wait <= least.mul_f64(1.5), "{attempt}: {wait:?}");
        }
        assert!(delay(base, 1, Some(429), None) >= Duration::from_secs(60));
        assert_eq!(delay(base, 1, Some(429), Some(2)), Duration::from_secs(2));
        assert_eq!(delay(base, 1, Some(503), Some(9999)), Duration::from_secs(300));
    }

    #[test]
    fn waits_that_servers_ask_for() {
        assert_eq!(retry_after(" 17 "), Some(17));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        let left = retry_after(&soon);
        assert!(left.is_some_and(|left| (28..=31).contains(&left)), "{left:?}");
        assert_eq!(retry_after("soon"), None);
        assert_eq!(retry_after("-3"), None);
    }
}
