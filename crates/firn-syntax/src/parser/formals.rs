//! Formal arguments: `{ a, b ? c, ... }`.

use super::{PResult, Parser};
use crate::ast::*;
use crate::lexer::Tok;
use crate::symbol::Sym;

impl Parser<'_> {
    /// Whether `{` opens formal arguments rather than a set.
    pub(super) fn looks_like_formals(&mut self) -> bool {
        let at = self.lexer.at;
        let first = self.lexer.next();
        let second = match first.kind {
            Tok::Id | Tok(b'}') => Some(self.lexer.next().kind),
            _ => None,
        };
        self.lexer.at = at;
        matches!(
            (first.kind, second),
            (Tok::Ellipsis, _)
                | (Tok(b'}'), Some(Tok(b':' | b'@')))
                | (Tok::Id, Some(Tok(b',' | b'?' | b'}')))
        )
    }

    pub(super) fn formals(&mut self) -> PResult<FormalsDraft> {
        let mut formals = FormalsDraft::default();
        self.advance()?;
        loop {
            match self.tok.kind {
                Tok(b'}') => break,
                Tok::Ellipsis => {
                    formals.ellipsis = true;
                    self.advance()?;
                    if !self.at(b'}') {
                        return Err(self.unexpected(&["'}'"]));
                    }
                    break;
                }
                Tok::Id => {
                    let tok = self.tok;
                    self.advance()?;
                    let mut default = None;
                    if self.at(b'?') {
                        self.advance()?;
                        default = Some(self.expr()?);
                    }
                    let name = Sym::new(self.text_of(tok));
                    formals.formals.push(Formal { name, pos: tok.start() as u32, default });
                    match self.tok.kind {
                        Tok(b',') => self.advance()?,
                        Tok(b'}') => break,
                        _ => return Err(self.unexpected(&["'}'", "','"])),
                    }
                }
                _ => return Err(self.unexpected(&["identifier", "'...'", "'}'"])),
            }
        }
        self.advance()?;
        formals.formals.sort_by_key(|f| (f.name, f.pos));
        Ok(formals)
    }

    pub(super) fn check_formals(
        &self,
        formals: &FormalsDraft,
        arg: Option<Sym>,
        start: usize,
    ) -> PResult<()> {
        let duplicate = formals.formals.windows(2).find(|w| w[0].name == w[1].name);
        if let Some(pair) = duplicate {
            return Err(self.error_at(
                pair[1].pos as usize,
                format!("duplicate formal function argument '{}'", pair[1].name),
            ));
        }
        match arg {
            Some(arg) if formals.formals.iter().any(|f| f.name == arg) => {
                Err(self.error_at(start, format!("duplicate formal function argument '{arg}'")))
            }
            _ => Ok(()),
        }
    }
}
