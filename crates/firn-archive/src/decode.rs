//! Decoders. Each reads to the end of the last of however many compressed streams follow each other.

use crate::error::{ArchiveError, ArchiveResult};
use crate::foreign::ForeignReader;
use crate::lzw::LzwReader;
use crate::method::Method;
use liblzma::stream::{CONCATENATED, MtStreamBuilder, Stream};
use std::io::{self, BufRead, Read};

/// Most memory that a decoder of the LZMA family may ask for: far above what the highest preset needs.
const LZMA_MEMORY: u64 = 512 << 20;

/// Largest zstd window, as a power of two.
const ZSTD_WINDOW_LOG: u32 = 27;

const BROTLI_BUFFER: usize = 64 * 1024;

fn broken(e: impl std::fmt::Display) -> ArchiveError {
    ArchiveError::Read(io::Error::other(e.to_string()))
}

/// A reader of what `input` holds in compressed form. Damage and early ends are errors of the reader.
pub fn decoder<'a, R: BufRead + Send + 'a>(
    method: Method,
    input: R,
) -> ArchiveResult<Box<dyn Read + Send + 'a>> {
    use liblzma::bufread::XzDecoder;
    let lzma = |stream: Result<Stream, liblzma::stream::Error>| stream.map_err(broken);
    Ok(match method {
        Method::None => Box::new(input),
        Method::Brotli => Box::new(brotli::Decompressor::new(input, BROTLI_BUFFER)),
        Method::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Method::Compress => Box::new(LzwReader::new(input)),
        Method::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Method::Lz4 => Box::new(Lz4Frames { frame: lz4_flex::frame::FrameDecoder::new(input) }),
        Method::Lzip => {
            Box::new(XzDecoder::new_stream(input, lzma(Stream::new_lzip_decoder(LZMA_MEMORY, CONCATENATED))?))
        }
        Method::Grzip | Method::Lrzip | Method::Lzop => {
            let args = ["-d"].into_iter().chain((method == Method::Lrzip).then_some("-q"));
            let args: Vec<String> = args.map(str::to_owned).collect();
            Box::new(ForeignReader::new(method.name(), &args, input)?)
        }
        Method::Lzma => Box::new(XzDecoder::new_stream(input, lzma(Stream::new_lzma_decoder(LZMA_MEMORY))?)),
        Method::Xz => Box::new(XzStreams { decoder: Some(xz(input)?) }),
        Method::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(ArchiveError::Read)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(ArchiveError::Read)?;
            Box::new(decoder)
        }
    })
}

/// A reader of what HTTP calls `deflate`: a zlib stream, or a bare one from servers that took the name at its word.
pub fn inflater<'a, R: BufRead + Send + 'a>(mut input: R) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut start = Vec::with_capacity(2);
    input.by_ref().take(2).read_to_end(&mut start)?;
    // The first byte names method 8, and the two are a multiple of 31.
    let zlib = matches!(start[..], [a, b] if a & 0x0f == 8 && u16::from_be_bytes([a, b]).is_multiple_of(31));
    let whole = io::Cursor::new(start).chain(input);
    Ok(match zlib {
        true => Box::new(flate2::bufread::ZlibDecoder::new(whole)),
        false => Box::new(flate2::bufread::DeflateDecoder::new(whole)),
    })
}

/// The same, with the method that the first bytes show. Who made the archive chooses these, and must not choose a
/// program that is run on it.
///
/// # Errors
/// For methods that programs do.
pub fn decoder_of_any<'a, R: BufRead + Send + 'a>(mut input: R) -> ArchiveResult<Box<dyn Read + Send + 'a>> {
    let method = Method::sniff(input.fill_buf().map_err(ArchiveError::Read)?);
    if method.is_foreign() {
        return Err(ArchiveError::Foreign(method.name()));
    }
    decoder(method, input)
}

/// A decoder of one xz stream. Blocks that were compressed by several threads are read by several.
fn xz<R: BufRead>(input: R) -> ArchiveResult<liblzma::bufread::XzDecoder<R>> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8)) as u32;
    let stream = MtStreamBuilder::new()
        .threads(threads)
        .memlimit_threading(LZMA_MEMORY)
        .memlimit_stop(LZMA_MEMORY)
        .decoder();
    Ok(liblzma::bufread::XzDecoder::new_stream(input, stream.map_err(broken)?))
}

/// The decoder with threads ends after one stream; what follows is padding or another one.
struct XzStreams<R: BufRead> {
    decoder: Option<liblzma::bufread::XzDecoder<R>>,
}

impl<R: BufRead> Read for XzStreams<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while let Some(decoder) = &mut self.decoder {
            let n = decoder.read(out)?;
            if n > 0 {
                return Ok(n);
            }
            let Some(mut input) = self.decoder.take().map(|d| d.into_inner()) else { break };
            loop {
                let rest = input.fill_buf()?;
                let padding = rest.iter().take_while(|b| **b == 0).count();
                if rest.is_empty() {
                    return Ok(0);
                }
                if padding < rest.len() {
                    input.consume(padding);
                    break;
                }
                input.consume(padding);
            }
            self.decoder = Some(xz(input).map_err(io::Error::other)?);
        }
        Ok(0)
    }
}

/// lz4_flex ends after one frame; what follows is another one.
struct Lz4Frames<R: Read> {
    frame: lz4_flex::frame::FrameDecoder<R>,
}

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let n = self.frame.read(out)?;
            if n > 0 || self.frame.get_mut().fill_buf()?.is_empty() {
                return Ok(n);
            }
        }
    }
}
