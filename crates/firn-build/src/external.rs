//! Builds that another program carries out (the setting `external-builders`), such as for systems that this machine
//! must emulate. It is told everything in a file, writes the outputs to the store, and is isolated by nobody.

use crate::config::ExternalBuilder;
use crate::environment::Rewrites;
use crate::outputs::Planned;
use crate::place::BuildDir;
use firn_core::StorePath;
use firn_derivation::Derivation;
use firn_derivation::resolve::rewrite;
use firn_sandbox::Program;
use firn_scheduler::BuildFailure;
use firn_store::BuildTarget;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the program writes when the build itself begins; not part of the log.
pub(crate) const READY: &[u8] = b"\x02\n";

/// The build directory as the program is to show it to the builder.
pub(crate) const BUILD_DIR: &str = "/build";

/// Writes the description and tells how to start the program.
pub(crate) fn program(
    builder: &ExternalBuilder,
    target: &dyn BuildTarget,
    drv: &Derivation,
    (environment, rewrites): (&BTreeMap<Vec<u8>, Vec<u8>>, &Rewrites),
    (input_paths, planned): (&BTreeSet<StorePath>, &BTreeMap<String, Planned>),
    dir: &BuildDir,
) -> Result<Program, BuildFailure> {
    let store = target.store_dir();
    let text = |bytes: &[u8]| String::from_utf8_lossy(&rewrite(bytes, rewrites)).into_owned();
    let env: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| (text(name), text(value))).collect();
    let args: Vec<String> = drv.args.iter().map(|arg| text(arg)).collect();
    let inputs: Vec<String> = input_paths.iter().map(|path| store.display(path)).collect();
    let outputs: BTreeMap<&String, String> =
        planned.iter().map(|(name, planned)| (name, store.display(&planned.scratch))).collect();
    let description = json!({
        "version": 1,
        "builder": String::from_utf8_lossy(&drv.builder),
        "args": args,
        "env": env,
        "topTmpDir": dir.top().to_string_lossy(),
        "tmpDir": dir.work.to_string_lossy(),
        "tmpDirInSandbox": BUILD_DIR,
        "storeDir": store.as_str(),
        "realStoreDir": target.real_store_dir().to_string_lossy(),
        "system": String::from_utf8_lossy(&drv.platform),
        "inputPaths": inputs,
        "outputs": outputs,
    });
    let file = dir.describe("build.json", description.to_string().as_bytes())?;
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let mut args = vec![bytes(&builder.program)];
    args.extend(builder.args.iter().map(|arg| arg.clone().into_bytes()));
    args.push(bytes(&file));
    Ok(Program::Execute { path: bytes(&builder.program), args })
}
