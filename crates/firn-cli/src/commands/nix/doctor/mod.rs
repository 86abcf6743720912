//! `firn doctor`: looks at everything that can be wrong with an installation, and says what to do.

mod builds;
mod network;
mod store;
mod user;

use super::{NixCommand, json_text};
use crate::args::{FlagSink, Values};
use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_settings::ExperimentalFeature;
use serde_json::json;
use std::io::IsTerminal;

/// The command as it was written.
#[derive(Default)]
pub struct Doctor {
    json: bool,
    pretty: Option<bool>,
    offline: bool,
}

impl FlagSink for Doctor {
    fn flag(&mut self, flag: &str, _: &mut Values) -> CliResult<bool> {
        match flag {
            "--json" => self.json = true,
            "--pretty" => self.pretty = Some(true),
            "--no-pretty" => self.pretty = Some(false),
            "--no-network" => self.offline = true,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Good,
    /// Works, but is worth a look.
    Note,
    Bad,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Bad => "bad",
        }
    }
}

struct Finding {
    area: &'static str,
    level: Level,
    text: String,
    /// What to do about it.
    advice: Option<String>,
}

/// What was found so far.
pub(super) struct Report {
    area: &'static str,
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, level: Level, text: impl Into<String>, advice: Option<String>) {
        self.findings.push(Finding { area: self.area, level, text: text.into(), advice });
    }

    fn good(&mut self, text: impl Into<String>) {
        self.add(Level::Good, text, None);
    }

    fn note(&mut self, text: impl Into<String>, advice: impl Into<String>) {
        self.add(Level::Note, text, Some(advice.into()));
    }

    fn bad(&mut self, text: impl Into<String>, advice: impl Into<String>) {
        self.add(Level::Bad, text, Some(advice.into()));
    }
}

/// An area with what looks at it.
type Area = (&'static str, fn(&Context, &mut Report));

const AREAS: &[Area] = &[
    ("programs and settings", user::look),
    ("store", store::look),
    ("builds", builds::look),
    ("network", network::look),
];

impl NixCommand for Doctor {
    fn feature(&self) -> Option<ExperimentalFeature> {
        None
    }

    fn run(self: Box<Self>, context: &Context) -> CliResult<u8> {
        let mut report = Report { area: "", findings: Vec::new() };
        for (area, look) in AREAS {
            if self.offline && *area == "network" {
                continue;
            }
            let from = report.findings.len();
            report.area = area;
            look(context, &mut report);
            if !self.json {
                // Area by area: some take a moment.
                context.print(shown(area, &report.findings[from..]).as_bytes())?;
            }
        }
        let count = |level| report.findings.iter().filter(|finding| finding.level == level).count();
        let (bad, notes) = (count(Level::Bad), count(Level::Note));
        if self.json {
            let findings: Vec<_> = report
                .findings
                .iter()
                .map(|f| json!({"area": f.area, "level": f.level.word(), "text": f.text, "advice": f.advice}))
                .collect();
            context.print_line(json_text(&json!(findings), self.pretty))?;
        } else {
            let line = match (bad, notes) {
                (0, 0) => "All is well.".to_owned(),
                (0, notes) => format!("Nothing is broken; {notes} to look at."),
                (bad, notes) => format!("{bad} broken, {notes} to look at."),
            };
            context.print_line(line)?;
        }
        match bad {
            0 => Ok(0),
            _ => Err(CliError::Exit(1)),
        }
    }
}

fn shown(area: &str, findings: &[Finding]) -> String {
    let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut text = format!("{area}\n");
    for finding in findings {
        let (colour, word) = match finding.level {
            Level::Good => ("32", "ok  "),
            Level::Note => ("33", "note"),
            Level::Bad => ("31;1", "BAD "),
        };
        let word = if colours { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() };
        text.push_str(&format!("  {word}  {}\n", finding.text));
        for line in finding.advice.iter().flat_map(|advice| advice.lines()) {
            text.push_str(&format!("        -> {line}\n"));
        }
    }
    text
}
