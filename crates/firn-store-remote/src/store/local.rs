//! What concerns the machine that the store is on: collecting garbage, roots, logs, checks.

use super::{LocalPart, RemoteStore, RootKeeping};
use crate::error::Outcome;
use crate::logs;
use async_trait::async_trait;
use firn_core::StorePath;
use firn_store::{
    BuildStore, GcAction, GcOptions, GcResults, GcStore, LocalFsStore, LogStore, Store, StoreError,
    StoreResult,
};
use firn_wire::Message;
use firn_wire::worker::Op;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

impl RemoteStore {
    async fn roots(&self) -> Outcome<BTreeMap<StorePath, BTreeSet<String>>> {
        let mut lease = self.call(Op::FindRoots, |_, _| Ok(())).await?;
        let mut roots: BTreeMap<StorePath, BTreeSet<String>> = BTreeMap::new();
        for _ in 0..lease.input.count().await? {
            let link = String::from_utf8_lossy(&lease.input.bytes().await?).into_owned();
            roots.entry(lease.input.path(self.dir()).await?).or_default().insert(link);
        }
        lease.done();
        Ok(roots)
    }

    async fn collect(&self, options: &GcOptions) -> Outcome<GcResults> {
        let mut lease = self
            .call(Op::CollectGarbage, |m, _| {
                m.num(match options.action {
                    GcAction::ReturnLive => 0u64,
                    GcAction::ReturnDead => 1,
                    GcAction::DeleteDead => 2,
                    GcAction::DeleteSpecific => 3,
                });
                m.paths(self.dir(), &options.paths_to_delete)
                    .num(options.ignore_liveness)
                    .num(options.max_freed)
                    .num(0u64)
                    .num(0u64)
                    .num(0u64);
                Ok(())
            })
            .await?;
        lease.input.start_message(4 << 30);
        let paths = lease.input.texts("a store path").await?;
        let bytes_freed = lease.input.u64().await?;
        lease.input.u64().await?;
        lease.done();
        self.forget();
        Ok(GcResults { paths, bytes_freed })
    }

    async fn check(&self, check_contents: bool, repair: bool) -> Outcome<bool> {
        let mut lease = self
            .call(Op::VerifyStore, |m, _| {
                m.num(check_contents).num(repair);
                Ok(())
            })
            .await?;
        let errors = lease.input.bool().await?;
        lease.done();
        self.forget();
        Ok(errors)
    }

    async fn send_log(&self, drv: &StorePath, log: &[u8]) -> Outcome<()> {
        if !self.handshake().await?.protocol.version.has(32) {
            return Err(self.too_old("adding build logs").into());
        }
        let mut lease = self.lease().await?;
        let mut message = Message::new();
        message.num(Op::AddBuildLog).bytes(drv.base_name());
        if let Err(failure) = lease.upload(message, &mut &log[..], &*self.logger).await {
            return lease.settle(Err(failure));
        }
        lease.input.u64().await?;
        lease.done();
        Ok(())
    }

    async fn perm_root(&self, path: &StorePath, link: &Path) -> Outcome<()> {
        let mut lease = self
            .call(Op::AddPermRoot, |m, _| {
                m.path(self.dir(), path).bytes(link.as_os_str().as_bytes());
                Ok(())
            })
            .await?;
        lease.input.bytes().await?;
        lease.done();
        Ok(())
    }

    fn local(&self) -> StoreResult<&LocalPart> {
        self.config.local.as_ref().ok_or_else(|| self.too_old("files"))
    }

    /// Makes the link if that is ours to do, and tells the daemon of it.
    async fn root(&self, path: &StorePath, link: &Path) -> StoreResult<()> {
        let link = std::path::absolute(link).map_err(StoreError::io("resolving", link))?;
        if self.local()?.roots == RootKeeping::LinkThere {
            return Ok(self.perm_root(path, &link).await?);
        }
        self.add_temp_root(path).await?;
        make_link(self.dir().as_str(), &link, Path::new(&self.dir().display(path)))?;
        Ok(self.tell_text(Op::AddIndirectRoot, link.as_os_str().as_bytes()).await?)
    }
}

/// Makes a symlink into the store in one step. What is there and is no symlink into the store stays.
fn make_link(store_dir: &str, link: &Path, target: &Path) -> StoreResult<()> {
    if link.starts_with(store_dir) {
        return Err(StoreError::Other(format!(
            "creating a garbage collector root ('{}') in the Nix store is forbidden (are you running nix-build inside \
             the store?)",
            link.display()
        )));
    }
    let occupied = match std::fs::read_link(link) {
        Ok(old) => !old.starts_with(store_dir),
        Err(_) => link.symlink_metadata().is_ok(),
    };
    if occupied {
        return Err(StoreError::Other(format!("cannot create symlink '{}'; already exists", link.display())));
    }
    let failed = |e| StoreError::io("creating symlink", link)(e);
    if let Some(parent) = link.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut temporary = link.as_os_str().to_owned();
    temporary.push(format!(".tmp-{}-{}", std::process::id(), firn_store::activity::next_activity_id()));
    std::os::unix::fs::symlink(target, &temporary).map_err(failed)?;
    std::fs::rename(&temporary, link).map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        failed(e)
    })
}

impl LocalFsStore for RemoteStore {
    #[expect(clippy::expect_used, reason = "as_local_fs gives this trait only where there are files")]
    fn real_store_dir(&self) -> &Path {
        &self.config.local.as_ref().expect("a store with files").real_store_dir
    }

    #[expect(clippy::expect_used, reason = "as_local_fs gives this trait only where there are files")]
    fn state_dir(&self) -> &Path {
        &self.config.local.as_ref().expect("a store with files").state_dir
    }

    #[expect(clippy::expect_used, reason = "as_local_fs gives this trait only where there are files")]
    fn log_dir(&self) -> &Path {
        &self.config.local.as_ref().expect("a store with files").log_dir
    }

    /// Callers are not asynchronous, so this runs on a thread of its own, on a connection of its own.
    fn add_indirect_root(&self, path: &StorePath, link: &Path) -> StoreResult<()> {
        let alone = RemoteStore { pool: Arc::new(self.pool.separate()), ..self.clone() };
        std::thread::scope(|scope| {
            let work = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(|e| StoreError::Other(format!("starting a thread: {e}")))?;
                runtime.block_on(alone.root(path, link))
            });
            work.join().unwrap_or(Err(StoreError::Interrupted))
        })
    }
}

#[async_trait]
impl LogStore for RemoteStore {
    async fn build_log(&self, path: &StorePath) -> StoreResult<Option<Vec<u8>>> {
        let Some(local) = &self.config.local else {
            return Err(self.too_old("getBuildLogExact"));
        };
        let drv = match path.is_derivation() {
            true => Some(path.clone()),
            false => self.query_path_info(path).await?.and_then(|info| info.deriver.clone()),
        };
        match drv {
            Some(drv) => logs::read(&local.log_dir, &drv),
            None => Ok(None),
        }
    }

    async fn add_build_log(&self, drv: &StorePath, log: &[u8]) -> StoreResult<()> {
        Ok(self.send_log(drv, log).await?)
    }
}

#[async_trait]
impl GcStore for RemoteStore {
    async fn find_roots(&self, _: bool) -> StoreResult<BTreeMap<StorePath, BTreeSet<String>>> {
        Ok(self.roots().await?)
    }

    async fn collect_garbage(&self, options: &GcOptions) -> StoreResult<GcResults> {
        Ok(self.collect(options).await?)
    }

    async fn add_root_link(&self, link: &Path) -> StoreResult<()> {
        Ok(self.tell_text(Op::AddIndirectRoot, link.as_os_str().as_bytes()).await?)
    }

    async fn optimise(&self) -> StoreResult<()> {
        Ok(self.tell_nothing(Op::OptimiseStore).await?)
    }

    async fn verify(&self, check_contents: bool, repair: Option<Arc<dyn BuildStore>>) -> StoreResult<bool> {
        Ok(self.check(check_contents, repair.is_some()).await?)
    }
}
