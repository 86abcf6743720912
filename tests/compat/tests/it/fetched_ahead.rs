//! Archives that are fetched while it is still found out what else is needed: each once, none in vain, and none believed more
//! than others. That they are asked for so early is seen in `asked_at_once`.

use firn_testkit::servers::{Served, has_program};
use firn_testkit::{Run, World};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// A chain of paths, behind a web server.
struct Cache {
    world: World,
    server: Served,
    top: String,
}

const PATHS: usize = 30;

impl Cache {
    fn new() -> Cache {
        let world = World::new().conf("sandbox = false");
        world.write(
            "default.nix",
            &format!(
                "builtins.foldl' (below: n: derivation {{ name = \"p${{toString n}}\"; system = builtins.currentSystem; \
                 builder = \"/bin/sh\"; args = [ \"-c\" \"echo ${{below}} > $out\" ]; }}) \"nothing\" \
                 (builtins.genList (n: n) {PATHS})"
            ),
        );
        let top = world.run("nix-build", &["--no-out-link"]).success().stdout_text().trim_end().to_owned();
        let dir = world.path("cache");
        world.run("nix", &["copy", "--to", &format!("file://{}", dir.display()), &top]).success();
        let server = Served::nginx(&world.path("tmp"), &dir, "");
        Cache { world, server, top }
    }

    /// Realises what is at the top of the chain in another store.
    fn realise(&self, store: &str, more: &[&str]) -> Run {
        let store = self.world.path(store).display().to_string();
        let _ = fs::remove_dir_all(self.world.path("home/.cache"));
        let url = self.server.url();
        let mut args = vec!["--store", &store, "-r", &self.top, "--option", "substituters", &url];
        args.extend(["--option", "require-sigs", "false"]);
        args.extend(more);
        self.world.run("nix-store", &args)
    }

    /// What the server was asked for since the last time, in order.
    fn asked(&self) -> Vec<String> {
        let file = self.world.path("tmp/nginx/access");
        let log = fs::read_to_string(&file).expect("the server's log");
        fs::write(&file, "").expect("the log is emptied");
        let path = |line: &str| line.split("\"GET ").nth(1)?.split(' ').next().map(str::to_owned);
        log.lines().filter_map(path).collect()
    }

    fn archives(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.world.path("cache/nar")).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }
}

#[test]
fn each_file_once() {
    if !has_program("nginx") {
        return;
    }
    let cache = Cache::new();
    cache.realise("new", &["--dry-run"]).success();
    assert!(cache.asked().iter().all(|path| !path.starts_with("/nar/")));
    cache.realise("new", &[]).success();
    let asked = cache.asked();
    let mut counts = BTreeMap::new();
    for path in &asked {
        *counts.entry(path.as_str()).or_insert(0) += 1;
    }
    assert_eq!((counts.len(), asked.len()), (2 * PATHS + 1, 2 * PATHS + 1), "{counts:?}");
}

#[test]
fn what_is_gone_or_damaged_is_not_made_good_by_being_early() {
    if !has_program("nginx") {
        return;
    }
    let cache = Cache::new();
    let archives = cache.archives();
    let [gone, damaged, ..] = &archives[..] else { panic!("{archives:?}") };
    let kept = [fs::read(gone).expect("an archive"), fs::read(damaged).expect("an archive")];
    fs::remove_file(gone).expect("a file goes");
    let said = cache.realise("first", &[]).stderr_text();
    let name = gone.file_name().unwrap_or_default().to_string_lossy();
    assert!(said.contains(&format!("file 'nar/{name}' does not exist in binary cache")), "{said}");
    fs::write(gone, &kept[0]).expect("it is back");

    let mut torn = kept[1].clone();
    let middle = torn.len() / 2;
    torn[middle] ^= 0x55;
    fs::write(damaged, &torn).expect("a file is written");
    let run = cache.realise("second", &[]);
    let said = run.stderr_text();
    assert!(run.code() != Some(0) && said.contains("error: "), "{said}");
    fs::write(damaged, &kept[1]).expect("it is good again");
    cache.realise("first", &[]).success();
    cache.realise("second", &[]).success();
    cache.asked();
    cache.realise("second", &[]).success();
    assert!(cache.asked().is_empty());
}
