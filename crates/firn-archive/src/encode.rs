//! Encoders.

use crate::BzipWriter;
use crate::error::{ArchiveError, ArchiveResult};
use crate::foreign::ForeignWriter;
use crate::lzip::LzipWriter;
use crate::lzw::LzwWriter;
use crate::method::Method;
use liblzma::stream::{Check, LzmaOptions, MtStreamBuilder, Stream};
use std::io::{self, Write};
use zstd::zstd_safe::CParameter;

/// How hard and with how many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderOptions {
    /// The method's own scale; `None` for its default.
    pub level: Option<i32>,
    /// Threads besides the caller's. Methods that cannot use several work with one.
    pub threads: u32,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        EncoderOptions { level: None, threads: 1 }
    }
}

/// A writer that compresses. What was written is complete only after [`Encoder::finish`].
pub trait Encoder: Write + Send {
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// A writer whose compressed form goes to `out`.
pub fn encoder<'a, W: Write + Send + 'a>(
    method: Method,
    options: EncoderOptions,
    out: W,
) -> ArchiveResult<Box<dyn Encoder + 'a>> {
    use liblzma::write::XzEncoder;
    let level = |range: std::ops::RangeInclusive<i32>, default: i32| match options.level {
        None => Ok(default),
        Some(level) if range.contains(&level) => Ok(level),
        Some(level) => Err(ArchiveError::Level { method: method.name(), level }),
    };
    let broken = |e: liblzma::stream::Error| ArchiveError::Read(io::Error::other(e.to_string()));
    Ok(match method {
        Method::None => Box::new(Plain(out)),
        Method::Brotli => {
            let quality = level(0..=11, 11)?;
            Box::new(Finish(brotli::CompressorWriter::new(out, 64 * 1024, quality as u32, 22), |w| {
                // The encoder ends its stream when it is taken apart.
                w.into_inner().flush()
            }))
        }
        Method::Bzip2 => {
            let level = level(1..=9, 9)? as u8;
            Box::new(Finish(BzipWriter::new(out, level), |w| w.finish()?.flush()))
        }
        Method::Compress => {
            if let Some(level) = options.level {
                return Err(ArchiveError::Level { method: method.name(), level });
            }
            Box::new(Finish(LzwWriter::new(out), LzwWriter::finish))
        }
        Method::Gzip => {
            let level = flate2::Compression::new(level(0..=9, 6)? as u32);
            Box::new(Finish(flate2::write::GzEncoder::new(out, level), |w| w.finish()?.flush()))
        }
        Method::Lz4 => {
            level(0..=1, 1)?;
            Box::new(Finish(lz4_flex::frame::FrameEncoder::new(out), |w| {
                w.finish().map_err(io::Error::other)?.flush()
            }))
        }
        Method::Lzip => Box::new(Finish(LzipWriter::new(out, level(0..=9, 6)? as u32)?, LzipWriter::finish)),
        Method::Grzip => {
            if let Some(level) = options.level {
                return Err(ArchiveError::Level { method: method.name(), level });
            }
            Box::new(ForeignWriter::new(method.name(), &[], out)?)
        }
        Method::Lrzip => {
            let mut args = vec!["-q".to_owned()];
            if options.level.is_some() {
                args.extend(["-L".to_owned(), level(1..=9, 7)?.to_string()]);
            }
            Box::new(ForeignWriter::new(method.name(), &args, out)?)
        }
        Method::Lzop => {
            let args = match options.level {
                None => Vec::new(),
                Some(_) => vec![format!("-{}", level(1..=9, 3)?)],
            };
            Box::new(ForeignWriter::new(method.name(), &args, out)?)
        }
        Method::Lzma => {
            let options = LzmaOptions::new_preset(level(0..=9, 6)? as u32).map_err(broken)?;
            let stream = Stream::new_lzma_encoder(&options).map_err(broken)?;
            Box::new(Finish(XzEncoder::new_stream(out, stream), |w| w.finish()?.flush()))
        }
        Method::Xz => {
            let preset = level(0..=9, 6)? as u32;
            let stream = if options.threads > 1 {
                // Blocks of three dictionaries, xz's own choice, would leave most archives to one thread.
                let block = if preset <= 6 { 8 << 20 } else { 0 };
                let mut builder = MtStreamBuilder::new();
                builder
                    .threads(options.threads)
                    .preset(preset)
                    .check(Check::Crc64)
                    .block_size(block)
                    .encoder()
            } else {
                Stream::new_easy_encoder(preset, Check::Crc64)
            };
            Box::new(Finish(XzEncoder::new_stream(out, stream.map_err(broken)?), |w| w.finish()?.flush()))
        }
        Method::Zstd => {
            let level = level(-7..=22, 3)?;
            let mut encoder = zstd::stream::write::Encoder::new(out, level).map_err(ArchiveError::Read)?;
            if options.level.is_none() {
                // The tables of the default level do not fit beside each other in a core's cache. Halved, they cost
                // one per cent of size and save an eighth of the time.
                for parameter in [CParameter::HashLog(16), CParameter::ChainLog(15)] {
                    encoder.set_parameter(parameter).map_err(ArchiveError::Read)?;
                }
            }
            if options.threads > 1 {
                encoder.multithread(options.threads).map_err(ArchiveError::Read)?;
            }
            Box::new(Finish(encoder, |w| w.finish()?.flush()))
        }
    })
}

struct Plain<W>(W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write + Send> Encoder for Plain<W> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.0.flush()
    }
}

/// An encoder of some crate, with what ends it.
struct Finish<E>(E, fn(E) -> io::Result<()>);

impl<E: Write> Write for Finish<E> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<E: Write + Send> Encoder for Finish<E> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        let Finish(encoder, end) = *self;
        end(encoder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{decoder, decoder_of_any};
    use std::io::Read;

    fn compress(method: Method, options: EncoderOptions, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut encoder = encoder(method, options, &mut out).unwrap();
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap();
        out
    }

    fn on_path(program: &str) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(program).exists())
    }

    fn sample() -> Vec<u8> {
        (0..200_000u32).flat_map(|n| (n.wrapping_mul(n) % 1013).to_le_bytes()).collect()
    }

    #[track_caller]
    fn check(method: Method, options: EncoderOptions) {
        let data = sample();
        let packed = compress(method, options, &data);
        let mut got = Vec::new();
        decoder(method, &packed[..]).unwrap().read_to_end(&mut got).unwrap();
        assert!(got == data, "{method:?}");
        if method.is_foreign() {
            let error = decoder_of_any(&packed[..]).err().unwrap().to_string();
            assert!(
                error.contains(&format!("compressed by '{}' are not unpacked", method.name())),
                "{error}"
            );
        }
        if method != Method::Brotli && method != Method::None {
            assert_eq!(Method::sniff(&packed), method);
            // Two streams behind each other are one file.
            let twice = [packed.clone(), packed.clone()].concat();
            if !matches!(method, Method::Lzma | Method::Compress) && !method.is_foreign() {
                got.clear();
                decoder_of_any(&twice[..]).unwrap().read_to_end(&mut got).unwrap();
                assert_eq!(got.len(), data.len() * 2, "{method:?}");
            }
        }
        if !matches!(method, Method::None | Method::Compress) {
            // What was cut off is never taken for the whole.
            let cut = &packed[..packed.len() / 2];
            assert!(decoder(method, cut).unwrap().read_to_end(&mut Vec::new()).is_err(), "{method:?}");
        }
    }

    #[test]
    fn round_trips() {
        for method in Method::ALL {
            if method.is_foreign() && !on_path(method.name()) {
                eprintln!("NOT TESTED: there is no program '{}'", method.name());
                continue;
            }
            let level = if method == Method::Brotli { Some(4) } else { None };
            check(method, EncoderOptions { level, threads: 1 });
        }
        check(Method::Xz, EncoderOptions { level: Some(1), threads: 2 });
        check(Method::Zstd, EncoderOptions { level: Some(9), threads: 2 });
        if on_path("lzop") {
            check(Method::Lzop, EncoderOptions { level: Some(9), threads: 1 });
        }
    }

    #[test]
    fn levels() {
        let size =
            |level| compress(Method::Xz, EncoderOptions { level: Some(level), threads: 1 }, &sample()).len();
        assert!(size(0) > size(6));
        let wrong = EncoderOptions { level: Some(10), threads: 1 };
        let error = encoder(Method::Xz, wrong, Vec::new()).err().unwrap();
        assert_eq!(error.to_string(), "compression level 10 is not one of method 'xz'");
    }

    #[test]
    fn names() {
        assert_eq!(Method::parse("br").unwrap(), Method::Brotli);
        assert_eq!(Method::parse("lrzip").unwrap(), Method::Lrzip);
        assert_eq!(Method::parse("x").unwrap_err().to_string(), "unknown compression method 'x'");
    }
}
