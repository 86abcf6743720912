//! A sandbox with the host's programs in it.

use firn_sandbox::{
    BuildUser, Event, ExitStatus, Isolation, Mount, Program, SandboxError, SandboxSpec, Spawner,
};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

pub struct World {
    pub dir: TempDir,
    pub spec: SandboxSpec,
}

pub struct Outcome {
    pub status: ExitStatus,
    pub log: String,
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

impl World {
    /// A shell script outside of any sandbox.
    pub fn unsandboxed(script: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let spec = SandboxSpec {
            program: Program::Execute {
                path: b"/bin/sh".to_vec(),
                args: vec![b"sh".to_vec(), b"-c".to_vec(), script.as_bytes().to_vec()],
            },
            env: vec![b"PATH=/usr/bin:/bin:/usr/sbin:/sbin".to_vec()],
            cwd: bytes(dir.path()),
            user: None,
            isolation: None,
            cgroup: None,
            require_drop_groups: false,
            linux32: false,
            linux26: false,
            filter_syscalls: true,
            allow_new_privileges: false,
        };
        World { dir, spec }
    }

    /// A shell script with the host's programs, a build directory and a store directory of its own.
    pub fn sandboxed(script: &str) -> World {
        let mut world = World::unsandboxed(script);
        let top = world.dir.path().to_owned();
        for name in ["root", "root/nix", "root/nix/store", "build"] {
            std::fs::create_dir(top.join(name)).unwrap();
        }
        let mut mounts: Vec<Mount> = ["/bin", "/lib", "/lib64", "/usr"]
            .map(|path| Mount { source: path.into(), target: path.into(), optional: true })
            .into();
        mounts.push(Mount { source: bytes(&top.join("build")), target: b"/build".to_vec(), optional: false });
        world.spec.cwd = b"/build".to_vec();
        world.spec.isolation = Some(Isolation {
            root: bytes(&top.join("root")),
            private_network: true,
            mounts,
            files: Vec::new(),
            symlinks: Vec::new(),
            shm_size: "50%".to_owned(),
            private_pts: true,
            home: b"/build".to_vec(),
            grows: None,
            whole_system: false,
        });
        world
    }

    /// As the host's user `uid`, who then owns the build directory.
    pub fn by_user(mut self, uid: u32) -> World {
        std::fs::set_permissions(self.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let gid = uid;
        self.spec.user = Some(BuildUser { uid, gid, count: 1, supplementary_gids: Vec::new() });
        let build = if self.spec.isolation.is_some() { "build" } else { "." };
        std::os::unix::fs::chown(self.dir.path().join(build), Some(uid), Some(gid)).unwrap();
        if self.spec.isolation.is_some() {
            let root = self.dir.path().join("root");
            std::os::unix::fs::chown(&root, Some(0), Some(gid)).unwrap();
            let store = root.join("nix/store");
            std::os::unix::fs::chown(&store, Some(0), Some(gid)).unwrap();
            std::fs::set_permissions(store, std::fs::Permissions::from_mode(0o1775)).unwrap();
        }
        self
    }

    pub fn isolation(&mut self) -> &mut Isolation {
        self.spec.isolation.as_mut().unwrap()
    }

    pub fn spawner() -> Spawner {
        Spawner::with_program(env!("CARGO_BIN_EXE_firn-sandbox-init"))
    }

    /// Runs to the end; `None` (with a loud note) where this machine gives no namespaces.
    #[track_caller]
    pub fn run(&self) -> Option<Outcome> {
        match self.try_run() {
            Err(SandboxError::NoNamespaces(why)) => {
                println!("SKIPPED: no namespaces on this machine: {why}");
                None
            }
            result => Some(result.unwrap()),
        }
    }

    pub fn try_run(&self) -> Result<Outcome, SandboxError> {
        let mut sandbox = World::spawner().spawn(&self.spec)?;
        sandbox.wait_started()?;
        let mut log = Vec::new();
        let mut buffer = [0; 4096];
        let status = loop {
            match sandbox.next_event(&mut buffer, None, Some(Duration::from_secs(60)))? {
                Event::Output(count) => log.extend_from_slice(&buffer[..count]),
                Event::Exited(status) => break status,
                event => panic!("the build hangs: {event:?}; log: {}", String::from_utf8_lossy(&log)),
            }
        };
        Ok(Outcome { status, log: String::from_utf8_lossy(&log).into_owned() })
    }
}

/// Runs a script in the sandbox, as whoever we are; checks its output.
#[track_caller]
pub fn check(script: &str, expected: &str) {
    let Some(outcome) = World::sandboxed(script).run() else { return };
    assert_eq!((outcome.log.as_str(), outcome.status), (expected, ExitStatus::Code(0)), "{script}");
    if is_root() {
        // A user for each: the end of one build kills all processes of its user. Tests may be processes of their
        // own or threads of one, so the number comes from both.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let uid = 100_000 + (std::process::id() % 50_000) * 64 + NEXT.fetch_add(1, Ordering::Relaxed) % 64;
        let outcome = World::sandboxed(script).by_user(uid).run().unwrap();
        assert_eq!(
            (outcome.log.as_str(), outcome.status),
            (expected, ExitStatus::Code(0)),
            "{script} as build user"
        );
    }
}
