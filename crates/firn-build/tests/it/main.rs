//! Builds through the scheduler, in stores of their own.

mod failures;
mod outputs;
mod parallel;
mod stress;
mod world;
