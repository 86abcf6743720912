//! Evaluating what is typed at a prompt: expressions in the scope of names, and bindings that make new names.

use crate::error::EvalResult;
use crate::source::{self, Origin};
use crate::value::{Attrs, Env, Value};
use crate::vm::Vm;
use firn_syntax::Sym;

impl Vm {
    /// The value of an expression with `names` in scope, of which the last of the same name counts.
    pub fn eval_with_names(&mut self, text: &[u8], dir: &[u8], names: &[(Sym, Value)]) -> EvalResult<Value> {
        let scope: Vec<Sym> = names.iter().map(|(name, _)| *name).collect();
        let code = self.compile_inside(text, Origin::String, dir, &scope, None)?;
        let env = Env::new(None, code.frame_size as usize);
        for (i, (_, value)) in names.iter().enumerate() {
            env.set(i as u32, *value);
        }
        self.eval(&code.body, env)
    }

    /// What bindings such as `a = 1; inherit (b) c` bind; the last semicolon may be missing. They do not see each
    /// other. Errors point into `text`.
    pub fn eval_bindings(&mut self, text: &[u8], dir: &[u8], names: &[(Sym, Value)]) -> EvalResult<Attrs> {
        let with_end = |end: &[u8]| [b"{", text, end, b"\n}"].concat();
        let ends: [&[u8]; 2] = [b"", b";"];
        let works =
            ends.into_iter().find(|end| firn_syntax::parse(&with_end(end), self.parse_options()).is_ok());
        let set = with_end(works.unwrap_or_default());
        let base = source::register(Origin::String, text, dir);
        let scope: Vec<Sym> = names.iter().map(|(name, _)| *name).collect();
        // The brace in front is no part of what was typed.
        let code = self.compile_registered(source::before(base), &set, dir, &scope, None)?;
        let env = Env::new(None, code.frame_size as usize);
        for (i, (_, value)) in names.iter().enumerate() {
            env.set(i as u32, *value);
        }
        let value = self.eval(&code.body, env)?;
        Ok(value.as_attrs().unwrap_or_else(Attrs::empty))
    }

    /// Whether `text` is bindings.
    pub fn is_bindings(&self, text: &[u8]) -> bool {
        let parses = |end: &[u8]| {
            firn_syntax::parse(&[b"{", text, end, b"\n}"].concat(), self.parse_options()).is_ok()
        };
        parses(b"") || parses(b";")
    }

    /// Whether `text` is the beginning of an expression or of bindings, which need more lines.
    pub fn is_incomplete(&self, text: &[u8]) -> bool {
        let ends_early = |text: &[u8]| match firn_syntax::parse(text, self.parse_options()) {
            Ok(_) => Some(false),
            Err(errors) => {
                errors.first().is_some_and(|e| e.message.contains("unexpected end of file")).then_some(true)
            }
        };
        if self.is_bindings(text) {
            return false;
        }
        match ends_early(text) {
            Some(answer) => answer,
            None => ends_early(&[b"{", text, b";\n}"].concat()) == Some(true),
        }
    }
}
