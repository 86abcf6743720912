//! Operations that collect garbage.

use super::paths::follow_links;
use super::{Line, unknown_flag};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_store::copy::shown_uri;
use firn_store::{GcAction, GcOptions, GcResults, Store};
use std::collections::BTreeSet;

pub fn gc(context: &Context, line: Line) -> CliResult<u8> {
    let mut print_roots = false;
    let mut options = gc_options(GcAction::DeleteDead);
    let mut flags = line.flags.iter();
    while let Some(flag) = flags.next() {
        match flag.to_str() {
            Some("--print-roots") => print_roots = true,
            Some("--print-live") => options.action = GcAction::ReturnLive,
            Some("--print-dead") => options.action = GcAction::ReturnDead,
            Some("--max-freed") => {
                let value = flags.next().map(|value| value.to_string_lossy().into_owned());
                options.max_freed = size("--max-freed", &value.unwrap_or_default())?;
            }
            _ => {
                let shown = flag.to_string_lossy();
                return Err(CliError::usage(format!("bad sub-operation '{shown}' in GC")));
            }
        }
    }
    line.no_args()?;
    if options.max_freed != u64::MAX && (options.action != GcAction::DeleteDead || print_roots) {
        return Err(CliError::usage(
            "option --max-freed cannot be combined with --print-live, --print-dead, or --print-roots",
        ));
    }
    if print_roots {
        return self::print_roots(context);
    }
    collect(context, &options, Report::Listed)
}

pub fn delete(context: &Context, line: Line) -> CliResult<u8> {
    let mut options = gc_options(GcAction::DeleteSpecific);
    for flag in &line.flags {
        match flag.to_str() {
            Some("--ignore-liveness") => options.ignore_liveness = true,
            _ => return Err(unknown_flag(flag)),
        }
    }
    let store = context.store()?;
    let paths = line.args.iter().map(|arg| follow_links(store.store_dir(), arg));
    options.paths_to_delete = paths.collect::<CliResult<_>>()?;
    collect(context, &options, Report::Listed)
}

/// A collection without limits.
pub fn gc_options(action: GcAction) -> GcOptions {
    GcOptions { action, ignore_liveness: false, paths_to_delete: BTreeSet::new(), max_freed: u64::MAX }
}

/// How paths that would only be deleted are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Listed,
    Counted,
}

fn no_garbage(store: &dyn Store) -> CliError {
    CliError::failed(format!("Garbage collection not supported by store '{}'", shown_uri(store)))
}

/// Collects and prints what came of it, as far as it came.
pub fn collect(context: &Context, options: &GcOptions, report: Report) -> CliResult<u8> {
    let mut results = GcResults::default();
    let store = context.store()?;
    let outcome = match (context.local_store(), store.as_gc()) {
        (Ok(local), _) => local.collect(options, &mut results),
        (_, Some(gc)) => context.block_on(gc.collect_garbage(options))?.map(|all| results = all),
        _ => return Err(no_garbage(&*store)),
    };
    match options.action {
        GcAction::ReturnDead if report == Report::Counted => {
            context.print_line(format!("{} store paths would be deleted", results.paths.len()))?;
        }
        GcAction::ReturnLive | GcAction::ReturnDead => {
            let lines: String = results.paths.iter().map(|path| format!("{path}\n")).collect();
            context.print(lines.as_bytes())?;
        }
        _ => context.print_line(format!(
            "{} store paths deleted, {} freed",
            results.paths.len(),
            render_size(results.bytes_freed)
        ))?,
    }
    outcome?;
    Ok(0)
}

fn print_roots(context: &Context) -> CliResult<u8> {
    let store = context.store()?;
    let gc = store.as_gc().ok_or_else(|| no_garbage(&*store))?;
    let roots = context.block_on(gc.find_roots(false))??;
    let mut lines: Vec<(String, String)> = Vec::new();
    for (target, links) in roots {
        lines.extend(links.into_iter().map(|link| (link, store.store_dir().display(&target))));
    }
    lines.sort();
    // The reference prints the link in quotes here, and only here.
    let text: String = lines
        .iter()
        .map(|(link, target)| {
            format!("\"{}\" -> {target}\n", link.replace('\\', "\\\\").replace('"', "\\\""))
        })
        .collect();
    context.print(text.as_bytes())?;
    Ok(0)
}

/// A number of bytes with an optional unit K, M, G or T; what is below 0 counts as 0.
fn size(flag: &str, text: &str) -> CliResult<u64> {
    let bad = || CliError::usage(format!("'{flag}' requires an integer argument"));
    let (digits, shift) = match text.chars().last().map(|c| c.to_ascii_uppercase()) {
        Some('K') => (&text[..text.len() - 1], 10),
        Some('M') => (&text[..text.len() - 1], 20),
        Some('G') => (&text[..text.len() - 1], 30),
        Some('T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: i64 = digits.parse().map_err(|_| bad())?;
    let number = u64::try_from(number).unwrap_or(0);
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// A number of bytes for people.
pub fn render_size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("x", "2K").ok(), Some(2048));
        assert_eq!(size("x", "-5").ok(), Some(0));
        assert!(size("x", "").is_err() && size("x", "99999999T").is_err());
        assert_eq!((render_size(0), render_size(3 << 20)), ("0.0 KiB".into(), "3.0 MiB".into()));
    }
}
