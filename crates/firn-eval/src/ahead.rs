//! Evaluating on several cores.
//!
//! One thread does what was asked, in the order that the language gives. Others work ahead of it: they evaluate what
//! it will surely need (packages of a walk, inputs of derivations, slow elements of what becomes text), so that it
//! finds that done. Nothing else of what they do shows: their errors are forgotten, and what would be printed, built
//! or fetched is left to be done in its turn. Results, errors and their order are therefore those of one thread.

use crate::coerce::Coerce;
use crate::context::ContextBuilder;
use crate::error::EvalResult;
use crate::shape::Special;
use crate::source::Pos;
use crate::value::queue::{self, Task};
use crate::value::{Ahead, Attrs, Kind, List, Owner, Value, waiting};
use crate::vm::{Seed, Stats, Vm, spawn_with_stack};
use firn_syntax::{Sym, sym};
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// The threads that work ahead.
#[derive(Default)]
pub(crate) struct Pool {
    threads: Mutex<Option<Vec<JoinHandle<Stats>>>>,
    running: AtomicBool,
    stopping: AtomicBool,
}

impl Pool {
    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// How many elements are evaluated before it is said how long they take.
const FIRST_ELEMENTS: usize = 4;
/// How many thunks an element must take, on average, to be worth a task: the time of a few switches between threads.
const LEAST_OF_ELEMENT: u64 = 200;
/// How many the elements that are left must take to be worth beginning with several threads: a few milliseconds.
const LEAST_OF_THREADS: u64 = 40_000;
/// The first owner of those who work ahead.
const FIRST_OWNER: Owner = 2;

/// How long the elements of a list or the values of a set take, which one thread evaluates one after the other.
pub(crate) struct Pace {
    /// [`Stats::thunks_forced`] when it was looked at last.
    forced: u64,
    offered: bool,
}

impl Pace {
    #[inline]
    pub(crate) fn new(vm: &Vm) -> Pace {
        Pace { forced: vm.stats.thunks_forced, offered: false }
    }

    /// Before one of `count` elements is evaluated: whether the others are worth being offered to other threads. It is so
    /// once at most.
    #[inline]
    pub(crate) fn is_slow(&mut self, vm: &Vm, element: usize, count: usize) -> bool {
        element >= FIRST_ELEMENTS && element.is_power_of_two() && self.measure(vm, element, count)
    }

    #[inline(never)]
    fn measure(&mut self, vm: &Vm, element: usize, count: usize) -> bool {
        let elements = if element == FIRST_ELEMENTS { element } else { element / 2 };
        let each = (vm.stats.thunks_forced - self.forced) / elements as u64;
        self.forced = vm.stats.thunks_forced;
        let left = (count - element) as u64;
        let running = vm.shared.pool.running.load(Ordering::Relaxed);
        let slow = each >= LEAST_OF_ELEMENT && left > 1 && (running || each * left >= LEAST_OF_THREADS);
        let due = slow && !self.offered && vm.has_helpers();
        self.offered |= due;
        due
    }
}

impl Vm {
    /// Whether values may be offered to other threads.
    fn has_helpers(&self) -> bool {
        self.cores() > 1 && self.watch.is_none() && !self.shared.pool.is_stopping()
    }

    /// How many threads may evaluate at once. The machine is only asked when there is something for a second one.
    fn cores(&self) -> usize {
        static OF_MACHINE: OnceLock<usize> = OnceLock::new();
        match self.settings.cores {
            0 => *OF_MACHINE.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from)),
            cores => cores,
        }
    }

    /// Lets other threads evaluate values that will be needed, as far as they are not evaluated yet.
    pub fn evaluate_ahead(&mut self, values: &mut dyn Iterator<Item = Value>, what: Ahead) {
        if !self.has_helpers() {
            return;
        }
        let depth = self.calls.len();
        let mut tasks = values.map(|value| Task { value, what, depth }).peekable();
        if tasks.peek().is_some() {
            self.start_helpers();
            queue::offer(tasks);
        }
    }

    /// [`Vm::evaluate_ahead`] for those elements of a list that are not evaluated yet.
    #[cold]
    pub(crate) fn elements_ahead(&mut self, list: List, what: Ahead) {
        self.evaluate_ahead(&mut list.iter().filter(|value| value.known().is_none()), what);
    }

    /// As [`Vm::elements_ahead`], for the values of a set.
    #[cold]
    pub(crate) fn values_ahead(&mut self, attrs: Attrs, what: Ahead) {
        let values = attrs.sorted().map(|(_, value)| value);
        self.evaluate_ahead(&mut values.filter(|value| value.known().is_none()), what);
    }

    /// [`Vm::evaluate_ahead`] for all attributes of a set, in the order that users see.
    pub fn attributes_ahead(&mut self, attrs: Attrs, what: Ahead) {
        if self.has_helpers() && attrs.len() > 1 {
            self.evaluate_ahead(&mut attrs.sorted().map(|(_, value)| value), what);
        }
    }

    fn start_helpers(&self) {
        if self.shared.pool.running.swap(true, Ordering::SeqCst) {
            return;
        }
        waiting::start_several_threads();
        queue::open(self.cores());
        let count = (self.cores() - 1).min(waiting::MAX_THREADS - FIRST_OWNER as usize);
        let threads = (0..count as Owner).filter_map(|n| {
            let seed = self.seed();
            // Without the thread it only takes longer.
            spawn_with_stack(move || work(&seed, FIRST_OWNER + n)).ok()
        });
        *self.shared.pool.threads.lock() = Some(threads.collect());
    }

    /// Ends the other threads; to be called when everything is evaluated.
    pub fn stop_helpers(&mut self) {
        let pool = &self.shared.pool;
        let Some(threads) = pool.threads.lock().take() else { return };
        pool.stopping.store(true, Ordering::SeqCst);
        queue::close();
        // While this thread waits, the others may have to collect.
        let ended: Vec<_> = crate::value::blocking(|| threads.into_iter().map(JoinHandle::join).collect());
        ended.into_iter().flatten().for_each(|stats| self.stats.add(stats));
    }

    /// Does a task; what fails is found again in its turn.
    fn work_on(&mut self, task: Task) {
        waiting::begin(self.owner);
        if !self.shared.pool.is_stopping() {
            self.enter_at_depth(task.depth);
            if self.run_ahead(task.value, task.what).is_err() {
                queue::note_failure(&task);
            }
            self.enter_at_depth(0);
        }
    }

    fn run_ahead(&mut self, value: Value, what: Ahead) -> EvalResult<()> {
        let value = self.force(value)?;
        match what {
            Ahead::Find => self.find_ahead(value),
            Ahead::Derive => self.derive_ahead(value),
            Ahead::DrvPath => self.attribute_ahead(value, "drvPath"),
            Ahead::Package => {
                self.attribute_ahead(value, "drvPath")?;
                self.attribute_ahead(value, "outPath")?;
                match value.as_attrs().and_then(|a| a.find(sym!("meta"))) {
                    Some(meta) => self.force_deep(meta),
                    None => Ok(()),
                }
            }
            Ahead::Describe => {
                self.attribute_ahead(value, "type")?;
                self.attribute_ahead(value, "name")?;
                match value.as_attrs().and_then(|a| a.find(sym!("meta"))) {
                    Some(meta) => {
                        let meta = self.force(meta)?;
                        self.attribute_ahead(meta, "description")
                    }
                    None => Ok(()),
                }
            }
            Ahead::Text => {
                let mut context = ContextBuilder::default();
                self.coerce_into(value, Coerce::PLAIN, &mut Vec::new(), &mut context, Pos::NONE, "")
            }
            Ahead::Json => self.json_ahead(value),
            Ahead::Deep => self.force_deep(value),
        }
    }

    /// What writing JSON asks of a value.
    fn json_ahead(&mut self, value: Value) -> EvalResult<()> {
        self.nested(Pos::NONE, |vm| {
            let value = vm.force(value)?;
            match value.kind() {
                Kind::List(list) => list.iter().try_for_each(|item| vm.json_ahead(item)),
                Kind::Attrs(attrs) if attrs.find(sym!("__toString")).is_some() => {
                    vm.run_ahead(value, Ahead::Text)
                }
                Kind::Attrs(attrs) => match attrs.find_special(Special::OutPath) {
                    Some(path) => vm.json_ahead(path),
                    None => attrs.sorted().try_for_each(|(_, value)| vm.json_ahead(value)),
                },
                _ => Ok(()),
            }
        })
    }

    /// What a search for packages asks of each value.
    fn find_ahead(&mut self, value: Value) -> EvalResult<()> {
        let Some(attrs) = value.as_attrs() else { return Ok(()) };
        if self.is_derivation(attrs)? {
            return self.attribute_ahead(value, "name");
        }
        match attrs.find(sym!("recurseForDerivations")) {
            Some(recurse) if self.force(recurse)? == Value::TRUE => {
                self.attributes_ahead(attrs, Ahead::Find);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What a derivation asks of each of its attributes.
    fn derive_ahead(&mut self, value: Value) -> EvalResult<()> {
        match value.kind() {
            Kind::List(list) => {
                for item in list.iter() {
                    let item = self.force(item)?;
                    self.derive_ahead(item)?;
                }
                Ok(())
            }
            Kind::Attrs(_) => self.attribute_ahead(value, "outPath"),
            _ => Ok(()),
        }
    }

    /// Evaluates an attribute to a string, if the value is a set that has it.
    fn attribute_ahead(&mut self, value: Value, name: &'static str) -> EvalResult<()> {
        let Some(value) = value.as_attrs().and_then(|a| a.find(Sym::from_static(name))) else {
            return Ok(());
        };
        let mut context = ContextBuilder::default();
        self.coerce_into(value, Coerce::PLAIN, &mut Vec::new(), &mut context, Pos::NONE, "")
    }
}

/// The life of a thread that works ahead.
fn work(seed: &Seed, owner: Owner) -> Stats {
    let mut vm = Vm::ahead(seed, owner);
    while let Some(task) = queue::take() {
        vm.work_on(task);
    }
    vm.stats
}
