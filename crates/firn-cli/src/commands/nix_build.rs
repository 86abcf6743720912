//! `nix-build`: expressions to built outputs, with links to them.

use crate::args::{EvalArgs, FlagSink, Values};
use crate::commands::nix_store::print_missing;
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_core::{DerivedPath, OutputsSpec, StorePath};
use firn_store::activity::Verbosity;
use firn_store::{BuildMode, BuildResult, Store};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub const HELP: &str = "
Usage: nix-build [--arg NAME EXPR] [--argstr NAME STRING] [{--attr | -A} PATH] [--expr | -E]
                 [--no-out-link] [{--out-link | -o} LINK] [--dry-run] [--check] [--repair] PATHS...

Builds the derivations that Nix expressions evaluate to, and makes links to the outputs.
Without paths, it builds ./default.nix.

  -A, --attr PATH       take an attribute of the expression; can be given several times
  -E, --expr            the arguments are expressions, not files
  -o, --out-link LINK   name of the links (result), which keep the outputs from the garbage collector
  --no-out-link         make no links
  --dry-run             say what would be built and fetched, and stop
  --check               build again what is built already, and compare
  --repair              build again what is damaged
  -j, --max-jobs N      builds at once
  --cores N             NIX_BUILD_CORES for builders
  -k, --keep-going      go on with other builds after a failure
  -K, --keep-failed     keep the directories of failed builds
  -Q, --no-build-output do not show the logs of builds
  --timeout N, --max-silent-time N
                        seconds after which a build is killed: in all, without output
";

struct Flags {
    eval_args: EvalArgs,
    paths: Vec<OsString>,
    attrs: Vec<String>,
    from_args: bool,
    from_stdin: bool,
    dry_run: bool,
    mode: BuildMode,
    /// `None` with `--no-out-link`.
    link: Option<PathBuf>,
}

impl FlagSink for Flags {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-A" | "--attr" => {
                let attr = values.next_text(flag)?;
                self.attrs.push(attr);
            }
            "-E" | "--expr" => self.from_args = true,
            "-o" | "--out-link" => self.link = Some(values.next(flag)?.into()),
            "--no-out-link" | "--no-link" => self.link = None,
            "--dry-run" => self.dry_run = true,
            "--check" => self.mode = BuildMode::Check,
            "--repair" => {
                self.mode = BuildMode::Repair;
                self.eval_args.repair = true;
            }
            // Without effect for a long time, but scripts still give them.
            "--add-drv-link" | "--indirect" => {}
            "--drv-link" => drop(values.next(flag)?),
            "--run-env" | "--pure" | "--exclude" | "--keep" => {
                return Err(CliError::failed(format!("flag '{flag}' belongs to nix-shell")));
            }
            _ => return self.eval_args.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        match arg == "-" {
            true => self.from_stdin = true,
            false => self.paths.push(arg),
        }
        Ok(())
    }
}

/// One derivation's output that was asked for.
pub(super) struct Wanted {
    pub drv: StorePath,
    pub output: String,
}

pub fn main(start: Start) -> CliResult<u8> {
    let mut flags = Flags {
        eval_args: EvalArgs::default(),
        paths: Vec::new(),
        attrs: Vec::new(),
        from_args: false,
        from_stdin: false,
        dry_run: false,
        mode: BuildMode::Normal,
        link: Some("result".into()),
    };
    let context = start.parse(&mut flags, HELP)?;
    context.use_eval_store(flags.eval_args.eval_store.as_deref())?;
    if flags.paths.is_empty() && !flags.from_args && !flags.from_stdin {
        flags.paths.push(".".into());
    }
    if flags.attrs.is_empty() {
        flags.attrs.push(String::new());
    }
    let wanted = evaluate(&context, &flags)?;
    let store = context.store()?;
    let requests: Vec<DerivedPath> =
        wanted.iter().map(|w| DerivedPath::built(w.drv.clone(), OutputsSpec::single(&w.output))).collect();
    let builder = context.build_store()?;
    if context.settings.print_missing {
        let missing = match flags.dry_run {
            true => context.block_on(builder.query_missing(&requests))??,
            false => context.block_on(builder.prepare(&requests))??,
        };
        print_missing(&context, &*store, &missing, Verbosity::Info)?;
    }
    if flags.dry_run {
        return Ok(0);
    }
    let results = context.block_on(builder.realise(&requests, flags.mode))??;
    let paths = link_outputs(&context, &*store, &wanted, &results, flags.link.as_deref())?;
    let mut text = Vec::new();
    for path in paths {
        text.extend_from_slice(store.store_dir().display(&path).as_bytes());
        text.push(b'\n');
    }
    context.print(&text)?;
    Ok(0)
}

/// Evaluates everything, and writes the derivations.
fn evaluate(context: &Context, flags: &Flags) -> CliResult<Vec<Wanted>> {
    let mut wanted = Vec::new();
    let mut evaluation = None;
    let mut values = Vec::new();
    let start = || -> CliResult<Evaluation> { Evaluation::new(context, &flags.eval_args, false) };
    if flags.from_stdin {
        let mut new = start()?;
        values.push(new.stdin()?);
        evaluation = Some(new);
    } else {
        for arg in &flags.paths {
            if let (false, Some(found)) = (flags.from_args, derivation_argument(context, arg)?) {
                wanted.extend(found);
                continue;
            }
            if evaluation.is_none() {
                evaluation = Some(start()?);
            }
            let Some(evaluation) = evaluation.as_mut() else { continue };
            values.push(match flags.from_args {
                true => evaluation.expression(arg.as_encoded_bytes())?,
                false => evaluation.main_file(Path::new(arg))?,
            });
        }
    }
    let Some(mut evaluation) = evaluation else { return Ok(wanted) };
    for root in values {
        for attr in &flags.attrs {
            let args = evaluation.auto_args;
            let (value, _) = evaluation.run(|vm| vm.find_along_path(attr, args, root))?;
            let found = evaluation.run(|vm| vm.find_derivations(value, "", args, false))?;
            for drv in &found {
                let path = evaluation.run(|vm| vm.drv_path(drv))?;
                let output = evaluation.run(|vm| vm.output_name(drv))?;
                if output.is_empty() {
                    let dir = context.store()?.store_dir().clone();
                    return Err(CliError::failed(format!(
                        "derivation '{}' lacks an 'outputName' attribute",
                        dir.display(&path)
                    )));
                }
                wanted.push(Wanted { drv: path, output });
            }
        }
    }
    evaluation.flush()?;
    Ok(wanted)
}

/// An argument that is a derivation in the store (`/nix/store/….drv`, `….drv!out,dev`), or leads to one.
pub(super) fn derivation_argument(context: &Context, arg: &OsString) -> CliResult<Option<Vec<Wanted>>> {
    let Some(text) = arg.to_str() else { return Ok(None) };
    let (file, outputs) = match text.rsplit_once('!') {
        Some((file, outputs)) => (file, Some(outputs)),
        None => (text, None),
    };
    if !file.ends_with(".drv") && !Path::new(file).is_symlink() {
        return Ok(None);
    }
    let resolved = std::fs::canonicalize(file).unwrap_or_else(|_| file.into());
    let store = context.eval_store()?;
    let Some(path) = resolved.to_str().and_then(|text| store.store_dir().parse(text).ok()) else {
        return Ok(None);
    };
    if !path.is_derivation() {
        return Ok(None);
    }
    let names = match outputs.map(|text| (text, OutputsSpec::parse(text))) {
        Some((_, Some(OutputsSpec::Names(names)))) if names.len() > 1 => {
            let text = "building more than one derivation output is not supported, in";
            return Err(CliError::failed(format!("{text} '{}'", arg.to_string_lossy())));
        }
        Some((_, Some(OutputsSpec::Names(names)))) => names.into_iter().collect(),
        Some((text, None)) => {
            return Err(CliError::failed(format!("'{text}' is not a list of output names")));
        }
        Some((_, Some(OutputsSpec::All))) => {
            context.block_on(store.query_derivation_outputs(&path))??.into_keys().collect()
        }
        None => {
            // As for a derivation that an expression gives: its first output.
            let drv = context.block_on(store.read_derivation(&path))??;
            let first = match drv.outputs.contains_key("out") {
                true => Some("out".to_owned()),
                false => drv.outputs.keys().next().cloned(),
            };
            Vec::from_iter(first)
        }
    };
    Ok(Some(names.into_iter().map(|output| Wanted { drv: path.clone(), output }).collect()))
}

/// Links the outputs: `result` for the first derivation, `result-2` for the second and so on, with the name of the
/// output behind where it is not `out`.
fn link_outputs(
    context: &Context,
    store: &dyn Store,
    wanted: &[Wanted],
    results: &[BuildResult],
    link: Option<&Path>,
) -> CliResult<Vec<StorePath>> {
    let mut numbers: BTreeMap<&StorePath, usize> = BTreeMap::new();
    let mut paths = Vec::with_capacity(wanted.len());
    let derivations = context.eval_store()?;
    for (w, result) in wanted.iter().zip(results) {
        let next = numbers.len();
        let number = *numbers.entry(&w.drv).or_insert(next);
        let built = match result.outputs.get(&w.output) {
            Some(path) => Some(path.clone()),
            None => {
                let outputs = context.block_on(derivations.query_derivation_outputs(&w.drv))??;
                outputs.get(&w.output).cloned().flatten()
            }
        };
        let Some(path) = built else {
            let drv = store.store_dir().display(&w.drv);
            return Err(CliError::failed(format!(
                "output '{}' of derivation '{drv}' is not known",
                w.output
            )));
        };
        if let (Some(link), Some(local)) = (link, store.as_local_fs()) {
            let mut name = link.as_os_str().to_owned();
            if number > 0 {
                name.push(format!("-{}", number + 1));
            }
            if w.output != "out" {
                name.push(format!("-{}", w.output));
            }
            let link = std::path::absolute(&name).map_err(CliError::io("resolving", &name))?;
            local.add_indirect_root(&path, &link)?;
        }
        paths.push(path);
    }
    Ok(paths)
}
