//! Places in source text: line and column, and the excerpt that messages show.

/// A line and a column, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LineColumn {
    pub line: u32,
    pub column: u32,
}

/// Offsets at which lines start.
#[derive(Debug)]
pub struct LineIndex {
    starts: Vec<u32>,
}

impl LineIndex {
    /// `\n`, `\r` and `\r\n` end lines, as in the reference.
    pub fn new(text: &[u8]) -> LineIndex {
        let mut starts = vec![0];
        for i in memchr::memchr2_iter(b'\n', b'\r', text) {
            if text[i] == b'\r' && text.get(i + 1) == Some(&b'\n') {
                continue;
            }
            starts.push(i as u32 + 1);
        }
        LineIndex { starts }
    }

    /// The place of a byte offset; columns count bytes.
    pub fn place(&self, offset: u32) -> LineColumn {
        let line = self.starts.partition_point(|s| *s <= offset);
        let start = self.starts.get(line.wrapping_sub(1)).copied().unwrap_or(0);
        LineColumn { line: line as u32, column: offset - start + 1 }
    }
}

/// The line before, the line, and the line after a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    pub before: Option<Vec<u8>>,
    pub line: Option<Vec<u8>>,
    pub after: Option<Vec<u8>>,
}

/// Cuts an excerpt out of the text.
pub fn excerpt(text: &[u8], line: u32) -> Excerpt {
    let mut out = Excerpt::default();
    let mut rest = (!text.is_empty()).then_some(text);
    let mut number = 0;
    while let Some(line_and_more) = rest {
        let end = memchr::memchr2(b'\n', b'\r', line_and_more);
        let line_text = &line_and_more[..end.unwrap_or(line_and_more.len())];
        rest = end.map(|n| {
            let more = &line_and_more[n..];
            more.strip_prefix(b"\r\n").unwrap_or(&more[1..])
        });
        let content = || Some(line_text.to_vec());
        number += 1;
        if number + 1 == line {
            out.before = content();
        } else if number == line {
            out.line = content();
        } else if number == line + 1 {
            out.after = content();
            break;
        }
    }
    out
}
