//! Texts and files: parsing, compiling and importing them.

use super::{Vm, host_error};
use crate::builtins;
use crate::compile::{self, CompileContext};
use crate::error::{ErrorKind, EvalError, EvalResult, TraceKind};
use crate::expr::Code;
use crate::host::FileKind;
use crate::source::{self, Origin, Pos};
use crate::value::{Attrs, Env, Thunk, Value};
use firn_syntax::ast::NodeId;
use firn_syntax::{Ast, ParseOptions, Sym, SyntaxError, WarningKind};
use std::sync::Arc;

/// The tree of a text, a place in it, and the directory that its paths are relative to.
pub(crate) struct ParsedSource {
    pub(crate) ast: Ast,
    pub(crate) offset: u32,
    pub(crate) dir: Vec<u8>,
}

impl Vm {
    /// Parses and compiles text that is relative to `dir`.
    pub(crate) fn compile_text(
        &mut self,
        text: &[u8],
        origin: Origin,
        dir: &[u8],
        scope: &[Sym],
    ) -> EvalResult<&'static Code> {
        self.compile_inside(text, origin, dir, scope, None)
    }

    /// As [`Vm::compile_text`], in the scope of code that is running.
    pub(crate) fn compile_inside(
        &mut self,
        text: &[u8],
        origin: Origin,
        dir: &[u8],
        scope: &[Sym],
        outer: Option<compile::Outer>,
    ) -> EvalResult<&'static Code> {
        let base = source::register(origin, text, dir);
        self.compile_registered(base, text, dir, scope, outer)
    }

    /// The same for text whose positions count from `base`.
    pub(crate) fn compile_registered(
        &mut self,
        base: Pos,
        text: &[u8],
        dir: &[u8],
        scope: &[Sym],
        outer: Option<compile::Outer>,
    ) -> EvalResult<&'static Code> {
        let ast = Arc::new(self.parse_registered(base, text)?);
        self.compile_tree(&ast, base, dir, scope, outer)
    }

    /// The tree of a text whose positions count from `base`; warns of what is discouraged in it.
    pub(super) fn parse_registered(&self, base: Pos, text: &[u8]) -> EvalResult<Ast> {
        self.parse_noting(base, text, &mut false)
    }

    /// [`Vm::parse_registered`], and whether there was anything to warn of.
    pub(super) fn parse_noting(&self, base: Pos, text: &[u8], warned: &mut bool) -> EvalResult<Ast> {
        let lints = self.settings.lints;
        let options = ParseOptions { lints, ..self.parse_options() };
        let mut warnings = Vec::new();
        let parsed = firn_syntax::parse_warning(text, options, &mut warnings);
        *warned = !warnings.is_empty();
        for warning in warnings {
            self.in_turn()?;
            self.parser_warning(base, text, warning);
        }
        parsed.map_err(|e| self.syntax_error(base, e))
    }

    fn compile_tree(
        &self,
        ast: &Arc<Ast>,
        base: Pos,
        dir: &[u8],
        scope: &[Sym],
        outer: Option<compile::Outer>,
    ) -> EvalResult<&'static Code> {
        let settings = self.settings.clone();
        let context = CompileContext {
            globals: &self.globals,
            base,
            dir,
            home: &settings.home,
            pure_eval: settings.pure_eval,
            watch_calls: settings.watch_calls,
            debugger: settings.debugger,
            scope,
            outer,
        };
        compile::compile(ast, &context)
    }

    /// Without lints, for text that was parsed before.
    pub(crate) fn parse_options(&self) -> ParseOptions {
        ParseOptions {
            pipe_operators: self.settings.has_feature("pipe-operators"),
            ..ParseOptions::default()
        }
    }

    #[cold]
    fn parser_warning(&self, base: Pos, text: &[u8], warning: firn_syntax::Warning) {
        let pos = source::at(base, warning.offset);
        let message = match warning.kind {
            WarningKind::Lint(message) => crate::render::render_warning(&message, pos, &*self.host),
            WarningKind::Or { end } => {
                let place =
                    crate::render::shown_place(pos, &*self.host).map(|p| p.display()).unwrap_or_default();
                let expression = String::from_utf8_lossy(&text[warning.offset as usize..end as usize]);
                format!(
                    "at {place}: This expression uses `or` as an identifier in a way that will change in a future Nix release.\n\
                     Wrap this entire expression in parentheses to preserve its current meaning:\n    ({expression})\n\
                     Give feedback at https://github.com/NixOS/nix/pull/11121"
                )
            }
        };
        self.host.warn(&message);
    }

    fn syntax_error(&self, base: Pos, errors: Vec<SyntaxError>) -> EvalError {
        crate::syntax::syntax_error(base, errors, &*self.host)
    }

    /// Evaluates text.
    pub fn eval_text(&mut self, text: &[u8], origin: Origin, dir: &[u8]) -> EvalResult<Value> {
        let code = self.compile_text(text, origin, dir, &[])?;
        self.run(code)
    }

    /// Parses text and prints the tree, as `nix-instantiate --parse`; undefined variables are errors.
    pub fn show_parsed(&mut self, text: &[u8], origin: Origin, dir: &[u8]) -> EvalResult<Vec<u8>> {
        let base = source::register(origin, text, dir);
        let ast = self.parse_registered(base, text)?;
        self.show_whole(base, ast, dir)
    }

    fn show_whole(&self, base: Pos, ast: Ast, dir: &[u8]) -> EvalResult<Vec<u8>> {
        let is_bound = |name: &Sym| self.globals.names.contains_key(name);
        let is_closed = ast.free_names().is_some_and(|names| names.iter().all(is_bound));
        let ast = Arc::new(ast);
        if !is_closed {
            // The compiler says what is wrong, if anything is.
            self.compile_tree(&ast, base, dir, &[], None)?;
        }
        Ok(self.show_tree(&ast, ast.root, dir))
    }

    /// An expression of a tree as text; paths are relative to `dir`.
    pub(crate) fn show_tree(&self, ast: &Ast, node: NodeId, dir: &[u8]) -> Vec<u8> {
        let absolute = |literal: &[u8]| {
            let full = match literal.first() {
                Some(b'/') => literal.to_vec(),
                _ => [dir, b"/", literal].concat(),
            };
            let mut path = crate::coerce::canonical(&full);
            if literal.len() > 1 && literal.ends_with(b"/") {
                path.push(b'/');
            }
            path
        };
        let context = firn_syntax::show::ShowContext { absolute: &absolute, home: &self.settings.home };
        firn_syntax::show::show_node(ast, node, &context)
    }

    /// Parses the text again that a position is in: code does not keep the tree that it was made of.
    #[cold]
    pub(crate) fn parse_source(&self, pos: Pos) -> Option<ParsedSource> {
        let (offset, dir) = source::offset_and_dir(pos)?;
        let ast = match self.tree_again(pos) {
            Some(ast) => ast,
            None => firn_syntax::parse(&pos.text(&*self.host)?, self.parse_options()).ok()?,
        };
        Some(ParsedSource { ast, offset, dir })
    }

    /// [`Vm::show_parsed`] for a file or the `default.nix` of a directory.
    pub fn show_parsed_file(&mut self, path: &[u8]) -> EvalResult<Vec<u8>> {
        let path = crate::coerce::canonical(path);
        let stamp = match self.known_tree(&path) {
            Ok((base, ast)) => return self.show_whole(base, ast, crate::coerce::dir_of(&path)),
            Err(stamp) => stamp,
        };
        let (file, text) = match self.host.read_regular_file(&path) {
            Some(text) => (path, text),
            None => {
                let file = self.resolve_file(&path)?;
                let text = self.host.read_file(&file).map_err(host_error)?;
                (file, text)
            }
        };
        let dir = crate::coerce::dir_of(&file);
        let (base, ast) = self.tree_of_text(&file, &text, dir, stamp)?;
        self.show_whole(base, ast, dir)
    }

    fn run(&mut self, code: &'static Code) -> EvalResult<Value> {
        let env = Env::new(None, code.frame_size as usize);
        self.eval(&code.body, env)
    }

    /// Where the text of a file is: `default.nix` of a directory, and symlinks resolved.
    pub(crate) fn resolve_file(&mut self, path: &[u8]) -> EvalResult<Vec<u8>> {
        let (resolved, kind) = self.follow_symlinks(path)?;
        match kind {
            Some(FileKind::Directory) => {
                let default = [&resolved[..], b"/default.nix"].concat();
                self.resolve_symlinks(&default)
            }
            Some(_) => Ok(resolved),
            None => Err(self.no_such_file(path)),
        }
    }

    /// The error for a path that is not there, or may not be looked at.
    #[cold]
    pub(crate) fn no_such_file(&self, path: &[u8]) -> EvalError {
        if let Err(error) = self.host.check_access(path) {
            return host_error(error);
        }
        let shown = String::from_utf8_lossy(path);
        EvalError::new(ErrorKind::Host { exit: 1 }, format!("path '{shown}' does not exist"))
    }

    /// [`Vm::follow_symlinks`], where it leads.
    pub(crate) fn resolve_symlinks(&mut self, path: &[u8]) -> EvalResult<Vec<u8>> {
        self.follow_symlinks(path).map(|(path, _)| path)
    }

    /// Follows symlinks of the last component, as the reference does for imports: where that leads, and what is there.
    pub(crate) fn follow_symlinks(&mut self, path: &[u8]) -> EvalResult<(Vec<u8>, Option<FileKind>)> {
        let mut path = path.to_vec();
        for _ in 0..1024 {
            match self.host.file_kind(&path).map_err(host_error)? {
                Some(FileKind::Symlink) => {
                    let target = self.host.read_link(&path).map_err(host_error)?;
                    path = if target.first() == Some(&b'/') {
                        crate::coerce::canonical(&target)
                    } else {
                        let dir = crate::coerce::dir_of(&path).to_vec();
                        crate::coerce::canonical(&[&dir[..], b"/", &target].concat())
                    };
                }
                kind => return Ok((path, kind)),
            }
        }
        Err(EvalError::new(
            ErrorKind::Host { exit: 1 },
            format!(
                "too many symbolic links encountered while traversing the path '{}'",
                String::from_utf8_lossy(&path)
            ),
        ))
    }

    /// The value of a file: `import`.
    pub fn eval_file(&mut self, path: &[u8]) -> EvalResult<Value> {
        if let Some(value) = self.shared.imports.get(path) {
            return self.force(value);
        }
        if path == builtins::FETCHURL_PATH {
            let value = self.eval_text(
                builtins::FETCHURL.as_bytes(),
                Origin::Internal(builtins::FETCHURL_NAME),
                b"/",
            )?;
            return Ok(self.shared.imports.insert(path.to_vec(), value.keep()));
        }
        let file = self.resolve_file(path)?;
        let value = match self.shared.imports.get(&file) {
            Some(value) => value,
            None => {
                self.tell_of_file(&file)?;
                let code = self.compile_file(&file, &[])?;
                let env = Env::new(None, code.frame_size as usize);
                Thunk::new(&code.body, env).value()
            }
        };
        let shown = self.host.shown_path(&file).unwrap_or_else(|| file.clone());
        let value = self.shared.imports.insert(file, value.keep());
        self.shared.imports.insert(path.to_vec(), value);
        self.force(value).map_err(|e| {
            let text = format!("while evaluating the file '{}':", String::from_utf8_lossy(&shown));
            e.trace(Pos::NONE, TraceKind::Text(text.into()))
        })
    }

    fn tell_of_file(&self, path: &[u8]) -> EvalResult<()> {
        if self.host.tells_of_files() {
            self.in_turn()?;
            self.host.evaluating_file(path);
        }
        Ok(())
    }

    /// The value of a file named on the command line: as [`Vm::eval_file`], but errors do not say which file.
    pub fn eval_main_file(&mut self, path: &[u8]) -> EvalResult<Value> {
        let file = self.resolve_file(path)?;
        let code = self.compile_file(&file, &[])?;
        self.run(code)
    }

    /// Reads, parses and compiles a file.
    pub(crate) fn compile_file(&mut self, file: &[u8], scope: &[Sym]) -> EvalResult<&'static Code> {
        let dir = crate::coerce::dir_of(file);
        let (base, ast) = self.file_tree(file, dir)?;
        self.compile_tree(&Arc::new(ast), base, dir, scope, None)
    }

    /// `import` with names of the caller's in scope instead of the builtins' values.
    pub(crate) fn eval_file_scoped(&mut self, path: &[u8], scope: Attrs) -> EvalResult<Value> {
        let file = self.resolve_file(path)?;
        let syms: Vec<Sym> = scope.shape().syms().to_vec();
        self.tell_of_file(path)?;
        let code = self.compile_file(&file, &syms)?;
        let env = Env::new(None, code.frame_size as usize);
        for i in 0..syms.len() {
            env.set(i as u32, scope.get(i));
        }
        self.eval(&code.body, env)
    }
}
