//! The seeds of the fuzzers and everything that they have found, fed to the parsers again.

use firn_nar::{Event, NarReader, Node};
use firn_tests_parsers::{TARGETS, Target};
use std::path::{Path, PathBuf};

fn folder(kind: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(kind).join(target.name)
}

fn inputs(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

fn feed(target: &Target, path: &Path, input: &[u8]) -> bool {
    std::panic::catch_unwind(|| (target.feed)(input))
        .unwrap_or_else(|_| panic!("{}: {} panics", target.name, path.display()))
}

/// Seeds are what parsers know: most of them are good.
#[test]
fn seeds() {
    for target in TARGETS {
        let seeds = inputs(&folder("seeds", target));
        let good = seeds.iter().filter(|(path, input)| feed(target, path, input)).count();
        assert!(good * 2 > seeds.len(), "{}: {good} of {} seeds are good", target.name, seeds.len());
    }
}

#[test]
fn findings() {
    for target in TARGETS {
        for (path, input) in inputs(&folder("findings", target)) {
            feed(target, &path, &input);
        }
    }
}

/// What runs of the fuzzers found worth keeping, an archive of files for each target.
#[test]
fn corpora() {
    for target in TARGETS {
        let path = folder("corpora", target).with_extension("nar.xz");
        let Ok(packed) = std::fs::read(&path) else { continue };
        let archive = firn_archive::decoder_of_any(&packed[..]).unwrap();
        let mut reader = NarReader::new(std::io::BufReader::new(archive));
        let (mut inputs, mut good) = (0, 0);
        while let Some(event) = reader.next_event().unwrap() {
            let Event::Node { name, node: Node::Regular { .. } } = event else { continue };
            let place = path.join(String::from_utf8_lossy(name).as_ref());
            let mut input = Vec::new();
            reader
                .copy_contents(|piece| {
                    input.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
            inputs += 1;
            good += usize::from(feed(target, &place, &input));
        }
        println!("{}: {good} of {inputs} inputs are good", target.name);
        assert!(inputs > 10 && good > 0, "{}: {good} of {inputs} inputs are good", target.name);
    }
}

/// No fuzzer is without a function, and no function without a fuzzer.
#[test]
fn folders() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let names = |folder: &str, prefix: &str| -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(fuzz.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .map(|name| name.strip_prefix(prefix).expect("a fuzzer's name").to_owned())
            .collect();
        names.sort();
        names
    };
    let mut known: Vec<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    known.sort();
    assert_eq!(names("seeds", ""), known);
    assert_eq!(names("fuzz_targets", "fuzz_"), known);
}

/// Every prefix of every seed, and every seed with a bit or a byte wrong: no coverage is needed to think of these.
#[test]
fn broken_seeds() {
    // Unpacking is too slow for so many.
    for target in TARGETS.iter().filter(|target| target.name != "restore") {
        for (path, input) in inputs(&folder("seeds", target)) {
            // Large ones have been broken by the fuzzers.
            let step = 1 + input.len() / 60;
            for at in (0..input.len()).step_by(step) {
                feed(target, &path, &input[..at]);
                for byte in [input[at] ^ 1, input[at] ^ 0x80, b'"', 0] {
                    let mut broken = input.clone();
                    broken[at] = byte;
                    feed(target, &path, &broken);
                }
            }
        }
    }
}
