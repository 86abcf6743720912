//! `nix shell`: a program in an environment whose PATH begins with packages.

use super::NixCommand;
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::environment::EnvironmentArgs;
use crate::error::{CliError, CliResult};
use crate::installables::{self, InstallableArgs};
use firn_core::StorePath;
use firn_core::store_path::StoreDir;
use firn_store::{LocalFsStore, StoreError};
use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// As deep as links may lead.
const MOST_LINKS: usize = 1024;

/// The command as it was written.
#[derive(Default)]
pub struct Shell {
    what: InstallableArgs,
    environment: EnvironmentArgs,
    command: Vec<OsString>,
}

impl FlagSink for Shell {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-c" | "--command" => {
                self.command = values.all();
                if self.command.is_empty() {
                    return Err(CliError::usage("--command requires at least one argument"));
                }
            }
            _ => return Ok(self.environment.flag(flag, values)? || self.what.flag(flag, values)?),
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.what.positional(arg);
        Ok(())
    }

    fn shadows(&self, flag: &str) -> bool {
        EnvironmentArgs::shadows(flag)
    }
}

impl NixCommand for Shell {
    fn run(mut self: Box<Self>, context: &Context) -> CliResult<u8> {
        let paths = self.what.resolve(context, Some("."))?;
        let store = context.store()?;
        let local = store.as_local_fs().ok_or_else(|| store.unsupported("running programs"))?;
        let mut env = self.environment.variables()?;
        let mut todo: VecDeque<StorePath> = installables::store_paths(context, &paths)?.into();
        let mut done = HashSet::new();
        let mut folders = Vec::new();
        while let Some(path) = todo.pop_front() {
            if !done.insert(path.clone()) {
                continue;
            }
            let path = store.store_dir().display(&path);
            let bin = resolve(store.store_dir(), local, &Path::new(&path).join("bin"))?;
            folders.push(bin);
            // Packages that this one wants to have beside it.
            let list = Path::new(&path).join("nix-support/propagated-user-env-packages");
            let list = real(store.store_dir(), local, &resolve(store.store_dir(), local, &list)?);
            if list.is_file() {
                let text = std::fs::read_to_string(&list).map_err(CliError::io("reading", &list))?;
                for word in text.split_ascii_whitespace() {
                    todo.push_back(store.store_dir().parse(word).map_err(StoreError::from)?);
                }
            }
        }
        // The program itself is looked up in the new path.
        let old = env.get("PATH".as_ref() as &std::ffi::OsStr).cloned().unwrap_or_default();
        folders.extend(std::env::split_paths(&old).filter(|folder| !folder.as_os_str().is_empty()));
        let path = std::env::join_paths(&folders).map_err(|e| CliError::failed(e.to_string()))?;
        env.insert("PATH".into(), path);
        let shell = || std::env::var_os("SHELL").unwrap_or_else(|| "bash".into());
        let command = if self.command.is_empty() { vec![shell()] } else { self.command };
        let [program, args @ ..] = &command[..] else { return Ok(0) };
        let found = match Path::new(program).components().count() {
            1 => folders.iter().map(|folder| folder.join(program)).find(|file| {
                let file = real(store.store_dir(), local, file);
                file.is_file() && rustix::fs::access(&file, rustix::fs::Access::EXEC_OK).is_ok()
            }),
            _ => None,
        };
        let file = found.unwrap_or_else(|| PathBuf::from(program));
        crate::exec::exec_in_store(context, &file, program, args, &env, None)
    }
}

/// Where a path that may be in the store really is.
fn real(dir: &StoreDir, local: &dyn LocalFsStore, path: &Path) -> PathBuf {
    match path.strip_prefix(dir.as_str()) {
        Ok(rest) => local.real_store_dir().join(rest),
        Err(_) => path.to_owned(),
    }
}

/// Follows all links of a path in the store, which must not lead out of it. What does not exist stays as it is.
fn resolve(dir: &StoreDir, local: &dyn LocalFsStore, path: &Path) -> CliResult<PathBuf> {
    let mut resolved = PathBuf::from("/");
    let mut todo: VecDeque<PathBuf> = path.components().map(|part| part.as_os_str().into()).collect();
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        match part.components().next() {
            Some(Component::Normal(name)) => resolved.push(name),
            Some(Component::ParentDir) => {
                resolved.pop();
                continue;
            }
            Some(Component::RootDir) => {
                resolved = "/".into();
                continue;
            }
            _ => continue,
        }
        // Links on the way to the store itself are none of its own.
        let inside = resolved.to_str().is_some_and(|text| dir.contains(text));
        if let (true, Ok(target)) = (inside, std::fs::read_link(real(dir, local, &resolved))) {
            links += 1;
            if links > MOST_LINKS {
                return Err(CliError::failed(format!("too many symbolic links in '{}'", path.display())));
            }
            resolved.pop();
            for component in target.components().rev() {
                todo.push_front(component.as_os_str().into());
            }
        }
    }
    match resolved.to_str().is_some_and(|text| dir.contains(text)) {
        true => Ok(resolved),
        false => Err(CliError::failed(format!("path '{}' is not in the Nix store", resolved.display()))),
    }
}
