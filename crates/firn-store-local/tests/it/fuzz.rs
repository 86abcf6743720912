//! Parsers of foreign bytes, fed with good input that was broken at random: they answer or refuse, and do not panic.
//!
//! A few thousand inputs each run always; `FIRN_FUZZ_SECONDS=1200` goes on for so long with each parser. A failure names
//! the seed of its input.

use firn_core::StoreDir;
use firn_derivation::Derivation;
use firn_nar::listing::Listing;
use firn_nar::{NarReader, NarWriter};
use firn_store::MemoryStore;
use firn_store::export::{BlockingWriter, export_paths, import_paths};
use firn_store::validity::{HashLines, read_validity};
use std::time::{Duration, Instant};

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides.max(1)
    }
}

/// Breaks an input in one to four places.
fn mutate(input: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..1 + dice.roll(4) {
        let at = dice.roll(bytes.len());
        match dice.roll(8) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << dice.roll(8),
            2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'(', b'"', b'/'][dice.roll(8)],
            3 => {
                let end = (at + dice.roll(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + dice.roll(64)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = dice.roll(bytes.len());
                bytes.splice(to..to, piece);
            }
            5 => {
                let start = dice.roll(other.len());
                let end = (start + dice.roll(128)).min(other.len());
                bytes.splice(at..at, other[start..end].iter().copied());
            }
            // A length that is wrong.
            6 if at + 8 <= bytes.len() => {
                let value = [0u64, 1, 255, 4096, 1 << 31, u64::MAX, u64::MAX / 2, 1 << 40][dice.roll(8)];
                bytes[at / 8 * 8..at / 8 * 8 + 8].copy_from_slice(&value.to_le_bytes());
            }
            _ => bytes.extend_from_slice(&other[..dice.roll(other.len())]),
        }
    }
    bytes
}

/// Feeds `parse` with broken forms of `seeds`; counts those that were accepted.
fn fuzz(name: &str, seeds: &[Vec<u8>], mut parse: impl FnMut(&[u8]) -> bool) {
    for seed in seeds {
        assert!(parse(seed), "{name}: good input is refused");
    }
    let seconds = std::env::var("FIRN_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut round, mut accepted) = (0u64, 0u64);
    while round < 3000 || Instant::now() < end {
        round += 1;
        let mut dice = Dice(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (first, second) = (dice.roll(seeds.len()), dice.roll(seeds.len()));
        let input = mutate(&seeds[first], &seeds[second], &mut dice);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parse(&input)));
        match outcome {
            Ok(good) => accepted += u64::from(good),
            Err(_) => panic!("{name}: round {round} panics on {input:02x?}"),
        }
    }
    println!("{name}: {round} inputs, {accepted} accepted");
}

fn archives() -> Vec<Vec<u8>> {
    let file = |contents: &[u8], executable| {
        let mut writer = NarWriter::new(Vec::new());
        writer.regular(b"", executable, contents).unwrap();
        writer.finish().unwrap()
    };
    let mut writer = NarWriter::new(Vec::new());
    writer.start_directory(b"").unwrap();
    writer.regular(b"a", false, &[1; 100]).unwrap();
    writer.start_directory(b"b").unwrap();
    writer.symlink(b"l", b"../a").unwrap();
    writer.regular(b"x", true, b"#! /bin/sh\n").unwrap();
    writer.end_directory().unwrap();
    writer.end_directory().unwrap();
    vec![file(b"", false), file(b"hello", true), file(&[7; 5000], false), writer.finish().unwrap()]
}

#[test]
fn nar() {
    let tmp = tempfile::tempdir().unwrap();
    let mut number = 0;
    fuzz("NAR", &archives(), |input| {
        let listed = Listing::read(&mut NarReader::new(input));
        let hashed = firn_nar::git::hash_archive(&mut NarReader::new(input), firn_core::HashAlgo::Sha1);
        assert_eq!(listed.is_ok(), hashed.is_ok());
        number += 1;
        let dest = tmp.path().join(format!("d/{number}"));
        std::fs::create_dir_all(dest.parent().unwrap()).unwrap();
        let restored = firn_nar::fs::restore(&mut NarReader::new(input), &dest, Default::default());
        if restored.is_ok() {
            // What was accepted is the same again.
            let mut again = firn_nar::fs::dump_path(&dest, Vec::new(), Default::default()).unwrap();
            again.extend_from_slice(&input[again.len()..]);
            assert_eq!(again, input);
        }
        firn_store_local::remove_tree(&dest).unwrap();
        let strangers = std::fs::read_dir(tmp.path()).unwrap().count();
        assert_eq!(strangers, 1, "something was written elsewhere");
        restored.is_ok()
    });
}

#[test]
fn derivations() {
    let dir = StoreDir::default();
    let (a, b) = ("a".repeat(32), "b".repeat(32));
    let simple = format!(
        "Derive([(\"out\",\"/nix/store/{a}-x\",\"\",\"\")],[(\"/nix/store/{b}-i.drv\",[\"dev\",\"out\"])],\
         [\"/nix/store/{b}-src\"],\"x86_64-linux\",\"/bin/sh\",[\"-c\",\"a \\\"quoted\\\" text\n\"],\
         [(\"name\",\"x\"),(\"out\",\"/nix/store/{a}-x\")])"
    );
    let fixed = "Derive([(\"out\",\"\",\"r:sha256\",\"\")],[],[],\"s\",\"b\",[],[])".to_owned();
    let dynamic = format!(
        "DrvWithVersion(\"xp-dyn-drv\",[(\"out\",\"\",\"r:sha256\",\"\")],\
         [(\"/nix/store/{b}-i.drv\",([\"out\"],[(\"out\",[\"x\"])]))],[],\"s\",\"b\",[],[])"
    );
    let seeds: Vec<Vec<u8>> = [simple, fixed, dynamic].map(String::into_bytes).into();
    fuzz("ATerm", &seeds, |input| match Derivation::parse_aterm("x", input, &dir) {
        // The platform and names of outputs are written as they are, as Nix does: with quotes in them the derivation
        // cannot be read again.
        Ok(derivation) if format!("{:?}{:?}", derivation.outputs, derivation.input_drvs).contains('\\') => {
            true
        }
        Ok(derivation) if derivation.platform.iter().any(|b| b"\"\\".contains(b)) => true,
        Ok(derivation) => {
            let again = Derivation::parse_aterm("x", &derivation.to_aterm(&dir), &dir).unwrap();
            assert_eq!(again, derivation);
            true
        }
        Err(_) => false,
    });
}

#[test]
fn exports() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let seed = runtime.block_on(async {
        use firn_store::Store as _;
        let store = MemoryStore::default();
        let a = store.add_text("a", b"hello", &Default::default(), false).await.unwrap();
        let b = store.add_text("b", b"world", &[a.clone()].into(), false).await.unwrap();
        let mut stream = Vec::new();
        export_paths(&store, &[a, b].into(), &mut BlockingWriter(&mut stream)).await.unwrap();
        stream
    });
    fuzz("export", &[seed], |input| {
        let store = MemoryStore::default();
        let mut input = input;
        runtime.block_on(import_paths(&store, &mut input, false)).is_ok()
    });
}

#[test]
fn validity_facts() {
    let (a, b) = ("a".repeat(32), "b".repeat(32));
    let seed = format!(
        "/nix/store/{a}-x\n{}\n120\n/nix/store/{b}-x.drv\n2\n/nix/store/{a}-x\n/nix/store/{b}-y\n",
        "0".repeat(64)
    );
    let dir = StoreDir::default();
    fuzz("validity", &[seed.into_bytes()], |input| {
        let mut input = input;
        loop {
            match read_validity(&dir, &mut input, HashLines::Given) {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    });
}

#[test]
fn narinfos() {
    let (a, b) = ("a".repeat(32), "b".repeat(32));
    let seed = format!(
        "StorePath: /nix/store/{a}-x\nURL: nar/x.nar.xz\nCompression: xz\nFileHash: sha256:{z}\nFileSize: 5\n\
         NarHash: sha256:{z}\nNarSize: 120\nReferences: {b}-y\nDeriver: {b}-x.drv\nSig: k:c2ln\n",
        z = "0".repeat(52)
    );
    let dir = StoreDir::default();
    fuzz("narinfo", &[seed.into_bytes()], |input| {
        let Ok(text) = std::str::from_utf8(input) else { return false };
        firn_core::narinfo::NarInfo::parse(&dir, text, "a test").is_ok()
    });
}
