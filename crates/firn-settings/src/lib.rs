//! Settings: one typed field for each setting of the reference, the reader of `nix.conf`, and the experimental
//! features.
//!
//! Invariants:
//! - no globals: a [`Settings`] is a value that the caller passes on;
//! - the environment and the disk are looked at in [`load`] only, the environment through a function that the
//!   caller gives;
//! - nothing is printed: what a user ought to hear is collected in [`Settings::take_warnings`].
//!
//! Meaning of the files and variables: the reference manual's page on `nix.conf`.

mod conf;
mod dirs;
mod error;
mod features;
mod host;
mod load;
mod nix_path;
mod table;
mod value;

pub use conf::{ConfLine, parse_conf};
pub use dirs::Dirs;
pub use error::SettingsError;
pub use features::{ExperimentalFeature, FeatureSet};
pub use load::{Environment, load};
pub use nix_path::{default_nix_path, parse_nix_path};
pub use table::{SETTINGS, Setting, SettingFlag, Settings, find_flag, find_setting, names};
pub use value::{
    AnyPath, BuildJobs, Diagnose, EvalProfiler, ExternalBuilder, SandboxMode, SandboxPath, SandboxPaths,
    SettingValue, Shape,
};
