//! firn and Nix on one store at the same time: adds, builds, collections and optimising by both, as random as it comes.
//!
//! Six seconds of it run always; `FIRN_TOGETHER_SECONDS=600` makes it longer, and
//! `FIRN_TOGETHER_ONLY=firn` or `nix` leaves the work to one. Without Nix on the machine firn does it
//! alone, and says so.

use firn_testkit::{World, program_dir};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WORKERS: u64 = 4;
/// Longer than any command takes that does not hang.
const PATIENCE: &str = "120";

/// Numbers that look random and follow from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// Where Nix's programs are.
fn reference() -> Option<PathBuf> {
    let dir = Path::new("/usr/bin");
    // A link to firn is not Nix.
    let is_nix =
        fs::read(dir.join("nix-store")).is_ok_and(|bytes| bytes.windows(11).any(|w| w == b"libnixstore"));
    is_nix.then(|| dir.to_owned())
}

struct Shared<'a> {
    world: &'a World,
    programs: Vec<PathBuf>,
    end: Instant,
    done: AtomicU64,
}

impl Shared<'_> {
    fn choose(&self, dice: &mut Dice) -> &Path {
        &self.programs[dice.roll(self.programs.len() as u64) as usize]
    }

    /// Runs a program of either in the world.
    fn run(&self, dice: &mut Dice, program: &str, args: &[&str]) -> Output {
        self.run_in(self.choose(dice), program, args)
    }

    #[expect(clippy::disallowed_methods, reason = "tests run programs")]
    fn run_in(&self, dir: &Path, program: &str, args: &[&str]) -> Output {
        let ours = self.world.command(program);
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", PATIENCE]).arg(dir.join(program)).args(args).env_clear();
        command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(ours.get_current_dir().unwrap_or(Path::new("/")));
        let output = command.output().expect("the program runs");
        assert_ne!(
            output.status.code(),
            Some(137),
            "'{program} {}' of {} hangs",
            args.join(" "),
            dir.display()
        );
        self.done.fetch_add(1, Ordering::Relaxed);
        output
    }

    fn must(&self, dice: &mut Dice, program: &str, args: &[&str]) -> String {
        self.must_in(self.choose(dice), program, args)
    }

    fn must_in(&self, dir: &Path, program: &str, args: &[&str]) -> String {
        let output = self.run_in(dir, program, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "'{program} {}' of {}: {said}", args.join(" "), dir.display());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn work(&self, worker: u64) {
        let mut dice = Dice(worker * 7919 + 17);
        let mut links: Vec<Link> = Vec::new();
        let mut turn = 0;
        while Instant::now() < self.end {
            turn += 1;
            match dice.roll(10) {
                0..=3 => links.push(self.build(&mut dice, worker, turn)),
                4 | 5 => {
                    let file = self.world.write(&format!("f{worker}"), &format!("{}", dice.roll(20)));
                    let path = self.must(&mut dice, "nix-store", &["--add", &file.to_string_lossy()]);
                    // Nobody roots it, so that it may be gone by now; reading it must not lie.
                    let output = self.run(&mut dice, "nix-store", &["--verify-path", &path]);
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert!(!said.contains("was modified"), "{said}");
                }
                6 => {
                    if let Some(link) = links.pop() {
                        fs::remove_file(link.place).expect("a link of ours");
                    }
                }
                7 => drop(self.must(&mut dice, "nix-store", &["--gc"])),
                8 => drop(self.must(&mut dice, "nix-store", &["--optimise"])),
                _ => drop(self.must(&mut dice, "nix-store", &["--gc", "--max-freed", "1000"])),
            }
            links.retain(Link::check);
        }
    }

    /// Builds two derivations, one of which needs the other, with a root for the result.
    fn build(&self, dice: &mut Dice, worker: u64, turn: u64) -> Link {
        let seed = dice.roll(30);
        let expr = format!(
            r#"let make = name: text: derivation {{
                inherit name text;
                system = builtins.currentSystem;
                builder = "/bin/sh";
                args = [ "-c" "echo $text > $out" ];
            }};
            in make "top-{seed}" "{seed} ${{make "input-{}" "x"}}""#,
            seed % 5
        );
        let link = self.world.work_dir().join(format!("result-{worker}-{turn}"));
        let builder = self.choose(dice);
        self.must_in(builder, "nix-build", &["-E", &expr, "-o", &link.to_string_lossy()]);
        Link { place: link, seed, by_nix: builder.starts_with("/usr") }
    }
}

/// The root of a result.
struct Link {
    place: PathBuf,
    seed: u64,
    /// Nix may make a root too late for a collection that has begun, so that its results can be lost to it.
    by_nix: bool,
}

impl Link {
    /// What a root keeps is there, with all that it needs. False if Nix lost it.
    fn check(&self) -> bool {
        let target = fs::read_link(&self.place).unwrap_or_else(|e| panic!("{}: {e}", self.place.display()));
        let text = match fs::read_to_string(&target) {
            Err(_) if self.by_nix => return false,
            other => {
                other.unwrap_or_else(|e| panic!("{} -> {}: {e}", self.place.display(), target.display()))
            }
        };
        let (number, input) = text.trim().split_once(' ').expect("two words");
        assert_eq!(number, self.seed.to_string());
        match fs::read_to_string(input) {
            Err(_) if self.by_nix => false,
            other => {
                assert_eq!(other.unwrap_or_else(|e| panic!("{input}: {e}")), "x\n");
                true
            }
        }
    }
}

#[test]
fn random_load_by_both() {
    let seconds = std::env::var("FIRN_TOGETHER_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let world = World::new().conf("sandbox = false\nfallback = false");
    let mut programs = vec![program_dir().to_owned()];
    match (reference(), std::env::var("FIRN_TOGETHER_ONLY").as_deref()) {
        (_, Ok("firn")) => {}
        (Some(dir), Ok("nix")) => programs = vec![dir],
        (Some(dir), _) => programs.push(dir),
        (None, _) => eprintln!("NOT COMPARED: Nix is not on this machine, firn works alone"),
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let shared = Shared { world: &world, programs, end, done: AtomicU64::new(0) };
    // The store is made by one of them.
    shared.must(&mut Dice(1), "nix-store", &["--init"]);
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let shared = &shared;
            scope.spawn(move || shared.work(worker));
        }
    });
    println!("{} commands", shared.done.load(Ordering::Relaxed));
    for index in 0..shared.programs.len() {
        let only = Shared {
            world: &world,
            programs: vec![shared.programs[index].clone()],
            end,
            done: AtomicU64::new(0),
        };
        let output = only.run(&mut Dice(1), "nix-store", &["--verify", "--check-contents"]);
        let said = String::from_utf8_lossy(&output.stderr);
        let bad = ["modified", "disappeared", "error"].iter().any(|word| said.contains(word));
        assert!(output.status.success() && !bad, "{said}");
    }
}

/// Programs that are all the first ones in a new store make it together.
#[test]
fn first_ones_in_a_new_store() {
    for _ in 0..20 {
        let world = World::new();
        let file = world.write("file", "text");
        let children: Vec<_> = (0..6)
            .map(|_| {
                let mut command = world.command("nix-store");
                command.arg("--add").arg(&file).stdout(std::process::Stdio::piped());
                command.stderr(std::process::Stdio::piped()).spawn().expect("it starts")
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().expect("it ends");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
