//! What evaluations of flakes gave, kept between runs: the reference's databases, one for each locked flake.
//!
//! A cache that cannot be used is no error: all is evaluated then.

use firn_core::{Hash, HashFormat, SingleDerivedPath, StorePath};
use firn_eval::ContextElem;
use rusqlite::{Connection, OptionalExtension, params};
use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The folder in the user's cache.
const FOLDER: &str = "eval-cache-v6";

const SCHEMA: &str = "create table if not exists Attributes (
    parent integer not null, name text, type integer not null, value text, context text, primary key (parent, name)
);";

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// It is there.
    Placeholder,
    /// A set with all its names.
    Attrs(Vec<String>),
    /// With the elements of its context.
    Text(String, Vec<String>),
    Missing,
    /// None of the others.
    Other,
    /// It cannot be evaluated.
    Failed,
    Bool(bool),
    Texts(Vec<String>),
    Int(i64),
}

impl Known {
    fn kind(&self) -> i64 {
        match self {
            Self::Placeholder => 0,
            Self::Attrs(_) => 1,
            Self::Text(..) => 2,
            Self::Missing => 3,
            Self::Other => 4,
            Self::Failed => 5,
            Self::Bool(_) => 6,
            Self::Texts(_) => 7,
            Self::Int(_) => 8,
        }
    }
}

/// A value by the row of the set that it is in, and its name there.
pub type Key<'a> = (i64, &'a str);

/// A row of the database.
#[derive(Clone)]
struct Row {
    id: i64,
    kind: i64,
    value: String,
    context: String,
}

impl Row {
    /// Of these columns, in this order.
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
        let text = |at: usize| -> rusqlite::Result<String> {
            // Numbers are kept as such, or as text.
            Ok(match row.get_ref(at)? {
                rusqlite::types::ValueRef::Null => String::new(),
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                other => String::from_utf8_lossy(other.as_bytes()?).into_owned(),
            })
        };
        Ok(Row { id: row.get(0)?, kind: row.get(1)?, value: text(2)?, context: text(3)? })
    }
}

/// Values of a set that were read at once: those whose names lie between two.
struct Window {
    parent: i64,
    from: String,
    /// In the order of names.
    rows: Vec<(String, Row)>,
    /// There are none after these.
    is_last: bool,
}

impl Window {
    /// What is known of a value, if it lies here.
    fn find(&self, name: &str) -> Option<Option<&Row>> {
        let ends_before = !self.is_last && self.rows.last().is_none_or(|(last, _)| last.as_str() < name);
        if name < self.from.as_str() || ends_before {
            return None;
        }
        let found = self.rows.binary_search_by(|(other, _)| other.as_str().cmp(name));
        Some(found.ok().map(|at| &self.rows[at].1))
    }
}

/// How many values are read at once where many are looked at in turn.
const WINDOW: i64 = 64;

/// How many look-ups in a row show that many are looked at.
const MANY: u32 = 4;

/// How many sets there may be windows of: as many as lie within each other.
const WINDOWS: usize = 8;

/// Windows, the one used last first, and how many values were looked up since something was written.
#[derive(Default)]
struct Ahead {
    windows: Vec<Window>,
    looked_up: u32,
}

/// One database; everything is written when it is closed.
pub struct EvalCache {
    /// Nothing after something went wrong.
    db: RefCell<Option<Connection>>,
    ahead: RefCell<Ahead>,
}

/// An element of a context as it is kept.
pub fn context_element(element: &ContextElem) -> Option<String> {
    match element {
        ContextElem::Opaque(path) => Some(path.base_name().to_string()),
        ContextElem::DrvDeep(path) => Some(format!("={}", path.base_name())),
        ContextElem::Built { drv, output } => match &**drv {
            SingleDerivedPath::Opaque(path) => Some(format!("!{output}!{}", path.base_name())),
            SingleDerivedPath::Built { .. } => None,
        },
    }
}

/// The element that is kept so; nothing if it is none.
pub fn parse_element(text: &str) -> Option<ContextElem> {
    let path = |text: &str| StorePath::from_base_name(text).ok();
    match text.as_bytes().first()? {
        b'=' => Some(ContextElem::DrvDeep(path(&text[1..])?)),
        b'!' => {
            let (output, drv) = text[1..].split_once('!')?;
            let drv = Arc::new(SingleDerivedPath::Opaque(path(drv)?));
            Some(ContextElem::Built { drv, output: output.to_owned() })
        }
        _ => Some(ContextElem::Opaque(path(text)?)),
    }
}

impl EvalCache {
    /// Opens the database of a flake in the user's cache folder.
    pub fn open(cache: &Path, fingerprint: &Hash) -> Option<EvalCache> {
        let folder = cache.join(FOLDER);
        std::fs::create_dir_all(&folder).ok()?;
        let file = folder.join(format!("{}.sqlite", fingerprint.to_base(HashFormat::Base16)));
        let open = || -> rusqlite::Result<Connection> {
            let db = Connection::open(&file)?;
            // Somebody else who evaluates the same writes the same.
            db.busy_timeout(Duration::from_millis(100))?;
            db.pragma_update(None, "synchronous", "off")?;
            db.pragma_update(None, "journal_mode", "wal")?;
            db.execute_batch(SCHEMA)?;
            db.execute_batch("begin")?;
            Ok(db)
        };
        Some(EvalCache { db: RefCell::new(Some(open().ok()?)), ahead: RefCell::default() })
    }

    fn with<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Option<T> {
        let result = f(self.db.borrow().as_ref()?);
        match result {
            Ok(value) => Some(value),
            Err(_) => {
                *self.db.borrow_mut() = None;
                None
            }
        }
    }

    /// Something is written: what was read ahead may be wrong.
    fn with_write<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Option<T> {
        *self.ahead.borrow_mut() = Ahead::default();
        self.with(f)
    }

    /// A value's row. Where many are looked up and nothing is written in between, as a search does, those whose names come
    /// next are read with it.
    fn row(&self, (parent, name): Key<'_>) -> Option<Option<Row>> {
        let ahead = &mut *self.ahead.borrow_mut();
        let at = ahead.windows.iter().position(|window| window.parent == parent);
        if let Some(at) = at {
            ahead.windows[..=at].rotate_right(1);
            if let Some(found) = ahead.windows[0].find(name) {
                return Some(found.cloned());
            }
            ahead.windows.remove(0);
        }
        ahead.looked_up += 1;
        if ahead.looked_up <= MANY {
            return self.with(|db| {
                let mut query = db.prepare_cached(
                    "select rowid, type, value, context from Attributes where parent = ? and name = ?",
                )?;
                query.query_row(params![parent, name], Row::of).optional()
            });
        }
        // Most sets are small, and not looked through in the order of names.
        let whole = if at.is_none() { Some(self.window(parent, "")?) } else { None };
        let window = match whole.filter(|window| window.find(name).is_some()) {
            Some(window) => window,
            None => self.window(parent, name)?,
        };
        let found = window.find(name).flatten().cloned();
        ahead.windows.truncate(WINDOWS - 1);
        ahead.windows.insert(0, window);
        Some(found)
    }

    /// Reads the values of a set from a name on.
    fn window(&self, parent: i64, from: &str) -> Option<Window> {
        let rows = self.with(|db| {
            let mut query = db.prepare_cached(
                "select rowid, type, value, context, name from Attributes where parent = ? and name >= ? \
                 order by name limit ?",
            )?;
            let rows =
                query.query_map(params![parent, from, WINDOW], |row| Ok((row.get(4)?, Row::of(row)?)))?;
            rows.collect::<rusqlite::Result<Vec<(String, Row)>>>()
        })?;
        Some(Window { parent, from: from.to_owned(), is_last: rows.len() < WINDOW as usize, rows })
    }

    /// What is known of a value, and its row.
    pub fn get(&self, key: Key<'_>) -> Option<(i64, Known)> {
        let Row { id, kind, value, context } = self.row(key)??;
        self.with(|db| {
            let words = |text: &str, at: char| -> Vec<String> {
                text.split(at).filter(|word| !word.is_empty()).map(str::to_owned).collect()
            };
            let known = match kind {
                0 => Known::Placeholder,
                1 => {
                    let mut names = db.prepare_cached("select name from Attributes where parent = ?")?;
                    let names = names.query_map([id], |row| row.get(0))?;
                    let mut names: Vec<String> = names.collect::<rusqlite::Result<_>>()?;
                    names.sort();
                    Known::Attrs(names)
                }
                2 => Known::Text(value, words(&context, ' ')),
                3 => Known::Missing,
                4 => Known::Other,
                5 => Known::Failed,
                6 => Known::Bool(value != "0" && !value.is_empty()),
                7 => Known::Texts(words(&value, '\t')),
                8 => match value.parse() {
                    Ok(number) => Known::Int(number),
                    Err(_) => return Ok(None),
                },
                _ => return Ok(None),
            };
            Ok(Some((id, known)))
        })?
    }

    /// Makes of a row that of a set with all its names; what is known of some of them stays.
    pub fn complete(&self, row: i64, names: &[String]) {
        self.with_write(|db| {
            let (kind, missing) = (Known::Attrs(Vec::new()).kind(), Known::Missing.kind());
            db.execute("delete from Attributes where parent = ? and type = ?", params![row, missing])?;
            db.execute("update Attributes set type = ?, value = null where rowid = ?", params![kind, row])?;
            let mut insert =
                db.prepare_cached("insert or ignore into Attributes(parent, name, type) values (?, ?, ?)")?;
            for name in names {
                insert.execute(params![row, name, Known::Placeholder.kind()])?;
            }
            Ok(())
        });
    }

    /// Keeps what is known of a value; its row.
    pub fn set(&self, key: Key<'_>, known: &Known) -> Option<i64> {
        self.with_write(|db| {
            let mut insert = db.prepare_cached(
                "insert or replace into Attributes(parent, name, type, value, context) values (?, ?, ?, ?, ?)",
            )?;
            let (value, context): (Option<rusqlite::types::Value>, Option<String>) = match known {
                Known::Text(text, context) => {
                    (Some(text.clone().into()), (!context.is_empty()).then(|| context.join(" ")))
                }
                Known::Bool(flag) => (Some(i64::from(*flag).into()), None),
                Known::Int(number) => (Some((*number).into()), None),
                Known::Texts(texts) => (Some(texts.join("\t").into()), None),
                _ => (None, None),
            };
            insert.execute(params![key.0, key.1, known.kind(), value, context])?;
            let id = db.last_insert_rowid();
            if let Known::Attrs(names) = known {
                for name in names {
                    let none: Option<String> = None;
                    insert.execute(params![id, name, Known::Placeholder.kind(), none, none])?;
                }
            }
            Ok(id)
        })
    }
}

impl Drop for EvalCache {
    fn drop(&mut self) {
        if let Some(db) = self.db.borrow_mut().take() {
            let _ = db.execute_batch("commit");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firn_core::HashAlgo;

    #[test]
    fn round() {
        let dir = tempfile::tempdir().expect("a folder");
        let hash = Hash::of(HashAlgo::Sha256, b"x");
        let all = [
            Known::Placeholder,
            Known::Text("a b".into(), vec!["x".into(), "!out!y.drv".into()]),
            Known::Text(String::new(), Vec::new()),
            Known::Missing,
            Known::Other,
            Known::Failed,
            Known::Bool(true),
            Known::Bool(false),
            Known::Texts(vec!["a".into(), "b c".into()]),
            Known::Int(-7),
        ];
        {
            let cache = EvalCache::open(dir.path(), &hash).expect("a cache");
            let root = cache.set((0, ""), &Known::Attrs(vec!["b".into(), "a".into()])).expect("a row");
            for (number, known) in all.iter().enumerate() {
                cache.set((root, &format!("n{number}")), known).expect("a row");
            }
        }
        let cache = EvalCache::open(dir.path(), &hash).expect("a cache");
        let (root, Known::Attrs(names)) = cache.get((0, "")).expect("the root") else { panic!("a set") };
        assert_eq!(names[..2], ["a", "b"]);
        for (number, known) in all.iter().enumerate() {
            assert_eq!(cache.get((root, &format!("n{number}"))).expect("a row").1, *known);
        }
        assert_eq!(cache.get((root, "c")), None);
    }

    #[test]
    fn many_in_turn() {
        let dir = tempfile::tempdir().expect("a folder");
        let cache = EvalCache::open(dir.path(), &Hash::of(HashAlgo::Sha256, b"m")).expect("a cache");
        let name = |number: usize| format!("n{number:03}");
        let names: Vec<String> = (0..300).map(name).collect();
        let root = cache.set((0, ""), &Known::Attrs(names.clone())).expect("a row");
        for (number, name) in names.iter().enumerate() {
            if number % 3 == 0 {
                cache.set((root, name), &Known::Int(number as i64)).expect("a row");
            }
        }
        let expected = |number: usize| match number % 3 {
            0 => Known::Int(number as i64),
            _ => Known::Placeholder,
        };
        let known = |key: Key<'_>| cache.get(key).map(|(_, known)| known);
        // Forwards, backwards, and beside another set.
        let other = cache.set((root, "other"), &Known::Attrs(vec!["a".into()])).expect("a row");
        for number in (0..300).chain((0..300).rev()) {
            assert_eq!(known((root, &names[number])), Some(expected(number)));
            let none = format!("{}x", names[number]);
            assert_eq!(known((root, &none)), None);
            assert_eq!(known((other, "a")), Some(Known::Placeholder));
            assert_eq!(known((other, "b")), None);
        }
        assert_eq!(known((root, "z")), None);
        // What is written is seen.
        cache.set((root, "n100"), &Known::Bool(true)).expect("a row");
        cache.set((other, "b"), &Known::Bool(false)).expect("a row");
        assert_eq!(known((root, "n100")), Some(Known::Bool(true)));
        assert_eq!(known((other, "b")), Some(Known::Bool(false)));
        let (row, _) = cache.get((root, "n101")).expect("a row");
        cache.complete(row, &["in".into()]);
        assert_eq!(known((root, "n101")), Some(Known::Attrs(vec!["in".into()])));
        assert_eq!(known((row, "in")), Some(Known::Placeholder));
    }

    #[test]
    fn contexts() {
        let base = "0123456789abcdfghijklmnpqrsvwxyz-x.drv";
        for text in [base.to_owned(), format!("={base}"), format!("!out!{base}")] {
            let element = parse_element(&text).expect("an element");
            assert_eq!(context_element(&element), Some(text));
        }
        for text in ["", "=", "!out", "!out!x", "x"] {
            assert!(parse_element(text).is_none(), "{text}");
        }
    }

    #[test]
    fn completion() {
        let dir = tempfile::tempdir().expect("a folder");
        let hash = Hash::of(HashAlgo::Sha256, b"z");
        let cache = EvalCache::open(dir.path(), &hash).expect("a cache");
        let row = cache.set((0, ""), &Known::Placeholder).expect("a row");
        cache.set((row, "gone"), &Known::Missing).expect("a row");
        cache.set((row, "a"), &Known::Int(1)).expect("a row");
        cache.complete(row, &["a".to_owned(), "b".to_owned()]);
        assert_eq!(cache.get((0, "")), Some((row, Known::Attrs(vec!["a".to_owned(), "b".to_owned()]))));
        assert_eq!(cache.get((row, "a")).expect("a row").1, Known::Int(1));
        assert_eq!(cache.get((row, "gone")), None);
    }

    #[test]
    fn damaged() {
        let dir = tempfile::tempdir().expect("a folder");
        let hash = Hash::of(HashAlgo::Sha256, b"y");
        let folder = dir.path().join(FOLDER);
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join(format!("{}.sqlite", hash.to_base(HashFormat::Base16)));
        std::fs::write(&file, [b'x'; 5000]).expect("a file");
        assert!(EvalCache::open(dir.path(), &hash).is_none());
    }
}
