//! Whether a build is sandboxed, and what it sees then.

use crate::config::{BuildConfig, SandboxMode};
use crate::environment::closure;
use crate::hooks;
use crate::text::paint;
use firn_core::StorePath;
use firn_derivation::{Derivation, DerivationOptions, DerivationType};
use firn_sandbox::spec::path_bytes;
use firn_sandbox::{File, Isolation, Mount};
use firn_scheduler::BuildFailure;
use firn_store::BuildTarget;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

/// Files of the host that builds with network access get to see.
const NETWORK_FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/services", "/etc/hosts"];

/// Decides whether the build is sandboxed.
pub(crate) fn is_sandboxed(
    target: &dyn BuildTarget,
    config: &BuildConfig,
    drv_path: &StorePath,
    kind: DerivationType,
    options: &DerivationOptions,
) -> Result<bool, BuildFailure> {
    let diverted = is_diverted(target);
    match config.sandbox {
        SandboxMode::Enabled if options.no_chroot => Err(BuildFailure::other(format!(
            "derivation '{}' has '__noChroot' set, but that's not allowed when 'sandbox' is 'true'",
            paint(target.store_dir().display(drv_path))
        ))),
        SandboxMode::Enabled => Ok(true),
        SandboxMode::Relaxed => Ok(diverted || (kind.is_sandboxed() && !options.no_chroot)),
        SandboxMode::Disabled => Ok(diverted),
    }
}

/// Whether objects lie elsewhere than their paths say, so that a builder finds them in a sandbox only.
pub(crate) fn is_diverted(target: &dyn BuildTarget) -> bool {
    target.real_store_dir() != Path::new(target.store_dir().as_str())
}

/// What goes into the sandbox.
pub(crate) struct View<'a> {
    pub target: &'a dyn BuildTarget,
    pub config: &'a BuildConfig,
    pub drv_path: &'a StorePath,
    pub drv: &'a Derivation,
    pub options: &'a DerivationOptions,
    pub kind: DerivationType,
    pub input_paths: &'a BTreeSet<StorePath>,
    /// On the host.
    pub root: &'a Path,
    /// The build directory on the host.
    pub work: &'a Path,
    pub whole_system: bool,
    /// Whether more store paths may be shown while it runs.
    pub grows: bool,
}

#[derive(Clone)]
struct Source {
    path: PathBuf,
    optional: bool,
}

impl View<'_> {
    /// Mounts, files and namespaces.
    pub fn isolation(&self) -> Result<Isolation, BuildFailure> {
        let dir = self.target.store_dir();
        let config = self.config;
        let mut paths: BTreeMap<PathBuf, Source> = BTreeMap::new();
        for path in &config.sandbox_paths {
            paths.insert(path.target.clone(), Source { path: path.source.clone(), optional: path.optional });
        }
        for path in self.sandbox_path_closure()? {
            paths.insert(dir.display(&path).into(), self.real(&path));
        }
        if Path::new(dir.as_str()).starts_with(&config.sandbox_build_dir) {
            return Err(BuildFailure::other("`sandbox-build-dir` must not contain the storeDir"));
        }
        paths
            .insert(config.sandbox_build_dir.clone(), Source { path: self.work.to_owned(), optional: false });
        for path in &self.options.impure_host_deps {
            self.check_impure(path)?;
            paths.insert(path.into(), Source { path: path.into(), optional: true });
        }
        for (target, source) in hooks::pre_build(config, &dir.display(self.drv_path), Some(self.root))? {
            paths.insert(target, Source { path: source, optional: false });
        }
        for path in self.input_paths {
            paths.insert(dir.display(path).into(), self.real(path));
        }
        // What is being built may be there already, when it is checked or repaired; it must not be seen.
        for path in self.drv.output_paths(dir).map_err(BuildFailure::other)?.into_values().flatten() {
            paths.remove(Path::new(&dir.display(&path)));
        }

        let mut files = Vec::new();
        if self.kind.is_sandboxed() {
            files.push(file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"));
        } else {
            files.push(file("/etc/nsswitch.conf", "hosts: files dns\nservices: files\n"));
            for path in NETWORK_FILES {
                add_resolved(&mut paths, Path::new(path));
            }
            if let Some(certificates) = &config.ssl_cert_file
                && certificates.exists()
            {
                let source = certificates.canonicalize().unwrap_or_else(|_| certificates.clone());
                paths
                    .entry("/etc/ssl/certs/ca-certificates.crt".into())
                    .or_insert(Source { path: source, optional: true });
            }
        }
        if config.system_features.contains("kvm") && !paths.contains_key(Path::new("/dev")) {
            add_resolved(&mut paths, Path::new("/dev/kvm"));
        }
        // The sandbox has a /proc of its own.
        paths.retain(|_, source| source.path != Path::new("/proc"));
        let mounts = paths
            .into_iter()
            .map(|(target, source)| Mount {
                source: path_bytes(&source.path),
                target: path_bytes(&target),
                optional: source.optional,
            })
            .collect();
        Ok(Isolation {
            root: path_bytes(self.root),
            private_network: self.kind.is_sandboxed(),
            mounts,
            files,
            symlinks: Vec::new(),
            shm_size: config.sandbox_dev_shm_size.clone(),
            private_pts: true,
            home: path_bytes(&config.sandbox_build_dir),
            grows: self.grows.then(|| dir.as_str().into()),
            whole_system: self.whole_system,
        })
    }

    fn real(&self, path: &StorePath) -> Source {
        Source { path: self.target.real_store_dir().join(path.base_name()), optional: false }
    }

    /// Store paths named in `sandbox-paths` bring what they refer to.
    fn sandbox_path_closure(&self) -> Result<BTreeSet<StorePath>, BuildFailure> {
        let mut roots = BTreeSet::new();
        for path in &self.config.sandbox_paths {
            let Some((object, _)) =
                path.source.to_str().and_then(|text| self.target.store_dir().split(text).ok())
            else {
                continue;
            };
            // What is not valid is mounted as it is.
            if self.target.path_info(&object).map_err(BuildFailure::other)?.is_some() {
                roots.insert(object);
            }
        }
        closure(self.target, roots)
    }

    fn check_impure(&self, path: &str) -> Result<(), BuildFailure> {
        let normal = normalise(Path::new(path));
        let allowed = &self.config.allowed_impure_host_deps;
        if allowed.iter().any(|prefix| normal.starts_with(normalise(Path::new(prefix)))) {
            return Ok(());
        }
        Err(BuildFailure::other(format!(
            "derivation '{}' requested impure path '{}', but it was not in allowed-impure-host-deps",
            paint(self.target.store_dir().display(self.drv_path)),
            paint(path)
        )))
    }
}

/// Resolves `.` and `..` by the text, so that nobody learns about files they cannot see.
fn normalise(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Adds a file of the host, with symlinks followed, unless it is missing or set otherwise.
fn add_resolved(paths: &mut BTreeMap<PathBuf, Source>, path: &Path) {
    if let Ok(source) = path.canonicalize() {
        paths.entry(path.to_owned()).or_insert(Source { path: source, optional: false });
    }
}

fn file(path: &str, contents: &str) -> File {
    File { path: path.into(), contents: contents.into(), mode: 0o644 }
}
