//! The folders and files that make a store, and the check of its version.

use crate::config::LocalStoreConfig;
use crate::db::{Db, OpenMode};
use crate::schema;
use firn_store::activity::{Logger, Verbosity};
use firn_store::locks::flock::{self, Kind};
use firn_store::{StoreError, StoreResult};
use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Opens the database, making the store first if there is none. The descriptor holds the big lock (shared), which
/// keeps others from changing the schema.
pub(crate) fn open(config: &LocalStoreConfig, logger: &dyn Logger) -> StoreResult<(Option<OwnedFd>, Db)> {
    if config.read_only {
        match schema_version(config)? {
            None => {
                return Err(StoreError::Other(
                    "database does not exist, and cannot be created in read-only mode".into(),
                ));
            }
            Some(version) if version < schema::VERSION => {
                return Err(StoreError::Other(
                    "database schema needs migrating, but this cannot be done in read-only mode".into(),
                ));
            }
            Some(version) => check_not_newer(version)?,
        }
        return Ok((None, Db::open(config, OpenMode::Immutable)?));
    }
    let lock_path = config.db_dir().join("big-lock");
    // Somebody may have removed all profiles: that should not keep anybody from making new ones.
    if !lock_path.exists() || !config.state_dir.join("profiles").exists() {
        create(config, logger)?;
    }
    let lock = flock::open_lock_file(&lock_path).map_err(|e| match e {
        StoreError::Io { operation, path, source } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            StoreError::Other(format!(
                "{operation} '{}': Permission denied\nThis command may have been run as non-root in a single-user Nix \
                 installation,\nor the Nix daemon may have crashed.",
                path.display()
            ))
        }
        other => other,
    })?;
    let io = |e: Errno| StoreError::io("acquiring lock", &lock_path)(e.into());
    flock::lock(&lock, Kind::Shared, &|| {
        logger.log(Verbosity::Info, b"waiting for the big Nix store lock...");
    })
    .map_err(io)?;
    let db = match schema_version(config)? {
        None => {
            create(config, logger)?;
            let mut db = Db::open(config, OpenMode::Create)?;
            db.migrate(config)?;
            // The version says that the tables are there, so these come first on the disk as well.
            db.make_quick(config)?;
            if config.fsync_metadata {
                crate::durable::sync_dir(&config.db_dir())?;
            }
            write_schema_version(config)?;
            return Ok((Some(lock), db));
        }
        Some(version) if version < schema::VERSION => {
            check_old(version)?;
            flock::unlock(&lock).map_err(io)?;
            flock::lock(&lock, Kind::Exclusive, &|| {
                logger.log(Verbosity::Info, b"waiting for exclusive access to the Nix store...");
            })
            .map_err(io)?;
            let db = upgrade(config)?;
            flock::lock(&lock, Kind::Shared, &|| ()).map_err(io)?;
            db
        }
        Some(version) => {
            check_not_newer(version)?;
            let mut db = Db::open(config, OpenMode::Existing)?;
            db.migrate(config)?;
            db
        }
    };
    Ok((Some(lock), db))
}

fn check_not_newer(version: u32) -> StoreResult<()> {
    if version <= schema::VERSION {
        return Ok(());
    }
    Err(StoreError::Other(format!(
        "current Nix store schema is version {version}, but I only support {}",
        schema::VERSION
    )))
}

fn check_old(version: u32) -> StoreResult<()> {
    let (format, program) = match version {
        0..5 => ("Berkeley DB", "0.12"),
        5 => ("flat file", "1.11"),
        _ => return Ok(()),
    };
    Err(StoreError::Other(format!(
        "Your Nix store has a database in {format} format,\nwhich is no longer supported. To convert to the new \
         format,\nplease upgrade Nix to version {program} first."
    )))
}

/// Brings a database of version 6 to 9 to version 10; the big lock is held exclusively.
fn upgrade(config: &LocalStoreConfig) -> StoreResult<Db> {
    // Somebody else may have done it while we waited.
    let version = schema_version(config)?.unwrap_or(schema::VERSION);
    check_not_newer(version)?;
    let mut db = Db::open(config, OpenMode::Existing)?;
    db.write(|txn| {
        if version < 8 {
            txn.execute_batch(
                "alter table ValidPaths add column ultimate integer; alter table ValidPaths add column sigs text",
            )?;
        }
        if version < 9 {
            txn.execute_batch("drop table if exists FailedPaths")?;
        }
        if version < 10 {
            txn.execute_batch("alter table ValidPaths add column ca text")?;
        }
        Ok(())
    })?;
    db.migrate(config)?;
    write_schema_version(config)?;
    Ok(db)
}

/// What `db/schema` says; `None` where there is no such file.
pub(crate) fn schema_version(config: &LocalStoreConfig) -> StoreResult<Option<u32>> {
    let path = config.db_dir().join("schema");
    match std::fs::read_to_string(&path) {
        Ok(text) => match text.trim_end().parse() {
            Ok(version) => Ok(Some(version)),
            Err(_) => Err(StoreError::Corrupt(format!("'{}' is corrupt", path.display()))),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StoreError::io("reading", path)(e)),
    }
}

/// Last step of making a store: what comes before it is done again if it is missing. In one step, since others that make
/// the same store read the file meanwhile, and since half a version would be a store that nothing opens any more.
fn write_schema_version(config: &LocalStoreConfig) -> StoreResult<()> {
    let dir = config.db_dir();
    let path = dir.join("schema");
    let temporary = dir.join(format!("schema.tmp-{}", std::process::id()));
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(schema::VERSION.to_string().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    };
    write().map_err(|e| {
        // It is made anew by whoever opens the store next.
        let _ = std::fs::remove_file(&temporary);
        StoreError::io("writing", &path)(e)
    })?;
    match config.fsync_metadata {
        true => crate::durable::sync_dir(&dir),
        false => Ok(()),
    }
}

/// Makes missing folders and gives them their modes.
pub(crate) fn create(config: &LocalStoreConfig, logger: &dyn Logger) -> StoreResult<()> {
    make_durable_dirs(&config.real_store_dir)?;
    prepare_store_dir(config, logger)?;
    make_durable_dirs(&config.links_dir())?;
    let profiles = config.state_dir.join("profiles");
    make_durable_dirs(&profiles)?;
    make_durable_dirs(&config.temp_roots_dir())?;
    make_durable_dirs(&config.db_dir())?;
    let gc_roots = config.gc_roots_dir();
    if !gc_roots.exists() {
        make_durable_dirs(&gc_roots)?;
        // Older versions of the reference look for profiles only through this link.
        match std::os::unix::fs::symlink(&profiles, gc_roots.join("profiles")) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io("creating symlink", gc_roots.join("profiles"))(e));
            }
            _ => {}
        }
    }
    for dir in [profiles.join("per-user"), gc_roots.join("per-user")] {
        make_durable_dirs(&dir)?;
        let mode = std::fs::metadata(&dir).map_err(StoreError::io("getting status of", &dir))?.mode();
        if mode & 0o777 != 0o755 {
            rustix::fs::chmod(&dir, Mode::from_raw_mode(0o755))
                .map_err(|e| StoreError::io("changing mode of", &dir)(e.into()))?;
        }
    }
    reserve_space(config);
    Ok(())
}

/// As [`make_dirs`], and a power cut does not undo it: rows in the database are of no use without the folders.
fn make_durable_dirs(dir: &Path) -> StoreResult<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    make_dirs(dir)?;
    for parent in missing.iter().rev().filter_map(|dir| dir.parent()) {
        // A folder that others own may not let us.
        let _ = crate::durable::sync_dir(parent);
    }
    Ok(())
}

pub(crate) fn make_dirs(dir: &Path) -> StoreResult<()> {
    std::fs::create_dir_all(dir).map_err(StoreError::io("creating directory", dir))
}

/// What writing to the store needs once per process: no symlink on the way, a mount that can be written, and the
/// mode by which build users can use but not list the store.
pub(crate) fn prepare_store_dir(config: &LocalStoreConfig, logger: &dyn Logger) -> StoreResult<()> {
    let dir = &config.real_store_dir;
    if !config.allow_symlinked_store {
        for ancestor in dir.ancestors() {
            if std::fs::symlink_metadata(ancestor).is_ok_and(|m| m.is_symlink()) {
                return Err(StoreError::Other(format!(
                    "the path '{}' is a symlink; this is not allowed for the Nix store and its parent directories",
                    ancestor.display()
                )));
            }
        }
    }
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let io = |operation| move |e: Errno| StoreError::io(operation, dir)(e.into());
    let mount = rustix::fs::statvfs(dir).map_err(io("getting info about the Nix store mount point"))?;
    if mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        use rustix::mount::{MountFlags, mount_remount};
        mount_remount(dir, MountFlags::BIND, c"").map_err(io("remounting writable"))?;
    }
    let Some(group) = config.build_users_group.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    let Some(gid) = group_id(group) else {
        logger.warn(&format!("the group '{group}' specified in 'build-users-group' does not exist"));
        return Ok(());
    };
    let stat = rustix::fs::stat(dir).map_err(io("getting status of"))?;
    if stat.st_uid != 0 || stat.st_gid != gid || stat.st_mode & 0o7777 != STORE_MODE {
        let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::from_raw(gid));
        rustix::fs::chownat(CWD, dir, Some(uid), Some(gid), AtFlags::empty())
            .map_err(io("changing ownership of"))?;
        rustix::fs::chmod(dir, Mode::from_raw_mode(STORE_MODE)).map_err(io("changing mode of"))?;
    }
    Ok(())
}

/// Sticky; the group of the build users may enter and create, but not list.
const STORE_MODE: u32 = 0o1737;

/// The number of a group of /etc/group.
fn group_id(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string("/etc/group").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// Space that a collection can free first: on a full disk the database could not even be opened for writing. Not
/// having it is no error, and others need the last space more.
pub(crate) fn reserve_space(config: &LocalStoreConfig) {
    let path = config.db_dir().join("reserved");
    if std::fs::metadata(&path).is_ok_and(|m| m.len() == config.gc_reserved_space) {
        return;
    }
    let free = rustix::fs::statvfs(config.db_dir()).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    if free < config.gc_reserved_space.saturating_mul(2) {
        return;
    }
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let reserve = |mut file: std::fs::File| {
        file.set_len(config.gc_reserved_space)?;
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&file, flags, 0, config.gc_reserved_space) {
            Err(Errno::OPNOTSUPP) => {
                std::io::copy(&mut std::io::repeat(0).take(config.gc_reserved_space), &mut file).map(drop)
            }
            done => done.map_err(std::io::Error::from),
        }
    };
    // A file with nothing behind it would be taken for a reserve for ever.
    if config.gc_reserved_space > 0 && file.and_then(reserve).is_err() {
        let _ = std::fs::remove_file(&path);
    }
}
