//! The evaluator of the Nix language.
//!
//! Text becomes a tree (firn-syntax), the tree becomes code with resolved variables ([`compile`]), and the
//! [`Vm`] runs code to values.
//!
//! Invariants: all I/O goes through [`EvalHost`]; no async runtime, no store, no file system; results and errors
//! do not depend on memory addresses or hash order.

mod ahead;
mod attrs;
mod builtins;
mod coerce;
mod compare;
mod compile;
mod context;
mod debug;
mod derivation;
mod doc;
mod error;
mod eval;
mod expr;
mod fmt;
mod host;
mod package;
mod prompt;
pub mod regex;
mod render;
mod select;
mod settings;
mod shape;
mod source;
mod source_tree;
mod syntax;
mod table;
mod value;
mod vm;
mod watch;

pub use attrs::AttrsBuilder;
pub use builtins::docs::{BUILTINS, BuiltinDoc};
pub use builtins::feature_of as feature_of_builtin;
pub use builtins::versions::{compare as compare_versions, split_name as split_package_name};
pub use coerce::{Coerce, CopyToStore, canonical as canonical_path, type_phrase};
pub use context::{Context, ContextBuilder, ContextElem};
pub use debug::{DebugAction, DebugFrame, DebugScope, DebugShell, DebugStop};
pub use error::{ErrorKind, EvalError, EvalResult, Trace, TraceKind};
pub use fmt::{
    json::{evaluated_to_json, to_json},
    print::{PrintOptions, print_value},
    suggest::{best_names, near_names},
    xml::to_xml,
};
pub use host::{
    ClosureRequest, CopySource, EvalHost, FetchRequest, FileKind, FileStamp, FlakeNode, FlakeSources,
    HostError, HostResult, ParsedFiles, PathFilter, TextKey,
};
pub use package::{PackageOutputs, while_querying};
pub use render::{code_excerpt, error_steps, render_error, shown_place};
pub use select::{FoundDerivation, parse_attr_path};
pub use settings::{EvalSettings, SearchPathEntry};
pub use source::{Origin, Place, Pos};
pub use syntax::{position_in_file, syntax_error_in_file};
pub use value::{Ahead, Attrs, Kind, List, OutOfMemory, Value, ValueVec, set_collector_limits};
pub use vm::{Statistics, Vm, interrupt, with_large_stack};
pub use watch::{CallCounts, CallWatcher, Callee};

pub use firn_syntax::ast::LostTree;
pub use firn_syntax::show::write_name;
pub use firn_syntax::symbol::all as all_symbols;
pub use firn_syntax::{Level as LintLevel, Lints, Sym, sym};

/// The empty string context, to collect into.
pub fn empty_context() -> ContextBuilder {
    ContextBuilder::default()
}
