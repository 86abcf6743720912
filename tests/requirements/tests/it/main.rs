//! What was asked for first: one module for each row R1 … R17 of COMPATIBILITY.md's list of requirements.

mod r01_sandbox_setting;
mod r02_pivot_root;
mod r03_network;
mod r04_no_chroot;
mod r05_sandbox_paths;
mod r06_store_mode;
mod r07_no_hang;
mod r08_references;
mod r09_log;
mod r10_roots;
mod r11_wal;
mod r12_trust;
mod r13_case_hack;
mod r14_farm;
mod r14_remote_builds;
mod r15_last_words;
mod r16_users;
mod r17_chroot_stores;
mod r17_other_stores;
