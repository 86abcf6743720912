//! Tests of the local store against the disk and, where it is to be had, the reference implementation.

mod adding;
mod collecting;
mod conformance;
mod fuzz;
mod interop;
mod opening;
mod support;
