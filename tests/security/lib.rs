//! Attacks, tried for real. All of it is in `tests/it`.
