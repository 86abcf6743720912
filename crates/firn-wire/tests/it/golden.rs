//! What is sent, byte by byte. Expected bytes are put together here from words and strings, not by the crate.

use firn_core::{
    CaMethod, ContentAddress, DerivedPath, Hash, HashAlgo, OutputsSpec, StoreDir, StorePath, ValidPathInfo,
};
use firn_derivation::{Derivation, DerivationOutput};
use firn_wire::values::Realisation;
use firn_wire::worker::{
    BuildResult, ClientOptions, Field, RemoteError, ServerInfo, StderrMessage, Version, read_derived_path,
    read_path_info, write_derived_path, write_path_info,
};
use firn_wire::{Message, WireReader, WireResult, serve};
use std::collections::BTreeSet;

/// A number.
fn w(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

/// A string.
fn s(text: &str) -> Vec<u8> {
    let mut bytes = w(text.len() as u64);
    bytes.extend(text.bytes());
    while !bytes.len().is_multiple_of(8) {
        bytes.push(0);
    }
    bytes
}

fn path(name: &str) -> StorePath {
    StorePath::from_base_name(&format!("{}-{name}", "g".repeat(32))).unwrap()
}

fn full(name: &str) -> String {
    format!("/nix/store/{}-{name}", "g".repeat(32))
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// That `value` is written as `expected`, and `expected` is read as `value`, to its last byte.
#[track_caller]
fn check<T: PartialEq + std::fmt::Debug>(
    value: &T,
    write: impl Fn(&mut Message, &T),
    read: impl AsyncFn(&mut WireReader<&[u8]>) -> WireResult<T>,
    expected: &[Vec<u8>],
) {
    let expected = expected.concat();
    let mut message = Message::new();
    write(&mut message, value);
    assert_eq!(message.0, expected);
    let mut reader = WireReader::new(&expected[..]);
    assert_eq!(block_on(read(&mut reader)).unwrap(), *value);
    assert_eq!(block_on(reader.u64_or_end()).unwrap(), None);
}

#[test]
fn greetings() {
    assert_eq!(
        firn_wire::worker::client_greeting(Version::new(1, 38)).0,
        b"cxin\0\0\0\0\x26\x01\0\0\0\0\0\0"
    );
    assert_eq!(
        firn_wire::worker::server_greeting(Version::new(1, 34)).0,
        b"oixd\0\0\0\0\x22\x01\0\0\0\0\0\0"
    );
    assert_eq!(serve::client_greeting(serve::Version::LATEST).0, [w(0x390c_9deb), w(0x207)].concat());
    assert_eq!(serve::server_greeting(serve::Version::LATEST).0, [w(0x5452_eecb), w(0x207)].concat());
}

#[test]
fn what_a_daemon_says_of_itself() {
    #[track_caller]
    fn of(minor: u8, version: Option<&str>, trusted: Option<bool>, expected: &[Vec<u8>]) {
        let info = ServerInfo { program_version: version.map(str::to_owned), trusted };
        let version = Version::new(1, minor);
        let write = |m: &mut Message, info: &ServerInfo| m.0.extend(info.write(version).0);
        check(&info, write, async |r: &mut WireReader<&[u8]>| ServerInfo::read(r, version).await, expected);
    }
    of(30, None, None, &[]);
    of(33, Some("foo"), None, &[s("foo")]);
    of(35, Some("foo"), Some(true), &[s("foo"), w(1)]);
    of(35, Some("foo"), Some(false), &[s("foo"), w(2)]);
    of(38, Some("foo"), None, &[s("foo"), w(0)]);
}

#[test]
fn path_infos() {
    let dir = StoreDir::default();
    let mut info = ValidPathInfo::new(path("foo"), Hash::of(HashAlgo::Sha256, b"x"), 34878);
    info.deriver = Some(path("foo.drv"));
    info.references = [path("foo"), path("bar")].into();
    info.registration_time = 23423;
    info.ultimate = true;
    info.signatures = ["k:a".to_owned(), "k:b".to_owned()].into();
    info.ca = Some(ContentAddress { method: CaMethod::NixArchive, hash: Hash::of(HashAlgo::Sha256, b"x") });
    let hash = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
    let ca =
        format!("fixed:r:sha256:{}", Hash::of(HashAlgo::Sha256, b"x").to_base(firn_core::HashFormat::Nix32));
    check(
        &info,
        |m, info| write_path_info(m, &dir, info),
        async |r: &mut WireReader<&[u8]>| read_path_info(r, &dir).await,
        &[
            s(&full("foo")),
            s(&full("foo.drv")),
            s(hash),
            w(2),
            s(&full("bar")),
            s(&full("foo")),
            w(23423),
            w(34878),
            w(1),
            w(2),
            s("k:a"),
            s("k:b"),
            s(&ca),
        ],
    );
    // The serve protocol: no path, no times, a hash with its algorithm.
    let hash = info.nar_hash.to_prefixed(firn_core::HashFormat::Nix32);
    info.registration_time = 0;
    info.ultimate = false;
    let of = |info: &ValidPathInfo, minor: u8, expected: &[Vec<u8>]| {
        let version = serve::Version::new(2, minor);
        check(
            info,
            |m, info| serve::write_path_info(m, &dir, info, version),
            async |r: &mut WireReader<&[u8]>| serve::read_path_info(r, &dir, path("foo"), version).await,
            expected,
        );
    };
    let start = [s(&full("foo.drv")), w(2), s(&full("bar")), s(&full("foo")), w(34878), w(34878)];
    of(&info, 4, &[start.concat(), s(&hash), s(&ca), w(2), s("k:a"), s("k:b")]);
    info.nar_hash = Hash::dummy();
    info.ca = None;
    info.signatures = BTreeSet::new();
    of(&info, 3, &start);
}

#[test]
fn derived_paths() {
    let dir = StoreDir::default();
    let of = |minor: u8, path: DerivedPath, expected: &str| {
        let version = Version::new(1, minor);
        check(
            &path,
            |m, path| write_derived_path(m, &dir, path, version).unwrap(),
            async |r: &mut WireReader<&[u8]>| read_derived_path(r, &dir, version).await,
            &[s(expected)],
        );
    };
    of(30, DerivedPath::Opaque(path("foo")), &full("foo"));
    of(30, DerivedPath::Opaque(path("foo.drv")), &full("foo.drv"));
    of(30, DerivedPath::built(path("foo.drv"), OutputsSpec::All), &format!("{}!*", full("foo.drv")));
    let two = OutputsSpec::Names(["x".to_owned(), "y".to_owned()].into());
    of(30, DerivedPath::built(path("foo.drv"), two.clone()), &format!("{}!x,y", full("foo.drv")));
    of(29, DerivedPath::Opaque(path("foo")), &full("foo"));
    of(29, DerivedPath::built(path("foo.drv"), OutputsSpec::All), &full("foo.drv"));
    of(29, DerivedPath::built(path("foo.drv"), two), &format!("{}!x,y", full("foo.drv")));
    let drv = DerivedPath::Opaque(path("foo.drv"));
    assert!(write_derived_path(&mut Message::new(), &dir, &drv, Version::new(1, 29)).is_err());
}

#[test]
fn build_results() {
    let id = format!("sha256:{}!out", "15e3c560894cbb27085cf65b5a2ecb18488c999497f4531b6907a7581ce6d527");
    let realisation = Realisation::new(id.clone(), path("foo"));
    let json = format!(
        r#"{{"dependentRealisations":{{}},"id":"{id}","outPath":"{}","signatures":[]}}"#,
        path("foo").base_name()
    );
    let result = BuildResult {
        status: 9,
        error: "bad".into(),
        times_built: 3,
        non_deterministic: true,
        start_time: 30,
        stop_time: 50,
        cpu_user: Some(500),
        cpu_system: None,
        outputs: [(id.clone(), realisation)].into(),
    };
    let none = BuildResult { cpu_user: None, ..result.clone() };
    let timeless =
        BuildResult { times_built: 0, non_deterministic: false, start_time: 0, stop_time: 0, ..none.clone() };
    let bare = BuildResult { outputs: Default::default(), ..timeless.clone() };
    let (start, times) = ([w(9), s("bad")].concat(), [w(3), w(1), w(30), w(50)].concat());
    let outputs = [w(1), s(&id), s(&json)].concat();
    let of = |minor: u8, result: &BuildResult, expected: &[Vec<u8>]| {
        let version = Version::new(1, minor);
        let read = async |r: &mut WireReader<&[u8]>| BuildResult::read(r, version).await;
        check(result, |m, result| result.write(m, version), read, expected);
    };
    of(27, &bare, std::slice::from_ref(&start));
    of(28, &timeless, &[start.clone(), outputs.clone()]);
    of(29, &none, &[start.clone(), times.clone(), outputs.clone()]);
    of(37, &result, &[start.clone(), times.clone(), w(1), w(500), w(0), outputs.clone()]);
    let of = |minor: u8, result: &BuildResult, expected: &[Vec<u8>]| {
        let version = serve::Version::new(2, minor);
        let read = async |r: &mut WireReader<&[u8]>| serve::read_build_result(r, version).await;
        check(result, |m, result| serve::write_build_result(m, result, version), read, expected);
    };
    of(2, &bare, std::slice::from_ref(&start));
    of(3, &BuildResult { outputs: Default::default(), ..none.clone() }, &[start.clone(), times.clone()]);
    of(6, &none, &[start, times, outputs]);
}

#[test]
fn build_options() {
    let all = serve::BuildOptions {
        max_silent_time: 5,
        build_timeout: 6,
        max_log_size: 7,
        repeats: 8,
        enforce_determinism: true,
        keep_failed: true,
    };
    let of = |minor: u8, options: serve::BuildOptions, expected: &[Vec<u8>]| {
        let version = serve::Version::new(2, minor);
        let read = async |r: &mut WireReader<&[u8]>| serve::BuildOptions::read(r, version).await;
        check(&options, |m, options| options.write(m, version), read, expected);
    };
    of(7, all.clone(), &[w(5), w(6), w(7), w(8), w(1), w(1)]);
    of(3, serve::BuildOptions { keep_failed: false, ..all.clone() }, &[w(5), w(6), w(7), w(8), w(1)]);
    let old = serve::BuildOptions { repeats: 0, enforce_determinism: false, keep_failed: false, ..all };
    of(2, old.clone(), &[w(5), w(6), w(7)]);
    of(1, serve::BuildOptions { max_log_size: 0, ..old }, &[w(5), w(6)]);
}

#[test]
fn derivations() {
    let dir = StoreDir::default();
    let mut drv = Derivation::new("foo");
    drv.outputs.insert("out".into(), DerivationOutput::InputAddressed(path("foo")));
    drv.outputs.insert(
        "z".into(),
        DerivationOutput::CaFloating { method: CaMethod::NixArchive, algo: HashAlgo::Sha256 },
    );
    drv.input_srcs = [path("src")].into();
    drv.platform = b"x86_64-linux".to_vec();
    drv.builder = b"/bin/sh".to_vec();
    drv.args = vec![b"-c".to_vec(), b"\xff".to_vec()];
    drv.env = [(b"a".to_vec(), b"b".to_vec())].into();
    let mut odd = w(1);
    odd.extend([0xff, 0, 0, 0, 0, 0, 0, 0]);
    check(
        &drv,
        |m, drv| {
            m.derivation(&dir, drv);
        },
        async |r: &mut WireReader<&[u8]>| r.derivation(&dir, "foo").await,
        &[
            w(2),
            s("out"),
            s(&full("foo")),
            s(""),
            s(""),
            s("z"),
            s(""),
            s("r:sha256"),
            s(""),
            w(1),
            s(&full("src")),
            s("x86_64-linux"),
            s("/bin/sh"),
            w(2),
            s("-c"),
            odd,
            w(1),
            s("a"),
            s("b"),
        ],
    );
}

#[test]
fn messages() {
    let of = |minor: u8, message: StderrMessage, expected: &[Vec<u8>]| {
        let version = Version::new(1, minor);
        let read = async |r: &mut WireReader<&[u8]>| StderrMessage::read(r, version).await;
        check(&message, |m, message| message.write(m, version), read, expected);
    };
    of(38, StderrMessage::Next(b"hi\n".to_vec()), &[b"gmlo\0\0\0\0".to_vec(), s("hi\n")]);
    of(38, StderrMessage::Last, &[b"stla\0\0\0\0".to_vec()]);
    of(22, StderrMessage::Read(9), &[b"atad\0\0\0\0".to_vec(), w(9)]);
    let error = b"ptxc\0\0\0\0".to_vec();
    of(25, StderrMessage::Error(RemoteError::new("no", 100)), &[error.clone(), s("no"), w(100)]);
    let traced = RemoteError { level: 0, message: b"no".to_vec(), traces: vec![b"why".to_vec()], status: 1 };
    of(
        26,
        StderrMessage::Error(traced),
        &[error, s("Error"), w(0), s("Error"), s("no"), w(0), w(1), w(0), s("why")],
    );
    let fields = vec![Field::Int(7), Field::Text(b"t".to_vec())];
    of(
        38,
        StderrMessage::StartActivity {
            id: 1,
            level: 3,
            kind: 105,
            text: b"x".to_vec(),
            fields: fields.clone(),
            parent: 2,
        },
        &[b"TRTS\0\0\0\0".to_vec(), w(1), w(3), w(105), s("x"), w(2), w(0), w(7), w(1), s("t"), w(2)],
    );
    of(38, StderrMessage::StopActivity(1), &[b"POTS\0\0\0\0".to_vec(), w(1)]);
    of(
        38,
        StderrMessage::Result { id: 1, kind: 101, fields },
        &[b"TLSR\0\0\0\0".to_vec(), w(1), w(101), w(2), w(0), w(7), w(1), s("t")],
    );
}

#[test]
fn options() {
    let options = ClientOptions {
        keep_failed: true,
        keep_going: false,
        fallback: true,
        verbosity: 3,
        max_jobs: 4,
        max_silent_time: 5,
        verbose_build: true,
        cores: 6,
        substitute: true,
        overrides: [("a".to_owned(), b"b".to_vec())].into(),
    };
    let expected =
        [w(1), w(0), w(1), w(3), w(4), w(5), w(1), w(0), w(0), w(0), w(6), w(1), w(1), s("a"), s("b")];
    let read = async |r: &mut WireReader<&[u8]>| ClientOptions::read(r).await;
    check(&options, |m, options| options.write(m), read, &expected);
}
