//! Files, the search path and the environment.

use super::{Entry, entry};
use crate::attrs::AttrsBuilder;
use crate::coerce::{Coerce, base_name, canonical};
use crate::context::{Context, ContextElem};
use crate::error::{ErrorKind, EvalError, EvalResult, TraceKind};
use crate::host::FileKind;
use crate::source::Pos;
use crate::value::{Kind, ListBuilder, Value};
use crate::vm::{Vm, host_error};
use firn_syntax::{Sym, sym};

pub(super) const TABLE: &[Entry] = &[
    entry("readFile", 1, read_file),
    entry("readDir", 1, read_dir),
    entry("readFileType", 1, read_file_type),
    entry("pathExists", 1, path_exists),
    entry("baseNameOf", 1, base_name_of),
    entry("dirOf", 1, dir_of),
    entry("toPath", 1, to_path),
    entry("findFile", 2, find_file),
    entry("getEnv", 1, get_env),
];

impl Vm {
    /// Builds or fetches what a string refers to, and puts real paths in the place of placeholders.
    pub(crate) fn realise_text(&mut self, text: Vec<u8>, context: Context) -> EvalResult<Vec<u8>> {
        if context.is_empty() {
            return Ok(text);
        }
        let elems = context.elems();
        let builds = elems.iter().find_map(|e| match e {
            ContextElem::Built { drv, output } => Some((drv, output)),
            _ => None,
        });
        if let (Some((drv, output)), false) = (builds, self.settings.allow_import_from_derivation) {
            let shown = format!("{}^{output}", drv.render(self.host.store_dir()));
            return Err(EvalError::new(
                ErrorKind::Eval,
                format!(
                    "cannot build '{shown}' during evaluation because the option 'allow-import-from-derivation' is disabled"
                ),
            ));
        }
        self.in_turn()?;
        let host = self.host.clone();
        let rewrites = crate::value::blocking(|| host.realise(&elems)).map_err(host_error)?;
        let mut text = text;
        for (from, to) in rewrites {
            let mut out = Vec::with_capacity(text.len());
            let mut rest = &text[..];
            while let Some(n) = memchr::memmem::find(rest, from.as_bytes()) {
                out.extend_from_slice(&rest[..n]);
                out.extend_from_slice(to.as_bytes());
                rest = &rest[n + from.len()..];
            }
            out.extend_from_slice(rest);
            text = out;
        }
        Ok(text)
    }

    /// A value as the path of a file that can be read now.
    pub(crate) fn realise_path(&mut self, value: Value, pos: Pos) -> EvalResult<Vec<u8>> {
        let (path, context) = self.coerce_path(value, pos, "while realising the context of a path")?;
        let shown = path.clone();
        self.realise_text(path, context).map_err(|e| {
            let text = format!("while realising the context of path '{}'", String::from_utf8_lossy(&shown));
            e.trace(pos, TraceKind::Text(text.into()))
        })
    }
}

fn read_file(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let path = vm.realise_path(args[0], pos)?;
    if path == super::FETCHURL_PATH {
        return Ok(Value::str(super::FETCHURL.as_bytes()));
    }
    let text = vm.host.read_file(&path).map_err(host_error)?;
    if memchr::memchr(0, &text).is_some() {
        return Err(EvalError::at(
            ErrorKind::Eval,
            pos,
            format!(
                "the contents of the file '{}' cannot be represented as a Nix string",
                String::from_utf8_lossy(&path)
            ),
        ));
    }
    // A file of the store keeps the references that occur in it.
    let mut elems = Vec::new();
    if let Ok((store_path, _)) = vm.host.store_dir().split(&String::from_utf8_lossy(&path)) {
        for reference in vm.host.references(&store_path).map_err(host_error)? {
            if memchr::memmem::find(&text, reference.hash_part().as_bytes()).is_some() {
                elems.push(ContextElem::Opaque(reference));
            }
        }
    }
    Ok(Value::str_with(&text, Context::from_elems(&elems)))
}

fn read_dir(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let path = vm.realise_path(args[0], pos)?;
    let entries = match vm.host.read_dir(&path) {
        Ok(entries) => entries,
        Err(error) => {
            // The message names what the path leads to.
            let resolved = vm.resolve_symlinks(&path)?;
            if resolved == path {
                return Err(host_error(error));
            }
            vm.host.read_dir(&resolved).map_err(host_error)?
        }
    };
    let mut out = AttrsBuilder::with_capacity(entries.len());
    for (name, kind) in entries {
        out.push(Sym::new(&name), Value::str(kind.name().as_bytes()));
    }
    Ok(out.finish())
}

fn read_file_type(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let path = vm.realise_path(args[0], pos)?;
    match vm.host.file_kind(&path).map_err(host_error)? {
        Some(kind) => Ok(Value::str(kind.name().as_bytes())),
        None => Err(vm.no_such_file(&path)),
    }
}

fn path_exists(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let value = vm.force_at(args[0], pos)?;
    let must_be_dir =
        value.as_str().is_some_and(|s| s.as_bytes().ends_with(b"/") || s.as_bytes().ends_with(b"/."));
    let path = match vm.realise_path(value, pos) {
        Ok(path) => path,
        Err(e) if e.kind() == ErrorKind::Restricted => return Ok(Value::FALSE),
        Err(e) => return Err(e),
    };
    if path.starts_with(super::BUILTIN_DIR) {
        return Ok(Value::bool(path == super::FETCHURL_PATH));
    }
    let path = if must_be_dir { vm.resolve_symlinks(&path)? } else { path };
    let kind = vm.host.file_kind(&path).map_err(host_error)?;
    Ok(Value::bool(match kind {
        Some(kind) => !must_be_dir || kind == FileKind::Directory,
        None => false,
    }))
}

fn base_name_of(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the first argument passed to builtins.baseNameOf";
    let (text, context) = vm.coerce(args[0], Coerce::PLAIN, pos, what)?;
    Ok(Value::str_with(base_name(&text), context))
}

fn dir_of(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let value = vm.force_at(args[0], pos)?;
    if let Kind::Path(path) = value.kind() {
        return Ok(Value::path(crate::coerce::dir_of(path.as_bytes())));
    }
    let what = "while evaluating the first argument passed to 'builtins.dirOf'";
    let (text, context) = vm.coerce(value, Coerce::PLAIN, pos, what)?;
    let dir: &[u8] = match text.iter().rposition(|c| *c == b'/') {
        None => b".",
        Some(0) => b"/",
        Some(n) => &text[..n],
    };
    Ok(Value::str_with(dir, context))
}

fn to_path(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let (path, context) =
        vm.coerce_path(args[0], pos, "while evaluating the first argument passed to builtins.toPath")?;
    Ok(Value::str_with(&path, context))
}

fn get_env(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let name =
        vm.string_no_context(args[0], pos, "while evaluating the first argument passed to builtins.getEnv")?;
    let hidden = vm.settings.pure_eval || vm.settings.restrict_eval;
    let value = if hidden { None } else { vm.host.env_var(name.as_bytes()) };
    Ok(Value::str(&value.unwrap_or_default()))
}

/// `builtins.nixPath`: the search path as a list of sets.
pub(super) fn search_path_value(vm: &Vm) -> Value {
    let entries = &vm.settings.search_path;
    let mut out = ListBuilder::new(entries.len());
    for entry in entries {
        let mut attrs = AttrsBuilder::with_capacity(2);
        attrs.push(sym!("path"), Value::str(&entry.target));
        attrs.push(sym!("prefix"), Value::str(&entry.prefix));
        out.push(attrs.finish());
    }
    out.finish()
}

/// What of `name` is left after a search path's prefix, where the prefix fits.
fn suffix<'a>(prefix: &[u8], name: &'a [u8]) -> Option<&'a [u8]> {
    if prefix.is_empty() {
        return Some(name);
    }
    match name.strip_prefix(prefix)? {
        b"" => Some(b""),
        rest => rest.strip_prefix(b"/"),
    }
}

impl Vm {
    /// The place that an entry of the search path stands for, if it exists.
    fn search_path_target(&mut self, target: &[u8]) -> EvalResult<Option<Vec<u8>>> {
        if let Some(known) = self.shared.search_paths.get(target) {
            return Ok(known);
        }
        let text = String::from_utf8_lossy(target).into_owned();
        let is_url = ["http://", "https://", "file://", "channel:", "git://", "s3://", "ssh://"]
            .iter()
            .any(|scheme| text.starts_with(scheme));
        self.in_turn()?;
        let found = if text.starts_with("flake:") {
            let request = crate::host::FetchRequest {
                url: text.clone(),
                name: "source".into(),
                unpack: true,
                expected: None,
            };
            let path = self.host.fetch(&request).map_err(host_error)?;
            self.host.allow_path(&path);
            Some(self.host.store_dir().display(&path).into_bytes())
        } else if is_url {
            let url = match text.strip_prefix("channel:") {
                Some(channel) => format!("https://channels.nixos.org/{channel}/nixexprs.tar.xz"),
                None => text.clone(),
            };
            let request =
                crate::host::FetchRequest { url, name: "source".into(), unpack: true, expected: None };
            match self.host.fetch(&request) {
                Ok(path) => Some(self.host.store_dir().display(&path).into_bytes()),
                Err(_) => {
                    self.host.warn(&format!("Nix search path entry '{text}' cannot be downloaded, ignoring"));
                    None
                }
            }
        } else {
            let path = canonical(target);
            if self.follow_symlinks(&path)?.1.is_some() {
                Some(path)
            } else {
                self.host.check_access(&path).map_err(host_error)?;
                self.host.warn(&format!("Nix search path entry '{text}' does not exist, ignoring"));
                None
            }
        };
        Ok(self.shared.search_paths.insert(target.to_vec(), found))
    }

    /// Looks `<name>` up in (prefix, target) pairs.
    pub(crate) fn find_in(
        &mut self,
        entries: &[(Vec<u8>, Vec<u8>)],
        name: &[u8],
        pos: Pos,
    ) -> EvalResult<Vec<u8>> {
        for (prefix, target) in entries {
            let Some(rest) = suffix(prefix, name) else { continue };
            let Some(base) = self.search_path_target(target)? else { continue };
            let path = canonical(&[&base[..], b"/", rest].concat());
            let (path, kind) = self.follow_symlinks(&path)?;
            if kind.is_some() {
                return Ok(path);
            }
            self.host.check_access(&path).map_err(host_error)?;
        }
        // All of this name is found, whether there is such a file or not.
        if let Some(file) = name.strip_prefix(b"nix/") {
            return Ok([super::BUILTIN_DIR, file].concat());
        }
        let shown = String::from_utf8_lossy(name);
        let message = if self.settings.pure_eval {
            format!("cannot look up '<{shown}>' in pure evaluation mode (use '--impure' to override)")
        } else {
            format!("file '{shown}' was not found in the Nix search path (add it using $NIX_PATH or -I)")
        };
        Err(EvalError::at(ErrorKind::Throw, pos, message))
    }

    /// Looks `<name>` up in the search path of the settings.
    pub fn find_file(&mut self, name: &[u8]) -> EvalResult<Vec<u8>> {
        let entries: Vec<(Vec<u8>, Vec<u8>)> =
            self.settings.search_path.iter().map(|e| (e.prefix.clone(), e.target.clone())).collect();
        self.find_in(&entries, name, Pos::NONE)
    }
}

fn find_file(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let list =
        vm.force_list(args[0], pos, "while evaluating the first argument passed to builtins.findFile")?;
    let mut entries = Vec::with_capacity(list.len());
    for item in list.iter() {
        let what = "while evaluating an element of the list passed to builtins.findFile";
        let attrs = vm.force_attrs(item, pos, what)?;
        let mut prefix = Vec::new();
        if let Some(value) = attrs.find(sym!("prefix")) {
            let what = "while evaluating the `prefix` attribute of an element of the list passed to builtins.findFile";
            prefix = vm.string_no_context(value, pos, what)?.as_bytes().to_vec();
        }
        let path = super::sets::required(attrs, sym!("path"), "in an element of the __nixPath")?;
        let what =
            "while evaluating the `path` attribute of an element of the list passed to builtins.findFile";
        let (text, context) = vm.coerce(path, Coerce::PLAIN, pos, what)?;
        entries.push((prefix, vm.realise_text(text, context)?));
    }
    let what = "while evaluating the second argument passed to builtins.findFile";
    let name = vm.string_no_context(args[1], pos, what)?;
    vm.find_in(&entries, name.as_bytes(), pos).map(|path| Value::path(&path))
}
