//! Caches written and read, and stores served.

mod conformance;
mod faults;
mod files;
mod served;
mod world;
