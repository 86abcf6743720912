//! Bytes of programs in texts of ours: messages are text, and quote what builders said, which may be anything.
//!
//! A byte that is no part of UTF-8 stands in the text as a character at the end of Unicode's range for private use. Where
//! such a character was meant, its own bytes stand so, so that nothing else can come back than what went in.

use std::borrow::Cow;

/// What byte 0 would stand as; those from 0x80 on are used.
const BASE: u32 = 0x10_ff00;

fn is_marked(c: char) -> bool {
    u32::from(c) >= BASE + 0x80
}

fn mark(byte: u8) -> char {
    char::from_u32(BASE + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Bytes as text.
pub fn keep(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(is_marked)
    {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match is_marked(c) {
                true => text.extend(c.encode_utf8(&mut [0; 4]).bytes().map(mark)),
                false => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().copied().map(mark));
    }
    Cow::Owned(text)
}

/// The bytes that a text with such parts stands for.
pub fn restore(text: &str) -> Cow<'_, [u8]> {
    if !text.chars().any(is_marked) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match is_marked(c) {
            true => bytes.push((u32::from(c) & 0xff) as u8),
            false => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// The text with a replacement character for what is not UTF-8.
pub fn readable(text: &str) -> Cow<'_, str> {
    match restore(text) {
        Cow::Borrowed(_) => Cow::Borrowed(text),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost() {
        let check = |bytes: &[u8]| {
            let text = keep(bytes).into_owned();
            assert_eq!(restore(&text), bytes, "{text:?}");
        };
        check(b"");
        check("plain, é, \u{10ff7f}".as_bytes());
        check(b"caf\xe9 ok");
        check(b"\xff\xfe\x80\xc3");
        check("\u{10ff80}\u{10fffd}\u{10ffff}".as_bytes());
        check(&[b"\xe2\x82".as_slice(), "\u{10ffe9}".as_bytes(), b"\xe9"].concat());
        check(&(0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn what_is_text_stays_as_it_is() {
        assert!(matches!(keep("é\u{10ff00}".as_bytes()), Cow::Borrowed("é\u{10ff00}")));
        assert!(matches!(restore("é"), Cow::Borrowed(_)));
        assert_eq!(readable(&keep(b"caf\xe9")), "caf\u{fffd}");
    }
}
