//! Agreement with the reference implementation. All of it is in `tests/it`.
