//! The text form of validity facts that `nix-store --dump-db`, `--load-db` and `--register-validity` exchange, and
//! that builds get as `exportReferencesGraph`.

use crate::error::{StoreError, StoreResult};
use firn_core::{Hash, HashAlgo, HashFormat, StoreDir, StorePath, ValidPathInfo};
use std::io::BufRead;

/// Which optional lines an entry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidityLines {
    /// Deriver, and hash with size.
    All,
    /// Neither: what builds see.
    ReferencesOnly,
}

/// One entry: path, \[hash in base 16, size,\] deriver or nothing, number of references, references.
pub fn render_validity(dir: &StoreDir, info: &ValidPathInfo, lines: ValidityLines) -> String {
    let mut out = dir.display(&info.path) + "\n";
    if lines == ValidityLines::All {
        out += &format!("{}\n{}\n", info.nar_hash.to_base(HashFormat::Base16), info.nar_size);
        if let Some(deriver) = &info.deriver {
            out += &dir.display(deriver);
        }
    }
    out += &format!("\n{}\n", info.references.len());
    for reference in &info.references {
        out += &dir.display(reference);
        out.push('\n');
    }
    out
}

/// Whether entries come with hash and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashLines {
    Given,
    /// The caller finds them out.
    Absent,
}

/// Reads one entry; `None` at the end of the input.
pub fn read_validity(
    dir: &StoreDir,
    input: &mut impl BufRead,
    hashes: HashLines,
) -> StoreResult<Option<ValidPathInfo>> {
    let Some(path) = line(input)? else { return Ok(None) };
    let path = dir.parse(&path)?;
    let mut next = || line(input)?.ok_or_else(|| StoreError::Other("missing input".into()));
    let number = |text: String| {
        text.parse::<u64>().map_err(|_| StoreError::Other(format!("number expected, got '{text}'")))
    };
    let (hash, size) = match hashes {
        HashLines::Absent => (Hash::dummy(), 0),
        HashLines::Given => {
            let text = next()?;
            let hash = Hash::parse_any(&text, Some(HashAlgo::Sha256))
                .map_err(|e| StoreError::Other(e.to_string()))?;
            (hash, number(next()?)?)
        }
    };
    let mut info = ValidPathInfo::new(path, hash, size);
    let deriver = next()?;
    if !deriver.is_empty() {
        info.deriver = Some(dir.parse(&deriver)?);
    }
    for _ in 0..number(next()?)? {
        let reference: StorePath = dir.parse(&next()?)?;
        info.references.insert(reference);
    }
    Ok(Some(info))
}

fn line(input: &mut impl BufRead) -> StoreResult<Option<String>> {
    let mut text = String::new();
    let n = std::io::Read::take(&mut *input, 1 << 16)
        .read_line(&mut text)
        .map_err(|e| StoreError::Other(format!("reading validity facts: {e}")))?;
    if text.ends_with('\n') {
        text.pop();
    } else if n == 1 << 16 {
        return Err(StoreError::Other("a line of the validity facts is too long".into()));
    }
    Ok((n > 0).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let dir = StoreDir::default();
        let path = |n: &str| StorePath::from_base_name(&format!("{}-{n}", "a".repeat(32))).unwrap();
        let mut info = ValidPathInfo::new(path("x"), Hash::of(HashAlgo::Sha256, b""), 120);
        info.deriver = Some(path("x.drv"));
        info.references = [path("x"), path("y")].into();
        let text = render_validity(&dir, &info, ValidityLines::All);
        let mut input = text.as_bytes();
        assert_eq!(read_validity(&dir, &mut input, HashLines::Given).unwrap(), Some(info.clone()));
        assert_eq!(read_validity(&dir, &mut input, HashLines::Given).unwrap(), None);
        let cut = &text.as_bytes()[..text.len() - 60];
        assert!(read_validity(&dir, &mut &cut[..], HashLines::Given).is_err());
    }
}
