//! Downloads trust certificates that can be verified only, whatever a derivation says.

use crate::tool;
use firn_testkit::World;
use firn_testkit::servers::{free_port, has_program};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const SERVER: &str = r#"
import http.server, ssl, sys
s = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain("cert.pem", "key.pem")
s.socket = c.wrap_socket(s.socket, server_side=True)
s.serve_forever()
"#;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for() {
    if !has_program("python3") || !has_program("openssl") {
        return;
    }
    let world = World::new().conf("sandbox = false\ndownload-attempts = 1");
    let request = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
                   -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    let made = tool(&world, "openssl").args(request.split_whitespace()).stderr(Stdio::null()).status();
    assert!(made.unwrap().success());
    world.write("server.py", SERVER);
    world.write("file", "content");
    let port = free_port();
    let server = tool(&world, "python3").args(["server.py", &port.to_string()]).stderr(Stdio::null()).spawn();
    let _server = Server(server.unwrap());
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the server does not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    let hash = world.run("nix-hash", &["--type", "sha256", "--flat", "file"]).success().stdout_text();
    let fetch = |more: &str| {
        format!(
            r#"derivation {{ name = "file"; system = "builtin"; builder = "builtin:fetchurl"; {more}
               url = "https://localhost:{port}/file"; outputHash = "{}"; outputHashAlgo = "sha256"; }}"#,
            hash.trim()
        )
    };
    for more in ["", "curlOpts = \"--insecure\"; insecure = true; verifyTLS = false;"] {
        let run = world.try_build(&fetch(more), &[]);
        assert!(run.code() != Some(0) && run.stderr_text().contains("certificate"), "{run:?}");
    }
    // With it as the authority, it is the same server that is trusted.
    let authority = world.path("work/cert.pem").display().to_string();
    world.try_build(&fetch(""), &["--option", "ssl-cert-file", &authority]).success();
}
