//! What defaults depend on the machine: its system, processor level, features and users.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The system type of this build of firn, such as `x86_64-linux`.
pub(crate) fn system() -> String {
    let cpu = match std::env::consts::ARCH {
        "x86" => "i686",
        "arm" => "armv7l",
        "powerpc64" if cfg!(target_endian = "little") => "powerpc64le",
        other => other,
    };
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    format!("{cpu}-{os}")
}

/// Other systems that this machine runs as well.
pub(crate) fn extra_platforms() -> BTreeSet<String> {
    let mut platforms = BTreeSet::new();
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        platforms.insert("i686-linux".to_owned());
        for level in 1..=x86_64_level() {
            platforms.insert(format!("x86_64-v{level}-linux"));
        }
    }
    platforms
}

/// The microarchitecture level (1 to 4) of the x86-64 psABI.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn x86_64_level() -> u32 {
    use std::is_x86_feature_detected as has;
    let v2 = has!("cmpxchg16b")
        && has!("popcnt")
        && has!("sse3")
        && has!("sse4.1")
        && has!("sse4.2")
        && has!("ssse3");
    let v3 = v2
        && has!("avx")
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("f16c")
        && has!("fma")
        && has!("lzcnt")
        && has!("movbe");
    let v4 =
        v3 && has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
    1 + u32::from(v2) + u32::from(v3) + u32::from(v4)
}

/// What this machine can do for builds that ask for it with `requiredSystemFeatures`.
pub(crate) fn system_features() -> BTreeSet<String> {
    let mut features: BTreeSet<String> =
        ["benchmark", "big-parallel", "nixos-test", "uid-range"].into_iter().map(str::to_owned).collect();
    let access = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
    if rustix::fs::access("/dev/kvm", access).is_ok() {
        features.insert("kvm".to_owned());
    }
    features
}

pub(crate) fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// The CA certificates that downloads trust: what the environment names, else the first file that exists.
pub(crate) fn ssl_cert_file(var: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let named = var("NIX_SSL_CERT_FILE").or_else(|| var("SSL_CERT_FILE"));
    if let Some(file) = named.filter(|file| !file.is_empty()) {
        return Some(file.into());
    }
    ["/etc/ssl/certs/ca-certificates.crt", "/nix/var/nix/profiles/default/etc/ssl/certs/ca-bundle.crt"]
        .into_iter()
        .map(PathBuf::from)
        .find(|file| file.exists())
}

/// `HOME`, unless it belongs to somebody else (as under sudo): then what the user database says.
pub(crate) fn home(var: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    if let Some(home) = var("HOME").map(PathBuf::from) {
        match std::fs::metadata(&home) {
            Ok(metadata) if metadata.uid() != uid => {}
            Ok(_) => return Some(home),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(home),
            Err(_) => {}
        }
    }
    home_of(uid)
}

/// The home folder in `/etc/passwd`.
fn home_of(uid: u32) -> Option<PathBuf> {
    let database = std::fs::read(Path::new("/etc/passwd")).ok()?;
    let uid = uid.to_string();
    database.split(|&b| b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let found = fields.get(2).is_some_and(|field| *field == uid.as_bytes());
        let home = fields.get(5).filter(|home| found && !home.is_empty())?;
        Some(PathBuf::from(OsStr::from_bytes(home)))
    })
}
