//! What settings and flags tell the evaluator.

/// An entry of the search path: `prefix=target` or just `target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPathEntry {
    pub prefix: Vec<u8>,
    pub target: Vec<u8>,
}

impl SearchPathEntry {
    /// Parses `prefix=path` or `path`.
    pub fn parse(text: &[u8]) -> SearchPathEntry {
        match memchr::memchr(b'=', text) {
            Some(n) => SearchPathEntry { prefix: text[..n].to_vec(), target: text[n + 1..].to_vec() },
            None => SearchPathEntry { prefix: Vec::new(), target: text.to_vec() },
        }
    }
}

/// Settings of one evaluation.
#[derive(Clone, Debug)]
pub struct EvalSettings {
    /// `builtins.currentSystem`.
    pub system: String,
    pub search_path: Vec<SearchPathEntry>,
    pub max_call_depth: usize,
    /// How many threads may evaluate at once; 0 for as many as the machine has processors.
    pub cores: usize,
    pub pure_eval: bool,
    /// A commit of a forge is enough to know what its archive is (`trust-tarballs-from-git-forges`).
    pub trust_forges: bool,
    pub restrict_eval: bool,
    pub allowed_uris: Vec<String>,
    pub trace_verbose: bool,
    pub abort_on_warn: bool,
    pub allow_import_from_derivation: bool,
    pub show_trace: bool,
    /// Calls are told to watchers: [`crate::Vm::watch_calls`], [`crate::Vm::count_calls`].
    pub watch_calls: bool,
    /// Code keeps what a debugger needs: [`crate::Vm::attach_debugger`].
    pub debugger: bool,
    /// The debugger does not stop inside `tryEval`.
    pub ignore_try: bool,
    /// The debugger stops at `builtins.trace` and `builtins.warn`.
    pub debugger_on_trace: bool,
    /// The debugger stops at `builtins.warn`.
    pub debugger_on_warn: bool,
    /// The host is asked for the time only when an expression looks at it, so that it knows whether one did.
    pub lazy_time: bool,
    /// Derivations are only computed, not written.
    pub read_only: bool,
    /// Experimental features that are on.
    pub features: Vec<String>,
    /// `$HOME`, for `~/` paths.
    pub home: Vec<u8>,
    /// What happens about discouraged literals.
    pub lints: firn_syntax::Lints,
}

impl Default for EvalSettings {
    fn default() -> Self {
        EvalSettings {
            system: "x86_64-linux".into(),
            search_path: Vec::new(),
            max_call_depth: 10_000,
            cores: 1,
            pure_eval: false,
            trust_forges: true,
            restrict_eval: false,
            allowed_uris: Vec::new(),
            trace_verbose: false,
            abort_on_warn: false,
            allow_import_from_derivation: true,
            show_trace: false,
            watch_calls: false,
            debugger: false,
            ignore_try: false,
            debugger_on_trace: false,
            debugger_on_warn: false,
            lazy_time: false,
            read_only: false,
            features: Vec::new(),
            home: b"/homeless-shelter".to_vec(),
            lints: firn_syntax::Lints::default(),
        }
    }
}

impl EvalSettings {
    pub fn has_feature(&self, name: &str) -> bool {
        self.features.iter().any(|f| f == name)
    }
}
