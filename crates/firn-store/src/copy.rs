//! Copying objects and realisations from one store to another.

use crate::activity::{Activity, ActivityType, Logger, ResultType, Verbosity};
use crate::closure::topo_sort;
use crate::error::{StoreError, StoreResult};
use crate::supply::NarsOfStore;
use crate::traits::{HeldNar, Realisation, Store};
use firn_core::{StorePath, ValidPathInfo};
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;

/// How much of one archive is on its way between the stores, in bytes.
const IN_FLIGHT: usize = 256 * 1024;

/// Archives on their way at once.
const AT_ONCE: usize = 12;

/// How paths are copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Replace the content of paths that are valid.
    pub repair: bool,
    /// Whether the destination asks for signatures.
    pub check_signatures: bool,
    /// Let the destination substitute what it can first.
    pub substitute: bool,
    /// Go on with other paths when one fails; the first error is still the result.
    pub keep_going: bool,
}

impl CopyOptions {
    /// Copies what is missing, with signatures checked.
    pub const CHECKED: CopyOptions =
        CopyOptions { repair: false, check_signatures: true, substitute: false, keep_going: false };
}

/// Copies those of `paths` that `to` lacks, each after what it refers to, several at once. Returns where each path
/// is in `to`: content-addressed ones may have another name there. `paths` should be closed under references: an
/// object whose references `to` does not have is refused by it.
pub async fn copy_paths(
    from: &dyn Store,
    to: &dyn Store,
    paths: &BTreeSet<StorePath>,
    options: CopyOptions,
    logger: &Arc<dyn Logger>,
) -> StoreResult<BTreeMap<StorePath, StorePath>> {
    let present = match options.substitute {
        true => to.query_valid_paths_substituting(paths).await?,
        false => to.query_valid_paths(paths).await?,
    };
    let missing: BTreeSet<StorePath> = match options.repair {
        true => paths.clone(),
        false => paths.difference(&present).cloned().collect(),
    };
    let mut places: BTreeMap<StorePath, StorePath> =
        present.iter().map(|path| (path.clone(), path.clone())).collect();
    if missing.is_empty() {
        // That there was nothing to do is told like the rest.
        drop(copying_paths(0, logger));
        return Ok(places);
    }
    let infos = from.query_path_infos(&missing).await?;
    if let Some(gone) = missing.iter().find(|path| !infos.contains_key(*path)) {
        return Err(StoreError::InvalidPath { path: from.store_dir().display(gone) });
    }
    let references = |path: &StorePath| Ok(infos[path].references.clone());
    let mut order = topo_sort(&missing, references)?.map_err(|c| c.into_error(from.store_dir()))?;
    order.reverse();
    let mut targets = BTreeMap::new();
    for path in &order {
        let target = info_for(from, to, &infos[path])?;
        places.insert(path.clone(), target.path.clone());
        targets.insert(path.clone(), target);
    }
    if !options.keep_going
        && missing.len() > 1
        && from.as_local_fs().is_some()
        && to.takes_nars_together().await?
    {
        copy_together(from, to, &order, &mut targets, options, logger).await?;
        return Ok(places);
    }
    let count = missing.len();
    let all = copying_paths(count, logger);
    let expected: u64 = infos.values().map(|info| info.nar_size).sum();
    all.set_expected(ActivityType::CopyPath, expected);

    // How many of its references each path still waits for, and who waits for it.
    let mut waits: HashMap<&StorePath, usize> = HashMap::new();
    let mut dependents: HashMap<&StorePath, Vec<&StorePath>> = HashMap::new();
    for path in &order {
        let needed = infos[path].references.iter().filter(|r| *r != path && missing.contains(*r));
        let mut number = 0;
        for reference in needed {
            dependents.entry(reference).or_default().push(path);
            number += 1;
        }
        waits.insert(path, number);
    }
    let mut ready: std::collections::VecDeque<&StorePath> =
        order.iter().filter(|path| waits[*path] == 0).collect();
    let mut running = FuturesUnordered::new();
    let (mut done, mut failed, mut first_error) = (0, 0, None);
    loop {
        while running.len() < AT_ONCE
            && let Some(path) = ready.pop_front()
        {
            let (target, all) = (&targets[path], all.id());
            running.push(async move { (path, copy_one(from, to, path, target, options, logger, all).await) });
        }
        all.progress(done, count as u64, running.len() as u64, failed);
        let Some((path, result)) = running.next().await else { break };
        match result {
            Ok(()) => {
                done += 1;
                for dependent in dependents.remove(path).unwrap_or_default() {
                    if let Some(number) = waits.get_mut(dependent) {
                        *number -= 1;
                        if *number == 0 {
                            ready.push_back(dependent);
                        }
                    }
                }
            }
            Err(error) if options.keep_going => {
                failed += 1;
                logger.error(&format!("could not copy {}: {error}", from.store_dir().display(path)));
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match first_error {
        None => Ok(places),
        Some(error) => Err(error),
    }
}

fn copying_paths(count: usize, logger: &Arc<dyn Logger>) -> Activity {
    let text = format!("copying {count} paths");
    Activity::start(logger, Verbosity::Info, ActivityType::CopyPaths, &text, &[], 0)
}

/// Copies paths, in an order in which each comes after what it refers to, as one stream.
async fn copy_together(
    from: &dyn Store,
    to: &dyn Store,
    order: &[StorePath],
    targets: &mut BTreeMap<StorePath, ValidPathInfo>,
    options: CopyOptions,
    logger: &Arc<dyn Logger>,
) -> StoreResult<()> {
    let objects: Vec<_> =
        order.iter().filter_map(|path| Some((path.clone(), targets.remove(path)?))).collect();
    let expected = objects.iter().map(|(_, info)| info.nar_size).sum();
    let sizes: BTreeMap<StorePath, u64> =
        objects.iter().map(|(path, info)| (path.clone(), info.nar_size)).collect();
    let count = objects.len() as u64;
    let all = copying_paths(objects.len(), logger);
    all.set_expected(ActivityType::CopyPath, expected);
    let (mut done, mut one) = (0, None);
    let started = Box::new(|path: &StorePath| {
        // What came before is on its way.
        drop(one.take());
        all.progress(done, count, 1, 0);
        done += 1;
        let activity = copying(from, to, path, logger, all.id());
        let size = sizes.get(path).copied().unwrap_or(0);
        activity.result(ResultType::Progress, &[size.into(), size.into(), 0.into(), 0.into()]);
        one = Some(activity);
    });
    let mut supply = NarsOfStore::new(from, objects, started);
    to.add_nars(&mut supply, options.repair, options.check_signatures).await?;
    drop(supply);
    all.progress(count, count, 0, 0);
    Ok(())
}

/// Copies one path that `to` lacks and whose references it has.
pub async fn copy_path(
    from: &dyn Store,
    to: &dyn Store,
    path: &StorePath,
    options: CopyOptions,
    logger: &Arc<dyn Logger>,
) -> StoreResult<()> {
    let info = from
        .query_path_info(path)
        .await?
        .ok_or_else(|| StoreError::InvalidPath { path: from.store_dir().display(path) })?;
    let target = info_for(from, to, &info)?;
    copy_one(from, to, path, &target, options, logger, 0).await
}

/// As [`copy_path`], for a path whose references are still on their way: its archive, if `held` gives it, is fetched at
/// once, and taken in when `gate` opens. What the gate gives is kept until the path is added; `None` gives up, which
/// gives `false`.
pub async fn copy_path_when<T: Send>(
    from: &dyn Store,
    to: &dyn Store,
    path: &StorePath,
    options: CopyOptions,
    logger: &Arc<dyn Logger>,
    held: impl Future<Output = StoreResult<Option<Box<dyn HeldNar>>>> + Send,
    gate: impl Future<Output = Option<T>> + Send,
) -> StoreResult<bool> {
    let info = from
        .query_path_info(path)
        .await?
        .ok_or_else(|| StoreError::InvalidPath { path: from.store_dir().display(path) })?;
    let target = info_for(from, to, &info)?;
    to.add_temp_root(&target.path).await?;
    if !options.repair && to.is_valid_path(&target.path).await? {
        return Ok(true);
    }
    let activity = copying(from, to, path, logger, 0);
    let held = held.await?;
    let Some(_until_added) = gate.await else { return Ok(false) };
    pass_on(from, to, path, &target, options, held.as_deref(), activity).await.map(|()| true)
}

/// The facts of a path as the other store will have them.
fn info_for(from: &dyn Store, to: &dyn Store, info: &ValidPathInfo) -> StoreResult<ValidPathInfo> {
    let mut info = info.clone();
    // That it was built there says nothing here.
    info.ultimate = false;
    if from.store_dir() != to.store_dir() {
        // A content address without references gives a path in every store.
        match info.references.is_empty().then(|| info.path_of_ca(to.store_dir())).flatten() {
            Some(path) => info.path = path?,
            None => {
                return Err(StoreError::Other(format!(
                    "cannot copy '{}' from store '{}' to store '{}': their store directories are '{}' and '{}'",
                    from.store_dir().display(&info.path),
                    shown_uri(from),
                    shown_uri(to),
                    from.store_dir(),
                    to.store_dir()
                )));
            }
        }
    }
    Ok(info)
}

async fn copy_one(
    from: &dyn Store,
    to: &dyn Store,
    path: &StorePath,
    target: &ValidPathInfo,
    options: CopyOptions,
    logger: &Arc<dyn Logger>,
    parent: u64,
) -> StoreResult<()> {
    to.add_temp_root(&target.path).await?;
    if !options.repair && to.is_valid_path(&target.path).await? {
        return Ok(());
    }
    let activity = copying(from, to, path, logger, parent);
    pass_on(from, to, path, target, options, None, activity).await
}

/// Passes the archive of a path, maybe one that was fetched already, from one store to the other.
async fn pass_on(
    from: &dyn Store,
    to: &dyn Store,
    path: &StorePath,
    target: &ValidPathInfo,
    options: CopyOptions,
    held: Option<&dyn HeldNar>,
    activity: Activity,
) -> StoreResult<()> {
    if let Some(mut nar) = held.and_then(HeldNar::whole) {
        let total = nar.len() as u64;
        let added = to.add_nar(target, &mut nar, options.repair, options.check_signatures).await;
        if added.is_ok() {
            let fields = [total.into(), target.nar_size.into(), 0.into(), 0.into()];
            activity.result(ResultType::Progress, &fields);
        }
        return taken_in(from, path, target, total, added);
    }
    let (reader, writer) = tokio::io::duplex(IN_FLIGHT);
    let mut counting = Counting { inner: writer, total: 0, shown: 0, expected: target.nar_size, activity };
    let read = async move {
        let result = match held {
            Some(held) => held.pass(&mut counting).await,
            None => from.nar_from_path(path, &mut counting).await,
        };
        (result, counting.total)
    };
    // The archive's reader ends with the destination, so that a source whose bytes nobody wants any more stops.
    let write = async move {
        let mut reader = reader;
        to.add_nar(target, &mut reader, options.repair, options.check_signatures).await
    };
    let ((sent, total), added) = tokio::join!(read, write);
    match (sent, added) {
        (Ok(()), added) => taken_in(from, path, target, total, added),
        // The destination went away first: what it says is the cause.
        (Err(StoreError::Nar(firn_nar::NarError::Write(_))), added) => added,
        // What the source says is the cause of what the other side saw.
        (Err(error), _) => Err(error),
    }
}

/// What became of an archive of which the source gave `total` bytes without complaint.
fn taken_in(
    from: &dyn Store,
    path: &StorePath,
    target: &ValidPathInfo,
    total: u64,
    added: StoreResult<()>,
) -> StoreResult<()> {
    let place = || format!("NAR for '{}' fetched from '{}'", from.store_dir().display(path), shown_uri(from));
    match added {
        Err(StoreError::Nar(_)) if total < target.nar_size => {
            Err(StoreError::Other(format!("{} is incomplete", place())))
        }
        // What breaks the format does so somewhere.
        Err(StoreError::Nar(error @ (firn_nar::NarError::Bad(_) | firn_nar::NarError::TooDeep(_)))) => {
            Err(StoreError::Corrupt(format!("{}: {error}", place())))
        }
        added => added,
    }
}

/// The activity of copying one path.
fn copying(
    from: &dyn Store,
    to: &dyn Store,
    path: &StorePath,
    logger: &Arc<dyn Logger>,
    parent: u64,
) -> Activity {
    let shown = from.store_dir().display(path);
    let (source, destination) = (shown_uri(from), shown_uri(to));
    let text = match (is_shorthand(from), is_shorthand(to)) {
        (true, _) => format!("copying path '{shown}' to '{destination}'"),
        (_, true) => format!("copying path '{shown}' from '{source}'"),
        _ => format!("copying path '{shown}' from '{source}' to '{destination}'"),
    };
    let fields = [shown.into(), source.into(), destination.into()];
    Activity::start(logger, Verbosity::Info, ActivityType::CopyPath, &text, &fields, parent)
}

/// Copies realisations. A destination that does not know of them is left alone.
pub async fn copy_realisations(
    to: &dyn Store,
    realisations: &[Realisation],
    check_signatures: bool,
) -> StoreResult<()> {
    for realisation in realisations {
        match to.register_realisation(realisation, check_signatures).await {
            Err(StoreError::Unsupported { .. }) => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}

/// A store's URI without its parameters, as messages have it.
pub fn shown_uri(store: &dyn Store) -> String {
    let uri = store.uri();
    match uri.split_once('?') {
        Some((base, _)) => base.to_owned(),
        None => uri,
    }
}

/// Whether the store is the one on this machine, which messages do not name.
fn is_shorthand(store: &dyn Store) -> bool {
    matches!(shown_uri(store).as_str(), "local" | "daemon" | "local://" | "unix://")
}

/// Counts what passes and tells the activity.
struct Counting {
    inner: tokio::io::DuplexStream,
    total: u64,
    shown: u64,
    expected: u64,
    activity: Activity,
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, data);
        if let Poll::Ready(Ok(n)) = written {
            self.total += n as u64;
            if self.total - self.shown >= IN_FLIGHT as u64 || self.total == self.expected {
                self.shown = self.total;
                self.activity.result(
                    ResultType::Progress,
                    &[self.total.into(), self.expected.into(), 0.into(), 0.into()],
                );
            }
        }
        written
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
