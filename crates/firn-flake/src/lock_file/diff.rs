//! What changed from one lock file to another, for people.

use super::{Edge, LockFile};
use firn_core::date::date;
use firn_core::flake_ref::FlakeRef;
use std::fmt::Write;

const GREEN: &str = "\x1b[32;1m";
const RED: &str = "\x1b[31;1m";
const BOLD: &str = "\x1b[1m";
const NORMAL: &str = "\x1b[0m";

fn reference(reference: &FlakeRef) -> String {
    let shown = format!("'{}'", reference.shown());
    match reference.input.number("lastModified") {
        Some(time) => format!("{shown} ({})", date(time)),
        None => shown,
    }
}

impl LockFile {
    fn describe(&self, edge: &Edge) -> String {
        match edge {
            Edge::Follows(path) => format!("follows '{path}'"),
            Edge::Node(id) => {
                self.node(*id).locked.as_ref().map_or_else(String::new, |locked| reference(&locked.locked))
            }
        }
    }

    fn is_same(&self, edge: &Edge, other: &LockFile, other_edge: &Edge) -> bool {
        match (edge, other_edge) {
            (Edge::Follows(a), Edge::Follows(b)) => a == b,
            (Edge::Node(a), Edge::Node(b)) => {
                let (a, b) = (&self.node(*a).locked, &other.node(*b).locked);
                a.as_ref().map(|locked| &locked.locked) == b.as_ref().map(|locked| &locked.locked)
            }
            _ => false,
        }
    }

    /// What is new, gone or other in `new`, in lines with colours.
    pub fn diff(&self, new: &LockFile) -> String {
        let (before, after) = (self.all_inputs(), new.all_inputs());
        let mut paths: Vec<_> = before.keys().chain(after.keys()).collect();
        paths.sort();
        paths.dedup();
        let mut out = String::new();
        for path in paths {
            let _ = match (before.get(path), after.get(path)) {
                (None, Some(edge)) => {
                    writeln!(out, "• {GREEN}Added input '{path}':{NORMAL}\n    {}", new.describe(edge))
                }
                (Some(_), None) => writeln!(out, "• {RED}Removed input '{path}'{NORMAL}"),
                (Some(old), Some(edge)) if !self.is_same(old, new, edge) => writeln!(
                    out,
                    "• {BOLD}Updated input '{path}':{NORMAL}\n    {}\n  → {}",
                    self.describe(old),
                    new.describe(edge)
                ),
                _ => Ok(()),
            };
        }
        out
    }
}
