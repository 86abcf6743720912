//! Real servers on loopback, started by tests and stopped when they are dropped.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server.
pub struct Served {
    child: Child,
    pub port: u16,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens at now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// Whether a program that a test wants is there. Where it is not, the test says so loudly and leaves out what needs it.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path.split(':').chain(["/usr/sbin"]).any(|dir| Path::new(dir).join(name).exists());
    if !found {
        eprintln!("NOT TESTED: the program '{name}' is missing; tests/run installs it");
    }
    found
}

impl Served {
    /// Starts a command and waits until something listens at `port`.
    pub fn start(mut command: Command, port: u16) -> Served {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > Duration::from_secs(20) || child.try_wait().is_ok_and(|s| s.is_some()) {
                let _ = child.kill();
                let mut text = String::new();
                let _ = child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut text));
                panic!("the server does not listen: {text}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Served { child, port }
    }

    /// nginx with the files of `root`; `rules` are directives of its `server` block.
    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    pub fn nginx(dir: &Path, root: &Path, rules: &str) -> Served {
        let port = free_port();
        let dir = dir.display();
        fs::create_dir_all(format!("{dir}/nginx")).expect("a folder");
        let text = format!(
            "daemon off; master_process off; pid {dir}/nginx/pid; error_log {dir}/nginx/errors;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n  access_log {dir}/nginx/access;\n  client_body_temp_path {dir}/nginx/body;\n  \
             proxy_temp_path {dir}/nginx/proxy;\n  fastcgi_temp_path {dir}/nginx/fastcgi;\n  \
             uwsgi_temp_path {dir}/nginx/uwsgi;\n  scgi_temp_path {dir}/nginx/scgi;\n  \
             client_max_body_size 0;\n  \
             server {{\n    listen 127.0.0.1:{port};\n    root {};\n{rules}\n  }}\n}}\n",
            root.display()
        );
        let file = format!("{dir}/nginx/conf");
        fs::write(&file, text).expect("a file is written");
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let mut command = Command::new(program);
        command.args(["-c", &file, "-e", &format!("{dir}/nginx/errors")]);
        Served::start(command, port)
    }

    /// tinyproxy, for anybody on this machine.
    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    pub fn tinyproxy(dir: &Path) -> Served {
        let port = free_port();
        let file = dir.join("tinyproxy.conf");
        let log = dir.join("tinyproxy.log");
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 100\nLogFile \"{}\"\nLogLevel Connect\n",
            log.display()
        );
        fs::write(&file, text).expect("a file is written");
        let mut command = Command::new("tinyproxy");
        command.args(["-d", "-c"]).arg(file);
        Served::start(command, port)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
