//! Builds in the sandbox, and attempts to get out of it.

mod escape;
mod run;
mod world;
