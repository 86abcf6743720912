//! Where lines come from: an editor with history on a terminal, plain lines elsewhere.

use super::completion::Completer;
use super::highlight::highlight;
use crate::error::{CliError, CliResult};
use rustyline::completion::Pair;
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Context, Editor, Helper, Hinter};
use std::borrow::Cow;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

const PROMPT: &str = "nix-repl> ";
const MORE: &str = "        > ";

/// What was typed.
pub enum Line {
    Text(String),
    /// Ctrl-C: what was typed so far is forgotten.
    Cancelled,
    End,
}

/// What is typed until it is whole, without the blanks around it; nothing at the end. `next` reads a line, and is told
/// whether it continues another one; `goes_on` says whether a text is the beginning of something longer.
pub fn whole_text(
    mut next: impl FnMut(bool) -> CliResult<Line>,
    goes_on: impl Fn(&str) -> bool,
) -> CliResult<Option<String>> {
    let mut input = String::new();
    loop {
        match next(!input.is_empty())? {
            Line::End => return Ok(None),
            Line::Cancelled => {
                input.clear();
                continue;
            }
            Line::Text(line) => input.push_str(&line),
        }
        let text = input.trim();
        if !goes_on(text) {
            return Ok(Some(text.to_owned()));
        }
        input.push('\n');
    }
}

/// A source of lines.
pub enum Lines<C: Completer> {
    Terminal { editor: Box<Editor<Assistant<C>, rustyline::history::FileHistory>>, history: Option<PathBuf> },
    Plain { echo: bool },
}

/// What helps while a line is typed.
#[derive(Helper, Hinter)]
pub struct Assistant<C: Completer>(C);

impl<C: Completer> Lines<C> {
    /// Lines of the standard input. `history` is kept between runs.
    pub fn new(completer: C, history: Option<PathBuf>) -> CliResult<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Ok(Self::Plain {
                echo: std::env::var_os("_NIX_TEST_REPL_ECHO").is_some_and(|v| v == "1"),
            });
        }
        let config = Config::builder()
            .completion_type(rustyline::CompletionType::List)
            .auto_add_history(true)
            .max_history_size(1000)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(failed)?
            .build();
        let mut editor = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Assistant(completer)));
        if let Some(history) = &history {
            // The first time there is none.
            let _ = editor.load_history(history);
        }
        Ok(Self::Terminal { editor: Box::new(editor), history })
    }

    /// The next line. `goes_on` says that it continues what came before.
    pub fn next(&mut self, goes_on: bool) -> CliResult<Line> {
        match self {
            Self::Terminal { editor, .. } => match editor.readline(PROMPT) {
                Ok(line) => Ok(Line::Text(line)),
                Err(ReadlineError::Interrupted) => Ok(Line::Cancelled),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(error) => Err(failed(error)),
            },
            Self::Plain { echo } => {
                let mut bytes = Vec::new();
                let read = std::io::stdin().lock().read_until(b'\n', &mut bytes);
                if read.map_err(CliError::io("reading", "standard input"))? == 0 {
                    return Ok(Line::End);
                }
                let line = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
                if *echo {
                    let prompt = if goes_on { MORE } else { PROMPT };
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "{prompt}{line}").map_err(CliError::io("writing", "standard output"))?;
                }
                Ok(Line::Text(line))
            }
        }
    }
}

impl<C: Completer> Drop for Lines<C> {
    fn drop(&mut self) {
        let Self::Terminal { editor, history: Some(history) } = self else { return };
        // A history that cannot be kept is no reason to complain at the end.
        if let Some(folder) = history.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = editor.save_history(history);
    }
}

fn failed(error: ReadlineError) -> CliError {
    CliError::failed(format!("reading from the terminal: {error}"))
}

impl<C: Completer> rustyline::completion::Completer for Assistant<C> {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, words) = self.0.complete(line.get(..at).unwrap_or(line));
        let pair = |word: String| Pair { display: word.clone(), replacement: word };
        Ok((start, words.into_iter().map(pair).collect()))
    }
}

impl<C: Completer> Highlighter for Assistant<C> {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        Cow::Owned(highlight(line))
    }

    fn highlight_char(&self, _: &str, _: usize, _: CmdKind) -> bool {
        true
    }
}

impl<C: Completer> Validator for Assistant<C> {
    /// Enter begins a new line where the expression goes on.
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(match self.0.is_incomplete(context.input()) {
            true => ValidationResult::Incomplete,
            false => ValidationResult::Valid(None),
        })
    }
}
