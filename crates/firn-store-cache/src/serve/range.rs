//! The `Range` header: one range of bytes.

/// What part of a file of some size is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    /// From the first to the last byte, both included.
    Some(u64, u64),
    /// There is no such part.
    Unsatisfiable,
}

/// Reads the header. What is not understood is ignored, as it must be.
pub(crate) fn parse(header: Option<&str>, size: u64) -> Part {
    let Some(range) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Part::All };
    let Some((first, last)) = range.split_once('-') else { return Part::All };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            None => Part::All,
            Some(0) => Part::Unsatisfiable,
            Some(_) if size == 0 => Part::Unsatisfiable,
            Some(n) => Part::Some(size.saturating_sub(n), size - 1),
        },
        (first, last) => {
            let Some(first) = number(first) else { return Part::All };
            let last = match last {
                "" => size.saturating_sub(1),
                text => match number(text) {
                    Some(last) if last >= first => last.min(size.saturating_sub(1)),
                    _ => return Part::All,
                },
            };
            if first >= size { Part::Unsatisfiable } else { Part::Some(first, last) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, expected: Part) {
        assert_eq!(parse(Some(header), 100), expected);
    }

    #[test]
    fn ranges() {
        check("bytes=0-9", Part::Some(0, 9));
        check("bytes=90-", Part::Some(90, 99));
        check("bytes=90-1000", Part::Some(90, 99));
        check("bytes=-10", Part::Some(90, 99));
        check("bytes=-1000", Part::Some(0, 99));
        check("bytes=100-", Part::Unsatisfiable);
        check("bytes=-0", Part::Unsatisfiable);
        check("bytes=9-3", Part::All);
        check("bytes=0-1,5-6", Part::All);
        check("lines=1-2", Part::All);
        check("bytes=99999999999999999999-", Part::All);
        assert_eq!(parse(None, 100), Part::All);
        assert_eq!(parse(Some("bytes=0-"), 0), Part::Unsatisfiable);
    }
}
