//! R10: roots are symlinks, indirect symlinks, and regular files whose name is a store path.

use firn_testkit::World;

fn add(world: &World, name: &str) -> String {
    world.write(name, name);
    world.run("nix-store", &["--add", name]).success().stdout_text().trim_end().to_owned()
}

#[test]
fn all_three_kinds() {
    let world = World::new();
    let [direct, indirect, file, free] = ["direct", "indirect", "file", "free"].map(|name| add(&world, name));
    let roots = world.path("var/nix/gcroots");
    let hydra = roots.join("per-user/hydra/hydra-roots");
    std::fs::create_dir_all(&hydra).expect("a folder");
    std::os::unix::fs::symlink(&direct, roots.join("direct")).expect("a link");
    world.run("nix-store", &["--realise", &indirect, "--add-root", "link", "--indirect"]).success();
    let base = file.rsplit('/').next().expect("a name");
    std::fs::write(hydra.join(base), "").expect("a file");

    world.run("nix-store", &["--gc"]).success();
    for path in [&direct, &indirect, &file] {
        assert!(std::path::Path::new(path).exists(), "{path} was collected");
    }
    assert!(!std::path::Path::new(&free).exists(), "{free} was kept");

    std::fs::remove_file(hydra.join(base)).expect("a file is removed");
    std::fs::remove_file(world.work_dir().join("link")).expect("a link is removed");
    world.run("nix-store", &["--gc"]).success();
    assert!(!std::path::Path::new(&file).exists() && !std::path::Path::new(&indirect).exists());
}

#[test]
fn tens_of_thousands_of_files() {
    let world = World::new();
    let kept = add(&world, "kept");
    let base = kept.rsplit('/').next().expect("a name");
    let dir = world.path("var/nix/gcroots/per-user/hydra/hydra-roots");
    std::fs::create_dir_all(&dir).expect("a folder");
    for number in 0..40_000 {
        // Nix's base 32 has no e, o, t and u; digits are always good.
        std::fs::write(dir.join(format!("{number:032}-gone")), "").expect("a file");
    }
    std::fs::write(dir.join(base), "").expect("a file");
    let start = std::time::Instant::now();
    world.run("nix-store", &["--gc"]).success();
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    assert!(std::path::Path::new(&kept).exists());
}

#[test]
fn running_programs() {
    let world = World::new().conf("sandbox = false");
    let path = world.build(r#"make "sleeper" "mkdir $out; cp /bin/sleep $out/sleep""#);
    let unused = world.build(r#"make "unused" "echo > $out""#);
    let mut running = world.command(&format!("{path}/sleep")).arg("600").spawn().expect("it runs");
    world.run("nix-store", &["--gc"]).success();
    let kept = std::path::Path::new(&path).exists();
    running.kill().expect("it ends");
    running.wait().expect("it ended");
    assert!(kept, "collected while it ran");
    assert!(!std::path::Path::new(&unused).exists());
    world.run("nix-store", &["--gc"]).success();
    assert!(!std::path::Path::new(&path).exists());
}
