//! Questions.

use crate::connection::Session;
use crate::error::OpResult;
use crate::host::Stores;
use firn_core::{DerivedPath, StorePath};
use firn_store::{BuildMode, BuildStore, Store, StoreError, SubstitutablePathInfo};
use firn_wire::Message;
use firn_wire::values::check_output_id;
use firn_wire::worker::{Op, write_unkeyed_path_info};
use std::collections::{BTreeMap, BTreeSet};

impl Session {
    async fn read_path(&mut self) -> OpResult<StorePath> {
        let dir = self.stores()?.store.store_dir().clone();
        Ok(self.input.path(&dir).await?)
    }

    async fn read_paths(&mut self) -> OpResult<BTreeSet<StorePath>> {
        let dir = self.stores()?.store.store_dir().clone();
        Ok(self.input.paths(&dir).await?)
    }
}

pub(super) async fn is_valid_path(session: &mut Session) -> OpResult<()> {
    let path = session.read_path().await?;
    let store = session.stores()?.store;
    session.start()?;
    let valid = store.is_valid_path(&path).await?;
    session.answer(Message::new().num(valid))
}

pub(super) async fn valid_paths(session: &mut Session) -> OpResult<()> {
    let paths = session.read_paths().await?;
    let substitute = session.version.has(27) && session.input.bool().await?;
    let stores = session.stores()?;
    session.start()?;
    let mut valid = stores.store.query_valid_paths(&paths).await?;
    let missing: Vec<DerivedPath> = paths.difference(&valid).cloned().map(DerivedPath::Opaque).collect();
    if substitute && !missing.is_empty() {
        // What nobody has stays missing.
        stores.build.build_paths(&missing, BuildMode::Normal).await?;
        valid = stores.store.query_valid_paths(&paths).await?;
    }
    session.answer(Message::new().paths(stores.store.store_dir(), &valid))
}

pub(super) async fn substitutable_paths(session: &mut Session) -> OpResult<()> {
    let paths = session.read_paths().await?;
    let stores = session.stores()?;
    session.start()?;
    let mut found = stores.build.query_available(&paths).await?;
    found.extend(stores.store.query_substitutable(&paths).await?.into_keys());
    session.answer(Message::new().paths(stores.store.store_dir(), &found))
}

/// What the store's substituters know, or those of the store behind it.
async fn substitutes(
    store: &dyn Store,
    build: &dyn BuildStore,
    paths: &BTreeSet<StorePath>,
) -> OpResult<BTreeMap<StorePath, SubstitutablePathInfo>> {
    let mut infos = store.query_substitutable(paths).await?;
    infos.extend(build.query_substitutes(paths).await?);
    Ok(infos)
}

pub(super) async fn substitutable_path_info(session: &mut Session) -> OpResult<()> {
    let path = session.read_path().await?;
    let Stores { store, build, .. } = session.stores()?;
    session.start()?;
    let infos = substitutes(&*store, &*build, &[path.clone()].into()).await?;
    let mut message = Message::new();
    match infos.get(&path) {
        None => message.num(0u64),
        Some(info) => message
            .num(1u64)
            .opt_path(store.store_dir(), info.deriver.as_ref())
            .paths(store.store_dir(), &info.references)
            .num(info.download_size)
            .num(info.nar_size),
    };
    session.answer(&message)
}

pub(super) async fn substitutable_path_infos(session: &mut Session) -> OpResult<()> {
    let Stores { store, build, .. } = session.stores()?;
    let mut paths = BTreeSet::new();
    if session.version.has(22) {
        for _ in 0..session.input.count().await? {
            paths.insert(session.input.path(store.store_dir()).await?);
            // The content address would tell another path of the same content in another store directory.
            session.input.opt_content_address().await?;
        }
    } else {
        paths = session.read_paths().await?;
    }
    session.start()?;
    let infos = substitutes(&*store, &*build, &paths).await?;
    let mut message = Message::new();
    message.count(infos.len());
    for (path, info) in &infos {
        message
            .path(store.store_dir(), path)
            .opt_path(store.store_dir(), info.deriver.as_ref())
            .paths(store.store_dir(), &info.references)
            .num(info.download_size)
            .num(info.nar_size);
    }
    session.answer(&message)
}

pub(super) async fn related_paths(session: &mut Session, op: Op) -> OpResult<()> {
    let path = session.read_path().await?;
    let store = session.stores()?.store;
    session.start()?;
    let paths = match op {
        Op::QueryReferrers => store.query_referrers(&path).await?,
        Op::QueryValidDerivers => store.query_valid_derivers(&path).await?,
        _ => store.query_derivation_outputs(&path).await?.into_values().flatten().collect(),
    };
    session.answer(Message::new().paths(store.store_dir(), &paths))
}

pub(super) async fn output_names(session: &mut Session) -> OpResult<()> {
    let path = session.read_path().await?;
    let store = session.stores()?.store;
    session.start()?;
    let drv = store.read_derivation(&path).await?;
    session.answer(Message::new().strings(drv.outputs.keys()))
}

pub(super) async fn output_map(session: &mut Session) -> OpResult<()> {
    let path = session.read_path().await?;
    let store = session.stores()?.store;
    session.start()?;
    let outputs = store.query_derivation_outputs(&path).await?;
    let mut message = Message::new();
    message.count(outputs.len());
    for (name, path) in &outputs {
        message.bytes(name).opt_path(store.store_dir(), path.as_ref());
    }
    session.answer(&message)
}

pub(super) async fn deriver(session: &mut Session) -> OpResult<()> {
    let path = session.read_path().await?;
    let store = session.stores()?.store;
    session.start()?;
    let invalid = || StoreError::InvalidPath { path: store.store_dir().display(&path) };
    let info = store.query_path_info(&path).await?.ok_or_else(invalid)?;
    session.answer(Message::new().opt_path(store.store_dir(), info.deriver.as_ref()))
}

pub(super) async fn path_from_hash_part(session: &mut Session) -> OpResult<()> {
    let hash_part = session.input.text("a hash part").await?;
    let store = session.stores()?.store;
    session.start()?;
    let path = store.query_path_from_hash_part(&hash_part).await?;
    session.answer(Message::new().opt_path(store.store_dir(), path.as_ref()))
}

pub(super) async fn path_info(session: &mut Session) -> OpResult<()> {
    let path = session.read_path().await?;
    let store = session.stores()?.store;
    session.start()?;
    let mut message = Message::new();
    match store.query_path_info(&path).await? {
        None => {
            message.num(0u64);
        }
        Some(info) => {
            message.num(1u64);
            write_unkeyed_path_info(&mut message, store.store_dir(), &info);
        }
    }
    session.answer(&message)
}

pub(super) async fn all_valid_paths(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    session.start()?;
    let paths = store.query_all_valid_paths().await?;
    session.answer(Message::new().paths(store.store_dir(), &paths))
}

pub(super) async fn realisation(session: &mut Session) -> OpResult<()> {
    let id = session.input.text("an output's id").await?;
    check_output_id(&id)?;
    let store = session.stores()?.store;
    session.start()?;
    let found = store.query_realisation(&id).await?;
    let mut message = Message::new();
    message.count(usize::from(found.is_some()));
    if let Some(realisation) = &found {
        match session.version.has(31) {
            true => message.realisation(&firn_wire::values::Realisation {
                id: realisation.id.clone(),
                out_path: realisation.out_path.clone(),
                signatures: realisation.signatures.clone(),
                dependent_realisations: realisation.dependent_realisations.clone(),
            }),
            false => message.path(store.store_dir(), &realisation.out_path),
        };
    }
    session.answer(&message)
}

pub(super) async fn nar_from_path(session: &mut Session) -> OpResult<()> {
    let path = session.read_path().await?;
    let store = session.stores()?.store;
    session.start()?;
    // Once the archive has started, nothing can be said any more.
    if !store.is_valid_path(&path).await? {
        return Err(StoreError::InvalidPath { path: store.store_dir().display(&path) }.into());
    }
    session.answer(&Message::new())?;
    Ok(store.nar_from_path(&path, &mut session.output.raw()).await?)
}
