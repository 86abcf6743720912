//! Installables: what commands of `nix` work on. A store path, possibly through links; a derivation's outputs
//! (`PATH^out,dev`); an output of a flake (`REFERENCE#ATTRIBUTE^out`); or, with `--file` or `--expr`, attributes of an
//! expression.

mod one;

pub use one::One;

use crate::args::{self, EvalArgs, Values};
use crate::commands::nix_store::follow_links;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::{Evaluation, read_stdin};
use crate::flakes::{Cursor, Defaults, FlakeArgs, FlakeInstallable, FlakeSource, OpenFlake, split_outputs};
use firn_core::flake_ref::FlakeRef;
use firn_core::{CaMethod, DerivedPath, HashAlgo, OutputsSpec, SingleDerivedPath, StorePath};
use firn_eval::{
    Coerce, ContextElem, CopySource, CopyToStore, EvalError, Kind, Pos, Sym, TraceKind, Value, Vm, sym,
};
use firn_flake::LockFlags;
use firn_store::activity::Activity;
use firn_store::{BuildMode, BuildResult, BuildStatus, BuildStore, CpuTimes, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// What one argument means.
pub struct Wanted {
    pub paths: Vec<DerivedPath>,
    /// `meta.priority` of what it evaluates to.
    pub priority: Option<i64>,
    /// The flake that it is of.
    pub source: Option<FlakeSource>,
}

/// `meta.priority`, where there is one.
fn priority(vm: &mut Vm, value: Value) -> firn_eval::EvalResult<Option<i64>> {
    let attribute = |vm: &mut Vm, value: Value, name: &'static str| match value.as_attrs() {
        Some(attrs) => attrs.find(Sym::from_static(name)).map(|value| vm.force(value)).transpose(),
        None => Ok(None),
    };
    let Some(meta) = attribute(vm, value, "meta")? else { return Ok(None) };
    Ok(attribute(vm, meta, "priority")?.and_then(|value| value.as_int()))
}

/// The part of the command line that says what to work on.
#[derive(Default)]
pub struct InstallableArgs {
    pub eval: EvalArgs,
    file: Option<PathBuf>,
    expr: Option<OsString>,
    stdin: bool,
    names: Vec<OsString>,
    pub flakes: FlakeArgs,
    /// What outputs of flakes are meant where they are not named in full.
    pub defaults: Defaults,
}

impl InstallableArgs {
    /// Those of a command that looks for other outputs than packages.
    pub fn of(defaults: Defaults) -> Self {
        Self { defaults, ..Self::default() }
    }

    /// Handles `flag` if it is one of these.
    pub fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-f" | "--file" => {
                let [file] = values.take(flag)?;
                self.file = Some(file.into());
            }
            "--expr" => {
                let [expr] = values.take(flag)?;
                self.expr = Some(expr);
            }
            "--stdin" => self.stdin = true,
            "--repair" => self.eval.repair = true,
            _ => return Ok(self.flakes.flag(flag, values)? || self.eval.flag(flag, values)?),
        }
        Ok(true)
    }

    pub fn positional(&mut self, arg: OsString) {
        self.names.push(arg);
    }

    fn names(&self) -> CliResult<Vec<OsString>> {
        let mut names = self.names.clone();
        if self.stdin {
            let text = read_stdin()?;
            let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            names.extend(words.map(|word| OsStr::from_bytes(word).to_owned()));
        }
        Ok(names)
    }

    /// What each argument means on its own.
    pub fn resolve_each(&mut self, context: &Context, default: Option<&str>) -> CliResult<Vec<Wanted>> {
        if !self.has_expression() {
            let names = self.given(default)?;
            return self.resolve_names(context, &names);
        }
        context.use_eval_store(self.eval.eval_store.as_deref())?;
        let mut names = self.names()?;
        if names.is_empty() && !self.stdin {
            names.push(OsString::new());
        }
        self.impure_file(context)?;
        let mut evaluation = Evaluation::new(context, &self.eval, context.settings.read_only_mode)?;
        let mut all = Vec::new();
        for name in names {
            let name = args::text("attribute path", name)?;
            let (attr, outputs) = split_outputs(&name)?;
            let root = self.value_in(&mut evaluation, OsStr::new(""))?;
            let paths = attribute(&mut evaluation, root, attr, outputs.as_ref())?;
            let value = self.value_in(&mut evaluation, OsStr::new(attr))?;
            let priority = evaluation.run(|vm| priority(vm, value))?;
            all.push(Wanted { paths, priority, source: None });
        }
        evaluation.flush()?;
        Ok(all)
    }

    /// The names that were given, or the default.
    fn given(&self, default: Option<&str>) -> CliResult<Vec<OsString>> {
        let mut names = self.names()?;
        if names.is_empty() && !self.stdin {
            names.extend(default.map(OsString::from));
        }
        Ok(names)
    }

    /// What store paths and outputs of flakes mean.
    fn resolve_names(&mut self, context: &Context, names: &[OsString]) -> CliResult<Vec<Wanted>> {
        context.use_eval_store(self.eval.eval_store.as_deref())?;
        let store = context.store()?;
        let mut session = None;
        let mut all = Vec::new();
        for name in names {
            if let Some(path) = store_path(&*store, name)? {
                all.push(Wanted { paths: vec![path], priority: None, source: None });
                continue;
            }
            let session = match &mut session {
                Some(session) => session,
                None => session.insert(FlakeSession::new(context, self, context.settings.read_only_mode)?),
            };
            let (installable, flake) = session.open(context, name)?;
            let text = format!("evaluating derivation '{}'", installable.what(context));
            let kind = firn_store::activity::ActivityType::Unknown;
            let level = firn_store::activity::Verbosity::Talkative;
            let _activity = Activity::start(&context.logger, level, kind, &text, &[], 0);
            let derived = installable.derived(context, &mut session.evaluation, &flake)?;
            all.push(Wanted {
                paths: vec![derived.path],
                priority: derived.priority,
                source: derived.source,
            });
        }
        if let Some(session) = session {
            session.evaluation.flush()?;
        }
        Ok(all)
    }

    /// What the arguments mean. Without any, the whole expression; without an expression either, `default`.
    pub fn resolve(&mut self, context: &Context, default: Option<&str>) -> CliResult<Vec<DerivedPath>> {
        context.use_eval_store(self.eval.eval_store.as_deref())?;
        if self.file.is_some() && self.expr.is_some() {
            return Err(CliError::usage("'--file' and '--expr' are exclusive"));
        }
        if self.file.is_some() || self.expr.is_some() {
            let mut names = self.names()?;
            if names.is_empty() && !self.stdin {
                names.push(OsString::new());
            }
            return self.attributes(context, &names);
        }
        let names = self.given(default)?;
        let wanted = self.resolve_names(context, &names)?;
        Ok(wanted.into_iter().flat_map(|wanted| wanted.paths).collect())
    }

    /// What `name` alone means, with the flags that were given.
    pub fn resolve_only(&mut self, context: &Context, name: &OsStr) -> CliResult<Vec<DerivedPath>> {
        self.names = vec![name.to_owned()];
        self.resolve(context, None)
    }

    /// What messages call the installable `name`: an attribute as it was written, a flake's output with the whole
    /// reference, a store path as such.
    pub fn shown(&self, context: &Context, name: &OsStr) -> CliResult<String> {
        if self.has_expression() {
            let name = args::text("attribute path", name.to_owned())?;
            return Ok(match split_outputs(&name)?.0 {
                "." => String::new(),
                attr => attr.to_owned(),
            });
        }
        let store = context.store()?;
        if let Some(path) = store_path(&*store, name)? {
            return Ok(path.render(store.store_dir()));
        }
        let base = crate::flakes::base_dir(context)?;
        Ok(FlakeInstallable::parse(context, name, &base, self.defaults)?.what(context))
    }

    /// The same for the one that was given, or else `default`.
    pub fn shown_first(&self, context: &Context, default: &str) -> CliResult<String> {
        let default = if self.has_expression() { "" } else { default };
        let name = self.names()?.into_iter().next().unwrap_or_else(|| default.into());
        self.shown(context, &name)
    }

    /// The store paths that another installable of the same expression stands for, without building it.
    pub fn store_paths_of(&self, context: &Context, name: &OsStr) -> CliResult<Vec<StorePath>> {
        let mut other = InstallableArgs {
            eval: self.eval.clone(),
            file: self.file.clone(),
            expr: self.expr.clone(),
            stdin: false,
            names: vec![name.to_owned()],
            flakes: self.flakes.clone(),
            defaults: self.defaults,
        };
        let store = context.eval_store()?;
        let mut found = Vec::new();
        for path in other.resolve(context, None)? {
            match path {
                DerivedPath::Opaque(path) => found.push(path),
                DerivedPath::Built { drv, outputs } => {
                    let wanted = known_outputs(context, &*store, &drv)?
                        .into_iter()
                        .filter(|(name, _)| outputs.contains(name));
                    found.extend(wanted.filter_map(|(_, path)| path));
                }
            }
        }
        Ok(found)
    }

    /// The steps of the attribute path that was given; none for the whole expression.
    pub fn attribute_path(&self) -> CliResult<Vec<String>> {
        let name = self.names.first().cloned().unwrap_or_default();
        let name = args::text("attribute path", name)?;
        firn_eval::parse_attr_path(&name).map_err(CliError::failed)
    }

    /// The value of the one attribute that is asked for, with the machine to look at it.
    pub fn value(&mut self, context: &Context, read_only: bool) -> CliResult<(Evaluation, Value)> {
        if self.file.is_some() && self.expr.is_some() {
            return Err(CliError::usage("'--file' and '--expr' are exclusive"));
        }
        let mut names = self.names()?;
        if names.len() > 1 {
            return Err(CliError::usage(format!("unexpected argument '{}'", names[1].to_string_lossy())));
        }
        if self.file.is_none() && self.expr.is_none() {
            let name = names.pop().unwrap_or_else(|| ".".into());
            let read_only = read_only || context.settings.read_only_mode;
            return self.flake_value(context, &name, read_only);
        }
        self.impure_file(context)?;
        let mut evaluation =
            Evaluation::new(context, &self.eval, read_only || context.settings.read_only_mode)?;
        let value = self.value_in(&mut evaluation, &names.pop().unwrap_or_default())?;
        Ok((evaluation, value))
    }

    /// All places among the outputs of a flake that the one installable may mean, the best first.
    pub fn cursors(
        &mut self,
        context: &Context,
        read_only: bool,
    ) -> CliResult<(Evaluation, Vec<Rc<Cursor>>)> {
        let names = self.names()?;
        if let Some(extra) = names.get(1) {
            return Err(CliError::usage(format!("unexpected argument '{}'", extra.to_string_lossy())));
        }
        let name = names.into_iter().next().unwrap_or_else(|| ".".into());
        self.no_store_path(context, &name)?;
        let mut session = FlakeSession::new(context, self, read_only || context.settings.read_only_mode)?;
        let (installable, flake) = session.open(context, &name)?;
        let cursors = installable.cursors(context, &mut session.evaluation, &flake)?;
        Ok((session.evaluation, cursors))
    }

    /// The place among the outputs of a flake that the one installable means.
    pub fn cursor(&mut self, context: &Context) -> CliResult<(Evaluation, Rc<Cursor>)> {
        let name = self.names()?.into_iter().next().unwrap_or_else(|| ".".into());
        self.no_store_path(context, &name)?;
        let mut session = FlakeSession::new(context, self, context.settings.read_only_mode)?;
        let (installable, flake) = session.open(context, &name)?;
        let cursor = installable.cursor(context, &mut session.evaluation, &flake)?;
        Ok((session.evaluation, cursor))
    }

    /// The value of an output of a flake, evaluated by a machine that is there.
    pub fn flake_value_in(
        &self,
        context: &Context,
        evaluation: &mut Evaluation,
        name: &OsStr,
    ) -> CliResult<Value> {
        let base = crate::flakes::base_dir(context)?;
        let installable = FlakeInstallable::parse(context, name, &base, self.defaults)?;
        let flags = self.flakes.resolve(context, evaluation)?;
        let flags = LockFlags { apply_config: true, ..flags };
        let flake = OpenFlake::open(context, evaluation, &installable.reference, &flags)?;
        installable.cursor(context, evaluation, &flake)?.force(evaluation)
    }

    fn no_store_path(&self, context: &Context, name: &OsStr) -> CliResult<()> {
        match store_path(&*context.store()?, name)? {
            None => Ok(()),
            Some(_) => Err(CliError::usage(format!(
                "installable '{}' does not correspond to a Nix language value",
                name.to_string_lossy()
            ))),
        }
    }

    fn flake_value(
        &self,
        context: &Context,
        name: &OsStr,
        read_only: bool,
    ) -> CliResult<(Evaluation, Value)> {
        self.no_store_path(context, name)?;
        let mut session = FlakeSession::new(context, self, read_only)?;
        let (installable, flake) = session.open(context, name)?;
        let cursor = installable.cursor(context, &mut session.evaluation, &flake)?;
        let value = cursor.force(&mut session.evaluation)?;
        Ok((session.evaluation, value))
    }

    /// Whether there is an expression that installables are attributes of.
    pub fn has_expression(&self) -> bool {
        self.file.is_some() || self.expr.is_some()
    }

    /// The value of an attribute of the expression, evaluated by a machine that is there.
    pub fn value_in(&self, evaluation: &mut Evaluation, name: &OsStr) -> CliResult<Value> {
        let root = match (&self.file, &self.expr) {
            (Some(file), _) if file.as_os_str() == "-" => evaluation.stdin()?,
            (Some(file), _) => evaluation.file(file)?,
            (None, Some(expr)) => evaluation.expression(expr.as_bytes())?,
            (None, None) => return Err(CliError::usage("no expression specified")),
        };
        let name = args::text("attribute path", name.to_owned())?;
        let auto_args = evaluation.auto_args;
        evaluation.run(|vm| {
            let (value, _) = vm.find_along_path(&name, auto_args, root)?;
            vm.force(value)
        })
    }

    /// What a file evaluates to may depend on anything; only `--expr` starts out pure.
    fn impure_file(&mut self, context: &Context) -> CliResult<()> {
        if self.file.is_none() {
            return Ok(());
        }
        if context.settings.pure_eval && context.settings.is_overridden("pure-eval") {
            return Err(CliError::usage("'--file' is not compatible with '--pure-eval'"));
        }
        self.eval.impure = true;
        Ok(())
    }

    fn attributes(&mut self, context: &Context, names: &[OsString]) -> CliResult<Vec<DerivedPath>> {
        self.impure_file(context)?;
        let mut evaluation = Evaluation::new(context, &self.eval, context.settings.read_only_mode)?;
        let root = match (&self.file, &self.expr) {
            (Some(file), _) if file.as_os_str() == "-" => evaluation.stdin()?,
            (Some(file), _) => evaluation.file(file)?,
            (None, Some(expr)) => evaluation.expression(expr.as_bytes())?,
            (None, None) => return Err(CliError::usage("no expression specified")),
        };
        let mut paths = Vec::new();
        for name in names {
            let name = args::text("attribute path", name.clone())?;
            let (attr, outputs) = split_outputs(&name)?;
            paths.extend(attribute(&mut evaluation, root, attr, outputs.as_ref())?);
        }
        evaluation.flush()?;
        Ok(paths)
    }
}

/// Evaluation of flakes for one command.
pub struct FlakeSession {
    pub evaluation: Evaluation,
    pub flags: LockFlags,
    defaults: Defaults,
    open: Vec<(FlakeRef, Rc<OpenFlake>)>,
}

impl FlakeSession {
    pub fn new(context: &Context, what: &InstallableArgs, read_only: bool) -> CliResult<FlakeSession> {
        Self::with(context, what, Evaluation::new(context, &what.eval, read_only)?)
    }

    fn with(
        context: &Context,
        what: &InstallableArgs,
        mut evaluation: Evaluation,
    ) -> CliResult<FlakeSession> {
        if !what.eval.auto_args.is_empty() {
            return Err(CliError::usage("'--arg' and '--argstr' are incompatible with flakes"));
        }
        let flags = what.flakes.resolve(context, &mut evaluation)?;
        let flags = LockFlags { apply_config: true, ..flags };
        Ok(FlakeSession { evaluation, flags, defaults: what.defaults, open: Vec::new() })
    }

    /// Locks the flake of an installable.
    pub fn open(&mut self, context: &Context, name: &OsStr) -> CliResult<(FlakeInstallable, Rc<OpenFlake>)> {
        let base = crate::flakes::base_dir(context)?;
        let installable = FlakeInstallable::parse(context, name, &base, self.defaults)?;
        let flake = self.flake(context, &installable.reference)?;
        Ok((installable, flake))
    }

    /// Locks a flake, once.
    pub fn flake(&mut self, context: &Context, reference: &FlakeRef) -> CliResult<Rc<OpenFlake>> {
        if let Some((_, known)) = self.open.iter().find(|(known, _)| known == reference) {
            return Ok(known.clone());
        }
        let flake = OpenFlake::open(context, &mut self.evaluation, reference, &self.flags)?;
        self.open.push((reference.clone(), flake.clone()));
        Ok(flake)
    }
}

/// The store path that a name is, perhaps through links; nothing if it is none.
fn store_path(store: &dyn Store, name: &OsStr) -> CliResult<Option<DerivedPath>> {
    let text = name.to_string_lossy();
    let start = text.rsplit_once('^').map_or(&text[..], |(start, _)| start);
    if !start.contains('/') {
        return Ok(None);
    }
    let (path, outputs) = split_outputs(&text)?;
    // Without outputs the name stays as it is in bytes.
    let path = if outputs.is_some() { OsStr::new(path) } else { name };
    // `drv^out^out`: the derivation is itself an output of another one.
    let mut steps = match outputs {
        Some(_) => path.to_str().unwrap_or_default().split('^'),
        None => "".split('^'),
    };
    let path = match outputs {
        Some(_) => OsStr::new(steps.next().unwrap_or_default()),
        None => path,
    };
    // What is no store path may be a flake.
    let Ok(path) = follow_links(store.store_dir(), path) else { return Ok(None) };
    match outputs {
        Some(outputs) => {
            let mut drv = SingleDerivedPath::Opaque(path);
            for output in steps {
                if output.is_empty() {
                    return Err(CliError::usage(format!("invalid extended outputs specifier in '{text}'")));
                }
                drv = SingleDerivedPath::Built { drv: Arc::new(drv), output: output.to_owned() };
            }
            Ok(Some(DerivedPath::Built { drv: Arc::new(drv), outputs }))
        }
        None => Ok(Some(DerivedPath::Opaque(path))),
    }
}

/// The derivations (or the one store path) that an attribute stands for; outputs of one derivation together.
fn attribute(
    evaluation: &mut Evaluation,
    root: Value,
    attr: &str,
    outputs: Option<&OutputsSpec>,
) -> CliResult<Vec<DerivedPath>> {
    let auto_args = evaluation.auto_args;
    let value = evaluation.run(|vm| {
        let (value, _) = vm.find_along_path(attr, auto_args, root)?;
        vm.force(value)
    })?;
    if matches!(value.kind(), Kind::Path(_) | Kind::Str(_)) {
        return Ok(vec![single_path(evaluation, value, "while evaluating an installable")?]);
    }
    let found = evaluation.run(|vm| vm.find_derivations(value, "", auto_args, false))?;
    let mut by_path: BTreeMap<StorePath, OutputsSpec> = BTreeMap::new();
    for derivation in &found {
        let path = evaluation.run(|vm| vm.drv_path(derivation))?;
        let wanted = match outputs {
            Some(outputs) => outputs.clone(),
            None => OutputsSpec::Names(evaluation.run(|vm| outputs_to_install(vm, derivation))?),
        };
        match by_path.get_mut(&path) {
            Some(OutputsSpec::All) => {}
            Some(OutputsSpec::Names(names)) => match wanted {
                OutputsSpec::All => {
                    by_path.insert(path, OutputsSpec::All);
                }
                OutputsSpec::Names(more) => names.extend(more),
            },
            None => {
                by_path.insert(path, wanted);
            }
        }
    }
    Ok(by_path.into_iter().map(|(path, outputs)| DerivedPath::built(path, outputs)).collect())
}

/// A path, which is copied to the store (not under its own name, as strings that it is part of have it), or a string
/// that refers to just one store object.
pub fn single_path(evaluation: &mut Evaluation, value: Value, what: &str) -> CliResult<DerivedPath> {
    if let Kind::Path(path) = value.kind() {
        let source = CopySource {
            path: path.as_bytes(),
            name: "source",
            method: CaMethod::NixArchive,
            algo: HashAlgo::Sha256,
            references: BTreeSet::new(),
            expected: None,
            filter: None,
        };
        return evaluation.run(|vm| vm.host().copy_to_store(source)).map(DerivedPath::Opaque);
    }
    let coerce = Coerce { more: false, copy: CopyToStore::Yes };
    let traced = |error: EvalError| error.trace(Pos::NONE, TraceKind::Text(what.into()));
    let (text, references) = evaluation.run(|vm| vm.coerce(value, coerce, Pos::NONE, "").map_err(traced))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let [element] = &references.elems()[..] else {
        return Err(CliError::failed(format!(
            "string '{text}' has {} entries in its context. It should only have exactly one entry",
            references.elems().len()
        )));
    };
    Ok(match element {
        ContextElem::Opaque(path) => DerivedPath::Opaque(path.clone()),
        ContextElem::DrvDeep(_) => {
            return Err(CliError::failed(format!(
                "string '{text}' has a context which refers to a complete source and binary closure. \
                 This is not supported at this time"
            )));
        }
        ContextElem::Built { drv, output } => {
            DerivedPath::Built { drv: Arc::clone(drv), outputs: OutputsSpec::single(output) }
        }
    })
}

/// The outputs that a derivation is meant to be installed with.
fn outputs_to_install(
    vm: &mut Vm,
    derivation: &firn_eval::FoundDerivation,
) -> firn_eval::EvalResult<BTreeSet<String>> {
    let strings = |vm: &mut Vm, value: Value| -> firn_eval::EvalResult<Option<BTreeSet<String>>> {
        let Some(list) = vm.force(value)?.as_list() else { return Ok(None) };
        let mut names = BTreeSet::new();
        for item in list.iter() {
            let what = "while evaluating the outputs of a derivation";
            let (name, _) = vm.coerce(item, Coerce::PLAIN, Pos::NONE, what)?;
            names.insert(String::from_utf8_lossy(&name).into_owned());
        }
        Ok(Some(names))
    };
    let attr = |name: &'static str| derivation.attrs.find(Sym::from_static(name));
    if let Some(specified) = attr("outputSpecified") {
        if matches!(vm.force(specified)?.kind(), Kind::Bool(true)) {
            let name = vm.output_name(derivation)?;
            return Ok([if name.is_empty() { "out".to_owned() } else { name }].into());
        }
    }
    if let Some(meta) = attr("meta") {
        let meta = vm.force(meta)?;
        let wanted = meta.as_attrs().and_then(|meta| meta.find(sym!("outputsToInstall")));
        if let Some(wanted) = wanted {
            if let Some(names) = strings(vm, wanted)?.filter(|names| !names.is_empty()) {
                return Ok(names);
            }
        }
    }
    if let Some(outputs) = attr("outputs") {
        if let Some(names) = strings(vm, outputs)?.filter(|names| !names.is_empty()) {
            return Ok(names);
        }
    }
    Ok(["out".to_owned()].into())
}

/// Something that was built, or is there as it is.
pub struct Built {
    /// The derivation and what was made of it, or the path.
    pub derivation: Option<StorePath>,
    pub outputs: BTreeMap<String, StorePath>,
    pub start_time: i64,
    pub stop_time: i64,
    pub cpu: Option<CpuTimes>,
}

/// Builds `paths`, or fails as the failed ones do.
pub fn build(context: &Context, paths: &[DerivedPath], mode: BuildMode) -> CliResult<Vec<Built>> {
    build_in(context, &context.store()?, &*context.build_store()?, paths, mode)
}

/// The same in a store that need not be that of the settings.
pub fn build_in(
    context: &Context,
    store: &Arc<dyn Store>,
    builder: &dyn BuildStore,
    paths: &[DerivedPath],
    mode: BuildMode,
) -> CliResult<Vec<Built>> {
    if context.settings.print_missing {
        match context.block_on(builder.prepare(paths))? {
            Ok(missing) => {
                let level = firn_store::activity::Verbosity::Info;
                crate::commands::nix_store::print_missing(context, &**store, &missing, level)?;
            }
            // Not every store can say.
            Err(StoreError::Unsupported { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let results = context.block_on(builder.build_paths(paths, mode))??;
    let derivations = context.eval_store()?;
    fail_as(context, &**store, &results)?;
    let mut built = Vec::new();
    for path in paths {
        built.push(match path {
            DerivedPath::Opaque(path) => Built {
                derivation: None,
                outputs: [(String::new(), path.clone())].into(),
                start_time: 0,
                stop_time: 0,
                cpu: None,
            },
            DerivedPath::Built { drv, outputs } => {
                let result = results.iter().find(|result| result.path == *path);
                let mut made = result.map(|result| result.outputs.clone()).unwrap_or_default();
                if made.is_empty()
                    && let SingleDerivedPath::Opaque(drv) = &**drv
                {
                    let known = context.block_on(derivations.query_derivation_outputs(drv))??;
                    made.extend(known.into_iter().filter_map(|(name, path)| Some((name, path?))));
                }
                made.retain(|name, _| outputs.contains(name));
                Built {
                    derivation: Some(drv.base().clone()),
                    outputs: made,
                    start_time: result.map_or(0, |result| result.start_time),
                    stop_time: result.map_or(0, |result| result.stop_time),
                    cpu: result.and_then(|result| result.cpu),
                }
            }
        });
    }
    Ok(built)
}

fn fail_as(context: &Context, store: &dyn Store, results: &[BuildResult]) -> CliResult<()> {
    let mut failed: Vec<&BuildResult> = results.iter().filter(|result| !result.status.is_success()).collect();
    // What was not finished because another one failed has no error of its own.
    if failed.iter().any(|result| result.status != BuildStatus::Cancelled) {
        failed.retain(|result| result.status != BuildStatus::Cancelled);
    }
    match failed[..] {
        [] => Ok(()),
        [one] => Err(CliError::failed(one.error.clone())),
        ref many => {
            for result in many.iter().filter(|result| !result.error.is_empty()) {
                CliError::failed(result.error.clone()).report(&context.program, &*context.logger);
            }
            let names: BTreeSet<String> =
                many.iter().map(|result| format!("'{}'", result.path.render(store.store_dir()))).collect();
            let names: Vec<String> = names.into_iter().collect();
            Err(CliError::failed(format!("build of {} failed", names.join(", "))))
        }
    }
}

/// The derivation that a chain of outputs stands for; all that make it have to be built.
pub fn known_derivation(
    context: &Context,
    store: &dyn Store,
    path: &SingleDerivedPath,
) -> CliResult<StorePath> {
    let SingleDerivedPath::Built { drv, output } = path else { return Ok(path.base().clone()) };
    known_outputs(context, store, drv)?
        .remove(output)
        .flatten()
        .ok_or_else(|| CliError::failed(format!("'{}' is not built yet", path.render(store.store_dir()))))
}

/// The outputs of a derivation as far as their paths are known.
pub fn known_outputs(
    context: &Context,
    store: &dyn Store,
    drv: &SingleDerivedPath,
) -> CliResult<BTreeMap<String, Option<StorePath>>> {
    let drv = known_derivation(context, store, drv)?;
    Ok(context.block_on(store.query_derivation_outputs(&drv))??)
}

/// The store paths that `paths` stand for: outputs for `Built`, which have to exist.
pub fn store_paths(context: &Context, paths: &[DerivedPath]) -> CliResult<Vec<StorePath>> {
    let mut found = Vec::new();
    for built in build(context, paths, BuildMode::Normal)? {
        found.extend(built.outputs.into_values());
    }
    Ok(found)
}

/// The derivations of `paths`: those given, those of the outputs that are built, and the derivers of paths.
pub fn derivations(context: &Context, paths: &[DerivedPath]) -> CliResult<BTreeSet<StorePath>> {
    let store = context.store()?;
    let mut found = BTreeSet::new();
    for path in paths {
        match path {
            DerivedPath::Built { drv, .. } => match &**drv {
                SingleDerivedPath::Opaque(path) => {
                    found.insert(path.clone());
                }
                // The derivation has to be made to be there.
                SingleDerivedPath::Built { drv, output } => {
                    let outputs = OutputsSpec::single(output);
                    let request = DerivedPath::Built { drv: Arc::clone(drv), outputs };
                    found.extend(store_paths(context, &[request])?);
                }
            },
            DerivedPath::Opaque(path) if path.is_derivation() => {
                found.insert(path.clone());
            }
            DerivedPath::Opaque(path) => {
                let mut derivers = context.block_on(store.query_valid_derivers(path))??;
                let shown = store.store_dir().display(path);
                let deriver = derivers
                    .pop_first()
                    .ok_or_else(|| CliError::failed(format!("'{shown}' does not have a known deriver")))?;
                found.insert(deriver);
            }
        }
    }
    Ok(found)
}
