//! Errors as the user sees them: trace, message, place and source excerpt, in the reference's layout.

use crate::error::{EvalError, Trace, TraceKind};
use crate::host::EvalHost;
use crate::source::{Origin, Place, Pos};
use firn_syntax::diagnostics::excerpt;
use std::collections::HashSet;
use std::io::Write;

const RED: &str = "\x1b[31;1m";
const BLUE: &str = "\x1b[34;1m";
const MAGENTA: &str = "\x1b[35;1m";
const NORMAL: &str = "\x1b[0m";
/// Trace steps that are shown without `--show-trace`; a step with a place counts twice.
const SHORT_TRACE: usize = 3;
/// Repeated steps are shown up to this many.
const REPEATS: usize = 5;

/// The whole text of an error, with colours, without a line break at its end.
pub fn render_error(error: &EvalError, host: &dyn EvalHost, show_trace: bool) -> Vec<u8> {
    let mut body = Vec::new();
    let traces = error.traces();
    let prefix = format!("{RED}error:{NORMAL} ");
    let shown: Vec<(Vec<u8>, Trace)> =
        traces.into_iter().map(|t| (text_of(&t), t)).filter(|(text, _)| !text.is_empty()).collect();
    if !shown.is_empty() {
        Traces { host, show_trace, out: &mut body, count: 0 }.print(&shown);
        body.push(b'\n');
        body.extend_from_slice(prefix.as_bytes());
    }
    body.extend_from_slice(error.message_bytes());
    body.push(b'\n');
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

fn text_of(trace: &Trace) -> Vec<u8> {
    match &trace.what {
        TraceKind::Context(text) => text.to_vec(),
        other => other.to_string().into_bytes(),
    }
}

/// The text of a warning after its `warning: `: message, place and source excerpt.
pub(crate) fn render_warning(message: &str, pos: Pos, host: &dyn EvalHost) -> String {
    let mut body = format!("{message}\n").into_bytes();
    print_place(&mut body, "", pos, host);
    String::from_utf8_lossy(&indent("", "         ", &body)).into_owned()
}

fn indent(first: &str, rest: &str, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 2);
    for (i, line) in text.trim_ascii_end().split(|c| *c == b'\n').enumerate() {
        if i > 0 {
            out.push(b'\n');
        }
        let whole = [if i == 0 { first } else { rest }.as_bytes(), line].concat();
        out.extend_from_slice(whole.trim_ascii_end());
    }
    out
}

/// A place as messages name it.
pub fn shown_place(pos: Pos, host: &dyn EvalHost) -> Option<Place> {
    let mut place = pos.place(host)?;
    if let Origin::Path(path) = &mut place.origin
        && let Some(shown) = host.shown_path(path)
    {
        *path = shown;
    }
    Some(place)
}

/// The steps that led to an error, the last one first.
pub fn error_steps(error: &EvalError, host: &dyn EvalHost) -> Vec<(Vec<u8>, Option<Place>)> {
    let traces = error.traces().into_iter().rev();
    let steps = traces.map(|trace| (text_of(&trace), shown_place(trace.pos, host)));
    steps.filter(|(text, _)| !text.is_empty()).collect()
}

fn print_place(out: &mut Vec<u8>, margin: &str, pos: Pos, host: &dyn EvalHost) -> bool {
    let (Some(place), Some(shown)) = (pos.place(host), shown_place(pos, host)) else { return false };
    let _ = write!(out, "{margin}{BLUE}at {MAGENTA}{}{NORMAL}:", shown.display());
    if let Some(lines) = code_excerpt(pos, host, &place) {
        out.extend_from_slice(&lines);
        out.push(b'\n');
    }
    true
}

/// The line of a place with those around it, each after a line break.
pub fn code_excerpt(pos: Pos, host: &dyn EvalHost, place: &Place) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let text = pos.text(host)?;
    let lines = excerpt(&text, place.line);
    let mut line = |number: u32, text: Option<Vec<u8>>| {
        if let Some(text) = text {
            let _ = write!(out, "\n {number:5}| ");
            out.extend_from_slice(&text);
            if number == place.line && place.column > 0 {
                let _ = write!(out, "\n      |{}{RED}^{NORMAL}", " ".repeat(place.column as usize));
            }
        }
    };
    line(place.line.wrapping_sub(1), lines.before);
    line(place.line, lines.line);
    line(place.line + 1, lines.after);
    Some(out)
}

struct Traces<'a> {
    host: &'a dyn EvalHost,
    show_trace: bool,
    out: &'a mut Vec<u8>,
    count: usize,
}

impl Traces<'_> {
    fn print(&mut self, traces: &[(Vec<u8>, Trace)]) {
        let mut seen: HashSet<(&[u8], Pos)> = HashSet::new();
        let mut skipped: Vec<&(Vec<u8>, Trace)> = Vec::new();
        let mut truncated = false;
        for entry in traces {
            let (text, trace) = (entry.0.as_slice(), &entry.1);
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

    fn step(&mut self, text: &[u8], pos: Pos) {
        let _ = write!(self.out, "\n… ");
        self.out.extend_from_slice(text);
        self.out.push(b'\n');
        if print_place(self.out, "  ", pos, self.host) {
            self.count += 1;
        }
    }

    fn skipped(&mut self, skipped: &mut Vec<&(Vec<u8>, Trace)>) {
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
