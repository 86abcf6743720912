//! The ATerm form of derivations, as `.drv` files hold it.
//!
//! Source: the manual's "Derivation ATerm" protocol page.

mod parse;
mod print;

pub use parse::{ParseError, Problem};
pub(crate) use print::{Inputs, fixed_output_path, method_algo_and_digest, unmasked};
