//! What a client's settings change.

use firn_settings::{Settings, find_setting};
use firn_wire::worker::ClientOptions;
use std::collections::BTreeSet;

/// Settings that anybody may set: they cost nobody else anything.
const FREE: &[&str] = &["timeout", "max-silent-time", "build-poll-interval", "connect-timeout"];

/// Brings a client's settings into `settings`, those that it may set. What it may not is warned of.
pub fn apply_options(
    settings: &mut Settings,
    options: &ClientOptions,
    trusted: bool,
    warn: &mut dyn FnMut(&str),
) {
    let mut set = |name: &str, value: &[u8]| {
        if let Err(error) = settings.set(name, value) {
            warn(&error.to_string());
        }
    };
    let flag = |on: bool| if on { b"true".as_slice() } else { b"false" };
    set("keep-failed", flag(options.keep_failed));
    set("keep-going", flag(options.keep_going));
    set("fallback", flag(options.fallback));
    set("max-jobs", options.max_jobs.min(u32::MAX.into()).to_string().as_bytes());
    set("max-silent-time", options.max_silent_time.min(i64::MAX as u64).to_string().as_bytes());
    set("cores", options.cores.min(u32::MAX.into()).to_string().as_bytes());
    set("substitute", flag(options.substitute));
    for (name, value) in &options.overrides {
        apply_one(settings, name, value, trusted, warn);
    }
    for warning in settings.take_warnings() {
        // What a client knows and we do not is not its user's fault.
        if !warning.starts_with("unknown setting") {
            warn(&warning);
        }
    }
}

fn apply_one(settings: &mut Settings, name: &str, value: &[u8], trusted: bool, warn: &mut dyn FnMut(&str)) {
    let canonical = find_setting(name).map_or(name, |setting| setting.name);
    match name {
        // Obsolete.
        "ssh-auth-sock" => {}
        // Ours hold, whatever the client has on.
        "experimental-features" => {}
        "plugin-files" => warn(
            "Ignoring the client-specified plugin-files.\n\
             The client specifying plugins to the daemon never made sense, and was removed in Nix >=2.14.",
        ),
        _ if trusted || FREE.contains(&name) || (name == "builders" && value.is_empty()) => {
            if let Err(error) = settings.set(name, value) {
                warn(&error.to_string());
            }
        }
        _ if canonical == "substituters" => restrict_substituters(settings, value, warn),
        _ => warn(&format!(
            "ignoring the client-specified setting '{name}', because it is a restricted setting and you are not a \
             trusted user"
        )),
    }
}

/// Those that the daemon has or trusts stay.
fn restrict_substituters(settings: &mut Settings, value: &[u8], warn: &mut dyn FnMut(&str)) {
    let bare = |uri: &str| uri.strip_suffix('/').unwrap_or(uri).to_owned();
    let known: BTreeSet<String> =
        settings.trusted_substituters.iter().chain(&settings.substituters).map(|uri| bare(uri)).collect();
    let wanted = String::from_utf8_lossy(value).into_owned();
    let mut allowed = Vec::new();
    for uri in wanted.split_ascii_whitespace() {
        match known.contains(&bare(uri)) {
            true => allowed.push(uri),
            false => warn(&format!(
                "ignoring untrusted substituter '{uri}', you are not a trusted user.\n\
                 Run `man nix.conf` for more information on the `substituters` configuration option."
            )),
        }
    }
    if let Err(error) = settings.set("substituters", allowed.join(" ").as_bytes()) {
        warn(&error.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(trusted: bool, name: &str, value: &str, expected: &str) {
        let mut settings = Settings::defaults(&|_| None);
        settings.set("substituters", b"https://a.example/ https://b.example").unwrap();
        settings.set("trusted-substituters", b"https://c.example").unwrap();
        let mut options = ClientOptions { max_jobs: 1, ..ClientOptions::default() };
        options.overrides.insert(name.to_owned(), value.as_bytes().to_vec());
        let mut warnings = Vec::new();
        apply_options(&mut settings, &options, trusted, &mut |text| {
            warnings.push(text.lines().next().unwrap_or_default().to_owned());
        });
        let now = find_setting(name).map(|s| String::from_utf8_lossy(&s.render(&settings)).into_owned());
        let shown = format!("{} | {}", now.unwrap_or_default(), warnings.join(" "));
        assert_eq!(shown, expected);
    }

    #[test]
    fn who_may_set_what() {
        let restricted = "ignoring the client-specified setting";
        check(true, "sandbox", "false", "false | ");
        check(false, "timeout", "12", "12 | ");
        check(false, "builders", "", " | ");
        check(
            false,
            "builders",
            "ssh://evil",
            &format!(
                "@/etc/nix/machines | {restricted} 'builders', because it is a restricted setting and you are not a trusted user"
            ),
        );
        check(
            false,
            "pre-build-hook",
            "/evil",
            &format!(
                " | {restricted} 'pre-build-hook', because it is a restricted setting and you are not a trusted user"
            ),
        );
        check(
            false,
            "substituters",
            "https://a.example https://c.example/ https://evil.example",
            "https://a.example https://c.example/ | ignoring untrusted substituter 'https://evil.example', you are not a trusted user.",
        );
        check(true, "no-such-setting", "x", " | ");
    }
}
