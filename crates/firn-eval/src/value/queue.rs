//! Values that will be needed, for other threads to evaluate ahead.

use super::heap;
use super::word::Value;
use parking_lot::{Condvar, Mutex};
use rustc_hash::{FxBuildHasher, FxHashSet};
use std::collections::VecDeque;

/// What is to be done with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ahead {
    /// It is evaluated, and the names and types of the packages in it.
    Find,
    /// It is evaluated; if it is a list, its elements; and the output paths of derivations.
    Derive,
    /// It is a package whose derivation's path is needed.
    DrvPath,
    /// Also its output paths and meta attributes.
    Package,
    /// It may be a package whose name and description are needed.
    Describe,
    /// It becomes a string.
    Text,
    /// It is written as JSON.
    Json,
    /// It is evaluated with all that is in it.
    Deep,
}

/// A value to be evaluated ahead, and how deep the calls were where it will be needed.
#[derive(Clone, Copy)]
pub struct Task {
    pub value: Value,
    pub what: Ahead,
    pub depth: usize,
}

struct Queue {
    tasks: VecDeque<Task>,
    /// Words of values that failed: whoever fails may offer what fails again, for ever. Memory that is given back and used
    /// again makes some of them others, which are then evaluated in their turn.
    failed: FxHashSet<u64>,
    /// Threads that have nothing to do.
    idle: usize,
    cores: usize,
    stopping: bool,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    tasks: VecDeque::new(),
    failed: FxHashSet::with_hasher(FxBuildHasher),
    idle: 0,
    cores: 1,
    stopping: false,
});
static CHANGED: Condvar = Condvar::new();
/// More than this are not kept: what comes first is needed first.
const LONGEST: usize = 1 << 16;

pub(super) fn each_word(mut f: impl FnMut(u64)) {
    QUEUE.lock().tasks.iter().for_each(|task| f(task.value.word()));
}

/// How many threads may run.
pub(super) fn cores() -> usize {
    QUEUE.lock().cores
}

/// Sets how many threads may run, and lets them take tasks.
pub fn open(cores: usize) {
    let mut queue = QUEUE.lock();
    queue.cores = cores;
    queue.stopping = false;
}

/// Drops all tasks; threads that ask for more get none.
pub fn close() {
    let mut queue = QUEUE.lock();
    queue.stopping = true;
    queue.tasks.clear();
    queue.failed.clear();
    CHANGED.notify_all();
}

pub fn offer(tasks: impl Iterator<Item = Task>) {
    let mut queue = QUEUE.lock();
    let queue = &mut *queue;
    let room = LONGEST.saturating_sub(queue.tasks.len());
    queue.tasks.extend(tasks.filter(|task| !queue.failed.contains(&task.value.word())).take(room));
    for _ in 0..queue.idle.min(queue.tasks.len()) {
        CHANGED.notify_one();
    }
}

/// Says that a task has failed. It is not taken again.
pub fn note_failure(task: &Task) {
    let mut queue = QUEUE.lock();
    if queue.failed.len() < LONGEST {
        queue.failed.insert(task.value.word());
    }
}

/// The next task, as soon as there is one; none when there will be no more.
pub fn take() -> Option<Task> {
    loop {
        {
            let mut queue = QUEUE.lock();
            if queue.stopping {
                return None;
            }
            if let Some(task) = queue.tasks.pop_back() {
                return Some(task);
            }
        }
        // A task is not taken in here: while this thread counts as stopped, the collector may be looking for values.
        heap::blocking(|| {
            let mut queue = QUEUE.lock();
            queue.idle += 1;
            while !queue.stopping && queue.tasks.is_empty() {
                CHANGED.wait(&mut queue);
            }
            queue.idle -= 1;
        });
    }
}
