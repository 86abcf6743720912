//! The commands, all of which begin with a colon.

use super::help::HELP;
use super::session::{Done, Next, Repl};
use crate::error::CliError;
use std::path::Path;

impl Repl<'_> {
    pub(super) fn command(&mut self, command: &str, arg: &str) -> Done<Next> {
        match command {
            ":?" | ":help" => self.print(HELP)?,
            ":q" | ":quit" => return Ok(Next::Quit),
            ":a" | ":add" => {
                let value = self.eval(arg)?;
                self.add_attributes(value)?;
            }
            ":l" | ":load" => {
                self.read_again()?;
                self.load_file(Path::new(arg))?;
            }
            ":lf" | ":load-flake" => {
                self.read_again()?;
                self.load_flake(arg)?;
            }
            ":ll" | ":last-loaded" => self.tools().show_names(self.last_loaded)?,
            ":r" | ":reload" => self.reload()?,
            ":e" | ":edit" => self.edit(arg)?,
            ":te" | ":trace-enable" => self.trace_enable(command, arg)?,
            _ => match self.tools().command(command, arg) {
                Some(done) => done?,
                None => return Err(CliError::failed(format!("unknown command '{command}'")).into()),
            },
        }
        Ok(Next::Again)
    }

    fn trace_enable(&mut self, command: &str, arg: &str) -> Done {
        self.show_trace = match arg {
            "true" => true,
            "false" => false,
            "" => !self.show_trace,
            _ => return Err(CliError::failed(format!("unexpected argument '{arg}' to {command}")).into()),
        };
        self.print(if self.show_trace { "showing error traces\n" } else { "not showing error traces\n" })?;
        Ok(())
    }

    fn edit(&mut self, text: &str) -> Done {
        self.tools().edit(text)?;
        self.reload()
    }
}
