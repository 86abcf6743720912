//! `nix build`.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::commands::nix_store::print_missing;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::installables::{self, Built, InstallableArgs};
use crate::profile_flag::ProfileFlag;
use firn_core::DerivedPath;
use firn_store::activity::Verbosity;
use firn_store::{BuildMode, Store};
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::path::PathBuf;

/// The command as it was written.
pub struct Build {
    what: InstallableArgs,
    /// The prefix of the links to results; `None` for no links.
    out_link: Option<PathBuf>,
    json: bool,
    pretty: Option<bool>,
    print_out_paths: bool,
    dry_run: bool,
    mode: BuildMode,
    profile: ProfileFlag,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            what: InstallableArgs::default(),
            out_link: Some("result".into()),
            json: false,
            pretty: None,
            print_out_paths: false,
            dry_run: false,
            mode: BuildMode::Normal,
            profile: ProfileFlag::default(),
        }
    }
}

impl FlagSink for Build {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-o" | "--out-link" => {
                let [link] = values.take(flag)?;
                self.out_link = Some(link.into());
            }
            "--no-link" => self.out_link = None,
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            "--print-out-paths" => self.print_out_paths = true,
            "--dry-run" => self.dry_run = true,
            "--rebuild" => self.mode = BuildMode::Check,
            "--repair" => {
                self.mode = BuildMode::Repair;
                self.what.eval.repair = true;
            }
            _ => return Ok(self.profile.flag(flag, values)? || self.what.flag(flag, values)?),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }
}

impl NixCommand for Build {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let paths = self.what.resolve(context, Some("."))?;
        let store = context.store()?;
        if self.dry_run {
            let missing = context.block_on(context.build_store()?.query_missing(&paths))??;
            print_missing(context, &*store, &missing, Verbosity::Error)?;
            if self.json {
                let value =
                    paths.iter().map(|path| planned(context, &*store, path)).collect::<CliResult<_>>()?;
                context.print_line(super::json_text(&Value::Array(value), self.pretty))?;
            }
            return Ok(0);
        }
        let built = installables::build(context, &paths, self.mode)?;
        let made_paths: Vec<_> = built.iter().flat_map(|built| built.outputs.values().cloned()).collect();
        self.profile.update(&*store, context, &made_paths)?;
        if self.json {
            let value = built.iter().map(|built| made(&*store, built)).collect();
            context.print_line(super::json_text(&Value::Array(value), Some(false)))?;
        }
        if let Some(prefix) = &self.out_link {
            link(&*store, &built, prefix)?;
        }
        if self.print_out_paths {
            for path in built.iter().flat_map(|built| built.outputs.values()) {
                context.print_line(store.store_dir().display(path))?;
            }
        }
        Ok(0)
    }
}

fn made(store: &dyn Store, built: &Built) -> Value {
    let dir = store.store_dir();
    let Some(derivation) = &built.derivation else {
        return built.outputs.values().next().map_or(Value::Null, |path| json!(dir.display(path)));
    };
    let outputs: Map<String, Value> =
        built.outputs.iter().map(|(name, path)| (name.clone(), json!(dir.display(path)))).collect();
    let mut value = json!({ "drvPath": dir.display(derivation), "outputs": outputs });
    if built.start_time != 0 {
        value["startTime"] = json!(built.start_time);
    }
    if built.stop_time != 0 {
        value["stopTime"] = json!(built.stop_time);
    }
    if let Some(cpu) = built.cpu {
        value["cpuUser"] = json!(cpu.user as f64 / 1e6);
        value["cpuSystem"] = json!(cpu.system as f64 / 1e6);
    }
    value
}

fn planned(context: &Context, store: &dyn Store, path: &DerivedPath) -> CliResult<Value> {
    let dir = store.store_dir();
    match path {
        DerivedPath::Opaque(path) => Ok(json!(dir.display(path))),
        DerivedPath::Built { drv, outputs } => {
            let known = installables::known_outputs(context, &*context.eval_store()?, drv)?;
            let wanted = known.into_iter().filter(|(name, _)| outputs.contains(name));
            let outputs: Map<String, Value> =
                wanted.map(|(name, path)| (name, json!(path.map(|path| dir.display(&path))))).collect();
            Ok(json!({ "drvPath": drv.render(dir), "outputs": outputs }))
        }
    }
}

/// Makes `result`, `result-dev`, and `result-1` and so on for further installables.
pub(super) fn link(store: &dyn Store, built: &[Built], prefix: &std::path::Path) -> CliResult<()> {
    let Some(local) = store.as_local_fs() else { return Ok(()) };
    for (index, built) in built.iter().enumerate() {
        for (output, path) in &built.outputs {
            let mut name = prefix.as_os_str().to_owned();
            if index > 0 {
                name.push(format!("-{index}"));
            }
            if !matches!(output.as_str(), "" | "out") {
                name.push(format!("-{output}"));
            }
            let link = std::path::absolute(&name).map_err(CliError::io("resolving", &name))?;
            local.add_indirect_root(path, &link)?;
        }
    }
    Ok(())
}
