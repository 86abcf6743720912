//! Times as users read them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since the epoch.
pub fn seconds_now() -> i64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// `2026-01-31 23:59:59` for a time in seconds since the epoch, in the user's time zone.
pub fn local_time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("@{seconds}"),
    }
}

/// `2026-01-31` for a time in seconds since the epoch, in universal time.
pub fn utc_date(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d").to_string(),
        Err(_) => format!("@{seconds}"),
    }
}
