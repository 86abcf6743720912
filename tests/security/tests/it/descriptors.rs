//! Fixed-output builds share the host's network, and with it abstract sockets: a descriptor of the output that is passed
//! on must not change what was hashed.

use crate::tool;
use firn_testkit::servers::has_program;
use firn_testkit::{World, can_sandbox};
use std::fs;

/// Hands a descriptor of the output to whoever listens on an abstract socket, which may be outside.
const BUILDER: &str = r#"
import array, os, socket, sys
out = os.environ["out"]
f = open(out, "w+"); f.write("wanted"); f.flush()
s = socket.socket(socket.AF_UNIX)
try:
    s.connect("\0" + os.environ["meet"])
    s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [f.fileno()]))])
    s.recv(1)
    print("handed over")
except OSError as e:
    print("not handed over:", e)
"#;

/// Waits for a descriptor, and writes to it for as long as the build is hashed and registered.
const ACCOMPLICE: &str = r#"
import array, os, socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind("\0" + sys.argv[1]); s.listen(1); s.settimeout(20)
print("ready", flush=True)
try: c, _ = s.accept()
except OSError: sys.exit(0)
_, anc, _, _ = c.recvmsg(1, socket.CMSG_LEN(4))
fds = array.array("i"); fds.frombytes(anc[0][2][:4]); c.send(b"y")
for _ in range(300):
    os.pwrite(fds[0], b"EVIL!!", 0); time.sleep(0.01)
"#;

#[test]
fn an_output_cannot_be_changed_by_whom_it_was_handed_to() {
    if !can_sandbox() || !has_program("python3") {
        return;
    }
    let world = World::new().sandboxed();
    world.write("accomplice.py", ACCOMPLICE);
    let meet = format!("firn-test-{}", std::process::id());
    let mut accomplice = tool(&world, "python3");
    let mut accomplice =
        accomplice.args(["accomplice.py", &meet]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    let pipe = accomplice.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(pipe), &mut ready).unwrap();
    let builder = world.write("builder.py", BUILDER);
    world.write("wanted", "wanted");
    let hash = world.run("nix-hash", &["--type", "sha256", "--flat", "wanted"]).success().stdout_text();
    let expression = format!(
        r#"makeWith "fixed" {{ outputHash = "{}"; outputHashAlgo = "sha256"; meet = "{meet}"; script = {}; }}
           "python3 $script""#,
        hash.trim(),
        builder.display()
    );
    let run = world.try_build(&expression, &[]);
    // While it is being written to, it may be seen to be wrong; what is valid must be right.
    if run.code() == Some(0) {
        let path = run.stdout_text().trim().to_owned();
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(fs::read_to_string(&path).unwrap(), "wanted", "{run:?}");
        world.run("nix-store", &["--verify-path", &path]).success();
    } else {
        assert!(run.stderr_text().contains("hash mismatch"), "{run:?}");
    }
    let _ = accomplice.kill();
    let _ = accomplice.wait();
}
