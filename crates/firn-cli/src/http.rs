//! The program's HTTP client, and what it tells of its transfers.

use crate::context::Context;
use firn_http::{HttpClient, HttpConfig, TransferObserver, TransferProgress};
use firn_store::activity::{Activity, ActivityType, Logger, Verbosity};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Makes a client with the settings of `context`.
pub fn client(context: &Context) -> HttpClient {
    let observer = LoggerObserver { logger: Arc::clone(&context.logger) };
    HttpClient::new(HttpConfig::from_settings(&context.settings), Arc::new(observer))
}

/// Shows transfers as activities.
struct LoggerObserver {
    logger: Arc<dyn Logger>,
}

impl TransferObserver for LoggerObserver {
    fn warn(&self, message: &str) {
        self.logger.warn(message);
    }

    fn debug(&self, message: &str) {
        self.logger.log(Verbosity::Debug, message.as_bytes());
    }

    fn start(&self, text: &str, url: &str, parent: u64) -> Option<Box<dyn TransferProgress>> {
        let kind = ActivityType::FileTransfer;
        let fields = [url.into()];
        let activity = Activity::start(&self.logger, Verbosity::Talkative, kind, text, &fields, parent);
        Some(Box::new(Shown { activity, last: None }))
    }
}

/// How often the state of a transfer is told.
const INTERVAL: Duration = Duration::from_millis(50);

struct Shown {
    activity: Activity,
    last: Option<Instant>,
}

impl TransferProgress for Shown {
    fn progress(&mut self, done: u64, expected: u64) {
        if done != expected && self.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return;
        }
        self.last = Some(Instant::now());
        self.activity.progress(done, expected, 0, 0);
    }
}
