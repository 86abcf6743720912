//! Positions in source text. A [`Pos`] is a number that names a file and a byte offset in it.

use crate::host::EvalHost;
use firn_syntax::diagnostics::{LineColumn, LineIndex};
use parking_lot::RwLock;
use std::sync::{Arc, OnceLock};

/// A place in some source text; [`Pos::NONE`] is no place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pos(u32);

impl Pos {
    pub const NONE: Pos = Pos(0);

    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn from_number(number: u32) -> Pos {
        Pos(number)
    }
}

/// Where text came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, by its absolute path.
    Path(Vec<u8>),
    /// `--expr` and the like.
    String,
    Stdin,
    /// Text that is part of the program, and its name.
    Internal(&'static str),
}

/// A position made readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub origin: Origin,
    pub line: u32,
    pub column: u32,
}

impl Place {
    /// `path:line:column`, `«string»:1:2`.
    pub fn display(&self) -> String {
        let name = match &self.origin {
            Origin::Path(path) => String::from_utf8_lossy(path).into_owned(),
            Origin::String => "«string»".to_owned(),
            Origin::Stdin => "«stdin»".to_owned(),
            Origin::Internal(name) => (*name).to_owned(),
        };
        format!("{name}:{}:{}", self.line, self.column)
    }
}

struct Source {
    base: u32,
    len: u32,
    origin: Origin,
    /// Text that cannot be read again, and the directory that its paths are relative to.
    text: Option<(Arc<[u8]>, Box<[u8]>)>,
    lines: OnceLock<Option<LineIndex>>,
}

static SOURCES: RwLock<Vec<Arc<Source>>> = RwLock::new(Vec::new());

/// Registers a text and returns the position of its first byte. When more than 4 GiB of text have been
/// registered, further text has no positions.
pub(crate) fn register(origin: Origin, text: &[u8], dir: &[u8]) -> Pos {
    let keep = !matches!(origin, Origin::Path(_));
    add(origin, text.len() as u64, keep.then(|| (text.into(), dir.into())))
}

/// [`register`] for a file that cannot be read again by who shows a message, with its text.
pub(crate) fn register_kept(path: &[u8], text: &[u8]) -> Pos {
    let dir = crate::coerce::dir_of(path).into();
    add(Origin::Path(path.to_vec()), text.len() as u64, Some((text.into(), dir)))
}

/// [`register`] for a file of so many bytes.
pub(crate) fn register_file(path: &[u8], size: u64) -> Pos {
    add(Origin::Path(path.to_vec()), size, None)
}

fn add(origin: Origin, len: u64, text: Option<(Arc<[u8]>, Box<[u8]>)>) -> Pos {
    let mut sources = SOURCES.write();
    let base = sources.last().map_or(1, |s| u64::from(s.base) + u64::from(s.len) + 1);
    let (Ok(base), Ok(len)) = (u32::try_from(base), u32::try_from(len)) else { return Pos::NONE };
    if u64::from(base) + u64::from(len) >= u64::from(u32::MAX) {
        return Pos::NONE;
    }
    sources.push(Arc::new(Source { base, len, origin, text, lines: OnceLock::new() }));
    Pos(base)
}

/// The position `offset` bytes after the first of a registered text.
pub(crate) fn at(base: Pos, offset: u32) -> Pos {
    if base.is_none() { base } else { Pos(base.0 + offset) }
}

/// The position one byte before the first of a registered text, which is in no text.
pub(crate) fn before(base: Pos) -> Pos {
    if base.is_none() { base } else { Pos(base.0 - 1) }
}

/// The offset of a position in its text, and the directory that paths in the text are relative to.
pub(crate) fn offset_and_dir(pos: Pos) -> Option<(u32, Vec<u8>)> {
    let source = find(pos)?;
    let dir = match (&source.text, &source.origin) {
        (Some((_, dir)), _) => dir.to_vec(),
        (None, Origin::Path(path)) => crate::coerce::dir_of(path).to_vec(),
        _ => return None,
    };
    Some((pos.0 - source.base, dir))
}

fn find(pos: Pos) -> Option<Arc<Source>> {
    if pos.is_none() {
        return None;
    }
    let sources = SOURCES.read();
    let n = sources.partition_point(|s| s.base <= pos.0);
    sources.get(n.checked_sub(1)?).cloned()
}

impl Pos {
    /// The file that the position is in.
    pub fn origin(self) -> Option<Origin> {
        find(self).map(|s| s.origin.clone())
    }

    /// The text that the position is in, read again where it was not kept.
    pub fn text(self, host: &dyn EvalHost) -> Option<Arc<[u8]>> {
        let source = find(self)?;
        match (&source.text, &source.origin) {
            (Some((text, _)), _) => Some(text.clone()),
            (None, Origin::Path(path)) => host.read_file(path).ok().map(Into::into),
            _ => None,
        }
    }

    /// Line and column.
    pub fn place(self, host: &dyn EvalHost) -> Option<Place> {
        let source = find(self)?;
        let lines = source.lines.get_or_init(|| Some(LineIndex::new(&self.text(host)?)));
        let at = match lines {
            Some(lines) => lines.place(self.0 - source.base),
            None => LineColumn::default(),
        };
        Some(Place { origin: source.origin.clone(), line: at.line, column: at.column })
    }
}
