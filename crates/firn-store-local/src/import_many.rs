//! Adding many small objects whose facts came with them: registered together, a group at a time.

use crate::import::announced_size;
use crate::register::Registration;
use crate::store::LocalStore;
use firn_core::{Hash, HashAlgo, StorePath, ValidPathInfo};
use firn_nar::fs::restore;
use firn_nar::{NarError, NarReader};
use firn_store::locks::PathLocks;
use firn_store::supply::SMALL_NAR;
use firn_store::{NarSupply, NarToAdd, Store, StoreError, StoreResult};
use std::collections::BTreeSet;
use std::io::Cursor;
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

/// Most objects in one group: the lock of each is an open file.
const GROUP: usize = 100;

/// A group with this many bytes is full.
const GROUP_BYTES: usize = 4 << 20;

/// Facts and archive.
type Nar = (ValidPathInfo, Vec<u8>);

/// A group that is written while the next one comes in.
#[derive(Default)]
struct Writing(Option<JoinHandle<StoreResult<()>>>);

impl Writing {
    async fn finish(&mut self) -> StoreResult<()> {
        match self.0.take() {
            None => Ok(()),
            Some(task) => crate::store_impl::joined(task.await),
        }
    }
}

impl LocalStore {
    /// Adds what `supply` gives.
    pub(crate) async fn import_supply(
        &self,
        supply: &mut dyn NarSupply,
        repair: bool,
        check_signatures: bool,
    ) -> StoreResult<()> {
        let mut writing = Writing::default();
        let mut group: Vec<Nar> = Vec::new();
        let mut bytes = 0;
        let mut result = Ok(());
        loop {
            let item = match supply.next().await {
                Ok(item) => item,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            let Some(NarToAdd { info, mut archive }) = item else { break };
            let mut small = Vec::new();
            let is_small = announced_size(&info) <= SMALL_NAR;
            if is_small {
                // One byte more shows that an archive is longer than it should be.
                small.reserve_exact(usize::try_from(info.nar_size).unwrap_or(0) + 1);
                let read = (&mut archive).take(info.nar_size + 1).read_to_end(&mut small).await;
                if let Err(error) = read {
                    result = Err(NarError::read(error).into());
                    break;
                }
            }
            if is_small && small.len() as u64 <= info.nar_size {
                bytes += small.len();
                group.push((info, small));
                if group.len() < GROUP && bytes < GROUP_BYTES {
                    continue;
                }
                bytes = 0;
                writing.finish().await?;
                self.start_writing(&mut writing, std::mem::take(&mut group), repair, check_signatures);
                continue;
            }
            // What comes before must be there first, since this may refer to it.
            bytes = 0;
            writing.finish().await?;
            self.start_writing(&mut writing, std::mem::take(&mut group), repair, check_signatures);
            writing.finish().await?;
            let mut archive = Cursor::new(small).chain(archive);
            self.add_nar(&info, &mut archive, repair, check_signatures).await?;
        }
        writing.finish().await?;
        self.start_writing(&mut writing, group, repair, check_signatures);
        writing.finish().await?;
        result
    }

    fn start_writing(&self, writing: &mut Writing, group: Vec<Nar>, repair: bool, check: bool) {
        if !group.is_empty() {
            let store = self.clone();
            let import = move || store.import_group(&group, repair, check);
            writing.0 = Some(tokio::task::spawn_blocking(import));
        }
    }

    /// Adds small objects in their order. After an error those before it are valid.
    fn import_group(&self, group: &[Nar], repair: bool, check_signatures: bool) -> StoreResult<()> {
        if repair || self.lower().is_some() {
            return group
                .iter()
                .try_for_each(|(info, nar)| self.import(info, &nar[..], repair, check_signatures));
        }
        let trust = self.trust();
        let refused = match check_signatures {
            true => group.iter().position(|(info, _)| !trust.accepts_path(self.dir(), info)),
            false => None,
        };
        let (mut rest, refused) = match refused {
            Some(at) => (&group[..at], Some(&group[at].0)),
            None => (group, None),
        };
        self.add_temp_roots(rest.iter().map(|(info, _)| &info.path))?;
        while !rest.is_empty() {
            let done = self.import_unlocked(rest)?;
            rest = &rest[done..];
            if let Some((info, nar)) = rest.first() {
                // Somebody else is at it: this one is waited for, with nothing held.
                self.import(info, &nar[..], false, false)?;
                rest = &rest[1..];
            }
        }
        match refused {
            Some(info) => Err(StoreError::Untrusted { path: self.display(&info.path) }),
            None => Ok(()),
        }
    }

    /// Adds the first objects of a group, as far as nobody else has their locks; says how many.
    fn import_unlocked(&self, group: &[Nar]) -> StoreResult<usize> {
        let valid = self.valid_among(group.iter().map(|(info, _)| &info.path))?;
        let mut seen: BTreeSet<&StorePath> = BTreeSet::new();
        let mut locks = Vec::new();
        let mut missing: Vec<&Nar> = Vec::new();
        let mut done = 0;
        for nar in group {
            let path = &nar.0.path;
            if !valid.contains(path) && seen.insert(path) {
                if missing.is_empty() {
                    self.ensure_writable()?;
                }
                match PathLocks::try_lock(&[self.real(path)].into())? {
                    Some(lock) => locks.push(lock),
                    None => break,
                }
                missing.push(nar);
            }
            done += 1;
        }
        // Somebody else may have been faster before we had the locks.
        let valid = self.valid_among(missing.iter().map(|(info, _)| &info.path))?;
        missing.retain(|(info, _)| !valid.contains(&info.path));
        let mut infos: Vec<&ValidPathInfo> = Vec::with_capacity(missing.len());
        let mut failed = None;
        for (info, nar) in missing {
            match self.write_small(info, nar) {
                Ok(()) => infos.push(info),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let registered =
            self.register(infos.iter().map(|info| Registration { info, outputs: None }).collect());
        if let Err(error) = registered {
            if infos.len() < 2 {
                return Err(error);
            }
            // One of them is at fault; the others are not.
            for info in infos {
                self.register(vec![Registration { info, outputs: None }])?;
            }
        }
        match failed {
            None => Ok(done),
            Some(error) => Err(error),
        }
    }

    /// Puts an archive in memory to its place, if it is what was announced.
    fn write_small(&self, info: &ValidPathInfo, nar: &[u8]) -> StoreResult<()> {
        self.check_hash(info, Hash::of(HashAlgo::Sha256, nar), nar.len() as u64)?;
        self.write_object(&info.path, false, |real| {
            let mut reader = NarReader::new(nar);
            restore(&mut reader, real, self.restore_options())?;
            if reader.position() != nar.len() as u64 {
                return Err(NarError::Bad("there are bytes behind the archive".into()).into());
            }
            self.check_ca_content(info, real)
        })
    }
}
