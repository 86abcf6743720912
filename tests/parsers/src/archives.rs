//! Archives: all that read them agree, and what is read is written as it was.

use firn_core::{Hash, HashAlgo};
use firn_nar::fs::{DumpOptions, RestoreOptions, dump_path};
use firn_nar::listing::Listing;
use firn_nar::{Event, HashReader, NarBoundary, NarReader, NarResult, NarWriter, Node, RefScanner};
use std::io::BufRead;

/// Reads an archive and writes it anew.
fn rewrite(input: &[u8]) -> NarResult<Vec<u8>> {
    let mut reader = NarReader::new(input);
    let mut writer = NarWriter::new(Vec::new());
    loop {
        let Some(event) = reader.next_event()? else { break };
        match event {
            Event::EndDirectory => writer.end_directory()?,
            Event::Node { name, node: Node::Directory } => writer.start_directory(name)?,
            Event::Node { name, node: Node::Symlink { target } } => writer.symlink(name, target)?,
            Event::Node { name, node: Node::Regular { executable, .. } } => {
                let (name, mut contents) = (name.to_vec(), Vec::new());
                reader.copy_contents(|piece| {
                    contents.extend_from_slice(piece);
                    Ok(())
                })?;
                writer.regular(&name, executable, &contents)?;
            }
        }
    }
    writer.finish()
}

pub fn nar(input: &[u8]) -> bool {
    let listed = Listing::read(&mut NarReader::new(input));
    let again = rewrite(input);
    let hashed = firn_nar::git::hash_archive(&mut NarReader::new(input), HashAlgo::Sha1);
    assert_eq!(listed.is_ok(), again.is_ok());
    assert_eq!(listed.is_ok(), hashed.is_ok());

    // Piece by piece is the same as at once.
    let mut pieces = NarReader::new(std::io::BufReader::with_capacity(7, input));
    assert_eq!(pieces.skip_to_end().is_ok(), listed.is_ok());

    let mut boundary = NarBoundary::default();
    let mut at = 0;
    let mut outcome = Ok(());
    for piece in input.chunks(13) {
        match boundary.feed(piece) {
            Ok(taken) => at += taken,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
        if boundary.is_done() {
            break;
        }
    }
    // References are found wherever the pieces end.
    let hash_parts = [&"a".repeat(32)[..], "0123456789abcdfghijklmnpqrsvwxyz"];
    let (mut whole, mut parts) = (RefScanner::new(hash_parts), RefScanner::new(hash_parts));
    whole.update(input);
    input.chunks(11).for_each(|piece| parts.update(piece));
    assert_eq!(whole.found(), parts.found());

    let (Ok(listing), Ok(again)) = (listed, again) else { return false };
    assert_eq!(again, &input[..again.len()]);
    assert!(outcome.is_ok() && boundary.is_done(), "the archive has no end for those who pass it on");
    assert_eq!(at, again.len());
    let mut reader = NarReader::new(HashReader::new(input, HashAlgo::Sha256));
    reader.skip_to_end().unwrap();
    let hash = reader.into_inner().finish();
    assert_eq!(hash, (Hash::of(HashAlgo::Sha256, &again), again.len() as u64));
    assert_eq!(listing.find([]), Some(&listing));
    true
}

/// Unpacks below a temporary folder: what was accepted is the same when packed, and nothing is written elsewhere.
pub fn restore(input: &[u8]) -> bool {
    let tmp = tempfile::tempdir().unwrap();
    let (inside, hacked) = (tmp.path().join("d/x"), tmp.path().join("d/y"));
    std::fs::create_dir(tmp.path().join("d")).unwrap();
    let mut rest = input;
    let restored = firn_nar::fs::restore(&mut NarReader::new(&mut rest), &inside, RestoreOptions::default());
    if restored.is_ok() {
        assert!(rest.fill_buf().is_ok());
        let again = dump_path(&inside, Vec::new(), DumpOptions::default()).unwrap();
        assert_eq!(again, &input[..again.len()]);
        let options = RestoreOptions { case_hack: true, ..Default::default() };
        if firn_nar::fs::restore(&mut NarReader::new(input), &hacked, options).is_ok() {
            let options = DumpOptions { undo_case_hack: true, ..Default::default() };
            assert_eq!(dump_path(&hacked, Vec::new(), options).unwrap(), again);
        }
    }
    let strangers = std::fs::read_dir(tmp.path()).unwrap().count();
    assert_eq!(strangers, 1, "something was written elsewhere");
    restored.is_ok()
}
