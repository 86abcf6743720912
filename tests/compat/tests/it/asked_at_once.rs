//! How many requests a cache gets at once, and which of them wait for others: a server of this test holds answers back until
//! it was asked for something else.

use firn_testkit::World;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer is held back that nobody frees; then it is an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a question too many has to show itself once enough are waiting.
const GRACE: Duration = Duration::from_millis(200);

#[derive(Default)]
struct State {
    asked: Vec<String>,
    facts: usize,
    waiting: usize,
    most: usize,
}

/// A server of one folder, one thread for each connection.
struct Server {
    root: PathBuf,
    /// File → what must have been asked for before it is answered.
    held: Mutex<BTreeMap<String, Vec<String>>>,
    /// How many facts of paths must have been asked for at once before those of any but the first path are answered.
    gathered: usize,
    state: Mutex<State>,
    changed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    fn start(root: &Path, held: BTreeMap<String, Vec<String>>, gathered: usize) -> (Arc<Server>, String) {
        let server = Arc::new(Server {
            root: root.to_owned(),
            held: Mutex::new(held),
            gathered,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let accepting = Arc::clone(&server);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = Arc::clone(&accepting);
                thread::spawn(move || server.serve(&stream));
            }
        });
        (server, url)
    }

    /// Answers on one connection until the other side closes it.
    fn serve(&self, mut stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let mut first = String::new();
            reader.read_line(&mut first).ok().filter(|n| *n > 0)?;
            let mut line = String::new();
            while reader.read_line(&mut line).ok().filter(|n| *n > 0)? > 2 {
                line.clear();
            }
            let path = first.split(' ').nth(1)?.trim_start_matches('/').to_owned();
            let body = match self.hold(&path) {
                true => fs::read(self.root.join(&path)).ok(),
                false => Some(Vec::new()),
            };
            let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
            stream.write_all(&body).ok()?;
        }
    }

    /// Waits until the answer may be given; false if that took too long.
    fn hold(&self, path: &str) -> bool {
        let wanted = lock(&self.held).get(path).cloned().unwrap_or_default();
        let end = Instant::now() + PATIENCE;
        let mut state = lock(&self.state);
        let together = state.facts > 0 && path.ends_with(".narinfo");
        state.facts += usize::from(path.ends_with(".narinfo"));
        state.asked.push(path.to_owned());
        state.waiting += 1;
        state.most = state.most.max(state.waiting);
        self.changed.notify_all();
        let mut in_time = true;
        while in_time
            && !(wanted.iter().all(|file| state.asked.contains(file))
                && (!together || state.most >= self.gathered))
        {
            let left = end.saturating_duration_since(Instant::now());
            in_time = !left.is_zero();
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        if together {
            thread::sleep(GRACE);
        }
        lock(&self.state).waiting -= 1;
        in_time
    }
}

/// A cache of paths that are built by `expression`, and the path that it is about.
fn cache(expression: &str) -> (World, PathBuf, String) {
    let world = World::new().conf("sandbox = false");
    world.write("default.nix", expression);
    let top = world.run("nix-build", &["--no-out-link"]).success().stdout_text().trim_end().to_owned();
    let dir = world.path("cache");
    world.run("nix", &["copy", "--to", &format!("file://{}", dir.display()), &top]).success();
    (world, dir, top)
}

const MAKE: &str = "let make = name: inputs: derivation { inherit name; system = builtins.currentSystem; \
                    builder = \"/bin/sh\"; args = [ \"-c\" \"echo ${name} ${toString inputs} > $out\" ]; }; in ";

/// The fields of the facts of the path with a name.
fn facts(dir: &Path, name: &str) -> (String, String) {
    for entry in fs::read_dir(dir).expect("a folder").flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if file.ends_with(".narinfo") && text.lines().next().is_some_and(|l| l.ends_with(&format!("-{name}")))
        {
            let url = text.lines().find_map(|line| line.strip_prefix("URL: ")).expect("a URL");
            return (file, url.to_owned());
        }
    }
    panic!("no facts of {name}")
}

fn realise(world: &World, store: &str, url: &str, top: &str, more: &[&str]) -> firn_testkit::Run {
    let _ = fs::remove_dir_all(world.path("home/.cache"));
    let store = world.path(store).display().to_string();
    let mut args = vec!["--store", &store, "-r", top, "--option", "substituters", url];
    args.extend(["--option", "require-sigs", "false"]);
    args.extend(more);
    world.run("nix-store", &args)
}

#[test]
fn nothing_waits_for_what_it_does_not_need() {
    let (world, dir, top) = cache(&format!(
        "{MAKE} let low = make \"low\" []; middle = make \"middle\" [ low ]; high = make \"high\" [ middle ]; \
         in make \"top\" [ (make \"slow\" []) high ]"
    ));
    let file = |name: &str| facts(&dir, name).0;
    let archive = |name: &str| facts(&dir, name).1;
    let held = BTreeMap::from([
        // What the cache is is not waited for before the first question.
        ("nix-cache-info".to_owned(), vec![file("top")]),
        // A slow answer keeps neither the questions of other branches back nor their archives.
        (file("slow"), vec![file("low"), archive("top"), archive("high"), archive("low")]),
        // Archives come while questions are still open.
        (file("middle"), vec![archive("top"), archive("high")]),
        // What refers to others is not waited for.
        (archive("top"), vec![archive("slow")]),
    ]);
    let (server, url) = Server::start(&dir, held, 0);
    let run = realise(&world, "new", &url, &top, &[]);
    assert!(run.code() == Some(0), "{}", run.stderr_text());
    // Each is asked for once all the same.
    let mut asked = lock(&server.state).asked.clone();
    asked.sort();
    let all = asked.len();
    asked.dedup();
    assert_eq!((asked.len(), all), (11, 11), "{asked:?}");
    // To tell what would be fetched, no archive is asked for.
    lock(&server.held).clear();
    lock(&server.state).asked.clear();
    let said = realise(&world, "other", &url, &top, &["--dry-run"]).success().stderr_text();
    assert!(said.contains("these 5 paths will be fetched"), "{said}");
    assert!(lock(&server.state).asked.iter().all(|file| !file.starts_with("nar/")));
}

#[test]
fn connections_are_used_and_no_more_than_that() {
    let (world, dir, top) =
        cache(&format!("{MAKE} make \"top\" (builtins.genList (n: make \"p${{toString n}}\" []) 150)"));
    let most = |store: &str, gathered: usize, more: &[&str]| {
        let (server, url) = Server::start(&dir, BTreeMap::new(), gathered);
        realise(&world, store, &url, &top, more).success();
        let state = lock(&server.state);
        state.most
    };
    assert_eq!(most("few", 7, &["--option", "http-connections", "7"]), 7);
    assert_eq!(most("usual", 64, &[]), 64);
    assert!(most("all", 150, &["--option", "http-connections", "0"]) >= 150);
}
