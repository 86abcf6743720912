//! Texts that people write: the language, and `nix.conf`.

use firn_settings::{Settings, load, parse_conf};
use firn_syntax::show::{ShowContext, show};
use firn_syntax::{ParseOptions, parse};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

pub fn nix(input: &[u8]) -> bool {
    let Ok(tree) = parse(input, ParseOptions { pipe_operators: true, ..Default::default() }) else {
        return false;
    };
    let context = ShowContext { absolute: &|path| [b"/", path].concat(), home: b"/home" };
    let _ = show(&tree, &context);
    true
}

pub fn conf(input: &[u8]) -> bool {
    let mut lines = Vec::new();
    // Each file includes itself: there is an end to it.
    let parsed =
        parse_conf(input, Path::new("/x/nix.conf"), &|_| Ok(Some(input.to_vec())), &mut lines).is_ok();
    // The settings read real files that are included: not here.
    if input.windows(7).any(|word| word == b"include") || input.contains(&0) {
        return parsed;
    }
    let environment = |name: &str| match name {
        "NIX_CONFIG" => Some(OsString::from_vec(input.to_vec())),
        "NIX_CONF_DIR" | "HOME" => Some("/nonexistent".into()),
        "NIX_USER_CONF_FILES" => Some(OsString::new()),
        _ => None,
    };
    let loaded: Result<Settings, _> = load(&environment);
    assert!(parsed || loaded.is_err(), "settings come from text that is wrong");
    loaded.is_ok()
}
