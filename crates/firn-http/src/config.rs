//! What the settings say about transfers.

use crate::s3::S3Credentials;
use firn_settings::Settings;
use std::path::PathBuf;
use std::time::Duration;

/// Options of a client; names are those of `nix.conf` where there are such.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `download-attempts`, at least 1.
    pub attempts: u32,
    /// `connect-timeout`.
    pub connect_timeout: Option<Duration>,
    /// `stalled-download-timeout`.
    pub stalled_timeout: Option<Duration>,
    /// `http-connections`; 0 for no limit.
    pub connections: u32,
    pub http2: bool,
    /// `download-speed`, in bytes per second.
    pub speed_limit: Option<u64>,
    pub user_agent_suffix: String,
    /// Authorities that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    pub netrc_file: Option<PathBuf>,
    /// Who signs `s3://` requests; without it credentials are looked for where AWS's programs have them.
    pub s3_credentials: Option<S3Credentials>,
    /// `download-buffer-size`: bytes that may wait to be processed.
    pub buffer_size: usize,
    /// How long to wait before the second attempt; later ones wait longer.
    pub retry_delay: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            attempts: 5,
            connect_timeout: Some(Duration::from_secs(15)),
            stalled_timeout: Some(Duration::from_secs(300)),
            connections: 64,
            http2: true,
            speed_limit: None,
            user_agent_suffix: String::new(),
            ca_file: None,
            netrc_file: None,
            s3_credentials: None,
            buffer_size: 1 << 20,
            retry_delay: Duration::from_millis(250),
        }
    }
}

impl HttpConfig {
    pub fn from_settings(s: &Settings) -> HttpConfig {
        let seconds = |n: u32| Some(n).filter(|n| *n > 0).map(|n| Duration::from_secs(n.into()));
        HttpConfig {
            attempts: s.download_attempts.max(1),
            connect_timeout: seconds(s.connect_timeout),
            stalled_timeout: seconds(s.stalled_download_timeout),
            connections: s.http_connections,
            http2: s.http2,
            speed_limit: Some(u64::from(s.download_speed) * 1024).filter(|n| *n > 0),
            user_agent_suffix: s.user_agent_suffix.clone(),
            ca_file: s.ssl_cert_file.clone(),
            netrc_file: Some(s.netrc_file.clone()).filter(|path| !path.as_os_str().is_empty()),
            buffer_size: usize::try_from(s.download_buffer_size).unwrap_or(usize::MAX),
            ..HttpConfig::default()
        }
    }
}
