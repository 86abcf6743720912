//! Building and fetching.

use crate::connection::Session;
use crate::error::{OpResult, refuse};
use crate::host::Stores;
use firn_core::{DerivedPath, SingleDerivedPath, StorePath};
use firn_derivation::Derivation;
use firn_store::{BuildMode, BuildResult, BuildStatus, Store, StoreError, StoreResult};
use firn_wire::worker::{BuildResult as WireResult, read_derived_paths, write_derived_path};
use firn_wire::{Message, WireError};
use std::collections::BTreeMap;

async fn read_mode(session: &mut Session) -> OpResult<BuildMode> {
    match session.input.u64().await? {
        0 => Ok(BuildMode::Normal),
        1 => Ok(BuildMode::Repair),
        2 => Ok(BuildMode::Check),
        _ => Err(WireError::Invalid("Invalid build mode".into()).into()),
    }
}

/// Reads what to build. Repairing is not atomic, so it is not for everybody.
async fn read_request(session: &mut Session) -> OpResult<(Stores, Vec<DerivedPath>, BuildMode)> {
    let stores = session.stores()?;
    let version = session.version;
    let paths = read_derived_paths(&mut session.input, stores.store.store_dir(), version).await?;
    let mode = read_mode(session).await?;
    session.start()?;
    if mode == BuildMode::Repair && !session.trusted {
        return Err(refuse("repairing is not allowed because you are not in 'trusted-users'"));
    }
    session.has_roots = true;
    Ok((stores, paths, mode))
}

pub(super) async fn paths(session: &mut Session) -> OpResult<()> {
    let (stores, paths, mode) = read_request(session).await?;
    stores.build.realise(&paths, mode).await?;
    session.answer(Message::new().num(1u64))
}

pub(super) async fn paths_with_results(session: &mut Session) -> OpResult<()> {
    let (stores, paths, mode) = read_request(session).await?;
    let mut results = stores.build.build_paths(&paths, mode).await?;
    // What was not finished because another one failed is left out.
    if results.iter().any(|r| !r.status.is_success() && r.status != BuildStatus::Cancelled) {
        results.retain(|result| result.status != BuildStatus::Cancelled);
    }
    let mut message = Message::new();
    message.count(results.len());
    let version = session.version;
    for result in &results {
        let ids = match &result.path {
            DerivedPath::Built { drv, .. } if !result.outputs.is_empty() => {
                let drv = derivation_of(&*stores.store, drv).await?;
                let drv = stores.store.read_derivation(&drv).await?;
                session.ids.of(&*stores.store, &drv).await?
            }
            _ => BTreeMap::new(),
        };
        write_derived_path(&mut message, stores.store.store_dir(), &result.path, version)?;
        to_wire(result, &ids).write(&mut message, version);
    }
    session.answer(&message)
}

/// The derivation that a chain of outputs stands for, all of which are made.
async fn derivation_of(store: &dyn Store, path: &SingleDerivedPath) -> OpResult<StorePath> {
    let mut steps = Vec::new();
    let mut at = path;
    while let SingleDerivedPath::Built { drv, output } = at {
        steps.push(output);
        at = drv;
    }
    let mut found = at.base().clone();
    for output in steps.into_iter().rev() {
        let outputs = store.query_derivation_outputs(&found).await?;
        found = outputs
            .get(output)
            .cloned()
            .flatten()
            .ok_or_else(|| refuse(format!("'{}' is not made yet", path.render(store.store_dir()))))?;
    }
    Ok(found)
}

pub(super) async fn derivation(session: &mut Session) -> OpResult<()> {
    let stores = session.stores()?;
    let dir = stores.store.store_dir().clone();
    let mut drv_path = session.input.path(&dir).await?;
    let name = Derivation::name_from_path(&drv_path)
        .ok_or_else(|| refuse(format!("path '{}' is not a derivation", dir.display(&drv_path))))?
        .to_owned();
    let drv = session.input.derivation(&dir, &name).await?;
    let mode = read_mode(session).await?;
    session.start()?;
    let kind =
        drv.derivation_type().map_err(|e| refuse(format!("derivation '{}': {e}", dir.display(&drv_path))))?;
    // That an input-addressed output path follows from its derivation can be seen only with all its inputs. A plan
    // without them gives a right to that path to those only who could write to the store anyway.
    if !kind.is_content_addressed() && !session.trusted {
        return Err(refuse("you are not privileged to build input-addressed derivations"));
    }
    if mode == BuildMode::Repair && !session.trusted {
        return Err(refuse("repairing is not allowed because you are not in 'trusted-users'"));
    }
    if !session.trusted {
        // The name of the derivation must not be taken on trust either.
        drv_path = write_derivation(&stores, &drv).await?;
    }
    session.has_roots = true;
    let result = stores.build.build_derivation(&drv_path, &drv, mode).await?;
    let ids = session.ids.of(&*stores.store, &drv).await?;
    let mut message = Message::new();
    to_wire(&result, &ids).write(&mut message, session.version);
    session.answer(&message)
}

async fn write_derivation(stores: &Stores, drv: &Derivation) -> StoreResult<StorePath> {
    let (path, bytes) = drv.store_path(stores.store.store_dir())?;
    stores.store.add_text(path.name(), &bytes, &drv.references(), false).await
}

pub(super) async fn missing(session: &mut Session) -> OpResult<()> {
    let stores = session.stores()?;
    let version = session.version;
    let dir = stores.store.store_dir();
    let paths = read_derived_paths(&mut session.input, dir, version).await?;
    session.start()?;
    let missing = stores.build.query_missing(&paths).await?;
    session.answer(
        Message::new()
            .paths(dir, &missing.will_build)
            .paths(dir, &missing.will_substitute)
            .paths(dir, &missing.unknown)
            .num(missing.download_size)
            .num(missing.nar_size),
    )
}

pub(super) async fn ensure_path(session: &mut Session) -> OpResult<()> {
    let stores = session.stores()?;
    let path = session.input.path(stores.store.store_dir()).await?;
    session.start()?;
    session.has_roots = true;
    match stores.build.ensure_path(&path).await {
        // Exit statuses of builds mean nothing here.
        Err(StoreError::Build { message, .. }) => Err(refuse(message)),
        other => Ok(other?),
    }?;
    session.answer(Message::new().num(1u64))
}

/// A result to be sent; `ids` are the ids of outputs by name.
pub(crate) fn to_wire(result: &BuildResult, ids: &BTreeMap<String, String>) -> WireResult {
    let status = match result.status {
        // Newer than the protocols.
        BuildStatus::HashMismatch => BuildStatus::OutputRejected,
        BuildStatus::Cancelled => BuildStatus::MiscFailure,
        status => status,
    };
    let outputs = result.outputs.iter().filter_map(|(name, path)| {
        let id = ids.get(name)?;
        Some((id.clone(), firn_wire::values::Realisation::new(id.clone(), path.clone())))
    });
    WireResult {
        status: status as u8,
        error: result.error.clone(),
        times_built: result.times_built.into(),
        non_deterministic: result.status == BuildStatus::NotDeterministic,
        start_time: result.start_time,
        stop_time: result.stop_time,
        cpu_user: result.cpu.and_then(|cpu| i64::try_from(cpu.user).ok()),
        cpu_system: result.cpu.and_then(|cpu| i64::try_from(cpu.system).ok()),
        outputs: outputs.collect(),
    }
}
