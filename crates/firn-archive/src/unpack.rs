//! Unpacking tar archives (compressed in any way) and zip archives.

use crate::decode::decoder_of_any;
use crate::error::{ArchiveError, ArchiveResult};
use crate::tar_headers::{self, Overrides};
use crate::tar_sparse::Sparse;
use crate::tree::{Tree, disk};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use tar::EntryType;

/// What came out of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// The newest time of a member, in seconds since the epoch.
    pub last_modified: i64,
    pub members: u64,
}

/// Unpacks the archive `file` into the directory `into`, which is made if it is not there.
pub fn unpack(file: &Path, into: &Path) -> ArchiveResult<Unpacked> {
    let mut input = File::open(file).map_err(disk("opening", file))?;
    let mut start = [0; 4];
    let n = input.read(&mut start).map_err(disk("reading", file))?;
    input.rewind().map_err(disk("reading", file))?;
    let mut tree = Tree::create(into)?;
    // An empty file is an empty archive, as in the reference.
    if n == 0 {
        return Ok(Unpacked { last_modified: 0, members: 0 });
    }
    if &start == b"PK\x03\x04" || &start == b"PK\x05\x06" {
        return unzip(input, &mut tree);
    }
    untar(decoder_of_any(BufReader::with_capacity(1 << 18, input))?, &mut tree)
}

fn untar(mut input: impl Read, tree: &mut Tree) -> ArchiveResult<Unpacked> {
    let mut done = Unpacked { last_modified: 0, members: 0 };
    let mut overrides = Overrides::default();
    let broken = |members: u64| {
        move |e: std::io::Error| match members {
            0 => ArchiveError::Malformed(format!("not a tar or zip archive: {e}")),
            _ => ArchiveError::Read(e),
        }
    };
    while let Some(header) = tar_headers::next(&mut input).map_err(broken(done.members))? {
        let size = match overrides.size.take() {
            Some(size) => size,
            None => header.entry_size().map_err(broken(done.members))?,
        };
        if size > tar_headers::MAX_SIZE {
            return Err(ArchiveError::Malformed(format!("an archive member has {size} bytes")));
        }
        let kind = header.entry_type();
        // Links and directories have no content, whatever their size says; old programs gave links that of the file.
        let has_none = matches!(kind, EntryType::Directory | EntryType::Symlink | EntryType::Link);
        let size = if has_none { 0 } else { size };
        if kind == EntryType::GNUSparse {
            overrides.sparse = Some(Sparse::of_header(&header, &mut input)?);
        }
        let mut content = (&mut input).take(size);
        match kind {
            EntryType::GNULongName => overrides.name = Some(tar_headers::gnu(&mut content, size)?),
            EntryType::GNULongLink => overrides.link = Some(tar_headers::gnu(&mut content, size)?),
            EntryType::XHeader => tar_headers::pax(&mut content, size, &mut overrides)?,
            EntryType::XGlobalHeader => {}
            _ => {
                let said = std::mem::take(&mut overrides);
                member(&header, said, size, &mut content, tree)?;
                done.members += 1;
                let time = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
                done.last_modified = done.last_modified.max(time);
            }
        }
        let rest = content.limit();
        tar_headers::skip(&mut input, size, rest).map_err(ArchiveError::Read)?;
    }
    Ok(done)
}

/// Makes what one member is.
fn member(
    header: &tar::Header,
    said: Overrides,
    size: u64,
    content: &mut dyn Read,
    tree: &mut Tree,
) -> ArchiveResult<()> {
    let mut sparse = said.sparse;
    let name = sparse.as_mut().and_then(|sparse| sparse.name.take()).or(said.name);
    let name = name.unwrap_or_else(|| header.path_bytes().into_owned());
    let link = || match said.link {
        Some(link) => Ok(link),
        None => header.link_name_bytes().map(|link| link.into_owned()).ok_or_else(|| {
            ArchiveError::Malformed(format!(
                "archive member '{}' is a link to nothing",
                String::from_utf8_lossy(&name)
            ))
        }),
    };
    match header.entry_type() {
        EntryType::Directory => tree.add_directory(&name),
        EntryType::Symlink => tree.add_symlink(&name, &link()?),
        EntryType::Link => tree.add_hard_link(&name, &link()?),
        // Old archives mark directories by a slash at the end of the name.
        EntryType::Regular if name.ends_with(b"/") => tree.add_directory(&name),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let mode = header.mode().unwrap_or(0);
            let mut expanded;
            let (size, content): (u64, &mut dyn Read) = match sparse {
                Some(sparse) => {
                    expanded = sparse.expand(content)?;
                    (expanded.size, &mut expanded)
                }
                None => (size, content),
            };
            let written = tree.add_file(&name, mode & 0o100 != 0, content)?;
            match written == size {
                true => Ok(()),
                false => Err(ArchiveError::Malformed(format!(
                    "archive member '{}' ends after {written} of {size} bytes",
                    String::from_utf8_lossy(&name)
                ))),
            }
        }
        other => Err(ArchiveError::Malformed(format!(
            "file '{}' in the archive has unsupported file type {other:?}",
            String::from_utf8_lossy(&name)
        ))),
    }
}

fn unzip(input: File, tree: &mut Tree) -> ArchiveResult<Unpacked> {
    const SYMLINK: u32 = 0o120_000;
    let broken = |e: zip::result::ZipError| ArchiveError::Malformed(format!("zip archive: {e}"));
    let mut archive = zip::ZipArchive::new(BufReader::new(input)).map_err(broken)?;
    let mut done = Unpacked { last_modified: 0, members: 0 };
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).map_err(broken)?;
        let name = member.name_raw().to_vec();
        let mode = member.unix_mode().unwrap_or(0);
        if member.is_dir() {
            tree.add_directory(&name)?;
        } else if mode & 0o170_000 == SYMLINK {
            let mut target = Vec::new();
            (&mut member).take(4096).read_to_end(&mut target).map_err(ArchiveError::Read)?;
            tree.add_symlink(&name, &target)?;
        } else {
            tree.add_file(&name, mode & 0o100 != 0, &mut member)?;
        }
        done.members += 1;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{EncoderOptions, encoder};
    use crate::method::Method;
    use std::io::Write;
    use std::os::unix::fs::{FileExt, PermissionsExt};

    fn header(kind: EntryType, name: &[u8], size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_size(size);
        header.set_mode(0o755);
        header.set_mtime(17);
        header.set_cksum();
        header
    }

    fn archive(members: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut out = tar::Builder::new(Vec::new());
        for (kind, name, data) in members {
            let mut header = header(*kind, name.as_bytes(), 0);
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.as_old_mut().linkname[..data.len()].copy_from_slice(data.as_bytes());
                header.set_cksum();
                out.append(&header, std::io::empty()).unwrap();
            } else {
                header.set_size(data.len() as u64);
                header.set_cksum();
                out.append(&header, data.as_bytes()).unwrap();
            }
        }
        out.into_inner().unwrap()
    }

    fn run(data: &[u8]) -> (tempfile::TempDir, ArchiveResult<Unpacked>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), data).unwrap();
        let result = unpack(&dir.path().join("file"), &dir.path().join("out"));
        (dir, result)
    }

    #[test]
    fn unpacks_all_kinds() {
        use EntryType::*;
        let long = format!("{}/x", "d".repeat(90));
        let data = archive(&[
            (Directory, "a/", ""),
            (Regular, "a/b", "hello"),
            (Symlink, "a/l", "b"),
            (Link, "c", "a/b"),
            (XHeader, "p", &format!("{} path={long}\n", long.len() + 10)),
            (Regular, "short", "long"),
            (GNULongName, "n", "g/n\0"),
            (Regular, "short", "gnu"),
        ]);
        let mut packed = Vec::new();
        let mut xz = encoder(Method::Xz, EncoderOptions::default(), &mut packed).unwrap();
        xz.write_all(&data).unwrap();
        xz.finish().unwrap();
        for data in [data, packed] {
            let (dir, result) = run(&data);
            assert_eq!(result.unwrap(), Unpacked { last_modified: 17, members: 6 });
            let read = |p: &str| std::fs::read_to_string(dir.path().join("out").join(p)).unwrap();
            assert_eq!(
                (read("a/b"), read("a/l"), read("c")),
                ("hello".into(), "hello".into(), "hello".into())
            );
            assert_eq!((read(&long), read("g/n")), ("long".into(), "gnu".into()));
            let mode = dir.path().join("out/a/b").metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755);
        }
    }

    /// Sizes in pax headers count, whatever the member's own header says; tar writes them from 8 GiB on.
    #[test]
    fn sizes_of_large_files() {
        use EntryType::*;
        let mut data = archive(&[(XHeader, "p", "12 size=700\n")]);
        data.truncate(1024);
        let mut large = header(Regular, b"large", 0).as_bytes().to_vec();
        large.resize(512 + 1024, b'x');
        data.extend(large);
        data.extend(archive(&[(Regular, "next", "next")]));
        let (dir, result) = run(&data);
        assert_eq!(result.unwrap().members, 2);
        assert_eq!(std::fs::metadata(dir.path().join("out/large")).unwrap().len(), 700);
        assert_eq!(std::fs::read_to_string(dir.path().join("out/next")).unwrap(), "next");
        // A real one, which is cut off: nothing but the size is of interest.
        let text = "19 size=9663676416\n";
        let mut data = archive(&[(XHeader, "p", text)]);
        data.truncate(1024);
        data.extend(archive(&[(Regular, "large", "begins")]));
        let error = run(&data).1.unwrap_err().to_string();
        assert!(error.contains("of 9663676416 bytes"), "{error}");
        // Damage between members is told.
        let mut data = archive(&[(Regular, "a", "a"), (Regular, "b", "b")]);
        data[1024] ^= 1;
        assert!(run(&data).1.unwrap_err().to_string().contains("checksum"));
    }

    #[track_caller]
    fn check_refused(members: &[(EntryType, &str, &str)], message: &str) {
        let (dir, result) = run(&archive(members));
        let error = result.unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(!dir.path().join("escaped").exists());
    }

    #[test]
    fn stays_inside() {
        use EntryType::*;
        check_refused(&[(Regular, "../escaped", "x")], "contains '..'");
        check_refused(&[(Symlink, "l", ".."), (Regular, "l/escaped", "x")], "opening directory");
        check_refused(&[(Symlink, "l", "/tmp"), (Link, "h", "l/x")], "directory");
        check_refused(&[(Char, "dev", "")], "unsupported file type");
        check_refused(&[(XHeader, "p", "11 size=-1\n"), (Regular, "x", "")], "malformed pax header");
        check_refused(&[(XHeader, "p", "99 path=x\n"), (Regular, "x", "")], "malformed pax header");
        // An absolute name is one below the target.
        let (dir, result) = run(&archive(&[(Regular, "/abs", "x")]));
        result.unwrap();
        assert!(dir.path().join("out/abs").exists());
        // A file may take the place of a symlink, and is not written through it.
        let (dir, result) = run(&archive(&[(Symlink, "l", "../escaped"), (Regular, "l", "x")]));
        result.unwrap();
        assert!(!dir.path().join("escaped").exists());
        assert!(run(b"certainly no archive").1.unwrap_err().to_string().contains("not a tar or zip archive"));
    }

    #[test]
    fn sparse_members() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("in")).unwrap();
        let file = |name: &str, size: u64| {
            let file = File::create(dir.path().join("in").join(name)).unwrap();
            file.set_len(size).unwrap();
            file
        };
        drop(file("hole", 100_000));
        let many = file("many", 1 << 20);
        let mut whole = vec![0; 1 << 20];
        // More parts than fit into a header, and into the one after it.
        for part in 0..40 {
            let at = part * 20_000 + 4096;
            whole[at..at + 600].fill(part as u8 + 1);
            many.write_all_at(&whole[at..at + 600], at as u64).unwrap();
        }
        std::fs::write(dir.path().join("in/later"), "later").unwrap();
        for format in
            ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix --sparse-version=1.0"]
        {
            #[expect(clippy::disallowed_methods, reason = "tests run programs")]
            let mut tar = std::process::Command::new("tar");
            tar.args(["-S", "--hole-detection=raw", "-cf", "packed", "--sort=name", "-C", "in"]);
            tar.args(format!("--format={format}").split(' ')).arg(".").current_dir(dir.path());
            let Ok(status) = tar.status() else {
                println!("SKIPPED: there is no GNU tar that makes sparse archives");
                return;
            };
            assert!(status.success());
            let packed = std::fs::read(dir.path().join("packed")).unwrap();
            assert!(packed.len() < 300_000, "{} bytes are not sparse", packed.len());
            let (out, result) = run(&packed);
            assert_eq!(result.unwrap().members, 4, "{format}");
            let read = |name: &str| std::fs::read(out.path().join("out").join(name)).unwrap();
            assert!(
                read("many") == whole && read("hole") == vec![0; 100_000] && read("later") == b"later",
                "{format}"
            );
        }
    }

    #[test]
    fn bad_sparse_members() {
        use EntryType::*;
        let record = |key: &str, value: &str| {
            let rest = format!(" GNU.sparse.{key}={value}\n");
            let length = rest.len() + if rest.len() + 2 > 99 { 3 } else { 2 };
            format!("{length}{rest}")
        };
        let size = record("size", "00000000009");
        for (records, data, message) in [
            (record("map", "0,2,1,2"), "abcd", "parts on each other"),
            (record("map", "18446744073709551615,2"), "ab", "parts on each other"),
            (size.clone() + &record("map", "8,2"), "ab", "beyond its end"),
            (size.clone() + &record("map", "0,2,4"), "ab", "no length"),
            (size.clone() + &record("map", "0,x"), "ab", "in place of a number"),
            (size.clone() + &record("map", "0,4"), "ab", "ends after 2 of 9 bytes"),
            (record("numbytes", "1"), "ab", "nowhere"),
            (record("major", "2"), "ab", "unknown version"),
            (record("major", "1"), "2\n0\n", "failed to fill"),
            (record("major", "1"), "1\n0\n99999999999999999999999999\n", "in place of a number"),
        ] {
            check_refused(&[(XHeader, "p", &records), (Regular, "x", data)], message);
        }
        check_refused(&[(GNUSparse, "x", "ab")], "in place of a number");
    }

    #[test]
    fn zips() {
        let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let plain = zip::write::SimpleFileOptions::default();
        out.start_file("d/x", plain.unix_permissions(0o755)).unwrap();
        out.write_all(b"zipped").unwrap();
        out.add_symlink("l", "d/x", plain).unwrap();
        let (dir, result) = run(&out.finish().unwrap().into_inner());
        assert_eq!(result.unwrap().members, 2);
        assert_eq!(std::fs::read_to_string(dir.path().join("out/l")).unwrap(), "zipped");
    }

    proptest::proptest! {
        #[test]
        fn damage_is_an_error_or_nothing(at in 0usize..3000, byte: u8) {
            let mut data = archive(&[(EntryType::Regular, "a", "hello"), (EntryType::Symlink, "s", "a")]);
            let at = at % data.len();
            data[at] = byte;
            let (dir, _) = run(&data);
            proptest::prop_assert!(!dir.path().join("escaped").exists());
        }
    }
}
