//! Values that will be needed, for other threads to evaluate ahead.

use super::heap;
use super::thunk::ThunkState;
use super::word::Value;
use parking_lot::{Condvar, Mutex};
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
    /// Threads that have nothing to do.
    idle: usize,
    cores: usize,
    stopping: bool,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { tasks: VecDeque::new(), idle: 0, cores: 1, stopping: false });
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
    CHANGED.notify_all();
}

pub fn offer(tasks: impl Iterator<Item = Task>) {
    let mut queue = QUEUE.lock();
    let room = LONGEST.saturating_sub(queue.tasks.len());
    queue.tasks.extend(tasks.take(room));
    for _ in 0..queue.idle.min(queue.tasks.len()) {
        CHANGED.notify_one();
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

/// A task for a thread that would have to wait for another, if there is one that nobody works on.
pub fn take_now() -> Option<Task> {
    let mut queue = QUEUE.lock();
    while !queue.stopping {
        let task = queue.tasks.pop_back()?;
        let begun =
            task.value.as_thunk().is_some_and(|thunk| matches!(thunk.state(), ThunkState::Claimed(_)));
        if !begun {
            return Some(task);
        }
    }
    None
}
