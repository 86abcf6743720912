//! The one HTTP client of the program.
//!
//! Invariants:
//! - servers are verified, always: nothing that a derivation or an expression says can turn that off;
//! - bodies stream both ways; what is read into memory has a bound;
//! - a download is either whole or an error, and resumes where it broke off only if the server says that the file is
//!   the same;
//! - no store: who shows progress and warnings gets them through [`TransferObserver`].
//!
//! `file://` and `s3://` URLs are understood wherever URLs are.

pub mod auth;
mod body;
pub mod client;
pub mod config;
pub mod error;
mod exchange;
mod file;
pub mod netrc;
pub mod observer;
mod pace;
pub mod pipe;
mod queue;
pub mod request;
mod retry;
pub mod s3;
mod tls;

pub use client::HttpClient;
pub use config::HttpConfig;
pub use error::{ErrorKind, HttpError, HttpResult};
pub use observer::{SilentObserver, TransferObserver, TransferProgress};
pub use request::{Method, Request, Response, TlsIdentity, Upload};
