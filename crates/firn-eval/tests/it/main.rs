//! The evaluator from outside, on a host that holds everything in memory. Cases are data: `cases/*.txt`.

mod bad_input;
mod cases;
mod collector;
mod host;
mod laziness;
