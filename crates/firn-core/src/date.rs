//! Dates of the Gregorian calendar in UTC, from seconds since 1970.

/// Year, month, day, and the seconds of that day.
fn civil(time: i64) -> (i64, i64, i64, i64) {
    let (days, seconds) = (time.div_euclid(86_400), time.rem_euclid(86_400));
    // Days since 1 March of year 0 in years of the Gregorian cycle; see Hinnant, "chrono-compatible low-level date algorithms".
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day, seconds)
}

/// `2026-11-25`, of seconds since 1970.
pub fn date(time: u64) -> String {
    let (year, month, day, _) = civil(i64::try_from(time).unwrap_or(0));
    format!("{year:04}-{month:02}-{day:02}")
}

/// `2026-11-25 20:15:00`.
pub fn date_and_time(time: u64) -> String {
    let (.., seconds) = civil(i64::try_from(time).unwrap_or(0));
    format!("{} {:02}:{:02}:{:02}", date(time), seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `20261125201500`, as the attribute `lastModifiedDate` of fetched trees has it.
pub fn digits(time: i64) -> String {
    let (year, month, day, seconds) = civil(time);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date_and_time(1_668_165_071), "2022-11-11 11:11:11");
        assert_eq!(date(u64::MAX), "1970-01-01");
        for (time, expected) in [
            (0, "19700101000000"),
            (951_782_400, "20000229000000"),
            (1_668_165_071, "20221111111111"),
            (4_102_444_799, "20991231235959"),
        ] {
            assert_eq!(digits(time), expected);
        }
    }
}
