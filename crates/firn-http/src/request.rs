//! What is asked for and what came of it.

use bytes::Bytes;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Put,
    Post,
    Delete,
}

impl Method {
    /// As in `unable to download`.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Method::Get | Method::Head => "download",
            Method::Put | Method::Post => "upload",
            Method::Delete => "delete",
        }
    }

    pub(crate) fn continuous(self) -> &'static str {
        match self {
            Method::Get | Method::Head => "downloading",
            Method::Put | Method::Post => "uploading",
            Method::Delete => "deleting",
        }
    }
}

/// What is sent. It can be sent again when an attempt fails.
#[derive(Debug, Clone)]
pub enum Upload {
    Bytes(Bytes),
    /// The first `size` bytes of a file.
    File {
        file: Arc<File>,
        size: u64,
    },
}

impl Upload {
    pub fn size(&self) -> u64 {
        match self {
            Upload::Bytes(bytes) => bytes.len() as u64,
            Upload::File { size, .. } => *size,
        }
    }
}

/// A client certificate and its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsIdentity {
    pub certificate: PathBuf,
    /// `None`: in the same file.
    pub key: Option<PathBuf>,
}

/// A transfer.
#[derive(Debug, Clone)]
pub struct Request {
    /// `http`, `https`, `file` or `s3`.
    pub url: String,
    pub method: Method,
    /// Sent to the host of `url` only, not to those that it redirects to.
    pub headers: Vec<(String, String)>,
    pub mime_type: Option<String>,
    /// The version that is there already: the answer may be that it is still the one.
    pub expected_etag: Option<String>,
    pub body: Option<Upload>,
    pub tls_identity: Option<Arc<TlsIdentity>>,
    /// User and password; else those of the URL and of `netrc` are used.
    pub login: Option<(String, String)>,
    /// Whether it goes before others that wait for a connection: more is known to do when it is answered.
    pub urgent: bool,
    /// At most so many attempts, where `download-attempts` is too many.
    pub attempts: Option<u32>,
    /// The activity that this is part of, 0 for none.
    pub parent: u64,
}

impl Request {
    /// The URL as people are told of it: where an `s3://` one leads to.
    pub fn shown_url(&self) -> String {
        match self.url.starts_with("s3://") {
            true => crate::s3::to_https(&self.url).unwrap_or_else(|_| self.url.clone()),
            false => self.url.clone(),
        }
    }

    pub fn new(method: Method, url: impl Into<String>) -> Request {
        Request {
            url: url.into(),
            method,
            headers: Vec::new(),
            mime_type: None,
            expected_etag: None,
            body: None,
            tls_identity: None,
            login: None,
            urgent: false,
            attempts: None,
            parent: 0,
        }
    }

    pub fn get(url: impl Into<String>) -> Request {
        Request::new(Method::Get, url)
    }
}

/// What the server said, apart from the body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// 0 for what is not HTTP.
    pub status: u16,
    /// Whether the expected version is still the one; there is no body then.
    pub cached: bool,
    /// Empty if there was none.
    pub etag: String,
    /// All URLs, from the first to the one that answered.
    pub urls: Vec<String>,
    /// A URL whose content never changes, from the `Link` header.
    pub immutable_url: Option<String>,
    /// Bytes of the body as they were received.
    pub body_size: u64,
}
