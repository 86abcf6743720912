//! Which files of an archive name which store paths, and where.

use firn_nar::{Event, NarReader, NarResult, Node};
use std::io::BufRead;

/// How much of a file is shown on either side, in bytes.
const MARGIN: usize = 32;

/// The first place in a file that names a store path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// The file below the root of the archive; empty for the root itself.
    pub file: Vec<u8>,
    pub hash_part: String,
    pub is_link: bool,
    /// The surroundings, what cannot be printed being a dot, or the whole target of a link.
    pub text: Vec<u8>,
    /// Where the hash part is in `text`.
    pub at: usize,
}

/// Looks for each of `hash_parts` in every file and link.
pub fn find_mentions<R: BufRead>(
    archive: &mut NarReader<R>,
    hash_parts: &[String],
) -> NarResult<Vec<Mention>> {
    let mut mentions = Vec::new();
    let mut path: Vec<u8> = Vec::new();
    // Where the paths of the open directories end.
    let mut open: Vec<usize> = Vec::new();
    while let Some(event) = archive.next_event()? {
        let Event::Node { name, node } = event else {
            open.pop();
            continue;
        };
        path.truncate(open.last().copied().unwrap_or(0));
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        match node {
            Node::Directory => open.push(path.len()),
            Node::Symlink { target } => {
                for part in hash_parts {
                    if let Some(at) = memchr::memmem::find(target, part.as_bytes()) {
                        mentions.push(Mention {
                            file: path.clone(),
                            hash_part: part.clone(),
                            is_link: true,
                            text: target.to_vec(),
                            at,
                        });
                    }
                }
            }
            Node::Regular { .. } => {
                let mut search = Search::new(hash_parts);
                archive.copy_contents(|chunk| {
                    search.feed(chunk);
                    Ok(())
                })?;
                mentions.extend(search.finish(&path));
            }
        }
    }
    Ok(mentions)
}

/// The search through one file, which is seen in pieces.
struct Search<'a> {
    /// Those not found yet.
    wanted: Vec<&'a String>,
    found: Vec<(&'a String, Vec<u8>, usize)>,
    /// The bytes not done with, and whether their start is that of the file.
    window: Vec<u8>,
}

impl<'a> Search<'a> {
    fn new(hash_parts: &'a [String]) -> Self {
        Search { wanted: hash_parts.iter().collect(), found: Vec::new(), window: Vec::new() }
    }

    fn feed(&mut self, chunk: &[u8]) {
        if self.wanted.is_empty() {
            return;
        }
        self.window.extend_from_slice(chunk);
        self.look(false);
        // Kept: what could be the left margin of, or the start of, a place further on.
        let longest = self.wanted.iter().map(|part| part.len()).max().unwrap_or(0);
        let keep = (2 * (MARGIN + longest)).min(self.window.len());
        self.window.drain(..self.window.len() - keep);
    }

    fn look(&mut self, at_end: bool) {
        let (window, found) = (&self.window, &mut self.found);
        self.wanted.retain(|part| {
            let Some(at) = memchr::memmem::find(window, part.as_bytes()) else { return true };
            let end = at + part.len() + MARGIN;
            if end > window.len() && !at_end {
                return true;
            }
            let start = at.saturating_sub(MARGIN);
            let text = window[start..end.min(window.len())].iter();
            let text = text.map(|b| if (0x20..0x7f).contains(b) { *b } else { b'.' }).collect();
            found.push((*part, text, at - start));
            false
        });
    }

    fn finish(mut self, file: &[u8]) -> Vec<Mention> {
        self.look(true);
        self.found.sort();
        let mention = |(part, text, at): (&String, Vec<u8>, usize)| Mention {
            file: file.to_vec(),
            hash_part: part.clone(),
            is_link: false,
            text,
            at,
        };
        self.found.into_iter().map(mention).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_nar::NarWriter;

    const PART: &str = "0123456789abcdfghijklmnpqrsvwxyz";

    #[track_caller]
    fn check(contents: &[u8], expected: Option<(&str, usize)>) {
        for piece in [1, 7, 40, 1000] {
            let parts = [PART.to_owned()];
            let mut search = Search::new(&parts);
            contents.chunks(piece).for_each(|chunk| search.feed(chunk));
            let found = search.finish(b"f");
            let found = found.first().map(|m| (String::from_utf8(m.text.clone()).unwrap(), m.at));
            assert_eq!(found.as_ref().map(|(t, at)| (t.as_str(), *at)), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn finds_places_in_files() {
        check(b"nothing", None);
        check(format!("ab\n{PART}\0x").as_bytes(), Some((&format!("ab.{PART}.x"), 3)));
        let far = format!("{}{PART}{}", "l".repeat(100), "r".repeat(100));
        check(far.as_bytes(), Some((&format!("{}{PART}{}", "l".repeat(32), "r".repeat(32)), 32)));
    }

    #[test]
    fn names_files_and_links() {
        let mut writer = NarWriter::new(Vec::new());
        writer.start_directory(b"").unwrap();
        writer.start_directory(b"a").unwrap();
        writer.regular(b"f", false, PART.as_bytes()).unwrap();
        writer.end_directory().unwrap();
        writer.symlink(b"l", format!("/x/{PART}").as_bytes()).unwrap();
        writer.end_directory().unwrap();
        let nar = writer.finish().unwrap();
        let found = find_mentions(&mut NarReader::new(&nar[..]), &[PART.to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|m| (m.file.as_slice(), m.is_link, m.at)).collect();
        assert_eq!(names, [(&b"a/f"[..], false, 0), (b"l", true, 3)]);
    }
}
