//! What was asked for first: one module for each row R1 … R17 of COMPATIBILITY.md's list of requirements.

mod r01_sandbox_setting;
