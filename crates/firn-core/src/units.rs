//! Integers as settings, flags and parameters of stores have them.

/// What is wrong with an integer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadInteger {
    #[error("invalid unit specifier '{0}'")]
    Unit(char),
    #[error("'{0}' is not an integer")]
    NotInteger(String),
}

/// An integer with an optional unit K, M, G or T (powers of 1024).
pub fn parse_integer(text: &str) -> Result<i128, BadInteger> {
    let (digits, multiplier) = match text.chars().last() {
        Some(unit) if unit.is_ascii_alphabetic() => {
            let shift = match unit.to_ascii_uppercase() {
                'K' => 10,
                'M' => 20,
                'G' => 30,
                'T' => 40,
                other => return Err(BadInteger::Unit(other)),
            };
            (&text[..text.len() - 1], 1i128 << shift)
        }
        _ => (text, 1),
    };
    let number = match (digits.parse::<i64>(), digits.parse::<u64>()) {
        (Ok(number), _) => i128::from(number),
        (_, Ok(number)) => i128::from(number),
        _ => return Err(BadInteger::NotInteger(digits.to_owned())),
    };
    Ok(number * multiplier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<i128, &str>) {
        assert_eq!(parse_integer(text).map_err(|e| e.to_string()), expected.map_err(str::to_owned));
    }

    #[test]
    fn integers_and_units() {
        check("0", Ok(0));
        check("-1", Ok(-1));
        check("5M", Ok(5 << 20));
        check("2k", Ok(2048));
        check("18446744073709551615T", Ok(i128::from(u64::MAX) << 40));
        check("", Err("'' is not an integer"));
        check("M", Err("'' is not an integer"));
        check("5X", Err("invalid unit specifier 'X'"));
        check("1.5G", Err("'1.5' is not an integer"));
        check("18446744073709551616", Err("'18446744073709551616' is not an integer"));
    }
}
