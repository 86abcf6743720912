//! Keeping the folder small: few segments, not more than so many bytes, and nothing that a process left behind.

use super::new_name;
use super::segment::{LOCK, Segment, UNFINISHED, Writer, place};
use firn_syntax::stored;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// With more segments than this the smaller half of them becomes one: each is opened by every process.
const MOST_SEGMENTS: usize = 8;
/// Bytes of all segments. All of nixpkgs takes about a third.
const MOST_BYTES: u64 = 512 << 20;
/// How old what is left of a process must be: one that still writes to it has written to it since.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

struct Found {
    path: PathBuf,
    name: String,
    bytes: u64,
    modified: SystemTime,
}

fn list(dir: &Path) -> Vec<Found> {
    let found = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let data = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let name = entry.file_name().into_string().ok().filter(|name| name != LOCK)?;
        Some(Found { path: entry.path(), name, bytes: data.len(), modified: data.modified().ok()? })
    };
    fs::read_dir(dir).into_iter().flatten().filter_map(found).collect()
}

/// Cleans up, unless another process is doing that.
pub(super) fn tidy(dir: &Path) {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(lock) = rustix::fs::open(dir.join(LOCK), flags, Mode::RUSR | Mode::WUSR) else { return };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    let (unfinished, segments): (Vec<_>, Vec<_>) =
        list(dir).into_iter().partition(|found| found.name.starts_with(UNFINISHED));
    for left in unfinished {
        if left.modified.elapsed().is_ok_and(|age| age > LEFT_BEHIND) {
            let _ = fs::remove_file(left.path);
        }
    }
    let mut segments = remove_oldest(segments, MOST_BYTES);
    segments.retain(|segment| segment.name.starts_with(stored::SOURCES));
    if segments.len() > MOST_SEGMENTS {
        segments.sort_by_key(|segment| segment.bytes);
        segments.truncate(MOST_SEGMENTS / 2 + 1);
        let _ = merge(dir, &mut segments);
    }
}

/// Removes the oldest files until the others have at most so many bytes, and returns those.
fn remove_oldest(mut files: Vec<Found>, most: u64) -> Vec<Found> {
    files.sort_by(|a, b| a.modified.cmp(&b.modified).then_with(|| a.name.cmp(&b.name)));
    let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
    files.retain(|file| {
        let keep = bytes <= most;
        if !keep {
            bytes -= file.bytes;
            let _ = fs::remove_file(&file.path);
        }
        keep
    });
    files
}

/// Makes one segment of several, and removes those.
fn merge(dir: &Path, segments: &mut [Found]) -> io::Result<()> {
    // Of what several have, the latest counts.
    segments.sort_by(|a, b| b.name.cmp(&a.name));
    let mut writer = Writer::new(dir)?;
    let mut words: Vec<u32> = Vec::new();
    for segment in segments.iter() {
        let Some(segment) = Segment::open(&segment.path) else { continue };
        for entry in &segment.index {
            let (place, count) = place(entry);
            words.clear();
            words.resize(count, 0);
            segment.file.read_exact_at(bytemuck::cast_slice_mut(&mut words), place)?;
            writer.add_words(entry, &words)?;
        }
        segment.stamps.iter().for_each(|stamped| writer.add_stamped(stamped));
    }
    writer.finish(&dir.join(new_name()))?;
    for segment in segments {
        let _ = fs::remove_file(&segment.path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let dir = tempfile::tempdir().expect("a folder");
        for (age, name) in [(30, "b"), (20, "a"), (10, "c")] {
            let file = fs::File::create(dir.path().join(name)).expect("a file");
            file.set_len(100).expect("room");
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("a time");
        }
        let left = |most| {
            let mut names: Vec<_> =
                remove_oldest(list(dir.path()), most).into_iter().map(|file| file.name).collect();
            names.sort();
            names
        };
        assert_eq!(left(300), ["a", "b", "c"]);
        assert_eq!(left(299), ["a", "c"]);
        assert_eq!(left(150), ["c"]);
        assert_eq!(list(dir.path()).len(), 1);
        assert_eq!(left(0), Vec::<String>::new());
    }
}
