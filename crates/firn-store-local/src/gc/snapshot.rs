//! What the database knows of all valid paths at one moment, as numbers: liveness is found out in memory.

use crate::db::Db;
use firn_core::{StoreDir, StorePath};
use firn_store::{StoreError, StoreResult};
use rustc_hash::FxHashMap;

/// All valid paths. A path's number is its place in the order of row numbers.
pub(crate) struct Snapshot {
    pub(crate) paths: Vec<StorePath>,
    /// Row numbers in the database.
    pub(crate) rows: Vec<i64>,
    pub(crate) nar_sizes: Vec<u64>,
    references: Edges,
    /// Outputs of derivations that are valid, and valid derivers of outputs, as far as settings want them kept.
    companions: Edges,
    numbers: FxHashMap<StorePath, u32>,
}

/// For each number the numbers that it leads to.
#[derive(Default)]
struct Edges {
    /// Where the targets of each number start.
    starts: Vec<u32>,
    targets: Vec<u32>,
}

impl Edges {
    /// From pairs in any order.
    fn new(count: usize, mut pairs: Vec<(u32, u32)>) -> Edges {
        if !pairs.is_sorted() {
            pairs.sort_unstable();
        }
        let mut starts = vec![0; count + 1];
        for (from, _) in &pairs {
            starts[*from as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        Edges { starts, targets: pairs.into_iter().map(|(_, to)| to).collect() }
    }

    fn of(&self, number: u32) -> &[u32] {
        let at = number as usize;
        match (self.starts.get(at), self.starts.get(at + 1)) {
            (Some(start), Some(end)) => &self.targets[*start as usize..*end as usize],
            _ => &[],
        }
    }
}

/// Which companions keep each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// A live derivation keeps its outputs.
    pub(crate) outputs: bool,
    /// A live output keeps its deriver.
    pub(crate) derivations: bool,
}

impl Snapshot {
    /// Reads everything in one transaction.
    pub(crate) fn load(db: &Db, dir: &StoreDir, keep: Keep) -> StoreResult<Snapshot> {
        let mut snapshot = Snapshot {
            paths: Vec::new(),
            rows: Vec::new(),
            nar_sizes: Vec::new(),
            references: Edges::default(),
            companions: Edges::default(),
            numbers: FxHashMap::default(),
        };
        let mut bad = None;
        db.read(|c| {
            let txn = c.unchecked_transaction()?;
            let mut derivers: Vec<(u32, String)> = Vec::new();
            let mut by_row: FxHashMap<i64, u32> = FxHashMap::default();
            let mut rows = txn.prepare("select id, path, narSize, deriver from ValidPaths order by id")?;
            let mut rows = rows.query([])?;
            while let Some(row) = rows.next()? {
                let text = row.get_ref(1)?.as_str()?;
                let path = match dir.parse(text) {
                    Ok(path) => path,
                    Err(error) => {
                        bad = Some(StoreError::Corrupt(format!("the database has a bad path: {error}")));
                        return Ok(());
                    }
                };
                let number = snapshot.paths.len() as u32;
                let id = row.get(0)?;
                by_row.insert(id, number);
                snapshot.numbers.insert(path.clone(), number);
                snapshot.paths.push(path);
                snapshot.rows.push(id);
                let size: Option<i64> = row.get(2)?;
                snapshot.nar_sizes.push(size.and_then(|n| u64::try_from(n).ok()).unwrap_or(0));
                if keep.derivations
                    && let Some(deriver) = row.get_ref(3)?.as_str_or_null()?
                    && !deriver.is_empty()
                {
                    derivers.push((number, deriver.to_owned()));
                }
            }
            drop(rows);
            let count = snapshot.paths.len();
            let mut pairs = Vec::new();
            let mut statement = txn.prepare("select referrer, reference from Refs order by referrer")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (from, to): (i64, i64) = (row.get(0)?, row.get(1)?);
                if let (Some(from), Some(to)) = (by_row.get(&from), by_row.get(&to)) {
                    pairs.push((*from, *to));
                }
            }
            drop(rows);
            snapshot.references = Edges::new(count, pairs);
            let mut pairs = Vec::new();
            for (number, deriver) in derivers {
                if let Some(deriver) = dir.parse(&deriver).ok().and_then(|path| snapshot.number(&path)) {
                    pairs.push((number, deriver));
                }
            }
            if keep.outputs {
                let mut statement = txn.prepare(
                    "select d.drv, v.id from DerivationOutputs d join ValidPaths v on v.path = d.path",
                )?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    let (from, to): (i64, i64) = (row.get(0)?, row.get(1)?);
                    if let (Some(from), Some(to)) = (by_row.get(&from), by_row.get(&to)) {
                        pairs.push((*from, *to));
                    }
                }
            }
            snapshot.companions = Edges::new(count, pairs);
            Ok(())
        })?;
        match bad {
            None => Ok(snapshot),
            Some(error) => Err(error),
        }
    }

    pub(crate) fn number(&self, path: &StorePath) -> Option<u32> {
        self.numbers.get(path).copied()
    }

    /// What a live path keeps alive.
    pub(crate) fn keeps(&self, number: u32) -> impl Iterator<Item = u32> {
        self.references.of(number).iter().chain(self.companions.of(number)).copied()
    }

    /// Numbers of which `wanted` holds, each before those of them that it refers to.
    pub(crate) fn referrers_first(&self, wanted: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.paths.len()];
        let mut stack: Vec<(u32, usize)> = Vec::new();
        // The newest come first in the end, which are those that others rarely refer to.
        for start in 0..self.paths.len() as u32 {
            if !wanted(start) || std::mem::replace(&mut seen[start as usize], true) {
                continue;
            }
            stack.push((start, 0));
            while let Some((number, next)) = stack.last_mut() {
                let Some(reference) = self.references.of(*number).get(*next) else {
                    order.push(*number);
                    stack.pop();
                    continue;
                };
                *next += 1;
                if wanted(*reference) && !std::mem::replace(&mut seen[*reference as usize], true) {
                    stack.push((*reference, 0));
                }
            }
        }
        order.reverse();
        order
    }
}
