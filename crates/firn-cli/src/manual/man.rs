//! Manual pages, in the language of man(7).

use super::flags::{COMMON, Group};
use super::groups_of;
use super::render::{Row, head};
use crate::error::{CliError, CliResult};
use std::fmt::Write;
use std::path::Path;

/// All pages: file names with their text. `rows` are the commands of `nix`, `programs` the older programs with the
/// text of their help.
pub fn pages(rows: &[Row<'_>], programs: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pages = vec![("nix.1".to_owned(), overview(rows))];
    for (path, usage, summary) in rows {
        let name = format!("nix {}", path.join(" "));
        // As in Nix, so that `nix build` and `nix-build` each have a page.
        let page = format!("nix3-{}", path.join("-"));
        let mut out = start(&page, summary);
        let _ = writeln!(out, ".SH SYNOPSIS\n.B {}\n[\\fIoption\\fR]... {}", escape(&name), escape(usage));
        out.push_str(".SH OPTIONS\n");
        for group in groups_of(path).unwrap_or_default() {
            options(&mut out, group);
        }
        options(&mut out, &COMMON);
        pages.push((format!("{page}.1"), out));
    }
    for (name, help) in programs {
        pages.push((format!("{name}.1"), program(name, help)));
    }
    pages
}

/// Writes all pages to the folder `man1` below `folder`; gives how many there are.
pub fn write_pages(folder: &Path, pages: &[(String, String)]) -> CliResult<usize> {
    let folder = folder.join("man1");
    std::fs::create_dir_all(&folder).map_err(CliError::io("creating directory", &folder))?;
    for (name, text) in pages {
        let file = folder.join(name);
        std::fs::write(&file, text).map_err(CliError::io("writing", &file))?;
    }
    Ok(pages.len())
}

/// Backslashes, dashes and leading dots mean something to man.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

fn start(name: &str, summary: &str) -> String {
    let title = name.to_uppercase();
    format!(
        ".TH {} 1 \"\" \"firn {}\" \"\"\n.SH NAME\n{} \\- {}\n",
        escape(&title),
        env!("CARGO_PKG_VERSION"),
        escape(name),
        escape(summary)
    )
}

fn options(out: &mut String, group: &Group) {
    let _ = writeln!(out, ".SS {}", escape(group.title));
    for flag in group.flags {
        let _ = writeln!(out, ".TP\n.B {}\n{}", escape(&head(flag)), escape(flag.text));
    }
}

fn overview(rows: &[Row<'_>]) -> String {
    let mut out = start("nix", "build, fetch, run and look at packages");
    out.push_str(
        ".SH SYNOPSIS\n.B nix\n[\\fIoption\\fR]... \\fIcommand\\fR [\\fIargument\\fR]...\n.SH COMMANDS\n",
    );
    for (path, usage, summary) in rows {
        let _ = writeln!(
            out,
            ".TP\n.B nix {}\n{}. Arguments: {}",
            escape(&path.join(" ")),
            escape(summary),
            escape(if usage.is_empty() { "none" } else { usage })
        );
    }
    out.push_str(".SH OPTIONS\n");
    options(&mut out, &COMMON);
    out
}

/// The page of an older program is its help, as it is laid out.
fn program(name: &str, help: &str) -> String {
    let help = help.trim();
    let (usage, rest) = help.split_once("\n\n").unwrap_or((help, ""));
    let usage = usage.trim_start_matches("Usage: ");
    let summary = rest.split(['.', '\n']).next().unwrap_or_default().trim().to_lowercase();
    let mut out = start(name, if summary.is_empty() { name } else { &summary });
    for (title, text) in [("SYNOPSIS", usage), ("DESCRIPTION", rest)] {
        if !text.is_empty() {
            let _ = writeln!(out, ".SH {title}\n.nf");
            for line in text.lines() {
                let _ = writeln!(out, "{}", escape(line));
            }
            out.push_str(".fi\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_commands_and_programs() {
        let rows: &[Row<'_>] = &[(&["store", "gc"], "", "delete what no root needs")];
        let all =
            pages(rows, &[("nix-env", "\nUsage: nix-env OPERATION\n\nChanges profiles. More.\n\n  .x -y\n")]);
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["nix.1", "nix3-store-gc.1", "nix-env.1"]);
        let text = &all[1].1;
        assert!(
            text.contains(".B \\-\\-max BYTES\n") && text.contains("nix3\\-store\\-gc \\- delete"),
            "{text}"
        );
        let text = &all[2].1;
        assert!(
            text.contains("nix\\-env \\- changes profiles\n.SH SYNOPSIS\n.nf\nnix\\-env OPERATION\n"),
            "{text}"
        );
        assert_eq!(escape(".x"), "\\&.x");
    }
}
