//! The headers of a tar archive, and what does not fit them: the GNU members and pax records that come before. The tar
//! crate would read these whole, however long they say they are, and does not heed sizes in them.

use crate::error::{ArchiveError, ArchiveResult};
use crate::tar_sparse::Sparse;
use std::io::{self, ErrorKind, Read};
use tar::Header;

/// Longest of such members, in bytes.
const MAX: u64 = 1 << 20;

/// What preceding members say of the next one.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub name: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    /// Files from 8 GiB on do not fit a header's field.
    pub size: Option<u64>,
    pub sparse: Option<Sparse>,
}

const BLOCK: usize = 512;

/// The next header; `None` at the archive's end.
pub(crate) fn next(input: &mut impl Read) -> io::Result<Option<Header>> {
    let mut header = Header::new_old();
    let block = header.as_mut_bytes();
    let mut filled = 0;
    while filled < BLOCK {
        match input.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "a header is cut off")),
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    if block.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    // The sum is made as if its own field were blank. Old programs took bytes for signed numbers.
    let (mut sum, mut signed) = (0u32, 0i32);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        sum += u32::from(byte);
        signed += i32::from(byte.cast_signed());
    }
    match header.cksum() {
        Ok(said) if said == sum || said == signed.cast_unsigned() => Ok(Some(header)),
        _ => Err(io::Error::other("archive header checksum mismatch")),
    }
}

/// Passes over what is left of a member's last block. `rest` are bytes of it that nobody read.
pub(crate) fn skip(input: &mut impl Read, size: u64, rest: u64) -> io::Result<()> {
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    io::copy(&mut input.take(rest.saturating_add(padding)), &mut io::sink()).map(drop)
}

/// Largest size of a member, in bytes.
pub(crate) const MAX_SIZE: u64 = i64::MAX as u64;

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
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|n| n.parse().ok());
                overrides.size = Some(size.filter(|n| *n <= MAX_SIZE).ok_or_else(bad)?);
            }
            key => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    overrides.sparse.get_or_insert_default().record(key, value)?;
                }
            }
        }
        rest = &rest[length..];
    }
    Ok(())
}
