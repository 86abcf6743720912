//! Settings from the environment and the configuration files, in the reference's order: the system's `nix.conf`,
//! the users' files, `NIX_CONFIG`.

use crate::conf::parse_conf;
use crate::error::SettingsError;
use crate::table::Settings;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How [`load`] sees the environment: the value of a variable, if it is set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads all settings. A file that is missing or cannot be read is passed over; one that is wrong is an error.
pub fn load(env: Environment<'_>) -> Result<Settings, SettingsError> {
    let mut settings = Settings::defaults(env);
    let search_path_is_given = env("NIX_PATH").is_some();

    let system_file = settings.dirs.conf_file();
    if let Ok(Some(text)) = read(&system_file) {
        apply(&mut settings, &text, &system_file, search_path_is_given)?;
    }
    // What a daemon is told are the user's own wishes, not those of this machine's administrator.
    settings.reset_overridden();
    for file in settings.dirs.user_conf_files.clone().iter().rev() {
        if let Ok(Some(text)) = read(file) {
            apply(&mut settings, &text, file, search_path_is_given)?;
        }
    }
    if let Some(text) = env("NIX_CONFIG") {
        apply(&mut settings, text.as_bytes(), Path::new("NIX_CONFIG"), search_path_is_given)?;
    }
    Ok(settings)
}

fn apply(
    settings: &mut Settings,
    text: &[u8],
    file: &Path,
    search_path_is_given: bool,
) -> Result<(), SettingsError> {
    let mut lines = Vec::new();
    parse_conf(text, file, &read, &mut lines)?;
    // Features first: other settings may need them wherever in the file they stand.
    let is_feature = |name: &str| matches!(name, "experimental-features" | "extra-experimental-features");
    for line in lines.iter().filter(|line| is_feature(&line.name)) {
        settings.set(&line.name, &line.value)?;
    }
    for line in lines.iter().filter(|line| !is_feature(&line.name)) {
        if search_path_is_given && matches!(line.name.as_str(), "nix-path" | "extra-nix-path") {
            continue;
        }
        settings.set(&line.name, &line.value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::ExperimentalFeature;

    fn load_with(vars: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let vars: Vec<(String, OsString)> =
            vars.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        load(&move |name| vars.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
    }

    #[test]
    fn order_of_sources() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
        std::fs::write(at("nix.conf"), "cores = 1\nmax-jobs = 3\nsystem-features = a\n!include nope\n")
            .expect("writes");
        std::fs::write(at("one"), "cores = 2\nextra-system-features = b\n").expect("writes");
        std::fs::write(at("two"), "cores = 3\n").expect("writes");
        let conf_dir = dir.path().to_str().expect("text").to_owned();
        let files = format!("{}:{}", at("one"), at("two"));
        let vars = [("NIX_CONF_DIR", conf_dir.as_str()), ("NIX_USER_CONF_FILES", files.as_str())];
        let settings = load_with(&vars).expect("loads");
        assert_eq!(settings.cores, 2);
        assert_eq!(settings.max_jobs.0, 3);
        assert_eq!(settings.system_features.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(settings.is_overridden("cores"));
        assert!(!settings.is_overridden("max-jobs"));
        let settings = load_with(&[vars[0], vars[1], ("NIX_CONFIG", "cores = 9")]).expect("loads");
        assert_eq!(settings.cores, 9);
    }

    #[test]
    fn features_gate_settings() {
        let base = [("NIX_CONF_DIR", "/no-such-folder"), ("NIX_USER_CONF_FILES", "")];
        let mut settings =
            load_with(&[base[0], base[1], ("NIX_CONFIG", "use-registries = false\nfoo = 1")]).expect("loads");
        assert!(settings.use_registries);
        assert_eq!(
            settings.take_warnings(),
            [
                "Ignoring setting 'use-registries' because experimental feature 'flakes' is not enabled",
                "unknown setting 'foo'"
            ]
        );
        let text = "use-registries = false\nexperimental-features = flakes";
        let settings = load_with(&[base[0], base[1], ("NIX_CONFIG", text)]).expect("loads");
        assert!(!settings.use_registries);
        assert!(settings.has_feature(ExperimentalFeature::FetchTree));
    }

    #[test]
    fn search_path_variable_wins() {
        let base = [("NIX_CONF_DIR", "/no-such-folder"), ("NIX_USER_CONF_FILES", "")];
        let settings =
            load_with(&[base[0], base[1], ("NIX_PATH", ":a=/b::"), ("NIX_CONFIG", "nix-path = c=/d")])
                .expect("loads");
        assert_eq!(settings.nix_path, [std::path::PathBuf::from("a=/b")]);
    }
}
