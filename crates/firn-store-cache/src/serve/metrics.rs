//! Counts of what was served, for Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub connections: AtomicU64,
    pub open_connections: AtomicU64,
    pub refused_connections: AtomicU64,
    pub requests: AtomicU64,
    pub narinfo: AtomicU64,
    pub narinfo_missing: AtomicU64,
    pub archives: AtomicU64,
    pub archives_failed: AtomicU64,
    pub archive_bytes: AtomicU64,
    pub listings: AtomicU64,
    pub logs: AtomicU64,
    pub realisations: AtomicU64,
    pub bad_requests: AtomicU64,
    pub errors: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Metrics {
    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        let rows: [(&str, &str, &str, &AtomicU64); 14] = [
            ("connections_total", "counter", "Connections accepted.", &self.connections),
            ("connections_open", "gauge", "Connections that are open.", &self.open_connections),
            (
                "connections_refused_total",
                "counter",
                "Connections above the limit.",
                &self.refused_connections,
            ),
            ("requests_total", "counter", "Requests.", &self.requests),
            ("narinfo_total", "counter", "Path infos found.", &self.narinfo),
            (
                "narinfo_missing_total",
                "counter",
                "Path infos asked for that are not here.",
                &self.narinfo_missing,
            ),
            ("archives_total", "counter", "Archives begun.", &self.archives),
            ("archives_failed_total", "counter", "Archives not sent to their end.", &self.archives_failed),
            ("archive_bytes_total", "counter", "Bytes of archives sent.", &self.archive_bytes),
            ("listings_total", "counter", "Listings.", &self.listings),
            ("logs_total", "counter", "Build logs.", &self.logs),
            ("realisations_total", "counter", "Realisations.", &self.realisations),
            ("bad_requests_total", "counter", "Requests that mean nothing.", &self.bad_requests),
            ("errors_total", "counter", "Requests that failed by the store.", &self.errors),
        ];
        let mut out = String::new();
        for (name, kind, help, value) in rows {
            let value = value.load(Ordering::Relaxed);
            let _ = write!(
                out,
                "# HELP firn_serve_{name} {help}\n# TYPE firn_serve_{name} {kind}\nfirn_serve_{name} {value}\n"
            );
        }
        out
    }
}
