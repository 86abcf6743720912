//! `file://` URLs.

use crate::auth::percent_decode;
use crate::body::Target;
use crate::client::{DownloadError, Failure};
use crate::error::{ErrorKind, HttpError};
use crate::exchange::failed;
use crate::pipe::PIECE;
use crate::request::{Method, Request, Response};
use std::io::Read;
use std::path::PathBuf;

/// Reads the file that a URL without its `file://` names.
pub(crate) async fn transfer(
    request: &Request,
    rest: &str,
    target: &mut Target<'_>,
) -> Result<Response, Failure> {
    let fail = |kind, what: &str| Failure::of(HttpError::new(kind, failed(request, what)));
    if !matches!(request.method, Method::Get | Method::Head) {
        let what = format!("uploading to '{}' is not supported", request.url);
        return Err(Failure::of(HttpError::new(ErrorKind::Misc, what)));
    }
    let rest = rest.strip_prefix("localhost").unwrap_or(rest);
    let path = PathBuf::from(percent_decode(rest.split(['?', '#']).next().unwrap_or_default()));
    let opened = tokio::task::spawn_blocking({
        let path = path.clone();
        move || {
            let file = std::fs::File::open(path)?;
            match file.metadata()?.is_dir() {
                true => Err(std::io::ErrorKind::IsADirectory.into()),
                false => Ok(file),
            }
        }
    });
    let file = match opened.await.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
        Ok(file) => file,
        // Whatever the reason, curl says that the file is not there.
        Err(error) => {
            let what =
                format!("Could not read a file:// file: Couldn't open file {}: {error}", path.display());
            return Err(fail(ErrorKind::NotFound, &what));
        }
    };
    let mut response = Response { urls: vec![request.url.clone()], ..Response::default() };
    if request.method == Method::Head {
        return Ok(response);
    }
    let mut slot = Some((file, Vec::new()));
    while let Some((mut file, mut piece)) = slot.take() {
        let read = tokio::task::spawn_blocking(move || {
            piece.clear();
            (&mut file).take(PIECE as u64).read_to_end(&mut piece).map(|_| (file, piece))
        });
        let (file, piece) = match read.await.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            Ok(read) => read,
            Err(error) => {
                return Err(fail(ErrorKind::Misc, &format!("Could not read a file:// file: {error}")));
            }
        };
        if piece.is_empty() {
            break;
        }
        response.body_size += piece.len() as u64;
        let written: Result<(), DownloadError> = target.write(request, &piece).await;
        written.map_err(|error| Failure { error, retry_after: None, resumable: false })?;
        slot = Some((file, piece));
    }
    Ok(response)
}
