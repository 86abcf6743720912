//! `nix-prefetch-url`: a file from a URL into the store, and its hash.

use super::hashing::parse_algo;
use crate::args::{EvalArgs, FlagSink, Values};
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult};
use crate::evaluation::Evaluation;
use crate::fetching;
use firn_core::{Hash, HashAlgo, HashFormat};
use firn_eval::{Kind, Pos, Sym, Value, sym};
use firn_fetch::Prefetch;
use firn_store::activity::Verbosity;
use std::ffi::OsString;
use std::path::Path;

pub const HELP: &str = "
Usage: nix-prefetch-url [--type ALGO] [--name NAME] [--unpack] [--executable] [--print-path] URL [HASH]
       nix-prefetch-url [OPTIONS] {-A | --attr} PATH [FILE] [HASH]

Downloads a file into the Nix store and prints its hash. With HASH given, nothing is downloaded if it is there.

  --type ALGO      the hash algorithm: md5, sha1, sha256 (the default), sha512 or blake3
  --name NAME      the name of the file in the store; else it is the last part of the URL
  --unpack         unpack the archive (tar, in any compression, or zip) and take the hash of what was in it
  --executable     make the file executable; the hash is that of its archive then
  --print-path     print the store path too (also with PRINT_PATH=1 in the environment)
  -A, --attr PATH  take the URL from a fetchurl-like derivation of the expression in FILE (or .)
";

struct Flags {
    eval: EvalArgs,
    args: Vec<OsString>,
    algo: HashAlgo,
    print_path: bool,
    attr: Option<String>,
    unpack: bool,
    executable: bool,
    name: Option<String>,
}

impl FlagSink for Flags {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--type" => self.algo = parse_algo(&values.next_text(flag)?)?,
            "--print-path" => self.print_path = true,
            "-A" | "--attr" => self.attr = Some(values.next_text(flag)?),
            "--unpack" => self.unpack = true,
            "--executable" => self.executable = true,
            "--name" => self.name = Some(values.next_text(flag)?),
            _ => return self.eval.flag(flag, values),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.args.push(arg);
        Ok(())
    }
}

pub fn main(start: Start) -> CliResult<u8> {
    let mut flags = Flags {
        eval: EvalArgs::default(),
        args: Vec::new(),
        algo: HashAlgo::Sha256,
        print_path: std::env::var_os("PRINT_PATH").is_some_and(|value| value == "1"),
        attr: None,
        unpack: false,
        executable: false,
        name: None,
    };
    let context = start.parse(&mut flags, HELP)?;
    if flags.args.len() > 2 {
        return Err(CliError::usage("too many arguments"));
    }
    let text = |arg: &OsString| arg.to_string_lossy().into_owned();
    let url = match (&flags.attr, flags.args.first()) {
        (None, None) => return Err(CliError::usage("you must specify a URL")),
        (None, Some(url)) => text(url),
        (Some(attr), file) => {
            let file = file.map_or_else(|| Path::new("."), Path::new);
            let (url, recursive) = source_of(&context, &flags.eval, file, attr)?;
            match recursive {
                Some(recursive) => flags.unpack = recursive,
                None => {
                    let warning = "warning: this does not look like a fetchurl call";
                    context.logger.log(Verbosity::Info, warning.as_bytes());
                }
            }
            url
        }
    };
    let expected = match flags.args.get(1) {
        Some(hash) => Some(
            Hash::parse_any(&text(hash), Some(flags.algo)).map_err(|e| CliError::failed(e.to_string()))?,
        ),
        None => None,
    };
    let url = resolve_mirror(&context, &flags.eval, url)?;
    let wanted = Prefetch {
        url,
        name: flags.name,
        algo: flags.algo,
        expected,
        unpack: flags.unpack,
        executable: flags.executable,
    };
    let store = context.store()?;
    let fetcher = fetching::fetcher(&context, store.clone())?;
    let got = context.block_on(fetcher.prefetch(&wanted))?.map_err(|e| CliError::failed(e.to_string()))?;
    let path = store.store_dir().display(&got.store_path);
    if !flags.print_path {
        context.logger.log(Verbosity::Info, format!("path is '{path}'").as_bytes());
    }
    let format = match got.hash.algo() {
        HashAlgo::Md5 => HashFormat::Base16,
        _ => HashFormat::Nix32,
    };
    context.print_line(got.hash.to_base(format))?;
    if flags.print_path {
        context.print_line(path)?;
    }
    Ok(0)
}

fn string(evaluation: &mut Evaluation, value: Value, what: &'static str) -> CliResult<String> {
    let text = evaluation.run(|vm| {
        let how = firn_eval::Coerce { more: false, copy: firn_eval::CopyToStore::No };
        vm.coerce(value, how, Pos::NONE, what).map(|(text, _)| text)
    })?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The first of a list of texts.
fn first(evaluation: &mut Evaluation, list: Value, what: &'static str) -> CliResult<Option<String>> {
    let list = evaluation.run(|vm| vm.force(list))?;
    let item = list.as_list().map(|list| list.iter().next());
    match item {
        None => Err(CliError::failed(format!("expected a list {what}"))),
        Some(None) => Ok(None),
        Some(Some(item)) => string(evaluation, item, what).map(Some),
    }
}

/// The URL that a derivation of an expression fetches, and whether its hash is that of an archive, if it says so.
fn source_of(
    context: &Context,
    args: &EvalArgs,
    file: &Path,
    attr: &str,
) -> CliResult<(String, Option<bool>)> {
    let mut evaluation = Evaluation::new(context, args, false)?;
    let root = evaluation.file(file)?;
    let auto_args = evaluation.auto_args;
    let value = evaluation.run(|vm| {
        let (value, _) = vm.find_along_path(attr, auto_args, root)?;
        vm.force(value)
    })?;
    let Kind::Attrs(attrs) = value.kind() else {
        return Err(CliError::failed("expected a set while evaluating the source attribute to prefetch"));
    };
    let urls = attrs.find(sym!("urls")).ok_or_else(|| CliError::failed("attribute 'urls' missing"))?;
    let url = first(&mut evaluation, urls, "while evaluating the urls to prefetch")?
        .ok_or_else(|| CliError::failed("'urls' list is empty"))?;
    let mode = match attrs.find(sym!("outputHashMode")) {
        None => None,
        Some(mode) => {
            let what = "while evaluating the outputHashMode of the source to prefetch";
            Some(string(&mut evaluation, mode, what)? == "recursive")
        }
    };
    Ok((url, mode))
}

/// `mirror://name/rest` by the list of mirrors in nixpkgs.
fn resolve_mirror(context: &Context, args: &EvalArgs, url: String) -> CliResult<String> {
    let Some(rest) = url.strip_prefix("mirror://") else { return Ok(url) };
    let (name, path) =
        rest.split_once('/').ok_or_else(|| CliError::failed(format!("invalid mirror URL '{url}'")))?;
    let mut evaluation = Evaluation::new(context, args, false)?;
    let mirrors = evaluation.expression(b"import <nixpkgs/pkgs/build-support/fetchurl/mirrors.nix>")?;
    let mirrors = evaluation.run(|vm| vm.force(mirrors))?;
    let found = mirrors.as_attrs().and_then(|mirrors| mirrors.find(Sym::new(name.as_bytes())));
    let list = found.ok_or_else(|| CliError::failed(format!("unknown mirror name '{name}'")))?;
    let mirror = first(&mut evaluation, list, "while evaluating one mirror configuration")?
        .ok_or_else(|| CliError::failed(format!("mirror URL '{url}' did not expand to anything")))?;
    let slash = if mirror.ends_with('/') { "" } else { "/" };
    Ok(format!("{mirror}{slash}{path}"))
}
