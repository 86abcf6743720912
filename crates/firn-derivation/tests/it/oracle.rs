//! Derivations written by the reference's `nix-instantiate`, read, computed anew and written.

use firn_core::{StoreDir, StorePath};
use firn_derivation::modulo::{Mask, ModuloMemo};
use firn_derivation::{Derivation, HashModuloError};
use std::process::Command;

const EXPRESSION: &str = r#"
let
  make = name: attrs: derivation ({ inherit name; system = "x86_64-linux"; builder = "/bin/sh"; } // attrs);
  fixed = mode: algo: hash: make "fixed-${mode}" {
    outputHashMode = mode; outputHashAlgo = algo; outputHash = hash; url = "http://example.org/";
  };
  flat = fixed "flat" "sha256" "0000000000000000000000000000000000000000000000000000";
  nested = fixed "recursive" "sha1" "0000000000000000000000000000000000000000";
  sources = make "sources" { text = builtins.toFile "text" "a\"b"; inherit flat nested; outputs = [ "out" "doc" ]; };
  chain = n: if n == 0 then sources else make "chain-${toString n}" { previous = chain (n - 1); };
in [
  (chain 40)
  (make "both" { inherit (sources) doc out; args = [ "tab\t" "return\r" "line\n" "quote\"" "back\\slash" ]; })
  (make "structured" { __structuredAttrs = true; list = [ sources 1 null true ]; set.a = "ü"; })
]
"#;

#[test]
fn equal_to_the_reference() {
    let world = tempfile::tempdir().unwrap();
    let root = world.path();
    #[expect(clippy::disallowed_methods, reason = "the reference's program is the oracle")]
    let output = Command::new("nix-instantiate")
        .args(["--expr", EXPRESSION])
        .env("NIX_STATE_DIR", root.join("state"))
        .env("NIX_STORE_DIR", root.join("store"))
        .env("NIX_LOG_DIR", root.join("log"))
        .env("NIX_CONF_DIR", root.join("conf"))
        .env("NIX_LOCALSTATE_DIR", root.join("var"))
        .env("NIX_CONFIG", "build-users-group =")
        .env("NIX_REMOTE", "")
        .output();
    let Ok(output) = output else {
        println!("SKIPPED: no nix-instantiate to compare with");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let dir = StoreDir::new(root.join("store").to_str().unwrap());
    let read = |path: &StorePath| -> Result<Derivation, HashModuloError> {
        let bytes = std::fs::read(dir.display(path)).unwrap();
        Ok(Derivation::parse_aterm(Derivation::name_from_path(path).unwrap(), &bytes, &dir).unwrap())
    };
    let mut memo = ModuloMemo::default();
    let mut seen = 0;
    for entry in std::fs::read_dir(root.join("store")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".drv") {
            continue;
        }
        let path = StorePath::from_base_name(&name).unwrap();
        let drv = read(&path).unwrap();
        let (computed, bytes) = drv.store_path(&dir).unwrap();
        assert_eq!((computed, bytes), (path, std::fs::read(root.join("store").join(&name)).unwrap()));
        let masked = drv.hash_modulo(&dir, Mask::Outputs, |input| memo.compute(&dir, input, read)).unwrap();
        drv.check_invariants(&dir, &masked).unwrap();
        seen += 1;
    }
    assert_eq!(seen, 45);
}
