//! Derivations against texts, paths and hashes that the reference made, and against the reference itself where it
//! is installed.

mod known;
mod oracle;
mod roundtrip;
