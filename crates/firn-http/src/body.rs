//! The body of an answer on its way to memory or a sink.

use crate::client::{DownloadError, Failure, HttpClient};
use crate::error::{ErrorKind, HttpError};
use crate::exchange::{Answer, failed, stalled, transport_error};
use crate::observer::TransferProgress;
use crate::pipe::{self, PipeWriter};
use crate::request::{Request, Response};
use bytes::Bytes;
use firn_archive::Method as Compression;
use reqwest::header::{self, HeaderMap, HeaderName};
use std::io::{self, BufRead, BufReader, Read};
use std::time::{Duration, Instant};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Encodings on top of each other that are undone, as many as curl undoes.
const MOST_ENCODINGS: usize = 5;

/// Where a body goes.
pub(crate) struct Target<'a> {
    place: Place<'a>,
    /// Bytes that the sink got.
    passed_on: u64,
    /// The version that the first answer had.
    etag: String,
}

/// From where a transfer goes on.
pub(crate) struct Resume {
    /// Bytes that were passed on already.
    pub offset: u64,
    /// The version that was begun, if it names the bytes exactly.
    pub strong_etag: Option<String>,
}

enum Place<'a> {
    Memory { data: Vec<u8>, limit: usize },
    Sink(&'a mut (dyn AsyncWrite + Send + Unpin)),
}

impl<'a> Target<'a> {
    pub fn memory(limit: usize) -> Target<'static> {
        Target { place: Place::Memory { data: Vec::new(), limit }, passed_on: 0, etag: String::new() }
    }

    pub fn sink(sink: &'a mut (dyn AsyncWrite + Send + Unpin)) -> Target<'a> {
        Target { place: Place::Sink(sink), passed_on: 0, etag: String::new() }
    }

    /// Forgets what can be forgotten.
    pub fn restart(&mut self) {
        if let Place::Memory { data, .. } = &mut self.place {
            data.clear();
        }
    }

    /// Bytes that cannot be taken back.
    pub fn passed_on(&self) -> u64 {
        self.passed_on
    }

    /// Where the next attempt goes on.
    pub fn resume(&self) -> Resume {
        let strong = !self.etag.is_empty() && !self.etag.starts_with("W/");
        Resume { offset: self.passed_on, strong_etag: strong.then(|| self.etag.clone()) }
    }

    pub fn into_bytes(self) -> Bytes {
        match self.place {
            Place::Memory { data, .. } => data.into(),
            Place::Sink(_) => Bytes::new(),
        }
    }

    pub async fn write(&mut self, request: &Request, data: &[u8]) -> Result<(), DownloadError> {
        match &mut self.place {
            Place::Memory { data: memory, limit } => {
                if memory.len() + data.len() > *limit {
                    let what = format!("the answer is longer than {limit} bytes");
                    return Err(HttpError::new(ErrorKind::Misc, failed(request, &what)).into());
                }
                memory.extend_from_slice(data);
            }
            Place::Sink(sink) => {
                sink.write_all(data).await.map_err(DownloadError::Sink)?;
                self.passed_on += data.len() as u64;
            }
        }
        Ok(())
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim()
}

/// `<url>; rel="immutable"` in a `Link` header.
fn immutable_url(headers: &HeaderMap) -> Option<String> {
    let names = [header::LINK, HeaderName::from_static("x-amz-meta-link")];
    names.iter().flat_map(|name| headers.get_all(name)).find_map(|value| {
        let rest = value.to_str().ok()?.split_once('<')?.1;
        let (url, rest) = rest.split_once('>')?;
        rest.to_ascii_lowercase().starts_with("; rel=\"immutable\"").then(|| url.to_owned())
    })
}

/// Takes the body of an answer in.
pub(crate) async fn receive(
    client: &HttpClient,
    request: &Request,
    answer: Answer,
    target: &mut Target<'_>,
    progress: &mut Option<Box<dyn TransferProgress>>,
) -> Result<Response, Failure> {
    let Answer { response: mut source, urls } = answer;
    let headers = source.headers();
    let status = source.status().as_u16();
    let misc = |what: &str| Failure::of(HttpError::new(ErrorKind::Misc, failed(request, what)));
    let mut response = Response {
        status,
        etag: text(headers, header::ETAG).to_owned(),
        immutable_url: immutable_url(headers),
        urls,
        ..Response::default()
    };
    // Some servers send the tag and the file where they should say that it is still the same.
    let expected = request.expected_etag.as_deref().filter(|etag| !etag.is_empty());
    if status == 304 || (status == 200 && expected == Some(&response.etag)) {
        response.cached = true;
        if response.etag.is_empty() {
            response.etag = expected.unwrap_or_default().to_owned();
        }
        return Ok(response);
    }
    let encodings =
        Encoding::all_of(headers).map_err(|name| misc(&format!("unknown content encoding '{name}'")))?;
    let ranges = text(headers, header::ACCEPT_RANGES).eq_ignore_ascii_case("bytes") || status == 206;
    let encoded = !encodings.is_empty();
    let mut skip = 0;
    if target.passed_on > 0 {
        let start = text(headers, header::CONTENT_RANGE)
            .strip_prefix("bytes ")
            .and_then(|range| range.split_once('-'))
            .and_then(|(start, _)| start.parse::<u64>().ok());
        let same = target.etag == response.etag;
        match status {
            206 if start == Some(target.passed_on) && same => {}
            // The whole file again: what was passed on is passed over.
            200 if same && !encoded => skip = target.passed_on,
            _ => return Err(misc("the file changed while it was downloaded")),
        }
    } else {
        target.etag.clone_from(&response.etag);
    }
    let expected_size = source.content_length().unwrap_or(0) + if skip > 0 { 0 } else { target.passed_on };
    let resumable = ranges && !encoded;
    let attempt = async {
        let mut pace = Pace::new(client.inner.config.speed_limit);
        let mut next = Chunks { client, request, source: &mut source, size: 0 };
        if !encoded {
            while let Some(mut chunk) = next.next().await? {
                pace.wait(chunk.len()).await;
                if skip > 0 {
                    let over = chunk.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
                    drop(chunk.split_to(over));
                    skip -= over as u64;
                }
                if !chunk.is_empty() {
                    target.write(request, &chunk).await?;
                }
                if let Some(progress) = progress {
                    progress.progress(next.size.max(target.passed_on), expected_size);
                }
            }
        } else {
            decoded(client, request, encodings, &mut next, target, &mut pace, progress, expected_size)
                .await?;
        }
        Ok::<u64, DownloadError>(next.size)
    };
    let size = attempt.await.map_err(|error| Failure { error, retry_after: None, resumable })?;
    if skip > 0 {
        return Err(misc("the file became shorter while it was downloaded"));
    }
    response.body_size = size;
    Ok(response)
}

/// The pieces of a body, with a limit on how long none may come.
struct Chunks<'a> {
    client: &'a HttpClient,
    request: &'a Request,
    source: &'a mut reqwest::Response,
    size: u64,
}

impl Chunks<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        let next = self.source.chunk();
        let next = match self.client.inner.config.stalled_timeout {
            None => next.await,
            Some(timeout) => match tokio::time::timeout(timeout, next).await {
                Ok(next) => next,
                Err(_) => return Err(stalled(self.client, self.request).into()),
            },
        };
        let chunk = next.map_err(|e| DownloadError::Http(transport_error(self.request, &e)))?;
        self.size += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Ok(chunk)
    }
}

/// What was done to a body on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Deflate,
    Compressed(Compression),
}

impl Encoding {
    /// All of an answer, in the order in which they were applied; or the name that means nothing.
    fn all_of(headers: &HeaderMap) -> Result<Vec<Encoding>, String> {
        let lines = headers.get_all(header::CONTENT_ENCODING).iter();
        let mut all = Vec::new();
        for line in lines {
            for name in line.to_str().unwrap_or("?").split(',').map(str::trim) {
                match Compression::of_content_encoding(name) {
                    Some(Compression::None) => {}
                    Some(method) => all.push(Encoding::Compressed(method)),
                    None if name.eq_ignore_ascii_case("deflate") => all.push(Encoding::Deflate),
                    None => return Err(name.to_owned()),
                }
            }
        }
        match all.len() <= MOST_ENCODINGS {
            true => Ok(all),
            false => Err(format!("{} of them", all.len())),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Encoding::Deflate => "deflate",
            Encoding::Compressed(method) => method.name(),
        }
    }

    fn decoder<'a, R: BufRead + Send + 'a>(self, input: R) -> io::Result<Box<dyn Read + Send + 'a>> {
        match self {
            Encoding::Deflate => firn_archive::inflater(input),
            Encoding::Compressed(method) => firn_archive::decoder(method, input).map_err(io::Error::other),
        }
    }
}

/// Undoes encodings on a thread of its own while the body comes in.
#[expect(clippy::too_many_arguments, reason = "the parts of one transfer")]
async fn decoded(
    client: &HttpClient,
    request: &Request,
    encodings: Vec<Encoding>,
    chunks: &mut Chunks<'_>,
    target: &mut Target<'_>,
    pace: &mut Pace,
    progress: &mut Option<Box<dyn TransferProgress>>,
    expected: u64,
) -> Result<(), DownloadError> {
    let (raw, reader) = pipe::pipe(client.inner.config.buffer_size);
    let (out, mut plain) = pipe::pipe(client.inner.config.buffer_size);
    let names: Vec<_> = encodings.iter().map(|encoding| encoding.name()).collect();
    let names = names.join(", ");
    let work = tokio::task::spawn_blocking(move || {
        let mut writer = PipeWriter::new(out);
        // The last one was applied to what the others gave.
        let first: Box<dyn BufRead + Send> = Box::new(reader);
        let result = encodings
            .into_iter()
            .rev()
            .try_fold(first, |input, encoding| {
                let plain: Box<dyn BufRead + Send> = Box::new(BufReader::new(encoding.decoder(input)?));
                Ok(plain)
            })
            .and_then(|mut decoder| io::copy(&mut decoder, &mut writer));
        match result {
            Ok(_) => drop(writer.finish()),
            Err(error) => writer.fail(error),
        }
    });
    let feed = async {
        while let Some(chunk) = chunks.next().await? {
            pace.wait(chunk.len()).await;
            if let Some(progress) = progress {
                progress.progress(chunks.size, expected);
            }
            if raw.send(Ok(chunk)).await.is_err() {
                break;
            }
        }
        drop(raw);
        Ok::<(), DownloadError>(())
    };
    let drain = async {
        while let Some(piece) = plain.next().await {
            let piece = piece.map_err(|e| {
                let what = format!("cannot decode content encoding '{names}': {e}");
                HttpError::new(ErrorKind::Misc, failed(request, &what))
            })?;
            target.write(request, &piece).await?;
        }
        drop(plain);
        Ok::<(), DownloadError>(())
    };
    let (fed, drained) = tokio::join!(feed, drain);
    drop(work.await);
    // A connection that broke is the cause of what the decoder saw.
    fed?;
    drained
}

/// Holds a transfer to a speed.
struct Pace {
    limit: Option<u64>,
    start: Instant,
    bytes: u64,
}

impl Pace {
    fn new(limit: Option<u64>) -> Pace {
        Pace { limit, start: Instant::now(), bytes: 0 }
    }

    async fn wait(&mut self, bytes: usize) {
        let Some(limit) = self.limit else { return };
        self.bytes += bytes as u64;
        let due = Duration::from_secs_f64(self.bytes as f64 / limit as f64);
        tokio::time::sleep(due.saturating_sub(self.start.elapsed())).await;
    }
}
