//! Writing files such that they are whole at any moment, and blocks of ours in files of others.

use crate::{Result, at};
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A name beside `path`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Writes a whole file and puts it in place of another one.
pub fn replace(
    path: &Path,
    mode: u32,
    write: &mut dyn FnMut(&mut File) -> std::io::Result<()>,
) -> Result<()> {
    let part = beside(path, ".firn-new");
    let mut file = File::create(&part).map_err(at("writing", &part))?;
    write(&mut file).and_then(|()| file.sync_all()).map_err(at("writing", &part))?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(at("setting the mode of", &part))?;
    std::fs::rename(&part, path).map_err(at("writing", path))
}

/// The same with a text.
pub fn replace_text(path: &Path, mode: u32, text: &str) -> Result<()> {
    replace(path, mode, &mut |file| file.write_all(text.as_bytes()))
}

/// Whether two files hold the same bytes.
pub fn same(a: &Path, b: &Path) -> bool {
    let (Ok(a), Ok(b)) = (std::fs::File::open(a), std::fs::File::open(b)) else { return false };
    let length = |file: &File| file.metadata().map(|data| data.len()).ok();
    if length(&a) != length(&b) {
        return false;
    }
    let (mut a, mut b) = (std::io::BufReader::new(a), std::io::BufReader::new(b));
    loop {
        use std::io::BufRead;
        let (Ok(left), Ok(right)) = (a.fill_buf(), b.fill_buf()) else { return false };
        let count = left.len().min(right.len());
        if left[..count] != right[..count] {
            return false;
        }
        if count == 0 {
            return left.len() == right.len();
        }
        a.consume(count);
        b.consume(count);
    }
}

const BEGIN: &str = "# >>> firn >>>";
const END: &str = "# <<< firn <<<";

/// Whether `text` has exactly this block of ours.
pub fn has_block(text: &str, block: &str) -> bool {
    text.contains(&block_text(block))
}

fn block_text(block: &str) -> String {
    format!("{BEGIN}\n{block}{END}\n")
}

/// `text` with our block at its end, in place of an earlier one.
pub fn with_block(text: &str, block: &str) -> String {
    let mut text = without_block(text);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text + &block_text(block)
}

/// `text` without our block. A beginning without an end is left alone: it is not what we wrote.
pub fn without_block(text: &str) -> String {
    let Some(start) = text.find(BEGIN) else { return text.to_owned() };
    let Some(length) = text[start..].find(END) else { return text.to_owned() };
    let rest = &text[start + length + END.len()..];
    format!("{}{}", &text[..start], rest.strip_prefix('\n').unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn there_and_back(text: &str, expected: &str) {
        let with = with_block(text, "x\n");
        assert!(has_block(&with, "x\n"));
        assert_eq!(with_block(&with, "x\n"), with);
        assert!(!has_block(&with_block(&with, "y\n"), "x\n"));
        assert_eq!(without_block(&with), expected);
    }

    #[test]
    fn blocks_come_and_go() {
        there_and_back("", "");
        there_and_back("a\n", "a\n");
        there_and_back("a", "a\n");
        assert_eq!(without_block("a\n# >>> firn >>>\nb"), "a\n# >>> firn >>>\nb");
        assert_eq!(without_block("a\n# >>> firn >>>\nx\n# <<< firn <<<\nb\n"), "a\nb\n");
    }
}
