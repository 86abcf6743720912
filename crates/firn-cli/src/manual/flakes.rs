//! Flags of commands that work on flakes.

use super::flags::{Group, group};

/// For all commands that lock flakes.
pub static FLAKES: Group = group! { "Options of flakes":
    "--override-input" [INPUT FLAKE] "Take another flake for an input, this time; the lock file is not written.";
    "--inputs-from" [FLAKE] "Take the inputs of a flake for what registries say.";
    "--no-registries" [] "The older name of --no-use-registries.";
    "--commit-lock-file" [] "Commit changes of the lock file.";
    "--reference-lock-file" [FILE] "Read this lock file in place of the flake's own.";
    "--output-lock-file" [FILE] "Write this lock file in place of the flake's own.";
    "--update-input" [INPUT] "An older way to say `nix flake update INPUT`.";
    "--recreate-lock-file" [] "An older way to say `nix flake update`.";
};
/// For those that may do without.
pub static LOCK_FILE: Group = group! { "Options of the lock file":
    "--no-write-lock-file" [] "Do not write changes of the lock file.";
    "--no-update-lock-file" [] "Fail if the lock file would have to change.";
};
pub static NO_UPDATE: Group = group! { "Options of the lock file":
    "--no-update-lock-file" [] "Fail if the lock file would have to change.";
};
pub static NAMES: Group = group! { "Options of names of flakes":
    "--override-flake" [FLAKE FLAKE] "Let a name stand for a flake.";
};
pub static UPDATE: Group = group! { "Options":
    "--flake" [FLAKE] "The flake whose lock file is brought up to date; that of this folder otherwise.";
};
pub static CHECK: Group = group! { "Options":
    "--no-build" [] "Do not build the checks.";
    "--all-systems" [] "Check the outputs of all systems.";
};
pub static SHOW: Group = group! { "Options":
    "--legacy" [] "Show what is in `legacyPackages`.";
    "--all-systems" [] "Show the outputs of all systems.";
};
pub static CLONE: Group = group! { "Options":
    "-f" "--dest" [PATH] "The folder that is made.";
};
pub static ARCHIVE: Group = group! { "Options":
    "--to" [STORE] "The store to copy to.";
    "--dry-run" [] "Say what would be copied, and fetch nothing.";
    "--no-check-sigs" [] "Take paths without a trusted signature.";
};
pub static PREFETCH: Group = group! { "Options":
    "-o" "--out-link" [LINK] "Make a link to the tree.";
};
pub static TEMPLATE: Group = group! { "Options":
    "-t" "--template" [FLAKE] "The template; that of `templates` otherwise.";
};
pub static REGISTRY: Group = group! { "Options":
    "--registry" [FILE] "The registry that is changed; the user's otherwise.";
};
pub static BUNDLE: Group = group! { "Options":
    "--bundler" [FLAKE] "What bundles; `github:NixOS/bundlers` otherwise.";
    "-o" "--out-link" [LINK] "Name of the link to the result; the app's name otherwise.";
};
pub static FORMATTER_BUILD: Group = group! { "Options":
    "-o" "--out-link" [LINK] "Name of the link to the result; `result` otherwise.";
    "--no-link" [] "Make no link.";
};
