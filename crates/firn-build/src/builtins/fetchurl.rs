//! `builtin:fetchurl`: a file from a URL, as it is or unpacked.

use super::Context;
use firn_archive::Method;
use firn_http::client::DownloadError;
use firn_http::pipe::{self, PieceSink, PipeReader};
use firn_http::{HttpClient, HttpConfig, Request, TransferObserver, TransferProgress};
use firn_nar::NarReader;
use firn_nar::fs::{RestoreOptions, restore};
use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of an archive that may be under way.
const IN_FLIGHT: usize = 1 << 20;

pub(super) fn run(context: &Context) -> Result<(), String> {
    let out = context.output("out").map_err(|_| "'builtin:fetchurl' requires an 'out' output".to_owned())?;
    if !context.may_download {
        return Err("'builtin:fetchurl' must be a fixed-output or impure derivation".into());
    }
    let url = context.attribute("url")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("starting the runtime: {e}"))?;
    let client = HttpClient::new(http_config(context)?, Arc::new(Warnings));
    if let Some(part) = &context.mirror_path {
        for mirror in &context.hashed_mirrors {
            let at = format!("{}/{part}", mirror.trim_end_matches('/'));
            if runtime.block_on(fetch(context, &client, &at, url, out)).is_ok() {
                return Ok(());
            }
            // What came of it must not stand in the way of the next.
            let _ = fs::remove_dir_all(out);
            let _ = fs::remove_file(out);
        }
    }
    runtime.block_on(fetch(context, &client, url, url, out))
}

/// The host's rules for downloads. Its files are not here, so their contents came with the call.
fn http_config(context: &Context) -> Result<HttpConfig, String> {
    let file = |name: &str, contents: &Option<Vec<u8>>| -> Result<Option<PathBuf>, String> {
        let Some(contents) = contents else { return Ok(None) };
        let path = context.build_dir.join(name);
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let written = options.open(&path).and_then(|mut file| file.write_all(contents));
        written.map_err(|e| format!("writing '{}': {e}", path.display()))?;
        Ok(Some(path))
    };
    let options = &context.downloads;
    let seconds = |n: Option<u64>| n.map(Duration::from_secs);
    Ok(HttpConfig {
        attempts: options.attempts.max(1),
        connect_timeout: seconds(options.connect_timeout),
        stalled_timeout: seconds(options.stalled_timeout),
        http2: options.http2,
        speed_limit: options.speed_limit,
        user_agent_suffix: options.user_agent_suffix.clone(),
        s3_credentials: context.s3_credentials.clone(),
        ca_file: file("ca-certificates.crt", &context.certificates)?,
        netrc_file: file("netrc", &context.netrc)?,
        ..HttpConfig::default()
    })
}

/// Downloads `url`; the name of `main` says how an archive is compressed.
async fn fetch(
    context: &Context,
    client: &HttpClient,
    url: &str,
    main: &str,
    out: &Path,
) -> Result<(), String> {
    let request = Request::get(url);
    let unpack = context.flag("unpack");
    let (sender, reader) = pipe::pipe(IN_FLIGHT);
    let method = if unpack && main.ends_with(".xz") { Method::Xz } else { Method::None };
    let target = out.to_owned();
    let work = tokio::task::spawn_blocking(move || match unpack {
        true => unpack_archive(reader, method, &target),
        false => write_file(reader, &target),
    });
    let mut sink = PieceSink::new(sender);
    let downloaded = client.download(request, &mut sink).await;
    if let Err(DownloadError::Http(error)) = &downloaded {
        // The other side must not take what it got for all.
        let broken = io::Error::other(error.to_string());
        sink.fail(broken).await;
    } else {
        drop(sink);
    }
    let written = work.await.map_err(|e| format!("writing '{}': {e}", out.display()))?;
    if let Err(DownloadError::Http(error)) = downloaded {
        return Err(error.to_string());
    }
    written?;
    if context.flag("executable") {
        fs::set_permissions(out, Permissions::from_mode(0o755))
            .map_err(|e| format!("changing permissions of '{}': {e}", out.display()))?;
    }
    Ok(())
}

fn write_file(mut reader: PipeReader, out: &Path) -> Result<(), String> {
    let mut target = File::create_new(out).map_err(|e| format!("creating '{}': {e}", out.display()))?;
    io::copy(&mut reader, &mut target).map_err(|e| format!("writing '{}': {e}", out.display()))?;
    Ok(())
}

fn unpack_archive(reader: PipeReader, method: Method, out: &Path) -> Result<(), String> {
    let decoder = firn_archive::decoder(method, reader).map_err(|e| e.to_string())?;
    let mut reader = NarReader::new(BufReader::with_capacity(256 * 1024, decoder));
    restore(&mut reader, out, RestoreOptions::default()).map_err(|e| e.to_string())?;
    Ok(())
}

/// Retries are told in the build's log.
struct Warnings;

impl TransferObserver for Warnings {
    fn warn(&self, message: &str) {
        let _ = writeln!(io::stderr(), "warning: {message}");
    }
    fn start(&self, _: &str, _: &str, _: u64) -> Option<Box<dyn TransferProgress>> {
        None
    }
}
