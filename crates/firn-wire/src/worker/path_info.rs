//! What is known of a path. The serve protocol has the same fields where it adds an archive.

use crate::error::WireResult;
use crate::read::WireReader;
use crate::write::Message;
use firn_core::{HashFormat, StoreDir, StorePath, ValidPathInfo};
use tokio::io::AsyncRead;

pub fn write_unkeyed_path_info(message: &mut Message, dir: &StoreDir, info: &ValidPathInfo) {
    message
        .opt_path(dir, info.deriver.as_ref())
        .bytes(info.nar_hash.to_base(HashFormat::Base16))
        .paths(dir, &info.references)
        .i64(info.registration_time)
        .num(info.nar_size)
        .num(info.ultimate)
        .strings(&info.signatures)
        .content_address(info.ca.as_ref());
}

pub fn write_path_info(message: &mut Message, dir: &StoreDir, info: &ValidPathInfo) {
    message.path(dir, &info.path);
    write_unkeyed_path_info(message, dir, info);
}

/// What is known of `path`.
pub async fn read_unkeyed_path_info<R: AsyncRead + Unpin>(
    input: &mut WireReader<R>,
    dir: &StoreDir,
    path: StorePath,
) -> WireResult<ValidPathInfo> {
    let deriver = input.opt_path(dir).await?;
    let mut info = ValidPathInfo::new(path, input.nar_hash().await?, 0);
    info.deriver = deriver;
    info.references = input.paths(dir).await?;
    info.registration_time = input.i64().await?;
    info.nar_size = input.u64().await?;
    info.ultimate = input.bool().await?;
    info.signatures = input.texts("a signature").await?;
    info.ca = input.opt_content_address().await?;
    Ok(info)
}

/// A path and what is known of it.
pub async fn read_path_info<R: AsyncRead + Unpin>(
    input: &mut WireReader<R>,
    dir: &StoreDir,
) -> WireResult<ValidPathInfo> {
    let path = input.path(dir).await?;
    read_unkeyed_path_info(input, dir, path).await
}
