//! Messages of the protocols.

use firn_core::StoreDir;
use firn_wire::worker::{
    BuildResult, ClientGreeting, ClientOptions, ServerInfo, StderrMessage, Version, read_client_greeting,
    read_derived_paths, read_path_info, read_server_greeting,
};
use firn_wire::{FramedReader, WireReader, serve};

/// The most that a message may take, in bytes.
const BUDGET: usize = 1 << 20;

thread_local! {
    static RUNTIME: std::cell::LazyCell<tokio::runtime::Runtime> =
        std::cell::LazyCell::new(|| tokio::runtime::Builder::new_current_thread().build().unwrap());
}

/// The first byte chooses the decoder, the second the version.
pub fn wire(input: &[u8]) -> bool {
    let [which, minor, bytes @ ..] = input else { return false };
    RUNTIME.with(|runtime| runtime.block_on(decode(*which, *minor, bytes)))
}

async fn decode(which: u8, minor: u8, bytes: &[u8]) -> bool {
    let dir = StoreDir::default();
    let version = Version::new(1, 18 + minor % 24);
    let serve_version = serve::Version::new(2, minor % 8);
    let mut reader = WireReader::new(bytes);
    reader.start_message(BUDGET);
    let reader = &mut reader;
    match which % 17 {
        0 => read_client_greeting(reader).await.is_ok(),
        1 => ClientGreeting::read(reader).await.is_ok(),
        2 => read_server_greeting(reader, version).await.is_ok(),
        3 => ServerInfo::read(reader, version).await.is_ok(),
        4 => StderrMessage::read(reader, version).await.is_ok(),
        5 => BuildResult::read(reader, version).await.is_ok(),
        6 => ClientOptions::read(reader).await.is_ok(),
        7 => read_path_info(reader, &dir).await.is_ok(),
        8 => read_derived_paths(reader, &dir, version).await.is_ok(),
        9 => reader.derivation(&dir, "x").await.is_ok(),
        10 => reader.realisation().await.is_ok(),
        11 => serve::read_build_result(reader, serve_version).await.is_ok(),
        12 => serve::BuildOptions::read(reader, serve_version).await.is_ok(),
        13 => {
            let Ok(path) = reader.path(&dir).await else { return false };
            serve::read_path_info(reader, &dir, path, serve_version).await.is_ok()
        }
        14 => reader.paths(&dir).await.is_ok(),
        15 => reader.opt_content_address().await.is_ok(),
        _ => FramedReader::new(reader).read_all(BUDGET as u64).await.is_ok(),
    }
}
