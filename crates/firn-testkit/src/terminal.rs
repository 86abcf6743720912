//! A terminal with a program on it, for what people see and type.

use crate::world::World;
use rustix::pty::OpenptFlags;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a text may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program on a terminal of its own. It is killed when this is dropped.
pub struct Terminal {
    child: Child,
    keys: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Starts `program` in `world`.
    pub fn start(world: &World, program: &str, args: &[&str]) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).expect("a terminal");
        rustix::pty::unlockpt(&master).expect("a terminal");
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("a terminal");
        let size = rustix::termios::Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&slave, size).expect("a terminal");
        let slave = File::from(slave);
        let copy = |file: &File| Stdio::from(file.try_clone().expect("a descriptor"));
        let child = world
            .command("/usr/bin/env")
            .args(["setsid", "--ctty", "--wait"])
            .arg(crate::programs::program_dir().join(program))
            .args(args)
            .env("TERM", "xterm")
            .stdin(copy(&slave))
            .stdout(copy(&slave))
            .stderr(copy(&slave))
            .spawn()
            .expect("the program starts");
        drop(slave);
        let keys = File::from(master);
        let mut output = keys.try_clone().expect("a descriptor");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal { child, keys, screen, seen: String::new() }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("keys are read");
    }

    /// Waits for `text`; what came until then is not looked at again.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.wait_within(PATIENCE, text);
    }

    /// The same for what takes longer than anybody's patience.
    #[track_caller]
    pub fn wait_within(&mut self, patience: Duration, text: &str) {
        let end = Instant::now() + patience;
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no {text:?} in {:?}", self.seen),
            }
        }
    }

    /// Waits for the program's end.
    #[track_caller]
    pub fn end(mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the program can be waited for") {
                return status;
            }
            assert!(Instant::now() < end, "the program does not end; it says {:?}", self.seen);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
