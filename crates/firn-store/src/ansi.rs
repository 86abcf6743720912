//! Terminal control sequences in foreign text: what of them may reach a user's screen or a log.

/// `text` without control sequences, but for colours (`CSI … m`) where `keep_colours`. Every other sequence goes,
/// complete or cut off at the end: among them those by which nixpkgs' stdenv marks nesting and levels. Tabs
/// become blanks up to the next of every eight columns, which as in the reference go on over the ends of lines;
/// carriage returns and bells go. At most `width` columns are kept, sequences not counted.
pub fn filter(text: &[u8], keep_colours: bool, width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    filter_into(text, keep_colours, width, &mut out);
    out
}

/// [`filter`], appending to `out`.
pub fn filter_into(text: &[u8], keep_colours: bool, width: usize, out: &mut Vec<u8>) {
    if text.len() <= width && is_plain(text) {
        return out.extend_from_slice(text);
    }
    let mut column = 0;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            0x1b => {
                let end = sequence_end(text, at);
                let is_colour = text.get(at + 1) == Some(&b'[') && text[at..end].last() == Some(&b'm');
                if keep_colours && is_colour {
                    out.extend_from_slice(&text[at..end]);
                }
                at = end;
                continue;
            }
            b'\t' => loop {
                if column == width {
                    return;
                }
                column += 1;
                out.push(b' ');
                if column.is_multiple_of(8) {
                    break;
                }
            },
            b'\r' | 0x07 => {}
            _ => {
                let (columns, bytes) = columns_of(&text[at..]);
                column += columns;
                if column > width {
                    return;
                }
                out.extend_from_slice(&text[at..at + bytes]);
                at += bytes;
                continue;
            }
        }
        at += 1;
    }
}

/// Whether every byte is a character of its own, one column wide.
pub fn is_plain(text: &[u8]) -> bool {
    // All of a piece at once, rather than up to the first that is not.
    let plain = |piece: &[u8]| piece.iter().fold(true, |all, byte| all & (0x20..0x7f).contains(byte));
    text.chunks(256).all(plain)
}

/// How many columns the first character takes, and how many bytes. What is no character takes one each.
fn columns_of(text: &[u8]) -> (usize, usize) {
    let byte = text[0];
    if (0x20..0x7f).contains(&byte) {
        return (1, 1);
    }
    if byte < 0x80 {
        return (0, 1);
    }
    let bytes = match byte {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        _ => return (1, 1),
    };
    let known = text.len().min(bytes);
    let tail = text[1..known].iter().take_while(|b| **b & 0xc0 == 0x80).count();
    if tail + 1 < bytes {
        return (tail + 1, tail + 1);
    }
    let c = std::str::from_utf8(&text[..bytes]).ok().and_then(|s| s.chars().next());
    (c.map_or(bytes, |c| unicode_width::UnicodeWidthChar::width(c).unwrap_or(0)), bytes)
}

/// Where the sequence that starts with the escape at `start` ends.
fn sequence_end(text: &[u8], start: usize) -> usize {
    let skip = |from: usize, class: fn(u8) -> bool| {
        from + text[from..].iter().take_while(|byte| class(**byte)).count()
    };
    match text.get(start + 1) {
        Some(b'[') => {
            let at = skip(start + 2, |byte| (0x30..=0x3f).contains(&byte));
            let at = skip(at, |byte| (0x20..=0x2f).contains(&byte));
            at + usize::from(text.get(at).is_some_and(|byte| (0x40..=0x7e).contains(byte)))
        }
        // An operating system command ends with a bell or with escape and backslash.
        Some(b']') => {
            let at = skip(start + 2, |byte| byte != 0x1b && byte != 0x07);
            match (text.get(at), text.get(at + 1)) {
                (Some(0x1b), Some(b'\\')) => at + 2,
                (Some(_), _) => at + 1,
                (None, _) => at,
            }
        }
        Some(0x40..=0x5f) => start + 2,
        _ => start + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, plain: &str, coloured: &str) {
        assert_eq!(String::from_utf8_lossy(&filter(text.as_bytes(), false, usize::MAX)), plain);
        assert_eq!(String::from_utf8_lossy(&filter(text.as_bytes(), true, usize::MAX)), coloured);
    }

    #[test]
    fn sequences() {
        check("a\x1b[31mb\x1b[0m", "ab", "a\x1b[31mb\x1b[0m");
        check("\x1b[3s\x1b[1p@nix\x1b[q\x1b[2a\x1b[b", "@nix", "@nix");
        check("x\x1b[12", "x", "x");
        check("x\x1b", "x", "x");
        check("\x1b]8;;http://e\x1b\\t\x1b]8;;\x07", "t", "t");
        check("a\tb\r\n\tc\x07", "a       b\n       c", "a       b\n       c");
        check("\x1b[2Kx\x1bMy", "xy", "xy");
    }

    #[test]
    fn width() {
        assert_eq!(filter("aé\x1b[1mbc".as_bytes(), true, 3), "aé\x1b[1mb".as_bytes());
        assert_eq!(filter(b"a\tb", false, 3), b"a  ");
    }
}
