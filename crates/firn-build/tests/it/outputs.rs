//! Builds that succeed, and what becomes of their outputs.

use crate::world::World;
use firn_core::{CaMethod, ContentAddress, Hash, HashAlgo, StorePath};
use firn_derivation::{Derivation, DerivationOutput, InputNode};
use firn_store::BuildMode;
use std::os::unix::fs::MetadataExt;

/// Runs a test without a sandbox and, where this machine can, in one.
fn in_both(test: impl Fn(&World)) {
    test(&World::new());
    let world = World::sandboxed();
    let probe = world.write(world.script("probe", "echo > $out"));
    match world.try_build(&[probe], BuildMode::Normal) {
        Err((_, message)) if message.contains("namespaces") => println!("SKIPPED: {message}"),
        Err((_, message)) => panic!("{message}\n{}", world.said()),
        Ok(_) => test(&world),
    }
}

#[test]
fn simple() {
    in_both(|world| {
        let drv =
            world.write(world.script("simple", "mkdir $out; echo hello > $out/file; ln -s file $out/link"));
        let out = &world.build(&drv)["out"];
        let file = world.real(out).join("file");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "hello\n");
        let meta = std::fs::metadata(&file).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o444, 1));
        let info = world.store.path_info(out).unwrap().unwrap();
        assert_eq!((info.deriver, info.ultimate), (Some(drv.clone()), true));
        assert!(world.said().contains(&format!("building '{}'...", world.dir().display(&drv))));
        world.check_consistent();
    });
}

#[test]
fn dependencies_and_references() {
    in_both(|world| {
        let a = world.write(world.script("a", "echo a > $out"));
        let mut b = world.script("b", "mkdir $out; ln -s $a $out/a; echo $out > $out/self; cat $a");
        world.depend(&mut b, "a", &a);
        let b = world.write(b);
        let out = world.build(&b)["out"].clone();
        let info = world.store.path_info(&out).unwrap().unwrap();
        assert_eq!(info.references, [world.out(&a), out].into());
        world.check_consistent();
    });
}

#[test]
fn several_outputs() {
    in_both(|world| {
        let mut drv = world.script("multi", "echo first > $out; mkdir $dev; echo $out > $dev/out");
        drv.outputs.insert("dev".into(), DerivationOutput::Deferred);
        let drv = world.write(drv);
        let outputs = world.build(&drv);
        let info = world.store.path_info(&outputs["dev"]).unwrap().unwrap();
        assert_eq!(info.references, [outputs["out"].clone()].into());
        // One that is missing is made again, the other stays as it is.
        world.store.invalidate_path(&outputs["dev"]).unwrap();
        assert_eq!(world.build(&drv), outputs);
        let again = world.store.path_info(&outputs["dev"]).unwrap().unwrap();
        assert_eq!(again.nar_hash, info.nar_hash);
        world.check_consistent();
    });
}

fn fixed(world: &World, name: &str, script: &str, content: &str, method: CaMethod) -> Derivation {
    let mut drv = world.script(name, script);
    let hash = Hash::of(HashAlgo::Sha256, content.as_bytes());
    drv.outputs.insert("out".into(), DerivationOutput::CaFixed(ContentAddress { method, hash }));
    drv
}

#[test]
fn fixed_outputs() {
    in_both(|world| {
        let drv = world.write(fixed(world, "fixed", "echo hello > $out", "hello\n", CaMethod::Flat));
        let out = &world.build(&drv)["out"];
        assert!(world.store.path_info(out).unwrap().unwrap().ca.is_some());
        world.check_consistent();
    });
}

#[test]
fn hash_mismatch() {
    in_both(|world| {
        let drv = world.write(fixed(world, "wrong", "echo hello > $out", "bye\n", CaMethod::Flat));
        world.check_failure(
            &drv,
            102,
            "hash mismatch in fixed-output derivation 'DRV':\n  \
             specified: sha256-q/qEX3lmK0iFl0ZvZnuDKxx9iIEqE5bpLv8I0U4uVCQ=\n     \
             got:    sha256-WJG5tSLV3whtD/CxEPvZ0hu08uJ0CC7KAXlsUfzwmkE="
                .replace("q/qEX3lmK0iFl0ZvZnuDKxx9iIEqE5bpLv8I0U4uVCQ=", &sri("bye\n"))
                .replace("WJG5tSLV3whtD/CxEPvZ0hu08uJ0CC7KAXlsUfzwmkE=", &sri("hello\n"))
                .as_str(),
        );
        // What was fetched is kept under its own hash.
        let right = fixed(world, "wrong", "exit 1", "hello\n", CaMethod::Flat);
        world.build(&world.write(right));
    });
}

fn sri(content: &str) -> String {
    Hash::of(HashAlgo::Sha256, content.as_bytes()).to_sri().trim_start_matches("sha256-").to_owned()
}

#[test]
fn placeholders_and_files() {
    in_both(|world| {
        let mut drv = world.script("files", "test \"$where\" = $out; test -z \"$big\"; cat $bigPath > $out");
        drv.env.insert(b"where".to_vec(), firn_derivation::output_placeholder("out").into_bytes());
        drv.env.insert(b"passAsFile".to_vec(), b"big".to_vec());
        drv.env.insert(b"big".to_vec(), b"content".to_vec());
        let out = &world.build(&world.write(drv))["out"];
        assert_eq!(std::fs::read_to_string(world.real(out)).unwrap(), "content");
    });
}

#[test]
fn structured_attributes() {
    in_both(|world| {
        let mut drv = world.script(
            "structured",
            "grep -c '^declare -a list=' $NIX_ATTRS_SH_FILE; out=$(sed -n 's/.*\"outputs\":{\"out\":\"\\([^\"]*\\)\".*/\\1/p' $NIX_ATTRS_JSON_FILE); cp $NIX_ATTRS_JSON_FILE $out",
        );
        drv.env.clear();
        drv.env.insert(b"__json".to_vec(), br#"{"list":["a","b"],"name":"structured"}"#.to_vec());
        drv.args[1] = [b"PATH=/usr/bin:/bin; export PATH; ".to_vec(), drv.args[1].clone()].concat();
        let out = world.build(&world.write(drv))["out"].clone();
        let json = std::fs::read_to_string(world.real(&out)).unwrap();
        let expected = format!(
            r#"{{"list":["a","b"],"name":"structured","outputs":{{"out":"{}"}}}}"#,
            world.dir().display(&out)
        );
        assert_eq!(json, expected);
    });
}

#[test]
fn reference_graphs() {
    in_both(|world| {
        let a = world.write(world.script("a", "echo a > $out"));
        let mut b = world.script("b", "cp graph $out");
        world.depend(&mut b, "a", &a);
        let path = world.dir().display(&world.out(&a));
        b.env.insert(b"exportReferencesGraph".to_vec(), format!("graph {path}").into_bytes());
        let out = &world.build(&world.write(b))["out"];
        assert_eq!(std::fs::read_to_string(world.real(out)).unwrap(), format!("{path}\n\n0\n"));
    });
}

#[test]
fn checking() {
    in_both(|world| {
        let good = world.write(world.script("good", "echo same > $out"));
        world.build(&good);
        world.try_build(std::slice::from_ref(&good), BuildMode::Check).unwrap();
        let bad = world.write(world.script("bad", "date +%N > $out"));
        let out = world.build(&bad)["out"].clone();
        let before = std::fs::read(world.real(&out)).unwrap();
        let error = world.try_build(std::slice::from_ref(&bad), BuildMode::Check).unwrap_err();
        let dir = world.dir();
        let text = format!(
            "derivation '{}' may not be deterministic: output \"{}\" differs",
            dir.display(&bad),
            dir.display(&out)
        );
        assert_eq!(error, (104, text));
        assert_eq!(std::fs::read(world.real(&out)).unwrap(), before);
        world.check_consistent();
    });
}

#[test]
fn only_the_closure_is_visible() {
    let world = World::sandboxed();
    let other = world.write(world.script("other", "echo > $out"));
    match world.try_build(std::slice::from_ref(&other), BuildMode::Normal) {
        Err((_, message)) if message.contains("namespaces") => return println!("SKIPPED: {message}"),
        result => drop(result.unwrap()),
    }
    let seen = world.write(world.script("seen", "ls -A $NIX_STORE > $TMPDIR/list; cp $TMPDIR/list $out"));
    let out = &world.build(&seen)["out"];
    assert_eq!(std::fs::read_to_string(world.real(out)).unwrap(), "");
}

#[test]
fn sandbox_paths_bring_their_closure() {
    let mut world = World::sandboxed();
    let data = world.write(world.script("data", "echo data > $out"));
    let mut tool = world.script("tool", "mkdir $out; ln -s $data $out/data");
    world.depend(&mut tool, "data", &data);
    let tool = world.write(tool);
    match world.try_build(std::slice::from_ref(&tool), BuildMode::Normal) {
        Err((_, message)) if message.contains("namespaces") => return println!("SKIPPED: {message}"),
        result => drop(result.unwrap()),
    }
    let source = world.dir().display(&world.out(&tool));
    world.build.sandbox_paths.push(firn_build::SandboxPath {
        target: "/tool".into(),
        source: source.into(),
        optional: false,
    });
    let user = world.write(world.script("user", "cat /tool/data > $out"));
    let out = &world.build(&user)["out"];
    assert_eq!(std::fs::read_to_string(world.real(out)).unwrap(), "data\n");
}

#[test]
fn content_addressed_with_self_reference() {
    let mut world = World::new();
    world.schedule.ca_derivations = true;
    world.build.ca_derivations = true;
    let mut drv = world.script("self", "echo $out > $out");
    drv.outputs.insert(
        "out".into(),
        DerivationOutput::CaFloating { method: CaMethod::NixArchive, algo: HashAlgo::Sha256 },
    );
    drv.env.insert(b"out".to_vec(), firn_derivation::output_placeholder("out").into_bytes());
    let (path, bytes) = drv.store_path(&world.dir()).unwrap();
    use firn_store::Store;
    world.block(world.store.add_text(path.name(), &bytes, &Default::default(), false)).unwrap();
    let out: StorePath = world.build(&path)["out"].clone();
    let text = std::fs::read_to_string(world.real(&out)).unwrap();
    assert_eq!(text.trim_end(), world.dir().display(&out));
    world.check_consistent();
}

#[test]
fn builtin_fetchurl() {
    in_both(|world| {
        let source = world.dir.path().join("source");
        std::fs::write(&source, "fetched\n").unwrap();
        let mut drv = fixed(world, "fetched", "", "fetched\n", CaMethod::Flat);
        drv.builder = b"builtin:fetchurl".to_vec();
        drv.platform = b"builtin".to_vec();
        drv.args.clear();
        drv.env.insert(b"url".to_vec(), format!("file://{}", source.display()).into_bytes());
        if world.build.sandbox == firn_build::SandboxMode::Enabled {
            // The file is the host's; a sandboxed fetch sees it only if told so.
            return;
        }
        world.build(&world.write(drv));
    });
}

#[test]
fn unknown_inputs_are_reported() {
    let world = World::new();
    let a = world.write(world.script("a", "echo > $out"));
    let mut b = world.script("b", "echo > $out");
    world.depend(&mut b, "a", &a);
    b.input_drvs.insert(a.clone(), InputNode::of(["out", "doc"]));
    let b = world.write(b);
    let error = world.try_build(std::slice::from_ref(&b), BuildMode::Normal).unwrap_err();
    assert_eq!(error.0, 1);
    assert!(error.1.starts_with("Cannot build"), "{}", error.1);
    assert!(world.said().contains("does not have output 'doc'"), "{}", world.said());
}
