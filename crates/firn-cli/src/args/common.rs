//! Flags that every program has.

use super::engine::Values;
use crate::error::{CliError, CliResult};
use firn_core::units::parse_integer;
use firn_settings::{SettingFlag, Settings, SettingsError, find_flag};
use firn_store::activity::Verbosity;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// How messages and progress are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Raw,
    RawWithLogs,
    InternalJson,
    Bar,
    BarWithLogs,
    /// Several lines of progress on a terminal.
    Multiline,
    MultilineWithLogs,
}

impl LogFormat {
    fn parse(name: &str) -> CliResult<Self> {
        match name {
            "raw" => Ok(Self::Raw),
            "raw-with-logs" => Ok(Self::RawWithLogs),
            "internal-json" => Ok(Self::InternalJson),
            "bar" => Ok(Self::Bar),
            "bar-with-logs" => Ok(Self::BarWithLogs),
            "multiline" => Ok(Self::Multiline),
            "multiline-with-logs" => Ok(Self::MultilineWithLogs),
            other => Err(CliError::failed(format!("option 'log-format' has an invalid value '{other}'"))),
        }
    }
}

/// One setting given on the command line.
enum Override {
    /// `--option NAME VALUE`: what is wrong with it is only warned of.
    Option {
        name: String,
        value: Vec<u8>,
    },
    Flag {
        flag: SettingFlag,
        value: Vec<u8>,
    },
}

/// Which programs the walk is for: some flags belong to the older ones or to `nix` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Family {
    #[default]
    Legacy,
    Nix,
}

/// The common flags as they were written.
#[derive(Default)]
pub struct LowArgs {
    family: Family,
    verbosity: Vec<fn(Verbosity) -> Verbosity>,
    pub log_format: Option<LogFormat>,
    /// `-L`: show build logs also where the format would not.
    pub print_build_logs: bool,
    overrides: Vec<Override>,
    pub read_only_mode: bool,
    pub no_gc_warning: bool,
    pub help: bool,
    pub version: bool,
    pub offline: bool,
    pub refresh: bool,
}

impl LowArgs {
    /// For `nix` itself.
    pub fn nix() -> Self {
        Self { family: Family::Nix, ..Self::default() }
    }

    /// Handles `flag` if it is one of the common ones.
    pub fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "-v" | "--verbose" => {
                self.verbosity.push(|level| Verbosity::from_number(level as u64 + 1));
            }
            "--quiet" => {
                self.verbosity.push(|level| Verbosity::from_number((level as u64).saturating_sub(1)))
            }
            "--debug" => self.verbosity.push(|_| Verbosity::Debug),
            "--help" => self.help = true,
            "--version" => self.version = true,
            "--option" => {
                let [name, value] = values.take(flag)?;
                self.overrides
                    .push(Override::Option { name: super::text("setting", name)?, value: value.into_vec() });
            }
            "--log-format" => {
                let [format] = values.take(flag)?;
                self.log_format = Some(LogFormat::parse(&super::text(flag, format)?)?);
            }
            "-j" => return self.setting("max-jobs", flag, values),
            _ => return self.family_flag(flag, values),
        }
        Ok(true)
    }

    fn family_flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match (self.family, flag) {
            (Family::Legacy, "-Q" | "--no-build-output") => self.log_format = Some(LogFormat::Raw),
            (Family::Legacy, "-K") => return self.setting("keep-failed", flag, values),
            (Family::Legacy, "-k") => return self.setting("keep-going", flag, values),
            (Family::Legacy, "--readonly-mode") => self.read_only_mode = true,
            (Family::Legacy, "--no-gc-warning") => self.no_gc_warning = true,
            (Family::Legacy, "--cores" | "--max-silent-time" | "--timeout") => {
                return self.legacy_number(flag, values);
            }
            (Family::Nix, "-L" | "--print-build-logs") => self.print_build_logs = true,
            (Family::Nix, "--offline" | "--no-net") => self.offline = true,
            (Family::Nix, "--refresh") => self.refresh = true,
            _ => match flag.strip_prefix("--") {
                Some(name) => return self.setting(name, flag, values),
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// The older programs check these before they set them, with an error that does not name the setting; here
    /// it does.
    fn legacy_number(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        let [value] = values.take(flag)?;
        let number = match parse_integer(&super::text(flag, value)?) {
            Ok(number) => number,
            Err(error) => return Err(CliError::usage(format!("in flag '{flag}': {error}"))),
        };
        let setting = find_flag(flag.trim_start_matches('-'));
        if let Some(setting) = setting {
            self.overrides.push(Override::Flag { flag: setting, value: number.to_string().into_bytes() });
        }
        Ok(setting.is_some())
    }

    fn setting(&mut self, name: &str, flag: &str, values: &mut Values) -> CliResult<bool> {
        let Some(found) = find_flag(name) else { return Ok(false) };
        let value = match found {
            SettingFlag::Fixed { value, .. } => value.as_bytes().to_vec(),
            SettingFlag::Value { .. } => {
                let [value] = values.take(flag)?;
                value.as_bytes().to_vec()
            }
        };
        self.overrides.push(Override::Flag { flag: found, value });
        Ok(true)
    }

    /// Brings what was written into `settings`; what is bearable goes to `warnings`. Features come first, so
    /// that their settings may stand anywhere.
    pub fn apply(&self, settings: &mut Settings, warnings: &mut Vec<String>) -> Result<(), SettingsError> {
        let is_feature = |entry: &&Override| match entry {
            Override::Option { name, .. } => {
                matches!(name.as_str(), "experimental-features" | "extra-experimental-features")
            }
            Override::Flag { flag, .. } => {
                let (SettingFlag::Value { setting, .. } | SettingFlag::Fixed { setting, .. }) = flag;
                setting.name == "experimental-features"
            }
        };
        let features = self.overrides.iter().filter(is_feature);
        for entry in features.chain(self.overrides.iter().filter(|entry| !is_feature(entry))) {
            match entry {
                Override::Option { name, value } => match settings.set(name, value) {
                    Ok(_) => {}
                    Err(error) if error.is_usage() => warnings.push(error.to_string()),
                    Err(error) => return Err(error),
                },
                Override::Flag { flag: SettingFlag::Value { setting, append }, value } => {
                    settings.set_to(setting, value, *append)?;
                }
                Override::Flag { flag: SettingFlag::Fixed { setting, .. }, value } => {
                    settings.set_to(setting, value, false)?;
                }
            }
        }
        // A flag, other than a line of a file, needs its feature.
        for entry in &self.overrides {
            if let Override::Flag { flag, .. } = entry {
                let (SettingFlag::Value { setting, .. } | SettingFlag::Fixed { setting, .. }) = flag;
                if let Some(feature) = setting.feature.filter(|feature| !settings.has_feature(*feature)) {
                    return Err(SettingsError::FeatureDisabled { feature });
                }
            }
        }
        settings.read_only_mode |= self.read_only_mode;
        if self.offline {
            // What somebody set holds.
            let given = |name: &str| settings.is_overridden(name);
            let (substitute, attempts) = (given("substitute"), given("download-attempts"));
            let (timeout, tarballs) = (given("connect-timeout"), given("tarball-ttl"));
            let (absent, present) =
                (given("narinfo-cache-negative-ttl"), given("narinfo-cache-positive-ttl"));
            settings.substitute &= substitute;
            settings.tarball_ttl = if tarballs { settings.tarball_ttl } else { u32::MAX };
            settings.download_attempts = if attempts { settings.download_attempts } else { 0 };
            settings.connect_timeout = if timeout { settings.connect_timeout } else { 1 };
            if !absent {
                settings.narinfo_cache_negative_ttl = u32::MAX;
            }
            if !present {
                settings.narinfo_cache_positive_ttl = u32::MAX;
            }
        }
        if self.refresh {
            settings.tarball_ttl = 0;
            settings.narinfo_cache_meta_ttl = 0;
            settings.narinfo_cache_negative_ttl = 0;
            settings.narinfo_cache_positive_ttl = 0;
        }
        Ok(())
    }

    /// The level that results from `start`.
    pub fn verbosity(&self, start: Verbosity) -> Verbosity {
        self.verbosity.iter().fold(start, |level, change| change(level))
    }
}
