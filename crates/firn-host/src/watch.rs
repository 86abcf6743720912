//! Watching calls: a line for each, or a profile of stacks.

use firn_eval::{CallWatcher, Callee, EvalHost, Place, Pos};
use firn_store::activity::{Logger, Verbosity};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// `trace-function-calls`: says when each call starts and ends.
pub struct FunctionTrace {
    pub host: Arc<dyn EvalHost>,
    pub logger: Arc<dyn Logger>,
}

impl FunctionTrace {
    fn say(&self, what: &str, pos: Pos) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let place = shown(pos.place(&*self.host));
        self.logger.log(Verbosity::Info, format!("function-trace {what} {place} at {now}").as_bytes());
    }
}

fn shown(place: Option<Place>) -> String {
    place.map_or_else(|| "«none»:0".to_owned(), |place| place.display())
}

impl CallWatcher for FunctionTrace {
    fn wants_derivations(&self) -> bool {
        false
    }

    fn enter(&mut self, _: &Callee, pos: Pos) {
        self.say("entered", pos);
    }

    fn leave(&mut self, pos: Pos) {
        self.say("exited", pos);
    }
}

type Frame = (Callee, Pos);

/// The flame-graph profiler: samples of the stack, written as one line for each with its count.
pub struct Profiler {
    host: Arc<dyn EvalHost>,
    out: Box<dyn Write + Send>,
    /// Between samples; none for a sample at every call.
    interval: Duration,
    stack: Vec<Frame>,
    counts: BTreeMap<Vec<Frame>, u64>,
    sampled: Instant,
    saved: Instant,
    places: FxHashMap<Pos, Option<String>>,
}

/// How long samples are kept before they are written.
const SAVE_INTERVAL: Duration = Duration::from_secs(2);

impl Profiler {
    /// Samples `frequency` times a second, or at every call for 0.
    pub fn new(host: Arc<dyn EvalHost>, out: Box<dyn Write + Send>, frequency: u32) -> Profiler {
        let interval = Duration::from_secs(1).checked_div(frequency).unwrap_or_default();
        let now = Instant::now();
        Profiler {
            host,
            out,
            interval,
            stack: Vec::new(),
            counts: BTreeMap::new(),
            sampled: now,
            saved: now,
            places: FxHashMap::default(),
        }
    }

    fn place(&mut self, pos: Pos) -> Option<String> {
        let host = &self.host;
        self.places.entry(pos).or_insert_with(|| pos.place(&**host).map(|place| place.display())).clone()
    }

    fn frame(&mut self, (callee, pos): &Frame) -> String {
        let none = || "«none»:0".to_owned();
        let at = self.place(*pos);
        let prefix = at.clone().map(|at| at + ":").unwrap_or_default();
        match callee {
            Callee::Lambda { pos, name } => {
                let at = at.or_else(|| self.place(*pos)).unwrap_or_else(none);
                name.map_or(at.clone(), |name| format!("{at}:{name}"))
            }
            Callee::Builtin(name) => format!("{prefix}primop {name}"),
            Callee::Derivation(name) => {
                format!("{prefix}primop derivationStrict:{}", String::from_utf8_lossy(name))
            }
            Callee::Functor(pos) => {
                format!("{}:functor", at.or_else(|| self.place(*pos)).unwrap_or_else(none))
            }
            Callee::Other => at.unwrap_or_else(none),
        }
    }

    fn save(&mut self) -> std::io::Result<()> {
        for (stack, count) in std::mem::take(&mut self.counts) {
            let frames: Vec<String> = stack.iter().map(|frame| self.frame(frame)).collect();
            writeln!(self.out, "{} {count}", frames.join(";"))?;
        }
        self.out.flush()
    }
}

impl CallWatcher for Profiler {
    fn wants_derivations(&self) -> bool {
        true
    }

    fn enter(&mut self, callee: &Callee, pos: Pos) {
        self.stack.push((callee.clone(), pos));
        let now = Instant::now();
        if self.interval.is_zero() || now - self.sampled > self.interval {
            *self.counts.entry(self.stack.clone()).or_default() += 1;
            self.sampled = now;
        }
        if now - self.saved >= SAVE_INTERVAL {
            // A profile that cannot be written is told of at the end.
            if self.save().is_ok() {
                self.saved = Instant::now();
            }
        }
    }

    fn leave(&mut self, _: Pos) {
        self.stack.pop();
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        if let Err(error) = self.save() {
            self.host.warn(&format!("writing the profile: {error}"));
        }
    }
}
