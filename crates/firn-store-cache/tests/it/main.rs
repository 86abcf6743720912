//! Caches written and read, and stores served.

mod faults;
mod files;
mod served;
mod world;
