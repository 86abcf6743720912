//! Flakes: `getFlake`, and the call of a flake's outputs with its inputs.

use super::fetch_tree::{Commit, fetch_locked, tree_value};
use super::{Entry, flakeref, of_flakes};
use crate::attrs::AttrsBuilder;
use crate::error::{ErrorKind, EvalError, EvalResult};
use crate::expr::PrimOp;
use crate::host::FlakeSources;
use crate::render::shown_place;
use crate::source::{Origin, Pos};
use crate::value::Value;
use crate::vm::Vm;
use firn_core::flake_ref::FlakeRef;
use firn_syntax::Sym;

pub(super) const TABLE: &[Entry] = &[of_flakes("getFlake", 1, get_flake)];

/// How outputs are called, lazily for each node of the lock file.
const CALL: &str = include_str!("call-flake.nix");

/// What the expression is called in messages.
const CALL_NAME: &str = "«flakes-internal»/call-flake.nix";

static FETCH_LOCKED: PrimOp =
    PrimOp { name: "fetchFinalTree", arity: 1, run: fetch_locked, eager: &[], coerces: false };

fn get_flake(vm: &mut Vm, args: &[Value], pos: Pos) -> EvalResult<Value> {
    let what = "while evaluating the argument passed to builtins.getFlake";
    let text = vm.string_no_context(args[0], pos, what)?;
    let reference = flakeref::with_context(vm, |context| FlakeRef::parse(text.as_bytes(), context))?;
    let pure = vm.settings.pure_eval;
    if pure && !reference.input.is_locked(vm.settings.trust_forges) {
        let place =
            shown_place(pos, &*vm.host).map_or_else(|| "«none»:0".to_owned(), |place| place.display());
        let shown = String::from_utf8_lossy(text.as_bytes());
        let message = format!(
            "cannot call 'getFlake' on unlocked flake reference '{shown}', at {place} (use --impure to override)"
        );
        return Err(EvalError::new(ErrorKind::Eval, message));
    }
    flakeref::with_context(vm, |context| context.require("flakes"))?;
    vm.in_turn()?;
    let sources = vm.host.clone().lock_flake(&reference, pure)?;
    vm.call_flake(&sources)
}

impl Vm {
    /// The flake as a set: its outputs, and what is known of its source and inputs.
    pub fn call_flake(&mut self, sources: &FlakeSources) -> EvalResult<Value> {
        let mut fetched = AttrsBuilder::with_capacity(sources.nodes.len());
        for node in &sources.nodes {
            self.host.allow_path(&node.path);
            let commit = if node.dirty { Commit::Never } else { Commit::IfKnown };
            let info = tree_value(self, node.path.clone(), &node.attrs, commit);
            let mut entry = AttrsBuilder::with_capacity(2);
            entry.push(Sym::from_static("sourceInfo"), info);
            entry.push(Sym::from_static("dir"), Value::str(&node.dir));
            fetched.push(Sym::new(node.key.as_bytes()), entry.finish());
        }
        // What is wrong with the file itself is told as such, not as something that happened in the call.
        if let Some(root) = sources.root() {
            let root_dir = self.host.store_dir().display(&root.path).into_bytes();
            let parts: [&[u8]; 2] = [&root.dir, b"flake.nix"];
            let parts = parts.into_iter().filter(|part| !part.is_empty());
            let file = parts.fold(root_dir, |path, part| [&path[..], b"/", part].concat());
            self.eval_file(&file)?;
        }
        let call = self.eval_text(CALL.as_bytes(), Origin::Internal(CALL_NAME), b"/")?;
        let args = [Value::str(sources.lock.as_bytes()), fetched.finish(), Value::primop(&FETCH_LOCKED)];
        self.call(call, &args, Pos::NONE)
    }
}
