//! Roots, collecting garbage, checking, optimising.

use crate::connection::Session;
use crate::error::{OpResult, refuse};
use firn_store::{GcAction, GcOptions, GcStore, Store, StoreResult};
use firn_wire::{Message, WireError};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn gc(store: &dyn Store) -> StoreResult<&dyn GcStore> {
    store.as_gc().ok_or_else(|| store.unsupported("garbage collection"))
}

async fn read_file_name(session: &mut Session) -> OpResult<PathBuf> {
    let bytes = session.input.bytes().await?;
    let path = Path::new(OsStr::from_bytes(&bytes));
    match path.is_absolute() {
        true => Ok(path.to_owned()),
        false => Err(refuse(format!("not an absolute path: \"{}\"", path.display()))),
    }
}

pub(super) async fn temp_root(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    let path = session.input.path(store.store_dir()).await?;
    session.start()?;
    session.has_roots = true;
    store.add_temp_root(&path).await?;
    session.answer(Message::new().num(1u64))
}

pub(super) async fn indirect_root(session: &mut Session) -> OpResult<()> {
    let link = read_file_name(session).await?;
    let store = session.stores()?.store;
    session.start()?;
    gc(&*store)?.add_root_link(&link).await?;
    session.answer(Message::new().num(1u64))
}

pub(super) async fn permanent_root(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    let path = session.input.path(store.store_dir()).await?;
    let link = read_file_name(session).await?;
    session.start()?;
    if !session.trusted {
        return Err(refuse(
            "you are not privileged to create perm roots\n\nhint: you can just do this client-side without special \
             privileges, and probably want to do that instead.",
        ));
    }
    let local = store.as_local_fs().ok_or_else(|| store.unsupported("creating roots"))?;
    local.add_indirect_root(&path, &link)?;
    session.answer(Message::new().bytes(link.as_os_str().as_bytes()))
}

pub(super) async fn find_roots(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    session.start()?;
    let roots = gc(&*store)?.find_roots(!session.trusted).await?;
    let mut message = Message::new();
    message.count(roots.values().map(|links| links.len()).sum());
    for (path, links) in &roots {
        for link in links {
            message.bytes(link).path(store.store_dir(), path);
        }
    }
    session.answer(&message)
}

pub(super) async fn collect_garbage(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    let action = match session.input.u64().await? {
        0 => GcAction::ReturnLive,
        1 => GcAction::ReturnDead,
        2 => GcAction::DeleteDead,
        3 => GcAction::DeleteSpecific,
        _ => return Err(WireError::Invalid("Invalid GC action".into()).into()),
    };
    let options = GcOptions {
        action,
        paths_to_delete: session.input.paths(store.store_dir()).await?,
        ignore_liveness: session.input.bool().await?,
        max_freed: session.input.u64().await?,
    };
    // Obsolete.
    for _ in 0..3 {
        session.input.u64().await?;
    }
    session.start()?;
    if options.ignore_liveness {
        return Err(refuse("you are not allowed to ignore liveness"));
    }
    let results = gc(&*store)?.collect_garbage(&options).await?;
    session.answer(Message::new().strings(&results.paths).num(results.bytes_freed).num(0u64))
}

pub(super) async fn optimise(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    session.start()?;
    gc(&*store)?.optimise().await?;
    session.answer(Message::new().num(1u64))
}

pub(super) async fn verify(session: &mut Session) -> OpResult<()> {
    let stores = session.stores()?;
    let check_contents = session.input.bool().await?;
    let repair = session.input.bool().await?;
    session.start()?;
    if repair && !session.trusted {
        return Err(refuse("you are not privileged to repair paths"));
    }
    let builder = repair.then(|| Arc::clone(&stores.build));
    let errors = gc(&*stores.store)?.verify(check_contents, builder).await?;
    session.answer(Message::new().num(errors))
}
