//! R5: `sandbox-paths` and its older names, `target=source`, `?`, closures of store paths, impure host paths.

use firn_testkit::{World, can_sandbox};

#[test]
fn names_forms_and_closures() {
    if !can_sandbox() {
        return;
    }
    for name in ["sandbox-paths", "build-chroot-dirs", "build-sandbox-paths", "extra-sandbox-paths"] {
        let world = World::new().sandboxed();
        let tool = world.build(
            r#"let library = make "library" "echo library > $out";
               in make "tool" "mkdir $out; echo tool > $out/tool; echo ${library} > $out/library""#,
        );
        let library = std::fs::read_to_string(format!("{tool}/library")).expect("a path");
        let base = if name.starts_with("extra-") { "" } else { "/bin? /lib? /lib64? /usr?" };
        let world = world.conf(&format!("{name} = {base} /opt/tool={tool}/tool /not/there?"));
        let script = format!("cat /opt/tool {} > $out; test ! -e /not/there", library.trim_end());
        assert_eq!(world.build_text(&format!(r#"make "uses" "{script}""#)), "tool\nlibrary\n", "{name}");
    }
}

#[test]
fn a_missing_path_is_an_error() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed().conf("extra-sandbox-paths = /not/there");
    let failed = world.try_build(r#"make "never" "echo > $out""#, &[]).fails(1).stderr_text();
    assert!(failed.contains("/not/there"), "{failed}");
}

#[test]
fn impure_paths_of_the_host() {
    if !can_sandbox() {
        return;
    }
    let world = World::new().sandboxed();
    let file = world.write("impure", "from the host\n");
    let expression =
        format!(r#"makeWith "impure" {{ __impureHostDeps = [ "{0}" ]; }} "cat {0} > $out""#, file.display());
    let failed = world.try_build(&expression, &[]).fails(1).stderr_text();
    assert!(failed.contains("but it was not in allowed-impure-host-deps"), "{failed}");
    let allowed = format!("allowed-impure-host-deps = {}", world.work_dir().display());
    assert_eq!(world.conf(&allowed).build_text(&expression), "from the host\n");
}
