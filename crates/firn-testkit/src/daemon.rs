//! Daemons and ssh servers of a world, started on loopback and ended with the value that stands for them.

use crate::world::{Run, World};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);

/// A running server; dropping it ends it.
pub struct Server {
    child: Child,
    /// What it said.
    pub log: PathBuf,
    /// Of ssh servers.
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log_text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Whose programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Firn,
    /// The reference's, as `nix-bin` installs them.
    Reference,
}

/// Whether the reference's programs are on this machine; says loudly if not.
pub fn has_reference() -> bool {
    let found = Path::new("/usr/bin/nix-store").exists();
    if !found {
        println!("SKIPPED: nix-bin is not installed");
    }
    found
}

/// Whether there is an ssh server; says loudly if not.
pub fn has_sshd() -> bool {
    let found = Path::new("/usr/sbin/sshd").exists() && Path::new("/usr/bin/ssh").exists();
    if !found {
        println!("SKIPPED: openssh-server or openssh-client is not installed");
    }
    found
}

impl World {
    pub fn socket(&self) -> PathBuf {
        self.path("var/nix/daemon-socket/socket")
    }

    /// A command of either make in this world.
    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    pub fn command_of(&self, make: Make, program: &str) -> Command {
        let ours = self.command(program);
        if make == Make::Firn {
            return ours;
        }
        let mut command = Command::new("/usr/bin/env");
        // The same environment, other programs.
        command.env_clear().arg("PATH=/usr/local/bin:/usr/bin:/bin").arg(format!("/usr/bin/{program}"));
        for (name, value) in ours.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.current_dir(self.work_dir()).stdin(Stdio::null());
        command
    }

    /// Starts `nix-daemon` and waits until it answers.
    pub fn start_daemon(&self, make: Make, args: &[&str]) -> Server {
        if make == Make::Reference {
            // Its processes for the first connections would make the store at the same time, and one of them fail.
            let made = self.command_of(make, "nix-store").arg("--init").status();
            assert!(made.is_ok_and(|status| status.success()), "a store is made");
        }
        let mut command = self.command_of(make, "nix-daemon");
        command.args(args);
        self.serve(command, &|_| UnixStream::connect(self.socket()).is_ok(), 0)
    }

    fn serve(&self, mut command: Command, ready: &dyn Fn(&Child) -> bool, port: u16) -> Server {
        let log = self.path(&format!("log-{}-{port}", command.get_args().count()));
        let file = fs::File::create(&log).expect("a log");
        let child = command.stdout(Stdio::null()).stderr(file).spawn().expect("a server starts");
        let server = Server { child, log, port };
        let started = Instant::now();
        while !ready(&server.child) {
            assert!(started.elapsed() < START, "the server does not answer: {}", server.log_text());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Runs a program of either make as a client of this world's daemon; as another user if `uid` says so.
    pub fn client(&self, make: Make, uid: Option<u32>, program: &str, args: &[&str]) -> Run {
        let mut command = self.client_command(make, uid, program);
        let output = command.args(args).output().expect("the program runs");
        Run::new(format!("{program} {}", args.join(" ")), output)
    }

    /// The command for [`World::client`].
    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    pub fn client_command(&self, make: Make, uid: Option<u32>, program: &str) -> Command {
        let plain = World::plain_command(self, make, program);
        let mut command = match uid {
            None => plain,
            Some(id) => {
                let home = self.path(&format!("home-{id}"));
                if !home.exists() {
                    fs::create_dir(&home).expect("a home");
                    std::os::unix::fs::chown(&home, Some(id), Some(id)).expect("it gets its owner");
                }
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups"]);
                command.arg(plain.get_program()).args(plain.get_args());
                command.env_clear();
                for (name, value) in plain.get_envs() {
                    if let Some(value) = value {
                        command.env(name, value);
                    }
                }
                command.current_dir(&home).env("HOME", &home).env("TMPDIR", &home);
                command
            }
        };
        command.env("NIX_REMOTE", "daemon").stdin(Stdio::null());
        command
    }

    /// A command without the wrapper that daemons run in.
    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    fn plain_command(&self, make: Make, program: &str) -> Command {
        let wrapped = self.command_of(make, program);
        if make == Make::Reference || self.wrapper.is_empty() {
            return wrapped;
        }
        let mut command = Command::new(self.programs.join(program));
        command.env_clear();
        for (name, value) in wrapped.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.current_dir(self.work_dir());
        command
    }

    /// Starts an ssh server whose sessions run in this world. With `forced`, whatever the client asks for, that
    /// command is what runs.
    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    pub fn start_sshd(&self, make: Make, forced: Option<&str>) -> Server {
        let port = free_port();
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(self.sshd_config(make, forced, "127.0.0.1", port));
        self.serve(command, &|_| TcpStream::connect(("127.0.0.1", port)).is_ok(), port)
    }

    /// The configuration of an ssh server for that address, and keys.
    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    pub fn sshd_config(&self, make: Make, forced: Option<&str>, address: &str, port: u16) -> PathBuf {
        let dir = self.path("ssh");
        fs::create_dir_all(&dir).expect("a folder");
        for key in ["host", "client"] {
            let file = dir.join(key);
            if !file.exists() {
                let made = Command::new("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(&file)
                    .status()
                    .expect("ssh-keygen runs");
                assert!(made.success());
            }
        }
        let key = fs::read_to_string(dir.join("client.pub")).expect("a key");
        let options = match forced {
            Some(command) => format!("command=\"{command}\" "),
            None => String::new(),
        };
        fs::write(dir.join("authorized_keys"), format!("{options}{key}")).expect("the key is let in");
        fs::set_permissions(dir.join("authorized_keys"), fs::Permissions::from_mode(0o644)).expect("modes");
        // sshd wants it, and it is empty.
        let _ = fs::create_dir_all("/run/sshd");
        let programs = match make {
            Make::Firn => self.programs.display().to_string(),
            Make::Reference => "/usr/bin".into(),
        };
        let mut settings = format!(
            "Port {port}\nListenAddress {address}\nHostKey {0}/host\nAuthorizedKeysFile {0}/authorized_keys\nStrictModes no\n\
             UsePAM no\nPermitRootLogin yes\nPidFile none\nSetEnv PATH={programs}:/usr/bin:/bin HOME={1}",
            dir.display(),
            // Shells read what is in the user's home, and that may do anything, or wait for a minute.
            self.path("home").display()
        );
        for (name, value) in self.command("nix").get_envs() {
            let name = name.to_string_lossy();
            if let Some(value) = value.filter(|_| name.starts_with("NIX_")) {
                settings += &format!(" {name}={}", value.to_string_lossy());
            }
        }
        // Many connections at once are no attack.
        settings += "\nMaxStartups 100\n";
        fs::write(dir.join("config"), settings).expect("a configuration");
        dir.join("config")
    }

    /// `NIX_SSHOPTS` for a server that [`World::start_sshd`] of `there` made.
    pub fn ssh_options(there: &World, server: &Server) -> String {
        format!(
            "-p {} -i {} -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null -oLogLevel=ERROR",
            server.port,
            there.path("ssh/client").display()
        )
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("its number").port()
}
