//! `nix store …`.

pub mod add;
pub mod closures;
pub mod files;
pub mod garbage;
pub mod logs;
pub mod paths;
pub mod prefetch;
pub mod rebuild;
pub mod roots_daemon;
pub mod signatures;
pub mod tree;
pub mod upkeep;
