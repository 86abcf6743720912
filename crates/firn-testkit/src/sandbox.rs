//! Worlds whose builds run in the sandbox.

use crate::world::{Run, World};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Whether sandboxes can be made here; says loudly if not. Containers often forbid namespaces or mounts.
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
pub fn can_sandbox() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    let can = *CAN.get_or_init(|| {
        let tried = ["--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork"];
        let mount = ["sh", "-c", "mount -t tmpfs none /tmp && mount -t proc none /proc"];
        let status = Command::new("unshare")
            .args(tried)
            .args(mount)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    });
    if !can {
        println!("SKIPPED: no namespaces here, so no sandbox");
    }
    can
}

impl World {
    /// Builds run in the sandbox and see the host's programs in it.
    pub fn sandboxed(self) -> Self {
        self.conf(
            "sandbox = true\nsandbox-fallback = false\n\
             sandbox-paths = /bin? /lib? /lib64? /usr? /etc/alternatives?",
        )
    }

    /// Writes `default.nix`, in which `make NAME SCRIPT` is a derivation that runs a shell script, and
    /// `makeWith NAME ATTRIBUTES SCRIPT` one with more attributes.
    pub fn expression(&self, text: &str) {
        let prelude = r#"
let
  makeWith = name: more: script: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" script ];
    PATH = "/usr/bin:/bin:/usr/sbin:/sbin";
  } // more);
  make = name: makeWith name { };
in
"#;
        self.write("default.nix", &format!("{prelude}{text}\n"));
    }

    /// Builds an expression (see [`World::expression`]) with `nix-build`.
    pub fn try_build(&self, text: &str, flags: &[&str]) -> Run {
        self.expression(text);
        self.run("nix-build", &[&["--no-out-link"], flags].concat())
    }

    /// Builds an expression; the output's path.
    #[track_caller]
    pub fn build(&self, text: &str) -> String {
        self.try_build(text, &[]).success().stdout_text().trim_end().to_owned()
    }

    /// Builds an expression and reads the file that is its output.
    #[track_caller]
    pub fn build_text(&self, text: &str) -> String {
        let path = self.build(text);
        std::fs::read_to_string(&path).expect("the output is read")
    }
}
