//! Writing lzip files: a member of LZMA data with a small header, and checks behind it.

use crate::error::{ArchiveError, ArchiveResult};
use liblzma::stream::{Filters, LzmaOptions, Stream};
use liblzma::write::XzEncoder;
use std::io::{self, Write};

/// The dictionary of each preset, as a power of two.
const DICTIONARIES: [u8; 10] = [18, 20, 21, 22, 22, 23, 23, 24, 25, 26];

/// Writes one member.
pub(crate) struct LzipWriter<W: Write> {
    data: XzEncoder<W>,
    check: flate2::Crc,
    size: u64,
    /// What goes before the data, until it is written.
    header: Option<[u8; 6]>,
}

impl<W: Write> LzipWriter<W> {
    /// `level` is a preset of LZMA, 0 to 9.
    pub fn new(out: W, level: u32) -> ArchiveResult<LzipWriter<W>> {
        let broken = |e: liblzma::stream::Error| ArchiveError::Read(io::Error::other(e.to_string()));
        let dictionary = DICTIONARIES[(level as usize).min(9)];
        let mut options = LzmaOptions::new_preset(level).map_err(broken)?;
        options.dict_size(1 << dictionary);
        let mut filters = Filters::new();
        filters.lzma1(&options);
        let stream = Stream::new_raw_encoder(&filters).map_err(broken)?;
        Ok(LzipWriter {
            data: XzEncoder::new_stream(out, stream),
            check: flate2::Crc::new(),
            size: 0,
            header: Some([b'L', b'Z', b'I', b'P', 1, dictionary]),
        })
    }

    fn begin(&mut self) -> io::Result<()> {
        match self.header.take() {
            Some(header) => self.data.get_mut().write_all(&header),
            None => Ok(()),
        }
    }

    pub fn finish(mut self) -> io::Result<()> {
        const AROUND: u64 = 6 + 20;
        self.begin()?;
        self.data.try_finish()?;
        let member = self.data.total_out() + AROUND;
        let mut out = self.data.finish()?;
        out.write_all(&self.check.sum().to_le_bytes())?;
        out.write_all(&self.size.to_le_bytes())?;
        out.write_all(&member.to_le_bytes())?;
        out.flush()
    }
}

impl<W: Write> Write for LzipWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.begin()?;
        let n = self.data.write(data)?;
        self.check.update(&data[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.data.flush()
    }
}
