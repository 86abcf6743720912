//! Names that do not fit a tar header: the GNU members and pax records that come before it. The tar crate would read
//! them whole, however long they say they are.

use crate::error::{ArchiveError, ArchiveResult};
use std::io::Read;

/// Longest of such members, in bytes.
const MAX: u64 = 1 << 20;

/// What preceding members say of the next one.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub name: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
}

fn whole(entry: &mut impl Read, size: u64) -> ArchiveResult<Vec<u8>> {
    if size > MAX {
        return Err(ArchiveError::Malformed(format!("an archive has a header of {size} bytes")));
    }
    let mut data = Vec::new();
    entry.take(MAX).read_to_end(&mut data).map_err(ArchiveError::Read)?;
    Ok(data)
}

/// A GNU long name: text up to a null byte.
pub(crate) fn gnu(entry: &mut impl Read, size: u64) -> ArchiveResult<Vec<u8>> {
    let mut name = whole(entry, size)?;
    if let Some(end) = name.iter().position(|b| *b == 0) {
        name.truncate(end);
    }
    Ok(name)
}

/// A pax header: records of the form `length key=value\n`.
pub(crate) fn pax(entry: &mut impl Read, size: u64, overrides: &mut Overrides) -> ArchiveResult<()> {
    let data = whole(entry, size)?;
    let bad = || ArchiveError::Malformed("an archive has a malformed pax header".into());
    let mut rest = &data[..];
    while !rest.is_empty() && rest[0] != 0 {
        let space = rest.iter().position(|b| *b == b' ').ok_or_else(bad)?;
        let length: usize =
            std::str::from_utf8(&rest[..space]).ok().and_then(|n| n.parse().ok()).ok_or_else(bad)?;
        if length <= space + 1 || length > rest.len() {
            return Err(bad());
        }
        let record = rest[space + 1..length].strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => overrides.name = Some(value.to_vec()),
            b"linkpath" => overrides.link = Some(value.to_vec()),
            // A size in a pax header is for files above 8 GiB, whose header field cannot hold it.
            b"size" => {
                return Err(ArchiveError::Malformed("archive members above 8 GiB are not supported".into()));
            }
            _ => {}
        }
        rest = &rest[length..];
    }
    Ok(())
}
