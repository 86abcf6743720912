//! Each behaviour that was asked for first, R1 to R17. All of it is in `tests/it`.
