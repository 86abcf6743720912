use super::*;
use crate::{Event, NarReader, NarWriter, Node};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

fn dump(path: &Path) -> Vec<u8> {
    dump_path(path, Vec::new(), DumpOptions::default()).unwrap()
}

fn put(nar: &[u8], dest: &Path, options: RestoreOptions) -> Result<(), String> {
    restore(&mut NarReader::new(nar), dest, options).map_err(|e| e.to_string())
}

fn sample(dir: &Path) {
    std::fs::create_dir_all(dir.join("sub/deeper")).unwrap();
    std::fs::write(dir.join("a.txt"), "text").unwrap();
    std::fs::write(dir.join("sub/empty"), "").unwrap();
    std::fs::write(dir.join("sub/big"), vec![7u8; 700_000]).unwrap();
    std::fs::write(dir.join("sub/deeper/run"), "#!").unwrap();
    std::fs::set_permissions(dir.join("sub/deeper/run"), PermissionsExt::from_mode(0o755)).unwrap();
    std::os::unix::fs::symlink("../nowhere", dir.join("sub/link")).unwrap();
    std::fs::write(dir.join("sub.x"), "sorts before sub/").unwrap();
}

#[test]
fn round_trips() {
    let tmp = tempfile::tempdir().unwrap();
    let source = tmp.path().join("source");
    sample(&source);
    let nar = dump(&source);
    for (name, canonical) in [("plain", Canonical::No), ("canonical", Canonical::Yes)] {
        let dest = tmp.path().join(name);
        put(&nar, &dest, RestoreOptions { canonical, sync: true, preallocate: true, ..Default::default() })
            .unwrap();
        assert_eq!(dump(&dest), nar);
        if canonical == Canonical::Yes {
            let of = |p: &str| std::fs::symlink_metadata(dest.join(p)).unwrap();
            assert_eq!((of("").mode() & 0o7777, of("").mtime()), (0o555, 1));
            assert_eq!((of("a.txt").mode() & 0o7777, of("a.txt").mtime()), (0o444, 1));
            assert_eq!((of("sub/deeper/run").mode() & 0o7777, of("sub/link").mtime()), (0o555, 1));
        }
    }
    // A test run by an ordinary user must be able to remove the tree.
    for dir in ["canonical", "canonical/sub", "canonical/sub/deeper"] {
        std::fs::set_permissions(tmp.path().join(dir), PermissionsExt::from_mode(0o755)).unwrap();
    }
}

#[test]
fn filters() {
    let tmp = tempfile::tempdir().unwrap();
    sample(tmp.path());
    let mut asked = Vec::new();
    let mut filter = |path: &Path, kind: FileKind| {
        asked.push((path.strip_prefix(tmp.path()).unwrap().to_owned(), kind));
        Ok(!path.ends_with("deeper") && !path.ends_with("big"))
    };
    let options = DumpOptions { filter: Some(&mut filter), ..Default::default() };
    let nar = dump_path(tmp.path(), Vec::new(), options).unwrap();
    let mut reader = NarReader::new(&nar[..]);
    let mut names = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        if let Event::Node { name, .. } = event {
            names.push(String::from_utf8(name.to_vec()).unwrap());
        }
    }
    assert_eq!(names, ["", "a.txt", "sub", "empty", "link", "sub.x"]);
    assert!(asked.contains(&("sub/link".into(), FileKind::Symlink)));
    assert_eq!(asked.len(), 7);
}

#[test]
fn refuses_to_overwrite() {
    let tmp = tempfile::tempdir().unwrap();
    let source = tmp.path().join("source");
    sample(&source);
    let (dir, file) = (dump(&source), dump(&source.join("a.txt")));
    let at = tmp.path().join("at");
    let try_put = |nar: &[u8]| put(nar, &at, RestoreOptions::default()).unwrap_err();
    std::os::unix::fs::symlink(tmp.path().join("out2"), &at).unwrap();
    assert!(try_put(&file).contains("File exists") && try_put(&dir).contains("File exists"));
    std::fs::create_dir(tmp.path().join("out2")).unwrap();
    assert!(try_put(&dir).ends_with("at' already exists"));
    assert!(try_put(&file).contains("File exists"));
}

fn archive_of(names: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = NarWriter::new(&mut out);
    writer.start_directory(b"").unwrap();
    for name in names {
        writer.regular(name.as_bytes(), false, name.as_bytes()).unwrap();
    }
    writer.end_directory().unwrap();
    writer.finish().unwrap();
    out
}

#[test]
fn case_hack() {
    let tmp = tempfile::tempdir().unwrap();
    let hack = RestoreOptions { case_hack: true, ..Default::default() };
    let nar = archive_of(&["xt_CONNMARK.h", "xt_CONNmark.h", "xt_connmark.h"]);
    let dest = tmp.path().join("x");
    put(&nar, &dest, hack).unwrap();
    assert!(dest.join("xt_connmark.h~nix~case~hack~2").exists());
    let undo = || DumpOptions { undo_case_hack: true, ..Default::default() };
    assert_eq!(dump_path(&dest, Vec::new(), undo()).unwrap(), nar);
    std::fs::write(dest.join("xt_CONNMARK.h~nix~case~hack~3"), "").unwrap();
    let error = dump_path(&dest, Vec::new(), undo()).unwrap_err().to_string();
    assert!(error.contains("file name collision between"), "{error}");

    let collision = archive_of(&["Test", "Test~nix~case~hack~1", "test"]);
    let error = put(&collision, &tmp.path().join("y"), hack).unwrap_err();
    let expected =
        "NAR contains file name 'test' that collides with case-hacked file name 'Test~nix~case~hack~1'";
    assert!(error.contains(expected), "{error}");
    let twice = archive_of(&["Test", "Test~nix~case~hack~1"]);
    let error = put(&twice, &tmp.path().join("z"), hack).unwrap_err();
    assert!(error.contains("already carries the case hack's suffix"), "{error}");
}

#[test]
fn errors_name_the_path() {
    let tmp = tempfile::tempdir().unwrap();
    let error = dump_path(&tmp.path().join("no"), Vec::new(), DumpOptions::default()).unwrap_err();
    assert!(error.to_string().contains("/no'"), "{error}");
    let socket = tmp.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let error = dump_path(tmp.path(), Vec::new(), DumpOptions::default()).unwrap_err();
    assert!(error.to_string().contains("socket' has an unsupported type"), "{error}");
}

#[test]
fn depth_is_bounded() {
    let tmp = tempfile::tempdir().unwrap();
    let deep: std::path::PathBuf = std::iter::repeat_n("d", crate::MAX_DEPTH - 1).collect();
    std::fs::create_dir_all(tmp.path().join(&deep)).unwrap();
    let nar = dump(tmp.path());
    put(&nar, &tmp.path().join("copy"), RestoreOptions::default()).unwrap();
    let mut reader = NarReader::new(&nar[..]);
    let mut depth = 0;
    while let Some(event) = reader.next_event().unwrap() {
        depth += usize::from(matches!(event, Event::Node { node: Node::Directory, .. }));
    }
    assert_eq!(depth, crate::MAX_DEPTH);
    std::fs::create_dir(tmp.path().join(&deep).join("d")).unwrap();
    let error = dump_path(tmp.path(), Vec::new(), DumpOptions::default()).unwrap_err();
    assert!(error.to_string().contains("exceeds maximum NAR directory depth of 64"), "{error}");
}

#[test]
fn canonical_modes_do_not_depend_on_the_umask() {
    let tmp = tempfile::tempdir().unwrap();
    let source = tmp.path().join("source");
    sample(&source);
    let nar = dump(&source);
    // Only this test sets it; where tests share a process, files of the others are readable to us all the same.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let dest = tmp.path().join("dest");
    let result = put(&nar, &dest, RestoreOptions { canonical: Canonical::Yes, ..Default::default() });
    rustix::process::umask(before);
    result.unwrap();
    let mode = |p: &str| std::fs::symlink_metadata(dest.join(p)).unwrap().mode() & 0o7777;
    assert_eq!((mode("a.txt"), mode("sub/deeper/run"), mode("sub")), (0o444, 0o555, 0o555));
    for dir in ["", "sub", "sub/deeper"] {
        std::fs::set_permissions(dest.join(dir), PermissionsExt::from_mode(0o755)).unwrap();
    }
}

/// Enough files for several threads, with directories that have none and files that are large in between.
fn forest(root: &Path) {
    for dir in 0..150 {
        let path = root.join(format!("d{dir}/deep/deeper"));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::create_dir(path.join("empty")).unwrap();
        for file in 0..dir % 7 {
            std::fs::write(path.join(format!("f{file}")), format!("{dir} {file}").repeat(file * 97)).unwrap();
        }
        if dir % 50 == 0 {
            std::fs::write(path.join("large"), vec![dir as u8; 300_000]).unwrap();
        }
        std::os::unix::fs::symlink("f0", path.join("link")).unwrap();
    }
}

#[test]
fn many_files() {
    let tmp = tempfile::tempdir().unwrap();
    let source = tmp.path().join("source");
    forest(&source);
    let nar = dump(&source);
    let mut reader = NarReader::new(&nar[..]);
    let mut files = 0;
    while let Some(event) = reader.next_event().unwrap() {
        files += usize::from(matches!(event, Event::Node { node: Node::Regular { .. }, .. }));
    }
    assert_eq!(files, (0..150).map(|dir| dir % 7).sum::<usize>() + 3);
    let dest = tmp.path().join("dest");
    put(&nar, &dest, RestoreOptions { canonical: Canonical::Yes, sync: true, ..Default::default() }).unwrap();
    assert!(dump(&dest) == nar);
    // Times of directories are set when all that they hold is there.
    for dir in 0..150 {
        let path = dest.join(format!("d{dir}/deep/deeper"));
        for path in [path.as_path(), path.parent().unwrap(), path.parent().unwrap().parent().unwrap()] {
            let stat = std::fs::symlink_metadata(path).unwrap();
            assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o555, 1), "{}", path.display());
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        std::fs::set_permissions(path.join("empty"), PermissionsExt::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(&dest, PermissionsExt::from_mode(0o755)).unwrap();
    // An archive that ends too early is an error, wherever it does.
    for end in (1..10).map(|tenth| nar.len() * tenth / 10) {
        let error = put(&nar[..end], &tmp.path().join(format!("cut{end}")), RestoreOptions::default());
        assert_eq!(error.unwrap_err(), "unexpected end-of-file");
    }
}

#[test]
fn the_first_error_counts() {
    let tmp = tempfile::tempdir().unwrap();
    forest(tmp.path());
    // The file is gone when it is read; what is wrong behind it does not matter any more.
    let gone = tmp.path().join("d40/deep/deeper/f3");
    let mut filter = |path: &Path, _| {
        if path == gone {
            std::fs::remove_file(path).unwrap();
        }
        match path.ends_with("d41/deep") {
            true => Err("what comes later".into()),
            false => Ok(true),
        }
    };
    let options = DumpOptions { filter: Some(&mut filter), ..Default::default() };
    let error = dump_path(tmp.path(), Vec::new(), options).unwrap_err().to_string();
    assert_eq!(error, format!("opening file '{}': No such file or directory", gone.display()));
}

/// Long runs of zeros take no space, and the file is the same.
#[test]
fn holes() {
    let tmp = tempfile::tempdir().unwrap();
    let check = |name: &str, contents: &[u8]| {
        let mut writer = NarWriter::new(Vec::new());
        writer.regular(b"", false, contents).unwrap();
        let dest = tmp.path().join(name);
        let nar = writer.finish().unwrap();
        let reader = std::io::BufReader::with_capacity(1 << 16, &nar[..]);
        restore(&mut NarReader::new(reader), &dest, RestoreOptions::default()).unwrap();
        assert!(std::fs::read(&dest).unwrap() == contents, "{name}");
        std::fs::metadata(&dest).unwrap().blocks() * 512
    };
    let zeros = vec![0; 4 << 20];
    assert!(check("zeros", &zeros) < 1 << 20);
    assert!(check("end", &[&b"x"[..], &zeros].concat()) < 1 << 20);
    assert!(check("middle", &[&[1; 100_000], &zeros[..], &[2; 100_000]].concat()) < 1 << 20);
    check("short", &zeros[..1000]);
    check("none", b"");
}
