//! Derivations that the reference (2.34.8) wrote.

use firn_core::{StoreDir, StorePath};
use firn_derivation::modulo::{Mask, ModuloMemo};
use firn_derivation::options::{Checks, OutputChecks};
use firn_derivation::{Derivation, DerivationType, HashModuloError};

pub const PLAIN: (&str, &str) = (
    "cfyk1ixp6v7p8vhgnipds29kzivlh7f0-a.drv",
    r#"Derive([("dev","/nix/store/gw2qr9xb7r0bblfamw1rdxyz1n5abcak-a-dev","",""),("out","/nix/store/w9bfw72f7zzfn85bjv2agv6hfh54wv2i-a","","")],[("/nix/store/2al1bij22scf6znn9zp7y98f8z4xpf00-dep.drv",["out"]),("/nix/store/4kbh8acqjf7mrr8k8xibpy33v2s2q3fz-fix.drv",["out"])],["/nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo"],"x86_64-linux","/bin/sh",["a\"b\\c\n\t\r","/nix/store/1n77x7sl82amha97zgxj1dl360a8ss69-dep","/nix/store/hi88fnyfcrw80gqarvykz8vasnykfc18-fix"],[("builder","/bin/sh"),("dev","/nix/store/gw2qr9xb7r0bblfamw1rdxyz1n5abcak-a-dev"),("name","a"),("out","/nix/store/w9bfw72f7zzfn85bjv2agv6hfh54wv2i-a"),("outputs","out dev"),("system","x86_64-linux"),("x","/nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo")])"#,
);
pub const DEP: (&str, &str) = (
    "2al1bij22scf6znn9zp7y98f8z4xpf00-dep.drv",
    r#"Derive([("out","/nix/store/1n77x7sl82amha97zgxj1dl360a8ss69-dep","","")],[],[],"x86_64-linux","/bin/sh",["-c","echo > $out"],[("builder","/bin/sh"),("name","dep"),("out","/nix/store/1n77x7sl82amha97zgxj1dl360a8ss69-dep"),("system","x86_64-linux")])"#,
);
pub const FIXED: (&str, &str) = (
    "4kbh8acqjf7mrr8k8xibpy33v2s2q3fz-fix.drv",
    r#"Derive([("out","/nix/store/hi88fnyfcrw80gqarvykz8vasnykfc18-fix","r:sha256","0000000000000000000000000000000000000000000000000000000000000000")],[],[],"x86_64-linux","/bin/sh",[],[("builder","/bin/sh"),("name","fix"),("out","/nix/store/hi88fnyfcrw80gqarvykz8vasnykfc18-fix"),("outputHash","sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),("outputHashMode","recursive"),("system","x86_64-linux")])"#,
);
pub const FLOATING: (&str, &str) = (
    "05hrfjj3xs0wlhkk40fa8p7cz9cizjdd-c.drv",
    r#"Derive([("out","","r:sha256","")],[],[],"x86_64-linux","/bin/sh",[],[("builder","/bin/sh"),("name","c"),("out","/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"),("outputHashAlgo","sha256"),("outputHashMode","recursive"),("system","x86_64-linux")])"#,
);
pub const DEFERRED: (&str, &str) = (
    "085i3w4v8ma92pb3krp44vygwfim8nwa-e.drv",
    r#"Derive([("out","","","")],[("/nix/store/05hrfjj3xs0wlhkk40fa8p7cz9cizjdd-c.drv",["out"])],[],"x86_64-linux","/bin/sh",[],[("builder","/bin/sh"),("c","/0vrc4z4hp1mi3p1a8pjan3m3v7lrwc5vlbycmldqrqr4jiz7d2v0"),("name","e"),("out",""),("system","x86_64-linux")])"#,
);
pub const IMPURE: (&str, &str) = (
    "dr7gassqj31ph44cw7akdyz2lfz7f6jf-i.drv",
    r#"Derive([("out","","r:sha256","impure")],[],[],"x86_64-linux","/bin/sh",[],[("builder","/bin/sh"),("name","i"),("out","/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"),("system","x86_64-linux")])"#,
);
pub const STRUCTURED: (&str, &str) = (
    "c4nxrfsv4ccz2a09zyiwvfdrkcxiyjlh-s.drv",
    r#"Derive([("out","/nix/store/5a4gikdbyhalmb21sb6s8pdi8nap2j11-s","","")],[("/nix/store/2al1bij22scf6znn9zp7y98f8z4xpf00-dep.drv",["out"])],[],"x86_64-linux","/bin/sh",[],[("__json","{\"b\":[\"/nix/store/1n77x7sl82amha97zgxj1dl360a8ss69-dep\",{\"x\":1,\"y\":2.5}],\"builder\":\"/bin/sh\",\"n\":null,\"name\":\"s\",\"outputChecks\":{\"out\":{\"maxSize\":12}},\"system\":\"x86_64-linux\"}"),("out","/nix/store/5a4gikdbyhalmb21sb6s8pdi8nap2j11-s")])"#,
);
pub const ALL: [(&str, &str); 7] = [PLAIN, DEP, FIXED, FLOATING, DEFERRED, IMPURE, STRUCTURED];

/// Parses one of the above.
#[track_caller]
pub fn parse((base, text): (&str, &str)) -> Derivation {
    let path = StorePath::from_base_name(base).unwrap();
    let name = Derivation::name_from_path(&path).unwrap();
    Derivation::parse_aterm(name, text.as_bytes(), &StoreDir::default()).unwrap()
}

fn read(path: &StorePath) -> Result<Derivation, HashModuloError> {
    Ok(parse(*ALL.iter().find(|(base, _)| *base == path.base_name()).unwrap()))
}

#[test]
fn written_as_they_were_read() {
    let dir = StoreDir::default();
    for (base, text) in ALL {
        let drv = parse((base, text));
        assert_eq!(String::from_utf8(drv.to_aterm(&dir)).unwrap(), text);
        assert_eq!(drv.store_path(&dir).unwrap().0.base_name(), base);
        assert_eq!(Derivation::from_json(&drv.to_json().unwrap()).unwrap(), drv);
    }
}

#[test]
fn output_paths_follow_from_the_hash_modulo() {
    let dir = StoreDir::default();
    let mut memo = ModuloMemo::default();
    for known in ALL {
        let drv = parse(known);
        let masked = drv.hash_modulo(&dir, Mask::Outputs, |input| memo.compute(&dir, input, read)).unwrap();
        drv.check_invariants(&dir, &masked).unwrap();
        let mut emptied = emptied(known);
        emptied.fill_output_paths(&dir, &masked).unwrap();
        assert_eq!(emptied, drv);
    }
}

/// One of the above before its output paths were known.
fn emptied(known: (&str, &str)) -> Derivation {
    let mut drv = parse(known);
    if drv.derivation_type().unwrap() == (DerivationType::InputAddressed { deferred: false }) {
        for (name, output) in &mut drv.outputs {
            *output = firn_derivation::DerivationOutput::Deferred;
            drv.env.insert(name.clone().into_bytes(), Vec::new());
        }
    }
    drv
}

#[test]
fn sealed_as_step_by_step() {
    let dir = StoreDir::default();
    let mut memo = ModuloMemo::default();
    for known in ALL {
        let whole = emptied(known);
        assert_eq!(
            whole.clone().seal(&dir, |input| memo.compute(&dir, input, read)).unwrap().aterm,
            known.1.as_bytes()
        );
        // Outputs without a variable are given one, but their paths are made without it.
        let mut without_variables = whole.clone();
        without_variables.env.retain(|_, value| !value.is_empty());
        for mut drv in [whole, without_variables] {
            let mut steps = drv.clone();
            let mut lookup = |input: &StorePath| memo.compute(&dir, input, read);
            let sealed = drv.seal(&dir, &mut lookup).unwrap();
            let masked = steps.hash_modulo(&dir, Mask::Outputs, &mut lookup).unwrap();
            steps.fill_output_paths(&dir, &masked).unwrap();
            assert_eq!(drv, steps);
            assert_eq!((sealed.path, sealed.aterm), steps.store_path(&dir).unwrap());
            assert_eq!(sealed.hash, steps.hash_modulo(&dir, Mask::Nothing, &mut lookup).unwrap());
        }
    }
}

#[test]
fn kinds() {
    let kind = |known| parse(known).derivation_type().unwrap();
    assert_eq!(kind(PLAIN), DerivationType::InputAddressed { deferred: false });
    assert_eq!(kind(DEFERRED), DerivationType::InputAddressed { deferred: true });
    assert_eq!(kind(FIXED), DerivationType::CaFixed);
    assert_eq!(kind(FLOATING), DerivationType::CaFloating);
    assert_eq!(kind(IMPURE), DerivationType::Impure);
}

#[test]
fn resolves() {
    let dir = StoreDir::default();
    let out = StorePath::from_base_name("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-c").unwrap();
    let drv = parse(DEFERRED);
    assert!(drv.should_resolve() && !parse(PLAIN).should_resolve());
    let resolved = drv.resolve(&dir, |_, _| Some(out.clone())).unwrap().unwrap();
    assert_eq!(resolved.env[&b"c"[..]], dir.display(&out).into_bytes());
    assert_eq!(resolved.derivation_type().unwrap(), DerivationType::InputAddressed { deferred: false });
    assert!(resolved.input_srcs.contains(&out) && resolved.input_drvs.is_empty());
    assert!(drv.resolve(&dir, |_, _| None).unwrap().is_none());
}

#[test]
fn options_from_structured_attributes() {
    let options = parse(STRUCTURED).options(&StoreDir::default()).unwrap();
    let checks = OutputChecks { max_size: Some(12), ..Default::default() };
    assert_eq!(options.output_checks, Checks::PerOutput([("out".to_owned(), checks)].into()));
    assert!(options.allow_substitutes && !options.prefer_local_build);
}

#[track_caller]
fn check_option_error(name: &str, value: &str, expected: &str) {
    let mut drv = parse(PLAIN);
    drv.env.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(drv.options(&StoreDir::default()).unwrap_err().to_string(), expected);
}

#[test]
fn option_errors_name_the_attribute() {
    check_option_error("exportReferencesGraph", "a", "odd number of tokens in 'exportReferencesGraph': 'a'");
    check_option_error("exportReferencesGraph", "/a b", "invalid file name '/a' in 'exportReferencesGraph'");
    check_option_error("exportReferencesGraph", "a /b", "path '/b' is not in the Nix store");
    check_option_error(
        "__json",
        r#"{"__noChroot":"1"}"#,
        "while parsing attribute \"__noChroot\": Expected JSON value to be of type 'boolean' but it is of type 'string': \"1\"",
    );
    check_option_error(
        "__json",
        r#"{"outputChecks":{"out":{"allowedReferences":1}}}"#,
        "while parsing attribute 'outputChecks.\"out\".allowedReferences': Expected JSON value to be of type 'array' but it is of type 'number': 1",
    );
}

#[test]
fn options_from_the_environment() {
    let mut drv = parse(PLAIN);
    for (name, value) in [
        ("passAsFile", "x  y\n"),
        ("__noChroot", "1"),
        ("requiredSystemFeatures", "kvm big-parallel"),
        ("allowedReferences", "out"),
        ("preferLocalBuild", ""),
    ] {
        drv.env.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
    }
    let options = drv.options(&StoreDir::default()).unwrap();
    assert_eq!(options.pass_as_file, ["x".to_owned(), "y".to_owned()].into());
    assert!(options.no_chroot && !options.prefer_local_build);
    assert!(options.required_features(&drv).contains("kvm"));
    let refs = options.checks_of("out").unwrap().allowed_references.clone().unwrap();
    assert_eq!(refs, [firn_derivation::Ref::Output("out".to_owned())].into());
}
