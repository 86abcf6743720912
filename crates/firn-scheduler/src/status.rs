//! The exit status that failures lead to, and the texts of failures.

use firn_core::StoreDir;
use firn_derivation::Derivation;
use firn_store::BuildStatus;

const RED: &str = "\x1b[31;1m";
const MAGENTA: &str = "\x1b[35;1m";
const NORMAL: &str = "\x1b[0m";

/// Which kinds of failure there were.
///
/// The exit status of a program is at least 100 for failed builds, with one bit each for time-outs (1), hash
/// mismatches (2), failed builds (4) and builds that are not deterministic (8); 1 for all other failures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExitFlags {
    permanent: bool,
    timed_out: bool,
    hash_mismatch: bool,
    not_deterministic: bool,
}

impl ExitFlags {
    pub fn add(&mut self, status: BuildStatus) {
        match status {
            BuildStatus::TimedOut => self.timed_out = true,
            BuildStatus::HashMismatch => self.hash_mismatch = true,
            BuildStatus::NotDeterministic => self.not_deterministic = true,
            BuildStatus::PermanentFailure | BuildStatus::InputRejected => self.permanent = true,
            _ => {}
        }
    }

    pub fn exit_status(self) -> u32 {
        let failed = self.permanent || self.timed_out || self.hash_mismatch;
        if !failed && !self.not_deterministic {
            return 1;
        }
        0b110_0000
            | if failed { 0b0100 } else { 0 }
            | u32::from(self.timed_out)
            | (u32::from(self.hash_mismatch) << 1)
            | (u32::from(self.not_deterministic) << 3)
    }
}

/// `Cannot build '…'.` with its reason, and the outputs that there will not be.
pub fn cannot_build(dir: &StoreDir, drv: &str, derivation: &Derivation, reason: &str) -> String {
    let mut text = format!(
        "Cannot build '{MAGENTA}{drv}{NORMAL}'.\nReason: {RED}{reason}{NORMAL}.{}",
        known_outputs(dir, derivation)
    );
    if text.ends_with('\n') {
        text.pop();
    }
    text
}

/// The paths that the outputs would have had.
pub fn known_outputs(dir: &StoreDir, derivation: &Derivation) -> String {
    let mut paths: Vec<_> = match derivation.output_paths(dir) {
        Ok(paths) => paths.into_values().flatten().collect(),
        Err(_) => return String::new(),
    };
    paths.sort();
    if paths.is_empty() {
        return String::new();
    }
    let mut text = "\nOutput paths:".to_owned();
    for path in paths {
        text += &format!("\n  {MAGENTA}{}{NORMAL}", dir.display(&path));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(statuses: &[BuildStatus], expected: u32) {
        let mut flags = ExitFlags::default();
        statuses.iter().for_each(|status| flags.add(*status));
        assert_eq!(flags.exit_status(), expected);
    }

    #[test]
    fn exit_statuses() {
        use BuildStatus::*;
        check(&[], 1);
        check(&[OutputRejected, DependencyFailed], 1);
        check(&[PermanentFailure], 100);
        check(&[TimedOut], 101);
        check(&[HashMismatch, DependencyFailed], 102);
        check(&[HashMismatch, TimedOut], 103);
        check(&[NotDeterministic], 104);
        check(&[NotDeterministic, PermanentFailure], 108);
    }
}
