//! `nix-channel`: package sets that are fetched by URL and kept in a profile.

use crate::args::{FlagSink, Values, text};
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult};
use crate::exec::own_program;
use firn_fetch::Fetcher;
use firn_profile::{dirs, generations};
use firn_store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const HELP: &str = "
Usage: nix-channel {--add URL [NAME] | --remove NAME | --list | --update [NAMES...] | --list-generations | --rollback [N]}

Subscribes to package sets: their archives are fetched into the store, and are in the search path and in
~/.nix-defexpr afterwards.

  --add URL [NAME]    subscribe to a channel; the name otherwise comes from the URL
  --remove NAME       end that
  --list              list channels: name and URL
  --update [NAMES]    fetch the newest version of all or some channels
  --list-generations  list what the channels were after each update
  --rollback [N]      undo the last update, or go to generation N
";

/// The expression that unpacks a channel.
const UNPACK: &str = "{ name, channelName, src }:
derivation {
  builder = \"builtin:unpack-channel\";
  system = \"builtin\";
  inherit name channelName src;
  preferLocalBuild = true;
}
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Add,
    Remove,
    List,
    Update,
    ListGenerations,
    Rollback,
}

#[derive(Default)]
struct Line {
    operation: Option<Operation>,
    args: Vec<String>,
}

impl FlagSink for Line {
    fn flag(&mut self, flag: &str, _: &mut Values) -> CliResult<bool> {
        self.operation = Some(match flag {
            "--add" => Operation::Add,
            "--remove" => Operation::Remove,
            "--list" => Operation::List,
            "--update" => Operation::Update,
            "--list-generations" => Operation::ListGenerations,
            "--rollback" => Operation::Rollback,
            _ => return Err(CliError::usage(format!("unsupported argument '{flag}'"))),
        });
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.args.push(text("argument", arg)?);
        Ok(())
    }
}

/// URLs by name.
type Channels = BTreeMap<String, String>;

/// Where everything of the channels is.
struct Places {
    list: PathBuf,
    profile: PathBuf,
}

pub fn main(start: Start) -> CliResult<u8> {
    let mut line = Line::default();
    let context = start.parse(&mut line, HELP)?;
    let settings = &context.settings;
    let list = match settings.use_xdg_base_directories {
        true => dirs::state_home(settings)?.join("channels"),
        false => settings.dirs.require_home()?.join(".nix-channels"),
    };
    let places = Places { list, profile: dirs::channels(settings)? };
    let args: Vec<&str> = line.args.iter().map(String::as_str).collect();
    match (line.operation, &args[..]) {
        (None, _) => return Err(CliError::usage("no command specified")),
        (Some(Operation::Add), [url]) => add(&places, url, name_of(url))?,
        (Some(Operation::Add), [url, name]) => add(&places, url, name)?,
        (Some(Operation::Add), _) => return Err(CliError::usage("'--add' requires one or two arguments")),
        (Some(Operation::Remove), [name]) => {
            let mut channels = places.read()?;
            channels.remove(*name);
            places.write(&channels)?;
            let profile = places.profile.as_os_str();
            own_program(
                &context,
                "nix-env",
                &["--profile".as_ref(), profile, "--uninstall".as_ref(), name.as_ref()],
            )?;
        }
        (Some(Operation::Remove), _) => return Err(CliError::usage("'--remove' requires one argument")),
        (Some(Operation::List), []) => {
            let lines: String = places.read()?.iter().map(|(name, url)| format!("{name} {url}\n")).collect();
            context.print(lines.as_bytes())?;
        }
        (Some(Operation::List), _) => return Err(CliError::usage("'--list' expects no arguments")),
        (Some(Operation::Update), names) => update(&context, &places, &names.iter().copied().collect())?,
        (Some(Operation::ListGenerations), []) => {
            let profile = places.profile.as_os_str();
            own_program(
                &context,
                "nix-env",
                &["--profile".as_ref(), profile, "--list-generations".as_ref()],
            )?;
        }
        (Some(Operation::ListGenerations), _) => {
            return Err(CliError::usage("'--list-generations' expects no arguments"));
        }
        (Some(Operation::Rollback), target) => {
            let mut args: Vec<&OsStr> = vec!["--profile".as_ref(), places.profile.as_os_str()];
            match target {
                [] => args.push("--rollback".as_ref()),
                [number] => args.extend(["--switch-generation".as_ref(), OsStr::new(*number)]),
                _ => return Err(CliError::usage("'--rollback' has at most one argument")),
            }
            own_program(&context, "nix-env", &args)?;
        }
    }
    Ok(0)
}

/// The last part of a URL, without what says how stable it is.
fn name_of(url: &str) -> &str {
    let name = base_name(url);
    let name = name.strip_suffix("-unstable").unwrap_or(name);
    name.strip_suffix("-stable").unwrap_or(name)
}

fn base_name(url: &str) -> &str {
    url.trim_end_matches('/').rsplit('/').next().unwrap_or(url)
}

fn add(places: &Places, url: &str, name: &str) -> CliResult<()> {
    if !["file://", "http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(CliError::failed(format!("invalid channel URL '{url}'")));
    }
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let is_name =
        name.bytes().next().is_some_and(word) && name.bytes().all(|c| word(c) || matches!(c, b'.' | b'-'));
    if !is_name {
        return Err(CliError::failed(format!("invalid channel identifier '{name}'")));
    }
    let mut channels = places.read()?;
    channels.insert(name.to_owned(), url.to_owned());
    places.write(&channels)
}

impl Places {
    fn read(&self) -> CliResult<Channels> {
        let text = match std::fs::read_to_string(&self.list) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Channels::new()),
            Err(e) => return Err(CliError::io("reading", &self.list)(e)),
        };
        let mut channels = Channels::new();
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let mut words = line.split_whitespace();
            let Some(url) = words.next() else { continue };
            let url = url.trim_end_matches('/');
            channels.insert(words.next().unwrap_or(base_name(url)).to_owned(), url.to_owned());
        }
        Ok(channels)
    }

    /// Replaces the list in one step; a list that is a link stays one.
    fn write(&self, channels: &Channels) -> CliResult<()> {
        let text: String = channels.iter().map(|(name, url)| format!("{url} {name}\n")).collect();
        let file = std::fs::canonicalize(&self.list).unwrap_or_else(|_| self.list.clone());
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(CliError::io("creating directory", folder))?;
        }
        let mut temporary = file.clone().into_os_string();
        temporary.push(format!(".tmp-{}", std::process::id()));
        std::fs::write(&temporary, text).map_err(CliError::io("writing", &temporary))?;
        std::fs::rename(&temporary, &file).map_err(CliError::io("writing", file))
    }
}

fn update(context: &Context, places: &Places, names: &BTreeSet<&str>) -> CliResult<()> {
    let store = context.store()?;
    let settings = &context.settings;
    // Updating is asking for what is new: what was fetched before is only taken if the server says that it is the same.
    let cache = settings.dirs.cache_home.clone();
    let client = context.http_client().clone();
    let fetcher = Fetcher::new(
        Arc::clone(&store),
        client,
        Arc::clone(&context.logger),
        cache,
        0,
        firn_fetch::Dirty::Warn,
    );
    let folder = tempfile::tempdir().map_err(CliError::io("creating a folder in", std::env::temp_dir()))?;
    let unpack = folder.path().join("unpack-channel.nix");
    std::fs::write(&unpack, UNPACK).map_err(CliError::io("writing", &unpack))?;
    let channels = places.read()?;
    let mut expressions: Vec<OsString> = Vec::new();
    for (name, url) in &channels {
        let full_name = format!("{name}{}", version_of(url));
        let expression = match names.is_empty() || names.contains(name.as_str()) {
            true => fetched(context, &*store, &fetcher, (name, &full_name), url)?,
            false => kept(&places.profile, (name, &full_name))?,
        };
        expressions.push(expression.into());
    }
    eprint(context, &format!("unpacking {} channels...", expressions.len()));
    let mut args: Vec<&OsStr> = vec![
        "--profile".as_ref(),
        places.profile.as_os_str(),
        "--file".as_ref(),
        unpack.as_os_str(),
        "--install".as_ref(),
        "--remove-all".as_ref(),
        "--from-expression".as_ref(),
    ];
    args.extend(expressions.iter().map(OsString::as_os_str));
    args.push("--quiet".as_ref());
    own_program(context, "nix-env", &args)?;
    // Where nix-env looks for packages; long ago this was a link to a file.
    let expressions = dirs::default_expression(settings)?;
    if expressions.is_symlink() {
        std::fs::remove_file(&expressions).map_err(CliError::io("removing", &expressions))?;
    }
    std::fs::create_dir_all(&expressions).map_err(CliError::io("creating directory", &expressions))?;
    generations::switch_link(&expressions.join("channels"), &places.profile)?;
    Ok(())
}

fn eprint(context: &Context, text: &str) {
    context.logger.log(firn_store::activity::Verbosity::Error, text.as_bytes());
}

/// What follows the first dash before a digit in the URL's last part.
fn version_of(url: &str) -> &str {
    let name = base_name(url);
    let dash = name.as_bytes().windows(2).position(|pair| pair[0] == b'-' && pair[1].is_ascii_digit());
    dash.map_or("", |at| &name[at..])
}

/// The expression for a channel as it is in the profile.
fn kept(profile: &Path, (name, full_name): (&str, &str)) -> CliResult<String> {
    let link = profile.join(name);
    let target = std::fs::read_link(&link).map_err(CliError::io("reading symbolic link", &link))?;
    let path = target.parent().unwrap_or(&target).display();
    Ok(format!(
        "f: rec {{ name = \"{full_name}\"; type = \"derivation\"; outputs = [\"out\"]; system = \"builtin\"; \
         outPath = builtins.storePath \"{path}\"; out = {{ inherit outPath; }};}}"
    ))
}

/// Fetches a channel: the URL is an archive, or a folder with one.
fn fetched(
    context: &Context,
    store: &dyn Store,
    fetcher: &Fetcher,
    (name, full_name): (&str, &str),
    url: &str,
) -> CliResult<String> {
    let download = |url: &str, name: &str| {
        let got = context.block_on(fetcher.download_file(url, name, &[]))?;
        got.map_err(|e| CliError::failed(e.to_string()))
    };
    let is_archive =
        |name: &str| [".tar.gz", ".tar.bz2", ".tar.xz"].iter().any(|ending| name.ends_with(ending));
    let file = match is_archive(base_name(url)) {
        true => download(url, base_name(url))?,
        false => {
            // The server may send us on; everything of the channel comes from that one place.
            let place = match url.starts_with("file://") {
                true => url.to_owned(),
                false => {
                    download(url, base_name(url)).map_or_else(|_| url.to_owned(), |got| got.effective_url)
                }
            };
            let place = place.trim_end_matches('/');
            match download(&format!("{place}/nixexprs.tar.xz"), "nixexprs.tar.xz") {
                Ok(file) => file,
                Err(_) => download(&format!("{place}/nixexprs.tar.bz2"), "nixexprs.tar.bz2")?,
            }
        }
    };
    let src = store.store_dir().display(&file.store_path);
    Ok(format!(
        "f: f {{ name = \"{full_name}\"; channelName = \"{name}\"; src = builtins.storePath \"{src}\";  }}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(name_of("https://nixos.org/channels/nixpkgs-unstable"), "nixpkgs");
        assert_eq!(name_of("https://x/nixos-23.05-stable/"), "nixos-23.05");
        assert_eq!(version_of("https://x/nixos-23.05"), "-23.05");
        assert_eq!(version_of("https://x/nixos"), "");
    }
}
