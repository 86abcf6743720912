//! `nix store …`.

pub mod add;
pub mod files;
pub mod garbage;
pub mod paths;
