//! Errors as the user sees them: trace, message, place and source excerpt, in the reference's layout.

use crate::error::{EvalError, Trace, TraceKind};
use crate::host::EvalHost;
use crate::source::Pos;
use firn_syntax::diagnostics::excerpt;
use std::collections::HashSet;
use std::fmt::Write;

const RED: &str = "\x1b[31;1m";
const BLUE: &str = "\x1b[34;1m";
const MAGENTA: &str = "\x1b[35;1m";
const NORMAL: &str = "\x1b[0m";
/// Trace steps that are shown without `--show-trace`; a step with a place counts twice.
const SHORT_TRACE: usize = 3;
/// Repeated steps are shown up to this many.
const REPEATS: usize = 5;

/// The whole text of an error, with colours, without a line break at its end.
pub fn render_error(error: &EvalError, host: &dyn EvalHost, show_trace: bool) -> String {
    let mut body = String::new();
    let traces = error.traces();
    let prefix = format!("{RED}error:{NORMAL} ");
    let shown: Vec<(String, &Trace)> =
        traces.into_iter().map(|t| (t.what.to_string(), t)).filter(|(text, _)| !text.is_empty()).collect();
    if !shown.is_empty() {
        Traces { host, show_trace, out: &mut body, count: 0 }.print(&shown);
        body.push('\n');
        body.push_str(&prefix);
    }
    body.push_str(error.message());
    body.push('\n');
    print_place(&mut body, "", error.pos(), host);
    let suggestions = error.suggestions();
    match suggestions {
        [] => {}
        [only] => {
            let _ = writeln!(body, "Did you mean {only}?");
        }
        [first @ .., last] => {
            let _ = writeln!(body, "Did you mean one of {} or {last}?", first.join(", "));
        }
    }
    indent(&prefix, "       ", &body)
}

fn indent(first: &str, rest: &str, text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for (i, line) in text.trim_end().split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let mut whole = String::from(if i == 0 { first } else { rest });
        whole.push_str(line);
        out.push_str(whole.trim_end());
    }
    out
}

fn print_place(out: &mut String, margin: &str, pos: Pos, host: &dyn EvalHost) -> bool {
    let Some(place) = pos.place(host) else { return false };
    if place.origin == crate::source::Origin::Internal {
        return false;
    }
    let _ = write!(out, "{margin}{BLUE}at {MAGENTA}{}{NORMAL}:", place.display());
    if let Some(text) = pos.text(host) {
        let lines = excerpt(&text, place.line);
        if let Some(before) = lines.before {
            let _ = write!(out, "\n {:5}| {before}", place.line - 1);
        }
        if let Some(line) = lines.line {
            let _ = write!(out, "\n {:5}| {line}", place.line);
            if place.column > 0 {
                let _ = write!(out, "\n      |{}{RED}^{NORMAL}", " ".repeat(place.column as usize));
            }
        }
        if let Some(after) = lines.after {
            let _ = write!(out, "\n {:5}| {after}", place.line + 1);
        }
        out.push('\n');
    }
    true
}

struct Traces<'a> {
    host: &'a dyn EvalHost,
    show_trace: bool,
    out: &'a mut String,
    count: usize,
}

impl Traces<'_> {
    fn print(&mut self, traces: &[(String, &Trace)]) {
        let mut seen: HashSet<(&str, Pos)> = HashSet::new();
        let mut skipped: Vec<&(String, &Trace)> = Vec::new();
        let mut truncated = false;
        for entry in traces {
            let (text, trace) = (entry.0.as_str(), entry.1);
            truncated |= !self.show_trace && self.count > SHORT_TRACE;
            if truncated && !matches!(trace.what, TraceKind::Context(_)) {
                continue;
            }
            if !seen.insert((text, trace.pos)) {
                skipped.push(entry);
                continue;
            }
            self.skipped(&mut skipped);
            self.count += 1;
            self.step(text, trace.pos);
        }
        self.skipped(&mut skipped);
        if truncated {
            let _ = writeln!(
                self.out,
                "\n{MAGENTA}(stack trace truncated; use '--show-trace' to show the full, detailed trace){NORMAL}"
            );
        }
    }

    fn step(&mut self, text: &str, pos: Pos) {
        let _ = writeln!(self.out, "\n… {text}");
        if print_place(self.out, "  ", pos, self.host) {
            self.count += 1;
        }
    }

    fn skipped(&mut self, skipped: &mut Vec<&(String, &Trace)>) {
        if skipped.len() <= REPEATS {
            for (text, trace) in skipped.drain(..) {
                self.step(text, trace.pos);
            }
        } else {
            let count = skipped.len();
            let _ = writeln!(self.out, "\n{MAGENTA}({count} duplicate frames omitted){NORMAL}");
            skipped.clear();
        }
    }
}
