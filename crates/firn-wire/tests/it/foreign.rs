//! Bytes that nobody should send: no decoder panics, or takes more memory than it was given.

use firn_core::StoreDir;
use firn_wire::worker::{
    BuildResult, ClientGreeting, ClientOptions, ServerInfo, StderrMessage, Version, read_client_greeting,
    read_derived_paths, read_path_info, read_server_greeting,
};
use firn_wire::{FramedReader, WireReader, serve};
use proptest::collection::vec;
use proptest::prelude::*;

/// Every decoder on the same bytes.
async fn decode_all(bytes: &[u8], minor: u8) {
    let dir = StoreDir::default();
    let version = Version::new(1, minor);
    let reader = || {
        let mut reader = WireReader::new(bytes);
        reader.start_message(1 << 20);
        reader
    };
    let _ = read_client_greeting(&mut reader()).await;
    let _ = ClientGreeting::read(&mut reader()).await;
    let _ = read_server_greeting(&mut reader(), version).await;
    let _ = ServerInfo::read(&mut reader(), version).await;
    let _ = StderrMessage::read(&mut reader(), version).await;
    let _ = BuildResult::read(&mut reader(), version).await;
    let _ = ClientOptions::read(&mut reader()).await;
    let _ = read_path_info(&mut reader(), &dir).await;
    let _ = read_derived_paths(&mut reader(), &dir, version).await;
    let _ = reader().derivation(&dir, "x").await;
    let _ = reader().realisation().await;
    let serve_version = serve::Version::new(2, minor % 8);
    let _ = serve::read_build_result(&mut reader(), serve_version).await;
    let _ = serve::BuildOptions::read(&mut reader(), serve_version).await;
    let _ = FramedReader::new(&mut reader()).read_all(1 << 20).await;
}

/// Words that decoders take for something: small numbers, magic ones, lengths that lie.
fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0u64..20).prop_map(|n| n.to_le_bytes().to_vec()),
        any::<u64>().prop_map(|n| n.to_le_bytes().to_vec()),
        prop::sample::select(vec![
            0x6f6c_6d67u64,
            0x6378_7470,
            0x5354_5254,
            0x5253_4c54,
            0x6e69_7863,
            0x6478_696f
        ])
        .prop_map(|n| n.to_le_bytes().to_vec()),
        "[ -~]{0,40}".prop_map(|text| {
            let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
            bytes.extend(text.bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes
        }),
        vec(any::<u8>(), 0..9),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn decoders_never_panic(words in vec(word(), 0..24), minor in 18u8..40) {
        let bytes = words.concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(decode_all(&bytes, minor));
    }
}
