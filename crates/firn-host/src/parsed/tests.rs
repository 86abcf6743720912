use super::*;
use firn_syntax::show::{ShowContext, show};
use firn_syntax::{ParseOptions, parse};
use std::os::unix::fs::PermissionsExt;

fn key(n: u32) -> TextKey {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b9).to_be_bytes());
    key[8..12].copy_from_slice(&n.to_be_bytes());
    TextKey(key)
}

fn stamp(n: u32) -> FileStamp {
    FileStamp { hash: key(n ^ 0x5555).0, size: u64::from(n) << 20 }
}

fn tree(text: &str) -> Ast {
    parse(text.as_bytes(), ParseOptions::default()).expect("parses")
}

fn shown(ast: &Ast) -> String {
    let context = ShowContext { absolute: &|path| path.to_vec(), home: b"/home" };
    String::from_utf8_lossy(&show(ast, &context)).into_owned()
}

/// The text of a tree that is kept under a number.
fn text(n: u32) -> String {
    match n % 7 {
        // A large one.
        3 => format!("[ {} {n} ]", "(a: b) ".repeat(20_000)),
        _ => format!("{{ a, b ? {n} }}: with a; [ \"{n}\" c ]"),
    }
}

fn keep(cache: &Path, numbers: impl Iterator<Item = u32>) {
    let trees = ParsedTrees::new(cache);
    for n in numbers {
        trees.keep(&key(n), &tree(&text(n)));
        trees.keep_key(&stamp(n), &key(n));
    }
    trees.finish();
}

#[track_caller]
fn found(trees: &ParsedTrees, n: u32) -> bool {
    let by_stamp = trees.key_of(&stamp(n));
    let Some(ast) = trees.find(&key(n)) else { return false };
    assert_eq!((shown(&ast), by_stamp), (shown(&tree(&text(n))), Some(key(n))));
    true
}

fn files(cache: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(cache.join(FOLDER))
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.retain(|path| path.file_name().is_some_and(|name| name != segment::LOCK));
    files.sort();
    files
}

#[test]
fn what_one_keeps_others_find() {
    let dir = tempfile::tempdir().expect("a folder");
    let before = ParsedTrees::new(dir.path());
    assert!(!found(&before, 1));
    keep(dir.path(), 0..10);
    let after = ParsedTrees::new(dir.path());
    assert!((0..10).all(|n| found(&after, n)) && !found(&after, 10));
    // In other orders than they were written in, and from several segments.
    keep(dir.path(), 10..20);
    let both = ParsedTrees::new(dir.path());
    for start in 0..20 {
        assert!((0..20).all(|n| found(&both, (start + n * 3) % 20)));
    }
    // What is open is not looked for again.
    assert!(!found(&before, 1));
    // Nothing new, no file.
    both.finish();
    assert_eq!(files(dir.path()).len(), 2);
}

#[test]
fn what_is_not_finished_is_not_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let trees = ParsedTrees::new(dir.path());
    trees.keep(&key(1), &tree(&text(1)));
    assert!(files(dir.path()).is_empty());
    // From here on it is written to.
    trees.keep(&key(3), &tree(&text(3)));
    while files(dir.path()).is_empty() {
        std::thread::yield_now();
    }
    assert!(!found(&ParsedTrees::new(dir.path()), 1));
    drop(trees);
    assert!(files(dir.path()).is_empty());
}

#[test]
fn many_segments_become_few() {
    let dir = tempfile::tempdir().expect("a folder");
    for n in 0..30 {
        keep(dir.path(), n..n + 3);
    }
    assert!(files(dir.path()).len() <= 9, "{}", files(dir.path()).len());
    let trees = ParsedTrees::new(dir.path());
    assert!((0..32).all(|n| found(&trees, n)));
}

#[test]
fn what_is_damaged_is_as_if_it_were_not_there() {
    let dir = tempfile::tempdir().expect("a folder");
    keep(dir.path(), 0..3);
    keep(dir.path(), 3..4);
    for file in files(dir.path()) {
        let good = fs::read(&file).expect("readable");
        let step = (good.len() / 500).max(1);
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&file, &bad).expect("writable");
            // Those that are found are what they should be.
            let trees = ParsedTrees::new(dir.path());
            let lost = (0..4).filter(|n| !found(&trees, *n)).count();
            assert!(at < 8 || lost > 0, "byte {at} of {} does not matter", good.len());
            fs::write(&file, &good[..at]).expect("writable");
            let trees = ParsedTrees::new(dir.path());
            assert!((0..4).filter(|n| found(&trees, *n)).count() < 4);
        }
        fs::write(&file, &good).expect("writable");
    }
}

#[test]
fn folders_that_others_can_write_to_are_not_used() {
    let dir = tempfile::tempdir().expect("a folder");
    keep(dir.path(), 0..1);
    let folder = dir.path().join(FOLDER);
    assert_eq!(folder.metadata().expect("there").mode() & 0o777, 0o700);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).expect("ours");
    assert!(!found(&ParsedTrees::new(dir.path()), 0));
    keep(dir.path(), 1..2);
    assert_eq!(files(dir.path()).len(), 1);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("ours");
    assert!(found(&ParsedTrees::new(dir.path()), 0));
    // Nor is a link to a folder.
    fs::rename(&folder, dir.path().join("other")).expect("ours");
    std::os::unix::fs::symlink("other", &folder).expect("a link");
    assert!(!found(&ParsedTrees::new(dir.path()), 0));
}

#[test]
fn a_folder_that_goes_away_is_no_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let trees = ParsedTrees::new(dir.path());
    for n in 0..40 {
        trees.keep(&key(n), &tree(&text(n)));
        if n == 10 {
            fs::remove_dir_all(dir.path().join(FOLDER)).expect("ours");
        }
    }
    trees.finish();
    assert!(files(dir.path()).is_empty());
    keep(dir.path(), 0..1);
    assert!(found(&ParsedTrees::new(dir.path()), 0));
}

#[test]
fn a_folder_that_cannot_be_made_is_no_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("writable");
    keep(&file, 0..1);
    assert!(!found(&ParsedTrees::new(&file), 0));
}
