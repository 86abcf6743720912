//! `nix-env --query`.

use super::columns::{VersionDiff, Versions, table};
use super::elements::{Availability, availability, each, invalid_meta};
use super::json;
use super::output::{Xml, XmlAttrs};
use super::{Line, order, selectors, source};
use crate::args::text;
use crate::context::Context;
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use firn_core::StorePath;
use firn_core::store_path::StoreDir;
use firn_eval::{Ahead, EvalResult, FoundDerivation, Vm, split_package_name};
use firn_store::activity::Verbosity;
use std::collections::BTreeSet;
use std::io::IsTerminal;

/// The query's own flags.
#[derive(Default)]
struct Flags {
    available: bool,
    attr: String,
    status: bool,
    no_name: bool,
    attr_path: bool,
    system: bool,
    drv_path: bool,
    out_path: bool,
    description: bool,
    meta: bool,
    compare_versions: bool,
    xml: bool,
    json: bool,
}

impl Flags {
    fn read(line: &mut Line) -> CliResult<Self> {
        let mut flags = Self::default();
        while let Some(flag) = line.flags.pop_front() {
            match flag.to_str().unwrap_or_default() {
                "-s" | "--status" => flags.status = true,
                "--no-name" => flags.no_name = true,
                "--system" => flags.system = true,
                "--description" => flags.description = true,
                "-c" | "--compare-versions" => flags.compare_versions = true,
                "--drv-path" => flags.drv_path = true,
                "--out-path" => flags.out_path = true,
                "--meta" => flags.meta = true,
                "--installed" => flags.available = false,
                "-a" | "--available" => flags.available = true,
                "--xml" => flags.xml = true,
                "--json" => flags.json = true,
                "-P" | "--attr-path" => flags.attr_path = true,
                name @ ("-A" | "--attr") => {
                    let missing = || CliError::usage(format!("'{name}' requires an argument"));
                    let attr = line.flags.pop_front().ok_or_else(missing)?;
                    flags.attr = text("attribute path", attr)?;
                }
                _ => {
                    return Err(CliError::usage(format!("unknown flag '{}'", flag.to_string_lossy())));
                }
            }
        }
        if flags.attr_path && !flags.available {
            return Err(CliError::usage("--attr-path(-P) only works with --available"));
        }
        Ok(flags)
    }
}

pub fn query(context: &Context, mut line: Line) -> CliResult<u8> {
    let flags = Flags::read(&mut line)?;
    let mut evaluation = Evaluation::new(context, &line.eval_args, true)?;
    let mut installed = Vec::new();
    if !flags.available || flags.compare_versions || flags.status {
        installed = source::installed(context, &mut evaluation, &line)?;
    }
    let mut available = Vec::new();
    if flags.available || flags.compare_versions {
        available = source::available(context, &mut evaluation, &line, &flags.attr)?;
    }
    let installed_paths = match flags.status {
        true => out_paths(&mut evaluation, &installed)?,
        false => BTreeSet::new(),
    };
    let (all, others) = if flags.available { (available, installed) } else { (installed, available) };
    let mut packages = choose(all, &line)?;
    let mut known = Availability::default();
    if flags.status || line.prebuilt_only {
        known = availability(context, &mut evaluation, &mut packages)?;
    }
    known.installed = installed_paths;
    let ahead = if flags.drv_path && !flags.meta && !flags.json { Ahead::DrvPath } else { Ahead::Package };
    if flags.drv_path || flags.out_path || flags.meta || flags.json {
        let mut values = packages.iter().map(|package| package.attrs.value());
        evaluation.vm.evaluate_ahead(&mut values, ahead);
    }
    if flags.json {
        let show = json::Show { outputs: flags.out_path, drv_path: flags.drv_path, meta: flags.meta };
        let text = json::packages(context, &mut evaluation, show, &packages)?;
        context.print(&text)?;
        return Ok(0);
    }
    let versions = Versions::of(&others);
    let store = context.store()?;
    let mut output = Output {
        flags: &flags,
        known: &known,
        versions: &versions,
        store_dir: store.store_dir(),
        colour: std::io::stdout().is_terminal(),
        prebuilt_only: line.prebuilt_only,
        warnings: Vec::new(),
        rows: Vec::new(),
        xml: Xml::new(),
    };
    output.xml.open("items", Vec::new());
    let mut failed = None;
    for package in &packages {
        let result = each(context, &mut evaluation, package, |vm| output.package(vm, package));
        for warning in output.warnings.drain(..) {
            context.logger.log(Verbosity::Error, warning.as_bytes());
        }
        while output.xml.depth() > 1 {
            output.xml.close();
        }
        if let Err(error) = result {
            failed = Some(error);
            break;
        }
    }
    output.xml.close();
    match (failed, flags.xml) {
        // What was found until then is a document of its own.
        (failed, true) => {
            context.print(&output.xml.out)?;
            failed.map_or(Ok(0), Err)
        }
        (Some(error), false) => Err(error),
        (None, false) => {
            context.print(&table(&output.rows))?;
            Ok(0)
        }
    }
}

/// Those that the arguments select, sorted.
fn choose(all: Vec<FoundDerivation>, line: &Line) -> CliResult<Vec<FoundDerivation>> {
    let args: Vec<Vec<u8>> = line.args.iter().map(|arg| arg.as_encoded_bytes().to_vec()).collect();
    let names: Vec<&str> = all.iter().map(|package| package.name.as_str()).collect();
    let mut places: Vec<(Vec<i8>, usize)> =
        selectors::select(&names, &args)?.into_iter().map(|at| (order::key(names[at]), at)).collect();
    order::sort(&mut places, |a, b| a.0 < b.0);
    let mut all: Vec<Option<FoundDerivation>> = all.into_iter().map(Some).collect();
    Ok(places.into_iter().filter_map(|(_, at)| all[at].take()).collect())
}

fn out_paths(evaluation: &mut Evaluation, packages: &[FoundDerivation]) -> CliResult<BTreeSet<StorePath>> {
    packages.iter().map(|package| evaluation.run(|vm| vm.out_path(package))).collect()
}

/// Rows or XML elements as they come.
struct Output<'a> {
    flags: &'a Flags,
    known: &'a Availability,
    versions: &'a Versions<'a>,
    store_dir: &'a StoreDir,
    colour: bool,
    prebuilt_only: bool,
    warnings: Vec<String>,
    rows: Vec<Vec<Vec<u8>>>,
    xml: Xml,
}

impl Output<'_> {
    fn package(&mut self, vm: &mut Vm, package: &FoundDerivation) -> EvalResult<()> {
        if self.prebuilt_only {
            let path = vm.out_path(package)?;
            if !self.known.valid.contains(&path) && !self.known.substitutable.contains(&path) {
                return Ok(());
            }
        }
        if self.flags.xml {
            return self.element(vm, package);
        }
        let row = self.row(vm, package)?;
        self.rows.push(row);
        Ok(())
    }

    fn display(&self, path: &StorePath) -> Vec<u8> {
        self.store_dir.display(path).into_bytes()
    }

    /// Installed, valid, substitutable.
    fn status(&self, vm: &mut Vm, package: &FoundDerivation) -> EvalResult<[bool; 3]> {
        let path = vm.out_path(package)?;
        let known = self.known;
        Ok([&known.installed, &known.valid, &known.substitutable].map(|paths| paths.contains(&path)))
    }

    fn row(&mut self, vm: &mut Vm, package: &FoundDerivation) -> EvalResult<Vec<Vec<u8>>> {
        let flags = self.flags;
        let mut row = Vec::new();
        if flags.status {
            let status = self.status(vm, package)?;
            row.push(status.iter().zip(b"IPS").map(|(is, sign)| if *is { *sign } else { b'-' }).collect());
        }
        if flags.attr_path {
            row.push(package.attr_path.clone().into_bytes());
        }
        if !flags.no_name {
            row.push(package.name.clone().into_bytes());
        }
        if flags.compare_versions {
            let (diff, version) = self.versions.compare(package.name.as_bytes());
            let cell = format!("{} {}", diff.sign(), String::from_utf8_lossy(&version));
            row.push(match diff == VersionDiff::Outdated && self.colour {
                true => format!("\x1b[31;1m{cell}\x1b[0m").into_bytes(),
                false => cell.into_bytes(),
            });
        }
        if flags.system {
            row.push(vm.package_system(package)?);
        }
        if flags.drv_path {
            let path = vm.drv_path_if_any(package)?;
            row.push(path.map_or_else(|| b"-".to_vec(), |path| self.display(&path)));
        }
        if flags.out_path {
            let mut cell = Vec::new();
            for (name, path) in vm.package_outputs(package, true)? {
                if !cell.is_empty() {
                    cell.push(b';');
                }
                if name != b"out" {
                    cell.extend_from_slice(&name);
                    cell.push(b'=');
                }
                cell.extend(path.map(|path| self.display(&path)).unwrap_or_default());
            }
            row.push(cell);
        }
        if flags.description {
            row.push(vm.package_meta_string(package, "description")?);
        }
        Ok(row)
    }

    fn element(&mut self, vm: &mut Vm, package: &FoundDerivation) -> EvalResult<()> {
        let flags = self.flags;
        let mut attrs: XmlAttrs = Vec::new();
        if flags.status {
            let names = ["installed", "valid", "substitutable"];
            for (name, is) in names.into_iter().zip(self.status(vm, package)?) {
                attrs.push((name, if is { b"1".to_vec() } else { b"0".to_vec() }));
            }
        }
        let full = package.name.as_bytes();
        let (name, version) = split_package_name(full);
        attrs.push(("attrPath", package.attr_path.clone().into_bytes()));
        attrs.push(("name", full.to_vec()));
        attrs.push(("pname", name.to_vec()));
        attrs.push(("version", version.to_vec()));
        if flags.compare_versions {
            let (diff, version) = self.versions.compare(full);
            if diff != VersionDiff::Unavailable {
                attrs.push(("versionDiff", diff.sign().to_string().into_bytes()));
                attrs.push(("maxComparedVersion", version));
            }
        }
        let system = vm.package_system(package)?;
        if !system.is_empty() {
            attrs.push(("system", system));
        }
        if flags.drv_path {
            if let Some(path) = vm.drv_path_if_any(package)? {
                attrs.push(("drvPath", self.display(&path)));
            }
        }
        attrs.push(("outputName", vm.output_name(package)?.into_bytes()));
        if flags.description {
            let description = vm.package_meta_string(package, "description")?;
            if !description.is_empty() {
                attrs.push(("description", description));
            }
        }
        self.xml.open("item", attrs);
        for (name, path) in vm.package_outputs(package, flags.out_path)? {
            let mut attrs = vec![("name", name)];
            attrs.extend(path.map(|path| ("path", self.display(&path))));
            self.xml.empty("output", attrs);
        }
        if flags.meta {
            if let Some(meta) = vm.package_meta(package)? {
                for (name, _) in meta.sorted() {
                    match vm.package_meta_value(meta, name)? {
                        Some(value) => self.xml.meta(name.as_bytes(), value),
                        None => self.warnings.push(invalid_meta(package, &name.to_string())),
                    }
                }
            }
        }
        self.xml.close();
        Ok(())
    }
}
