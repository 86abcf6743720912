//! Nodes of large trees that lie elsewhere and are read in runs, when one of a run is looked at: of package sets, most of
//! what is written is never looked at.

use super::raw::{self, RawNode};
use std::fmt;
use std::sync::OnceLock;

/// How many nodes are read at once.
const RUN: usize = 256;

/// Where a tree's words can be read again.
pub trait NodeSource: Send + Sync {
    /// Fills `words` with those of the tree from the number `start` on; false if that cannot be done.
    fn read(&self, start: usize, words: &mut [u32]) -> bool;
}

/// What a panic says when nodes can no longer be read that could be read before: somebody cut the file short. Nothing that
/// looks at a tree expects that, and what has been made of it cannot be told from what has not.
#[derive(Debug, Clone, Copy)]
pub struct LostTree;

pub(crate) struct FarNodes {
    source: Box<dyn NodeSource>,
    /// Where the nodes start in the tree.
    start: usize,
    count: usize,
    /// Symbols by their numbers in the tree.
    symbols: Vec<u32>,
    runs: Box<[OnceLock<Box<[RawNode]>>]>,
}

impl fmt::Debug for FarNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} nodes elsewhere", self.count)
    }
}

impl FarNodes {
    pub(crate) fn new(
        source: Box<dyn NodeSource>,
        start: usize,
        count: usize,
        symbols: Vec<u32>,
    ) -> FarNodes {
        let runs = (0..count.div_ceil(RUN)).map(|_| OnceLock::new()).collect();
        FarNodes { source, start, count, symbols, runs }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, id: usize) -> Option<RawNode> {
        let run = self.runs.get(id / RUN)?.get_or_init(|| self.load(id / RUN));
        run.get(id % RUN).copied()
    }

    #[cold]
    fn load(&self, run: usize) -> Box<[RawNode]> {
        let first = run * RUN;
        let mut nodes = vec![[0; 5]; RUN.min(self.count - first)];
        // All of it was read once, and checked.
        let read = self.source.read(self.start + first * size_of::<RawNode>() / 4, nodes.as_flattened_mut());
        if !read {
            std::panic::panic_any(LostTree);
        }
        raw::translate(&mut nodes, &self.symbols);
        nodes.into()
    }
}
