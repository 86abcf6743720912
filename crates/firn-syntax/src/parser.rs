//! Recursive-descent parser with operator precedence.

use crate::ast::*;
use crate::indent::{self, Piece};
use crate::lexer::{Lexer, Tok, Token};
use crate::lint::{self, Level, Lints, Warning, WarningKind};
use crate::symbol::Sym;
use smallvec::{SmallVec, smallvec};

mod formals;
mod strings;

use strings::StringPart;

/// What the settings say about the language.
#[derive(Clone, Copy, Debug, Default)]
pub struct ParseOptions {
    /// The experimental feature `pipe-operators`.
    pub pipe_operators: bool,
    pub lints: Lints,
}

/// What is wrong with the text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub message: String,
    pub offset: Offset,
    /// A second place that the message refers to; `{}` in the message stands for it.
    pub other: Option<Offset>,
}

pub(crate) type PResult<T> = Result<T, SyntaxError>;

/// How deep expressions may nest; the parser recurses, so this bounds its stack.
const MAX_DEPTH: u32 = 60_000;

/// Parses a file. The tree owns all its text.
pub fn parse(text: &[u8], options: ParseOptions) -> Result<Ast, Vec<SyntaxError>> {
    parse_warning(text, options, &mut Vec::new())
}

/// As [`parse`]; warnings are also there when there is an error after them.
pub fn parse_warning(
    text: &[u8],
    options: ParseOptions,
    warnings: &mut Vec<Warning>,
) -> Result<Ast, Vec<SyntaxError>> {
    if u32::try_from(text.len()).is_err() {
        return Err(vec![SyntaxError {
            message: "file is larger than 4 GiB".into(),
            offset: 0,
            other: None,
        }]);
    }
    let mut parser = Parser::new(text, options);
    let result = parser.file().map_err(|error| match crate::explain::explain(text) {
        Some((message, at)) if error.message.starts_with("syntax error") => {
            SyntaxError { message, offset: at as Offset, other: None }
        }
        _ => error,
    });
    warnings.append(&mut parser.warnings);
    result.map_err(|e| vec![e])
}

pub(crate) struct Parser<'a> {
    lexer: Lexer<'a>,
    tok: Token,
    depth: u32,
    options: ParseOptions,
    warnings: Vec<Warning>,
    /// Start and end of the expression just parsed, if it is one like `f or`.
    or_call: Option<(usize, usize)>,
    pub(crate) ast: Ast,
    /// Those of the tree, which later attributes may still add to.
    pub(crate) sets: Vec<SetDraft>,
}

// Binding strengths, weakest first; `expr_op` operators start at `IMPL`.
const PIPE: u8 = 1;
const IMPL: u8 = 2;
const OR: u8 = 3;
const AND: u8 = 4;
const EQ: u8 = 5;
const CMP: u8 = 6;
const UPDATE: u8 = 7;
const NOT: u8 = 8;
const ADD: u8 = 9;
const MUL: u8 = 10;
const CONCAT: u8 = 11;
const HAS: u8 = 12;
const NEGATE: u8 = 13;

enum Assoc {
    Left,
    Right,
    None,
}

/// The value of a literal; what is out of range has none.
pub(crate) fn float(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite() && (*value == 0.0 || value.is_normal()))
}

fn operator(tok: Tok) -> Option<(BinOp, u8, Assoc)> {
    use Assoc::*;
    Some(match tok {
        Tok::Impl => (BinOp::Impl, IMPL, Right),
        Tok::Or => (BinOp::Or, OR, Left),
        Tok::And => (BinOp::And, AND, Left),
        Tok::Eq => (BinOp::Eq, EQ, None),
        Tok::Neq => (BinOp::Neq, EQ, None),
        Tok(b'<') => (BinOp::Less, CMP, None),
        Tok(b'>') => (BinOp::Greater, CMP, None),
        Tok::LessEq => (BinOp::LessEq, CMP, None),
        Tok::GreaterEq => (BinOp::GreaterEq, CMP, None),
        Tok::Update => (BinOp::Update, UPDATE, Right),
        Tok(b'+') => (BinOp::Add, ADD, Left),
        Tok(b'-') => (BinOp::Sub, ADD, Left),
        Tok(b'*') => (BinOp::Mul, MUL, Left),
        Tok(b'/') => (BinOp::Div, MUL, Left),
        Tok::Concat => (BinOp::Concat, CONCAT, Right),
        _ => return Option::None,
    })
}

impl<'a> Parser<'a> {
    fn new(text: &'a [u8], options: ParseOptions) -> Self {
        let mut lexer = Lexer::new(text);
        let tok = lexer.next();
        Parser {
            lexer,
            tok,
            depth: 0,
            options,
            warnings: Vec::new(),
            or_call: None,
            ast: Ast::with_room(text.len()),
            sets: Vec::new(),
        }
    }

    fn file(&mut self) -> PResult<Ast> {
        let root = self.expr()?;
        if self.tok.kind != Tok::End {
            return Err(self.unexpected(&["end of file"]));
        }
        self.ast.root = root;
        self.sets.iter().for_each(|set| self.ast.tables.add_set(set));
        Ok(std::mem::take(&mut self.ast))
    }

    // ---- building -------------------------------------------------------------------------------------

    pub(crate) fn add(&mut self, node: Node, pos: usize) -> NodeId {
        let id = NodeId(self.ast.tables.nodes.len() as u32);
        self.ast.tables.nodes.push(raw::pack(node, pos as u32));
        id
    }

    fn add_list(&mut self, items: &[NodeId]) -> Span {
        let start = self.ast.tables.lists.len() as u32;
        self.ast.tables.lists.extend_from_slice(items);
        let Tables { nodes, list_positions, .. } = &mut self.ast.tables;
        list_positions.extend(items.iter().map(|n| nodes[n.0 as usize][4]));
        Span { start, len: items.len() as u32 }
    }

    fn add_names(&mut self, items: &[AttrName]) -> Span {
        let start = self.ast.tables.names.len() as u32;
        self.ast.tables.names.extend_from_slice(items);
        Span { start, len: items.len() as u32 }
    }

    fn add_text(&mut self, text: &[u8]) -> Span {
        let start = self.ast.tables.text.len() as u32;
        self.ast.tables.text.extend_from_slice(text);
        Span { start, len: text.len() as u32 }
    }

    // ---- tokens ---------------------------------------------------------------------------------------

    fn advance(&mut self) -> PResult<()> {
        self.tok = self.lexer.next();
        if matches!(self.tok.kind, Tok::PipeFrom | Tok::PipeInto) && !self.options.pipe_operators {
            return Err(self.error_at(
                self.tok.start(),
                "experimental Nix feature 'pipe-operators' is disabled; add '--extra-experimental-features pipe-operators' to enable it",
            ));
        }
        Ok(())
    }

    fn at(&self, b: u8) -> bool {
        self.tok.kind == Tok(b)
    }

    fn expect(&mut self, kind: Tok) -> PResult<()> {
        if self.tok.kind != kind {
            return Err(self.unexpected(&[&kind.describe()]));
        }
        self.advance()
    }

    pub(crate) fn error_at(&self, offset: usize, message: impl Into<String>) -> SyntaxError {
        SyntaxError { message: message.into(), offset: offset as u32, other: None }
    }

    fn unexpected(&self, expected: &[&str]) -> SyntaxError {
        let mut message = format!("syntax error, unexpected {}", self.tok.kind.describe());
        for (i, what) in expected.iter().enumerate() {
            message.push_str(if i == 0 { ", expecting " } else { " or " });
            message.push_str(what);
        }
        let at = if self.tok.kind == Tok::End { self.lexer.text.len() } else { self.tok.start() };
        self.error_at(at, message)
    }

    fn text_of(&self, tok: Token) -> &'a [u8] {
        &self.lexer.text[tok.start()..tok.end()]
    }

    fn deeper(&mut self) -> PResult<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self
                .error_at(self.tok.start(), format!("expression nests more than {MAX_DEPTH} levels deep")));
        }
        Ok(())
    }

    // ---- expressions ----------------------------------------------------------------------------------

    fn expr(&mut self) -> PResult<NodeId> {
        self.deeper()?;
        let node = self.expr_function();
        self.depth -= 1;
        node
    }

    fn expr_function(&mut self) -> PResult<NodeId> {
        let start = self.tok;
        match start.kind {
            Tok::Id => match self.lexer.peek_byte() {
                b':' => {
                    self.advance()?;
                    self.advance()?;
                    self.lambda(start.start(), Some(start), None)
                }
                b'@' => {
                    self.advance()?;
                    self.advance()?;
                    if !self.at(b'{') {
                        return Err(self.unexpected(&["'{'"]));
                    }
                    let formals = self.formals()?;
                    if !self.at(b':') {
                        return Err(self.unexpected(&["':'"]));
                    }
                    self.advance()?;
                    self.lambda(start.start(), Some(start), Some(formals))
                }
                _ => self.expr_if(),
            },
            Tok(b'{') => {
                if !self.looks_like_formals() {
                    return self.expr_if();
                }
                let formals = self.formals()?;
                let mut arg = None;
                if self.at(b'@') {
                    self.advance()?;
                    if self.tok.kind != Tok::Id {
                        return Err(self.unexpected(&["identifier"]));
                    }
                    arg = Some(self.tok);
                    self.advance()?;
                }
                if !self.at(b':') {
                    let expected: &[&str] = if arg.is_some() { &["':'"] } else { &["':'", "'@'"] };
                    return Err(self.unexpected(expected));
                }
                self.advance()?;
                self.lambda(start.start(), arg, Some(formals))
            }
            Tok::Assert => {
                self.advance()?;
                let cond = self.expr()?;
                self.expect(Tok(b';'))?;
                let body = self.tail()?;
                Ok(self.add(Node::Assert { cond, body }, start.start()))
            }
            Tok::With => {
                self.advance()?;
                let scope = self.expr()?;
                self.expect(Tok(b';'))?;
                let body = self.tail()?;
                Ok(self.add(Node::With { scope, body }, start.start()))
            }
            Tok::Let if self.lexer.peek_byte() != b'{' => {
                self.advance()?;
                let bindings = self.bindings(Tok::In)?;
                if !self.sets[bindings as usize].dynamic.is_empty() {
                    return Err(self.error_at(start.start(), "dynamic attributes not allowed in let"));
                }
                self.advance()?;
                let body = self.tail()?;
                Ok(self.add(Node::Let { bindings, body }, start.start()))
            }
            _ => self.expr_if(),
        }
    }

    fn tail(&mut self) -> PResult<NodeId> {
        self.deeper()?;
        let node = self.expr_function();
        self.depth -= 1;
        node
    }

    /// As in the reference, the argument's symbol is made, and formals are checked, behind the body.
    fn lambda(&mut self, start: usize, arg: Option<Token>, formals: Option<FormalsDraft>) -> PResult<NodeId> {
        let body = self.tail()?;
        let arg = arg.map(|token| Sym::new(self.text_of(token)));
        if let Some(formals) = &formals {
            self.check_formals(formals, arg, start)?;
        }
        let index = self.ast.tables.lambdas.len() as u32;
        let formals = formals.map(|formals| {
            let start = self.ast.tables.formals.len() as u32;
            self.ast.tables.formals.extend_from_slice(&formals.formals);
            (Span { start, len: formals.formals.len() as u32 }, formals.ellipsis)
        });
        self.ast.tables.lambdas.push(LambdaParts { arg, formals, body, name: None });
        Ok(self.add(Node::Lambda(index), start))
    }

    fn expr_if(&mut self) -> PResult<NodeId> {
        if self.tok.kind != Tok::If {
            return self.expr_pipe();
        }
        let start = self.tok.start();
        self.advance()?;
        let cond = self.expr()?;
        self.expect(Tok::Then)?;
        let then = self.expr()?;
        self.expect(Tok::Else)?;
        let otherwise = self.expr()?;
        Ok(self.add(Node::If { cond, then, otherwise }, start))
    }

    fn expr_pipe(&mut self) -> PResult<NodeId> {
        let first = self.expr_op(PIPE + 1)?;
        match self.tok.kind {
            Tok::PipeInto => {
                let mut value = first;
                while self.tok.kind == Tok::PipeInto {
                    let pos = self.tok.start();
                    self.advance()?;
                    let function = self.expr_op(PIPE + 1)?;
                    value = self.call(function, &[value], pos);
                }
                Ok(value)
            }
            Tok::PipeFrom => {
                let pos = self.tok.start();
                self.advance()?;
                self.deeper()?;
                let arg = self.expr_pipe()?;
                self.depth -= 1;
                Ok(self.call(first, &[arg], pos))
            }
            _ => Ok(first),
        }
    }

    /// A call; a call of a call becomes one with more arguments, as the reference builds it.
    fn call(&mut self, function: NodeId, args: &[NodeId], pos: usize) -> NodeId {
        if let Node::Call { function: inner, args: before } = self.ast.node(function) {
            let mut all = self.ast.list(before).to_vec();
            all.extend_from_slice(args);
            let args = self.add_list(&all);
            let pos = self.ast.pos(function) as usize;
            return self.add(Node::Call { function: inner, args }, pos);
        }
        // These are calls too in the reference's tree.
        let pos = match self.ast.node(function) {
            Node::Negate(_)
            | Node::SearchPath(_)
            | Node::Binary {
                op: BinOp::Sub | BinOp::Mul | BinOp::Div | BinOp::Less | BinOp::Greater, ..
            } => self.ast.pos(function) as usize,
            _ => pos,
        };
        let args = self.add_list(args);
        self.add(Node::Call { function, args }, pos)
    }

    fn expr_op(&mut self, min: u8) -> PResult<NodeId> {
        let start = self.tok.start();
        let mut left = match self.tok.kind {
            Tok(b'!') => {
                self.advance()?;
                self.deeper()?;
                let operand = self.expr_op(NOT)?;
                self.depth -= 1;
                self.add(Node::Not(operand), start)
            }
            Tok(b'-') => {
                self.advance()?;
                self.deeper()?;
                let operand = self.expr_op(NEGATE)?;
                self.depth -= 1;
                self.add(Node::Negate(operand), start)
            }
            _ => self.expr_app()?,
        };
        // A non-associative operator may not be followed by one of its own strength.
        let mut barred = 0;
        loop {
            let pos = self.tok.start();
            if self.at(b'?') {
                if HAS < min {
                    return Ok(left);
                }
                if barred == HAS {
                    return Err(self.unexpected(&[]));
                }
                self.advance()?;
                let path = self.attr_path()?;
                let path = self.add_names(&path);
                let at = self.ast.pos(left) as usize;
                left = self.add(Node::HasAttr { base: left, path }, at);
                barred = HAS;
                continue;
            }
            let Some((op, strength, assoc)) = operator(self.tok.kind) else { return Ok(left) };
            if strength < min {
                return Ok(left);
            }
            if barred == strength {
                return Err(self.unexpected(&[]));
            }
            self.advance()?;
            self.deeper()?;
            let right_start = self.tok.start();
            let right = self.expr_op(match assoc {
                Assoc::Right => strength,
                Assoc::Left | Assoc::None => strength + 1,
            })?;
            self.depth -= 1;
            let places = (start as Offset, right_start as Offset);
            let moved = op == BinOp::Add && places != (self.ast.pos(left), self.ast.pos(right));
            left = self.add(Node::Binary { op, left, right }, pos);
            if moved {
                self.ast.tables.operands.push((left, places.0, places.1));
            }
            barred = if matches!(assoc, Assoc::None) { strength } else { 0 };
        }
    }

    fn starts_simple(&self) -> bool {
        matches!(
            self.tok.kind,
            Tok::Id
                | Tok::Int
                | Tok::Float
                | Tok::Quote
                | Tok::IndentOpen
                | Tok::Path
                | Tok::HomePath
                | Tok::SearchPath
                | Tok::Uri
                | Tok::Let
                | Tok::Rec
                | Tok(b'(' | b'{' | b'[')
        )
    }

    fn expr_app(&mut self) -> PResult<NodeId> {
        let start = self.tok.start();
        let function = self.expr_select()?;
        self.or_call = None;
        if !self.starts_simple() {
            return Ok(function);
        }
        let mut args = Vec::with_capacity(4);
        while self.starts_simple() {
            args.push(self.operand()?);
        }
        // `f or x` parses `f or` as a call, which then takes the arguments.
        Ok(self.call(function, &args, start))
    }

    /// A selection in a place where `f or` will mean something else one day.
    fn operand(&mut self) -> PResult<NodeId> {
        let node = self.expr_select()?;
        if let Some((start, end)) = self.or_call.take() {
            let kind = WarningKind::Or { end: end as Offset };
            self.warnings.push(Warning { offset: start as Offset, kind });
        }
        Ok(node)
    }

    /// Applies a lint: nothing, a warning, or an error.
    fn lint(
        &mut self,
        level: Level,
        name: &str,
        at: usize,
        text: impl FnOnce(bool) -> String,
    ) -> PResult<()> {
        if level == Level::Ignore {
            return Ok(());
        }
        let message = lint::message(&text(level == Level::Fatal), name);
        if level == Level::Fatal {
            return Err(self.error_at(at, message));
        }
        self.warnings.push(Warning { offset: at as Offset, kind: WarningKind::Lint(message) });
        Ok(())
    }

    fn expr_select(&mut self) -> PResult<NodeId> {
        let start = self.tok.start();
        let base = self.expr_simple()?;
        if self.at(b'.') {
            self.advance()?;
            let path = self.attr_path()?;
            if path.len() > raw::MAX_PATH as usize {
                let message = format!("attribute path of more than {} steps", raw::MAX_PATH);
                return Err(self.error_at(start, message));
            }
            let path = self.add_names(&path);
            let mut default = None;
            if self.tok.kind == Tok::OrKw {
                self.advance()?;
                self.deeper()?;
                default = Some(self.operand()?);
                self.depth -= 1;
            }
            return Ok(self.add(Node::Select { base, path, default }, start));
        }
        if self.tok.kind == Tok::OrKw {
            let or = self.add(Node::Var(crate::sym!("or")), start);
            let end = self.tok.end();
            self.advance()?;
            self.or_call = Some((start, end));
            // Not merged into a call before it: `f or` is a value of its own.
            let args = self.add_list(&[or]);
            return Ok(self.add(Node::Call { function: base, args }, start));
        }
        Ok(base)
    }

    fn expr_simple(&mut self) -> PResult<NodeId> {
        let tok = self.tok;
        match tok.kind {
            Tok::Id => {
                let name = self.text_of(tok);
                let node = if name == b"__curPos" { Node::CurPos } else { Node::Var(Sym::new(name)) };
                self.advance()?;
                Ok(self.add(node, tok.start()))
            }
            Tok::Int => {
                let text = String::from_utf8_lossy(self.text_of(tok));
                let Ok(value) = text.parse::<i64>() else {
                    return Err(self.error_at(tok.start(), format!("invalid integer '{text}'")));
                };
                self.advance()?;
                Ok(self.add(Node::Int(value), tok.start()))
            }
            Tok::Float => {
                let text = String::from_utf8_lossy(self.text_of(tok));
                let Some(value) = float(&text) else {
                    return Err(self.error_at(tok.start(), format!("invalid float '{text}'")));
                };
                self.advance()?;
                Ok(self.add(Node::Float(value), tok.start()))
            }
            Tok::Quote => {
                if let Some(text) = self.plain_string() {
                    let text = self.add_text(text);
                    self.advance()?;
                    return Ok(self.add(Node::Str(text), tok.start()));
                }
                let mut parts = self.string_parts()?;
                self.advance()?;
                if let [] | [(_, StringPart::Text(_))] = parts[..] {
                    let text = match parts.pop() {
                        Some((_, StringPart::Text(text))) => text,
                        _ => Vec::new(),
                    };
                    let text = self.add_text(&text);
                    return Ok(self.add(Node::Str(text), tok.start()));
                }
                Ok(self.interpolation(InterpKind::String, parts, tok.end()))
            }
            Tok::IndentOpen => {
                let pieces = self.indented_parts()?;
                self.advance()?;
                let mut pieces = indent::strip(pieces);
                if let [] | [(_, Piece::Text { .. })] = pieces[..] {
                    let text = match pieces.pop() {
                        Some((_, Piece::Text { text, .. })) => text,
                        _ => Vec::new(),
                    };
                    let text = self.add_text(&text);
                    return Ok(self.add(Node::Str(text), tok.start()));
                }
                // A string in another one is that string.
                if let [(_, Piece::Expr(node))] = pieces[..] {
                    if matches!(self.ast.node(node), Node::Str(_)) {
                        return Ok(node);
                    }
                }
                let parts = pieces
                    .into_iter()
                    .map(|(pos, piece)| match piece {
                        Piece::Text { text, .. } => (pos, StringPart::Text(text)),
                        Piece::Expr(node) => (pos, StringPart::Expr(node)),
                    })
                    .collect();
                Ok(self.interpolation(InterpKind::String, parts, tok.start()))
            }
            Tok::Path | Tok::HomePath => self.path(tok),
            Tok::SearchPath => {
                let text = self.text_of(tok);
                let text = self.add_text(&text[1..text.len() - 1]);
                self.advance()?;
                Ok(self.add(Node::SearchPath(text), tok.start()))
            }
            Tok::Uri => {
                let uri = self.text_of(tok);
                self.lint(self.options.lints.url_literals, "lint-url-literals", tok.start(), |fatal| {
                    let (word, uri) =
                        (if fatal { "disallowed" } else { "discouraged" }, String::from_utf8_lossy(uri));
                    format!("URL literals are {word}. Consider using a string literal \"{uri}\" instead")
                })?;
                let text = self.add_text(self.text_of(tok));
                self.advance()?;
                Ok(self.add(Node::Str(text), tok.start()))
            }
            Tok(b'(') => {
                self.advance()?;
                let inner = self.expr()?;
                self.expect(Tok(b')'))?;
                Ok(inner)
            }
            Tok::Let => {
                self.advance()?;
                if !self.at(b'{') {
                    return Err(self.unexpected(&["'{'"]));
                }
                self.advance()?;
                let set = self.bindings(Tok(b'}'))?;
                self.advance()?;
                self.sets[set as usize].recursive = true;
                Ok(self.add(Node::LegacyLet(set), tok.start()))
            }
            Tok::Rec => {
                self.advance()?;
                self.expect(Tok(b'{'))?;
                let set = self.bindings(Tok(b'}'))?;
                self.advance()?;
                self.sets[set as usize].recursive = true;
                Ok(self.add(Node::Attrs(set), tok.start()))
            }
            Tok(b'{') => {
                self.advance()?;
                let set = self.bindings(Tok(b'}'))?;
                self.advance()?;
                Ok(self.add(Node::Attrs(set), tok.start()))
            }
            Tok(b'[') => {
                self.advance()?;
                let mut items = Vec::new();
                while !self.at(b']') {
                    if !self.starts_simple() {
                        return Err(self.unexpected(&[]));
                    }
                    self.deeper()?;
                    items.push(self.operand()?);
                    self.depth -= 1;
                }
                self.advance()?;
                let items = self.add_list(&items);
                Ok(self.add(Node::List(items), tok.start()))
            }
            _ => Err(self.unexpected(&[])),
        }
    }

    // ---- attributes -----------------------------------------------------------------------------------

    fn attr_path(&mut self) -> PResult<SmallVec<[AttrName; 4]>> {
        let mut path = smallvec![self.attr_name()?];
        while self.at(b'.') {
            self.advance()?;
            path.push(self.attr_name()?);
        }
        Ok(path)
    }

    fn attr_name(&mut self) -> PResult<AttrName> {
        let tok = self.tok;
        match tok.kind {
            Tok::Id | Tok::OrKw => {
                self.advance()?;
                Ok(AttrName::Static(Sym::new(self.text_of(tok))))
            }
            Tok::Quote => {
                let mut parts = self.string_parts()?;
                self.advance()?;
                match parts.pop() {
                    None => Ok(AttrName::Static(crate::sym!(""))),
                    Some((_, StringPart::Text(text))) if parts.is_empty() => {
                        Ok(AttrName::Static(Sym::new(&text)))
                    }
                    Some(last) => {
                        parts.push(last);
                        Ok(AttrName::Dynamic(self.interpolation(InterpKind::String, parts, tok.end())))
                    }
                }
            }
            Tok::DollarCurly => {
                let node = self.antiquotation()?;
                self.advance()?;
                match self.ast.node(node) {
                    Node::Str(text) => Ok(AttrName::Static(Sym::new(self.ast.bytes(text)))),
                    _ => Ok(AttrName::Dynamic(node)),
                }
            }
            _ => Err(self.unexpected(&["identifier", "'or'", "'${'", "'\"'"])),
        }
    }

    /// Bindings up to (not past) the closing token.
    fn bindings(&mut self, close: Tok) -> PResult<u32> {
        self.deeper()?;
        let mut set = crate::bindings::Builder::new();
        while self.tok.kind != close {
            let start = self.tok.start();
            match self.tok.kind {
                Tok::Inherit => {
                    self.advance()?;
                    let mut kind = AttrKind::Inherited;
                    let mut from_pos = start;
                    if self.at(b'(') {
                        self.advance()?;
                        from_pos = self.tok.start();
                        let from = self.expr()?;
                        self.expect(Tok(b')'))?;
                        kind = AttrKind::InheritedFrom(set.inherit_from(from));
                    }
                    let mut inherited = Vec::new();
                    while !self.at(b';') {
                        let pos = self.tok.start();
                        if !matches!(self.tok.kind, Tok::Id | Tok::OrKw | Tok::Quote | Tok::DollarCurly) {
                            return Err(self.unexpected(&[]));
                        }
                        let AttrName::Static(name) = self.attr_name()? else {
                            return Err(self.error_at(pos, "dynamic attributes not allowed in inherit"));
                        };
                        let value = match kind {
                            AttrKind::InheritedFrom(n) => {
                                let base = self.add(Node::InheritFrom(n), from_pos);
                                let path = self.add_names(&[AttrName::Static(name)]);
                                self.add(Node::Select { base, path, default: None }, pos)
                            }
                            _ => self.add(Node::Var(name), pos),
                        };
                        inherited.push(AttrDef { name, pos: pos as u32, kind, value });
                    }
                    self.advance()?;
                    for def in inherited {
                        set.inherit(self, def)?;
                    }
                }
                Tok::Id | Tok::OrKw | Tok::Quote | Tok::DollarCurly => {
                    let path = self.attr_path()?;
                    self.expect(Tok(b'='))?;
                    let value = self.expr()?;
                    self.expect(Tok(b';'))?;
                    set.add(self, &path, value, start as u32)?;
                }
                _ => {
                    let close = close.describe();
                    let expected = [close.as_str()];
                    return Err(self.unexpected(if set.is_empty() { &[] } else { &expected }));
                }
            }
        }
        self.depth -= 1;
        let index = self.sets.len() as u32;
        self.sets.push(set.finish());
        Ok(index)
    }
}
