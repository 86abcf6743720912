//! Sparse members of tar archives: what is stored are the parts of a file that are not holes. GNU tar has written where they
//! are in four ways (in headers, in pax records twice, and before the data), all of which are still met.
//!
//! Source: the manual of GNU tar, "Storing Sparse Files".

use crate::error::{ArchiveError, ArchiveResult};
use std::io::{self, Read};
use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

/// Most parts of one file. What is read of an archive into memory has an end.
const MOST_PARTS: usize = 1 << 20;

fn bad(what: &str) -> ArchiveError {
    ArchiveError::Malformed(format!("an archive has a sparse member {what}"))
}

fn no_number() -> ArchiveError {
    bad("with something else in place of a number")
}

/// What is known of a sparse file.
#[derive(Debug, Default)]
pub(crate) struct Sparse {
    /// Offset and length of each part, in bytes.
    parts: Vec<(u64, u64)>,
    /// Offset of a part whose length comes next.
    offset: Option<u64>,
    /// Of the file, holes and all.
    size: Option<u64>,
    pub name: Option<Vec<u8>>,
    /// Whether the parts are told before the data.
    in_data: bool,
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl Sparse {
    fn push(&mut self, offset: u64, length: u64) -> ArchiveResult<()> {
        if self.parts.len() >= MOST_PARTS {
            return Err(bad("of too many parts"));
        }
        self.parts.push((offset, length));
        Ok(())
    }

    /// Notes a pax record; `key` is without `GNU.sparse.`.
    pub fn record(&mut self, key: &[u8], value: &[u8]) -> ArchiveResult<()> {
        let parse = |text: &[u8]| number(text).ok_or_else(no_number);
        match key {
            b"major" if value == b"1" => self.in_data = true,
            b"major" if value != b"0" => return Err(bad("of an unknown version")),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(parse(value)?),
            b"offset" => self.offset = Some(parse(value)?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or_else(|| bad("with a part that is nowhere"))?;
                self.push(offset, parse(value)?)?;
            }
            b"map" => {
                let numbers: Vec<u64> = value.split(|b| *b == b',').map(parse).collect::<Result<_, _>>()?;
                if !numbers.len().is_multiple_of(2) {
                    return Err(bad("with a part that has no length"));
                }
                numbers.chunks_exact(2).try_for_each(|part| self.push(part[0], part[1]))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What a header of the old form says; more of them may follow.
    pub fn of_header(header: &Header, input: &mut impl Read) -> ArchiveResult<Sparse> {
        let gnu = header.as_gnu().ok_or_else(|| bad("whose header is not GNU's"))?;
        let size = gnu.real_size().map_err(|_| no_number())?;
        let mut sparse = Sparse { size: Some(size), ..Sparse::default() };
        sparse.add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut next = GnuExtSparseHeader::new();
            input.read_exact(next.as_mut_bytes()).map_err(ArchiveError::Read)?;
            sparse.add(&next.sparse)?;
            more = next.is_extended();
        }
        Ok(sparse)
    }

    fn add(&mut self, headers: &[GnuSparseHeader]) -> ArchiveResult<()> {
        for header in headers.iter().take_while(|header| !header.is_empty()) {
            let (Ok(offset), Ok(length)) = (header.offset(), header.length()) else {
                return Err(no_number());
            };
            self.push(offset, length)?;
        }
        Ok(())
    }

    /// The parts that are told before the data: lines with their number, and offset and length of each, filled up to a block.
    fn read_parts(&mut self, data: &mut dyn Read) -> ArchiveResult<()> {
        const BLOCK: u64 = 512;
        let mut read = 0;
        let mut line = |read: &mut u64| -> ArchiveResult<u64> {
            let mut text = Vec::new();
            loop {
                let mut byte = [0];
                data.read_exact(&mut byte).map_err(ArchiveError::Read)?;
                *read += 1;
                match byte[0] {
                    b'\n' => break,
                    _ if text.len() > 20 => break,
                    byte => text.push(byte),
                }
            }
            number(&text).ok_or_else(no_number)
        };
        for _ in 0..line(&mut read)? {
            let (offset, length) = (line(&mut read)?, line(&mut read)?);
            self.push(offset, length)?;
        }
        let padding = read.next_multiple_of(BLOCK) - read;
        io::copy(&mut data.take(padding), &mut io::sink()).map(drop).map_err(ArchiveError::Read)
    }

    /// The file's contents, of what is stored of it.
    pub fn expand<'a>(mut self, data: &'a mut dyn Read) -> ArchiveResult<Expanded<'a>> {
        if self.in_data {
            self.parts.clear();
            self.read_parts(data)?;
        }
        let mut end = 0;
        for (offset, length) in &self.parts {
            let fits = *offset >= end;
            end = offset
                .checked_add(*length)
                .filter(|_| fits)
                .ok_or_else(|| bad("with parts on each other"))?;
        }
        let size = self.size.unwrap_or(end);
        if end > size {
            return Err(bad("whose parts are beyond its end"));
        }
        self.parts.retain(|(_, length)| *length > 0);
        Ok(Expanded { data, parts: self.parts.into_iter(), part: None, position: 0, size })
    }
}

/// Contents of a sparse file, with zeros for holes.
pub(crate) struct Expanded<'a> {
    data: &'a mut dyn Read,
    parts: std::vec::IntoIter<(u64, u64)>,
    /// The part that comes next, or that is being read.
    part: Option<(u64, u64)>,
    position: u64,
    pub size: u64,
}

impl Read for Expanded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.part.is_none_or(|(offset, length)| self.position >= offset + length) {
            self.part = self.parts.next();
        }
        let most = |end: u64| usize::try_from(end - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let read = match self.part {
            Some((offset, length)) if self.position >= offset => {
                let most = most(offset + length);
                self.data.read(&mut buffer[..most])?
            }
            part => {
                let hole = most(part.map_or(self.size, |(offset, _)| offset));
                buffer[..hole].fill(0);
                hole
            }
        };
        self.position += read as u64;
        Ok(read)
    }
}
