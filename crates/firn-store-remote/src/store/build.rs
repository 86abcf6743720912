//! Building by the other side.

use super::RemoteStore;
use crate::convert::from_wire_result;
use crate::error::{Failure, Outcome};
use async_trait::async_trait;
use firn_core::{DerivedPath, OutputsSpec, SingleDerivedPath, StoreDir, StorePath};
use firn_derivation::Derivation;
use firn_store::activity::Logger;
use firn_store::{BuildMode, BuildResult, BuildStatus, BuildStore, Missing, Store, StoreError, StoreResult};
use firn_wire::worker::{BuildResult as WireResult, Op, read_derived_path, write_derived_paths};
use std::collections::BTreeMap;

fn mode_number(mode: BuildMode) -> u64 {
    match mode {
        BuildMode::Normal => 0,
        BuildMode::Repair => 1,
        BuildMode::Check => 2,
    }
}

impl RemoteStore {
    async fn ask_to_build(&self, paths: &[DerivedPath], mode: BuildMode) -> Outcome<Vec<BuildResult>> {
        if !self.handshake().await?.protocol.version.has(34) {
            self.ask_to_build_plainly(paths, mode).await?;
            return self.results_afterwards(paths).await;
        }
        let mut lease = self
            .call(Op::BuildPathsWithResults, |m, version| {
                write_derived_paths(m, self.dir(), paths, version)?;
                m.num(mode_number(mode));
                Ok(())
            })
            .await?;
        let version = lease.version();
        let mut results = Vec::with_capacity(paths.len());
        for _ in 0..lease.input.count().await? {
            let path = read_derived_path(&mut lease.input, self.dir(), version).await?;
            results.push(from_wire_result(path, WireResult::read(&mut lease.input, version).await?));
        }
        lease.done();
        let mut results = in_order(paths, results);
        for result in &mut results {
            self.add_outputs(result).await?;
        }
        Ok(results)
    }

    /// Adds what a daemon did not say of the outputs of a build that went well.
    async fn add_outputs(&self, result: &mut BuildResult) -> Outcome<()> {
        let DerivedPath::Built { drv, outputs: OutputsSpec::Names(names) } = &result.path else {
            return Ok(());
        };
        let SingleDerivedPath::Opaque(drv) = &**drv else { return Ok(()) };
        let is_whole = names.iter().all(|name| result.outputs.contains_key(name));
        if is_whole || !result.error.is_empty() || !result.status.is_success() {
            return Ok(());
        }
        let known = self.query_derivation_outputs(drv).await?;
        let missing = known.into_iter().filter(|(name, _)| names.contains(name));
        result.outputs.extend(missing.filter_map(|(name, path)| Some((name, path?))));
        Ok(())
    }

    async fn ask_to_build_plainly(&self, paths: &[DerivedPath], mode: BuildMode) -> Outcome<()> {
        let mut lease = self
            .call(Op::BuildPaths, |m, version| {
                write_derived_paths(m, self.dir(), paths, version)?;
                m.num(mode_number(mode));
                Ok(())
            })
            .await?;
        lease.input.u64().await?;
        lease.done();
        Ok(())
    }

    /// What a daemon that only says that all went well has built.
    async fn results_afterwards(&self, paths: &[DerivedPath]) -> Outcome<Vec<BuildResult>> {
        let mut results = Vec::with_capacity(paths.len());
        for path in paths {
            let (status, outputs) = match path {
                DerivedPath::Opaque(_) => (BuildStatus::Substituted, BTreeMap::new()),
                DerivedPath::Built { drv, outputs } => {
                    let SingleDerivedPath::Opaque(drv) = &**drv else {
                        return Err(
                            StoreError::Other("derivations that are outputs are not known".into()).into()
                        );
                    };
                    let known = self.query_derivation_outputs(drv).await?;
                    let wanted = known.into_iter().filter(|(name, _)| outputs.contains(name));
                    (BuildStatus::Built, wanted.filter_map(|(name, path)| Some((name, path?))).collect())
                }
            };
            results.push(BuildResult {
                path: path.clone(),
                status,
                error: String::new(),
                outputs,
                times_built: 0,
                start_time: 0,
                stop_time: 0,
                cpu: None,
            });
        }
        Ok(results)
    }

    async fn ask_for_derivation(
        &self,
        drv_path: &StorePath,
        drv: &Derivation,
        mode: BuildMode,
    ) -> Outcome<BuildResult> {
        let mut lease = self
            .call(Op::BuildDerivation, |m, _| {
                m.path(self.dir(), drv_path).derivation(self.dir(), drv).num(mode_number(mode));
                Ok(())
            })
            .await?;
        let version = lease.version();
        let result = WireResult::read(&mut lease.input, version).await?;
        lease.done();
        Ok(from_wire_result(DerivedPath::built(drv_path.clone(), OutputsSpec::All), result))
    }

    async fn ask_for_missing(&self, paths: &[DerivedPath]) -> Outcome<Missing> {
        let mut lease = self
            .call(Op::QueryMissing, |m, version| write_derived_paths(m, self.dir(), paths, version))
            .await?;
        let missing = Missing {
            will_build: lease.input.paths(self.dir()).await?,
            will_substitute: lease.input.paths(self.dir()).await?,
            unknown: lease.input.paths(self.dir()).await?,
            download_size: lease.input.u64().await?,
            nar_size: lease.input.u64().await?,
        };
        lease.done();
        Ok(missing)
    }
}

/// What a result says of another request for the same derivation: Nix 2.8's daemon builds a derivation once for all
/// requests, and names only the first of them in its answer.
fn part_of(result: &BuildResult, request: &DerivedPath) -> Option<BuildResult> {
    let (DerivedPath::Built { drv, .. }, DerivedPath::Built { drv: wanted, outputs: names }) =
        (&result.path, request)
    else {
        return None;
    };
    (drv == wanted).then(|| {
        let mut part = BuildResult { path: request.clone(), ..result.clone() };
        part.outputs.retain(|name, _| names.contains(name));
        part
    })
}

/// Results in the order of the requests. Daemons leave out what was not finished because another one failed.
fn in_order(paths: &[DerivedPath], results: Vec<BuildResult>) -> Vec<BuildResult> {
    let parts: Vec<BuildResult> = paths
        .iter()
        .filter(|path| results.iter().all(|result| result.path != **path))
        .filter_map(|path| results.iter().find_map(|result| part_of(result, path)))
        .collect();
    let mut by_path: BTreeMap<DerivedPath, BuildResult> =
        results.into_iter().chain(parts).map(|result| (result.path.clone(), result)).collect();
    paths
        .iter()
        .map(|path| {
            let missing = || BuildResult {
                path: path.clone(),
                status: BuildStatus::Cancelled,
                error: "the daemon did not say how the build ended".to_owned(),
                outputs: BTreeMap::new(),
                times_built: 0,
                start_time: 0,
                stop_time: 0,
                cpu: None,
            };
            by_path.remove(path).unwrap_or_else(missing)
        })
        .collect()
}

#[async_trait]
impl BuildStore for RemoteStore {
    async fn build_paths(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>> {
        Ok(self.ask_to_build(paths, mode).await?)
    }

    async fn realise(&self, paths: &[DerivedPath], mode: BuildMode) -> StoreResult<Vec<BuildResult>> {
        let results = self.ask_to_build(paths, mode).await?;
        fail_unless_all(self.dir(), &*self.logger, results)
    }

    async fn build_derivation(
        &self,
        drv_path: &StorePath,
        drv: &Derivation,
        mode: BuildMode,
    ) -> StoreResult<BuildResult> {
        Ok(self.ask_for_derivation(drv_path, drv, mode).await?)
    }

    async fn query_missing(&self, paths: &[DerivedPath]) -> StoreResult<Missing> {
        Ok(self.ask_for_missing(paths).await?)
    }

    async fn ensure_path(&self, path: &StorePath) -> StoreResult<()> {
        Ok(self.tell_paths(Op::EnsurePath, path).await?)
    }
}

/// Turns failed results into one error. With several, each is logged and the error lists the requests.
pub(crate) fn fail_unless_all(
    dir: &StoreDir,
    logger: &dyn Logger,
    results: Vec<BuildResult>,
) -> StoreResult<Vec<BuildResult>> {
    let mut failed: Vec<&BuildResult> = results.iter().filter(|r| !r.status.is_success()).collect();
    // What was not finished because another one failed has no error of its own.
    if failed.iter().any(|result| result.status != BuildStatus::Cancelled) {
        failed.retain(|result| result.status != BuildStatus::Cancelled);
    }
    // As with the reference, whose protocol has no place for exit statuses of builds.
    let status = 1;
    match failed.as_slice() {
        [] => Ok(results),
        [only] => Err(StoreError::Build { status, message: only.error.clone() }),
        several => {
            let mut names = Vec::new();
            for result in several {
                logger.error(&result.error);
                names.push(match &result.path {
                    DerivedPath::Opaque(path) => format!("'{}'", dir.display(path)),
                    DerivedPath::Built { drv, .. } => format!("'{}'", dir.display(drv.base())),
                });
            }
            names.sort();
            names.dedup();
            Err(StoreError::Build { status, message: format!("build of {} failed", names.join(", ")) })
        }
    }
}

impl From<firn_nar::NarError> for Failure {
    fn from(error: firn_nar::NarError) -> Failure {
        Failure::Store(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(n: char, outputs: &[&str]) -> DerivedPath {
        let drv = StorePath::from_base_name(&format!("{}-{n}.drv", n.to_string().repeat(32))).unwrap();
        let names = outputs.iter().map(|name| (*name).to_owned()).collect();
        DerivedPath::built(drv, if outputs.is_empty() { OutputsSpec::All } else { OutputsSpec::Names(names) })
    }

    fn result(path: DerivedPath, outputs: &[&str]) -> BuildResult {
        let out = StorePath::from_base_name(&format!("{}-o", "a".repeat(32))).unwrap();
        BuildResult {
            path,
            status: BuildStatus::Built,
            error: String::new(),
            outputs: outputs.iter().map(|name| ((*name).to_owned(), out.clone())).collect(),
            times_built: 1,
            start_time: 0,
            stop_time: 0,
            cpu: None,
        }
    }

    #[test]
    fn results_of_older_daemons() {
        let asked = [request('a', &["first"]), request('b', &[]), request('a', &["second"])];
        let said = |results| in_order(&asked, results).iter().map(|r| r.status).collect::<Vec<_>>();
        let first = result(asked[0].clone(), &["first", "second"]);
        let built = BuildStatus::Built;
        assert_eq!(said(vec![first.clone(), result(request('b', &[]), &["out"])]), [built, built, built]);
        let parts = in_order(&asked, vec![first]);
        let names: Vec<Vec<&String>> = parts.iter().map(|part| part.outputs.keys().collect()).collect();
        assert_eq!(names, [vec!["first", "second"], vec![], vec!["second"]]);
        let only = vec![result(request('b', &[]), &["out"])];
        assert_eq!(said(only), [BuildStatus::Cancelled, built, BuildStatus::Cancelled]);
    }
}
