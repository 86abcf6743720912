//! Derivation to ATerm, in one pass into one buffer.

use crate::{Derivation, DerivationOutput, InputNode};
use firn_core::store_path::{NameError, References, output_path_name};
use firn_core::{ContentAddress, Hash, HashAlgo, HashFormat, StoreDir, StorePath};
use std::collections::{BTreeMap, BTreeSet};

/// What stands in the list of input derivations.
pub(crate) enum Inputs<'a> {
    /// The derivation's own input paths.
    Paths,
    /// Hashes modulo (32 bytes each) in place of paths.
    Hashes(&'a BTreeMap<[u8; 32], BTreeSet<&'a str>>),
}

impl Derivation {
    /// The bytes of the `.drv` file.
    ///
    /// A fixed output whose name cannot be part of a store path is written with an empty path; derivations that
    /// were parsed or passed [`Derivation::check_names`] have none.
    pub fn to_aterm(&self, dir: &StoreDir) -> Vec<u8> {
        self.write_aterm(dir, false, &Inputs::Paths)
    }

    /// As [`Derivation::to_aterm`] with the paths of outputs, and the environment variables named as outputs,
    /// left empty.
    pub fn to_aterm_masked(&self, dir: &StoreDir) -> Vec<u8> {
        self.write_aterm(dir, true, &Inputs::Paths)
    }

    /// The path that the derivation has in the store, and its bytes.
    pub fn store_path(&self, dir: &StoreDir) -> Result<(StorePath, Vec<u8>), NameError> {
        let bytes = self.to_aterm(dir);
        let path = self.store_path_by_hash(dir, &Hash::of(HashAlgo::Sha256, &bytes))?;
        Ok((path, bytes))
    }

    /// The path in the store, `hash` being the SHA-256 of the derivation's ATerm form.
    pub fn store_path_by_hash(&self, dir: &StoreDir, hash: &Hash) -> Result<StorePath, NameError> {
        dir.make_text_path(&format!("{}.drv", self.name), hash, &self.references())
    }

    /// What the `.drv` file refers to: input sources and input derivations.
    pub fn references(&self) -> BTreeSet<StorePath> {
        self.input_srcs.iter().chain(self.input_drvs.keys()).cloned().collect()
    }

    pub(crate) fn write_aterm(&self, dir: &StoreDir, mask: bool, inputs: &Inputs<'_>) -> Vec<u8> {
        let mut out = Printer { out: Vec::with_capacity(self.estimate(dir)), dir };
        out.outputs(self, mask);
        out.inputs(self, inputs);
        out.rest(self, mask, |_, _| ());
        out.out
    }

    /// The part of the ATerm form before the input derivations.
    pub(crate) fn write_outputs(&self, dir: &StoreDir) -> Vec<u8> {
        let mut out = Printer { out: Vec::with_capacity(256), dir };
        out.outputs(self, false);
        out.out
    }

    /// The list of input derivations.
    pub(crate) fn write_inputs(&self, dir: &StoreDir, inputs: &Inputs<'_>) -> Vec<u8> {
        let mut out = Printer { out: Vec::with_capacity(self.input_drvs.len() * 96), dir };
        out.inputs(self, inputs);
        out.out
    }

    /// What follows the input derivations, masked, and where the variables that are masked have their values.
    pub(crate) fn write_rest(&self, dir: &StoreDir) -> (Vec<u8>, Vec<(usize, Vec<u8>)>) {
        let mut out = Printer { out: Vec::with_capacity(self.estimate(dir)), dir };
        let mut holes = Vec::new();
        out.rest(self, true, |at, name| holes.push((at, name.to_vec())));
        (out.out, holes)
    }

    /// A size that the printed form rarely exceeds, so that the buffer is allocated once.
    fn estimate(&self, dir: &StoreDir) -> usize {
        let path = dir.as_str().len() + 64;
        let env: usize = self.env.iter().map(|(k, v)| k.len() + v.len() + v.len() / 16 + 8).sum();
        let args: usize = self.args.iter().map(|a| a.len() + a.len() / 16 + 4).sum();
        let inputs = self.input_drvs.len() * (path + 32) + self.input_srcs.len() * (path + 8);
        128 + self.builder.len() + self.outputs.len() * (path + 96) + inputs + env + args
    }
}

struct Printer<'a> {
    out: Vec<u8>,
    dir: &'a StoreDir,
}

/// An empty string, as masked ones are.
const EMPTY: &[u8] = b"\"\"";

impl Printer<'_> {
    fn outputs(&mut self, drv: &Derivation, mask: bool) {
        self.raw(if drv.has_dynamic_inputs() { b"DrvWithVersion(\"xp-dyn-drv\",[" } else { b"Derive([" });
        self.list(&drv.outputs, |out, (name, output)| out.output(&drv.name, name, output, mask));
        self.raw(b"],[");
    }

    fn inputs(&mut self, drv: &Derivation, inputs: &Inputs<'_>) {
        match inputs {
            Inputs::Paths => self.list(&drv.input_drvs, |out, (path, node)| {
                out.raw(b"(");
                out.path(path);
                out.node(node);
                out.raw(b")");
            }),
            Inputs::Hashes(hashes) => self.list(*hashes, |out, (hash, outputs)| {
                out.raw(b"(\"");
                out.hex(hash);
                out.raw(b"\",[");
                out.list(outputs, |out, name| out.plain(name.as_bytes()));
                out.raw(b"])");
            }),
        }
    }

    /// From the end of the input derivations on. `masked` is told where the value of a masked variable is, and which one.
    fn rest(&mut self, drv: &Derivation, mask: bool, mut masked: impl FnMut(usize, &[u8])) {
        self.raw(b"],[");
        self.list(&drv.input_srcs, |out, path| out.path(path));
        self.raw(b"],");
        self.plain(&drv.platform);
        self.raw(b",");
        self.escaped(&drv.builder);
        self.raw(b",[");
        self.list(&drv.args, |out, arg| out.escaped(arg));
        self.raw(b"],[");
        self.list(&drv.env, |out, (name, value)| {
            out.raw(b"(");
            out.escaped(name);
            out.raw(b",");
            if mask && std::str::from_utf8(name).is_ok_and(|name| drv.outputs.contains_key(name)) {
                masked(out.out.len(), name);
                out.raw(EMPTY);
            } else {
                out.escaped(value);
            }
            out.raw(b")");
        });
        self.raw(b"])");
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut print: impl FnMut(&mut Self, T)) {
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            print(self, item);
        }
    }

    /// A quoted string without escaping, as the format has it for names, paths and the platform.
    fn plain(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        self.raw(bytes);
        self.out.push(b'"');
    }

    fn path(&mut self, path: &StorePath) {
        self.out.push(b'"');
        self.raw(self.dir.as_str().as_bytes());
        self.out.push(b'/');
        self.raw(path.base_name().as_bytes());
        self.out.push(b'"');
    }

    fn hex(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for b in bytes {
            self.out.push(DIGITS[usize::from(b >> 4)]);
            self.out.push(DIGITS[usize::from(b & 15)]);
        }
    }

    fn escaped(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        let mut rest = bytes;
        loop {
            // memchr takes three needles at a time; backslash and quote are the rarest after newline.
            let end = memchr::memchr3(b'"', b'\\', b'\n', rest).unwrap_or(rest.len());
            self.controls(&rest[..end]);
            let Some(special) = rest.get(end) else { break };
            self.out.push(b'\\');
            self.out.push(if *special == b'\n' { b'n' } else { *special });
            rest = &rest[end + 1..];
        }
        self.out.push(b'"');
    }

    /// Text without quotes, backslashes and newlines.
    fn controls(&mut self, mut rest: &[u8]) {
        while let Some(at) = memchr::memchr2(b'\r', b'\t', rest) {
            self.raw(&rest[..at]);
            self.raw(if rest[at] == b'\r' { b"\\r" } else { b"\\t" });
            rest = &rest[at + 1..];
        }
        self.raw(rest);
    }

    fn output(&mut self, drv_name: &str, name: &str, output: &DerivationOutput, mask: bool) {
        self.raw(b"(");
        self.plain(name.as_bytes());
        self.raw(b",");
        match output {
            DerivationOutput::InputAddressed(_) if mask => self.raw(b"\"\",\"\",\"\""),
            DerivationOutput::InputAddressed(path) => {
                self.path(path);
                self.raw(b",\"\",\"\"");
            }
            DerivationOutput::Deferred => self.raw(b"\"\",\"\",\"\""),
            DerivationOutput::CaFixed(ca) => {
                match fixed_output_path(self.dir, drv_name, name, ca) {
                    Ok(path) if !mask => self.path(&path),
                    _ => self.raw(b"\"\""),
                }
                self.raw(b",\"");
                self.method_algo(ca.method, ca.hash.algo());
                self.raw(b"\",\"");
                self.hex(ca.hash.digest());
                self.raw(b"\"");
            }
            DerivationOutput::CaFloating { method, algo } => {
                self.raw(b"\"\",\"");
                self.method_algo(*method, *algo);
                self.raw(b"\",\"\"");
            }
            DerivationOutput::Impure { method, algo } => {
                self.raw(b"\"\",\"");
                self.method_algo(*method, *algo);
                self.raw(b"\",\"impure\"");
            }
        }
        self.raw(b")");
    }

    fn method_algo(&mut self, method: firn_core::CaMethod, algo: HashAlgo) {
        self.raw(method.prefix().as_bytes());
        self.raw(algo.name().as_bytes());
    }

    fn node(&mut self, node: &InputNode) {
        self.raw(b",");
        if node.dynamic.is_empty() {
            self.raw(b"[");
            self.list(&node.outputs, |out, name| out.plain(name.as_bytes()));
            self.raw(b"]");
        } else {
            self.raw(b"([");
            self.list(&node.outputs, |out, name| out.plain(name.as_bytes()));
            self.raw(b"],[");
            self.list(&node.dynamic, |out, (name, child)| {
                out.raw(b"(");
                out.plain(name.as_bytes());
                out.node(child);
                out.raw(b")");
            });
            self.raw(b"])");
        }
    }
}

/// The text of [`Derivation::write_rest`] with the values of those variables.
pub(crate) fn unmasked(rest: &[u8], values: &[(usize, &[u8])], dir: &StoreDir, to: Vec<u8>) -> Vec<u8> {
    let mut out = Printer { out: to, dir };
    let mut from = 0;
    for (at, value) in values {
        out.raw(&rest[from..*at]);
        out.escaped(value);
        from = at + EMPTY.len();
    }
    out.raw(&rest[from..]);
    out.out
}

/// The path of a fixed output.
pub(crate) fn fixed_output_path(
    dir: &StoreDir,
    drv_name: &str,
    output: &str,
    ca: &ContentAddress,
) -> Result<StorePath, NameError> {
    dir.make_fixed_output_path(ca, &output_path_name(drv_name, output), &References::default())
}

/// `r:sha256`-like text and the digest in base 16, as the hash of a fixed output has it.
pub(crate) fn method_algo_and_digest(ca: &ContentAddress) -> String {
    format!("{}{}:{}", ca.method.prefix(), ca.hash.algo(), ca.hash.to_base(HashFormat::Base16))
}
