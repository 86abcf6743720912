//! The locking algorithm on flakes that are made up.

use super::*;
use crate::FetchedTree;
use crate::lock_file::Edge;
use firn_core::flake_ref::{Input, ParseContext, Scheme};
use std::cell::RefCell;
use std::path::Path;

/// An error as text, with what was being done.
#[derive(Debug)]
struct Failed(String);

impl Failure for Failed {
    fn new(message: String, _: u8) -> Failed {
        Failed(message)
    }

    fn while_doing(self, what: String) -> Failed {
        Failed(format!("{what}: {}", self.0))
    }
}

/// Flakes by the name of their folder: `path:/NAME` is in the store as `/store/NAME`, with the text as its "hash".
#[derive(Default)]
struct World {
    flakes: RefCell<BTreeMap<String, FlakeSpec>>,
    files: RefCell<BTreeMap<String, String>>,
    hashes: RefCell<BTreeMap<String, u8>>,
    said: RefCell<Vec<String>>,
    fetched: RefCell<Vec<String>>,
}

fn reference(text: &str) -> FlakeRef {
    let mut context = ParseContext { has_feature: &|_| true, warnings: Vec::new() };
    let form = firn_core::flake_ref::Form { tree: true, relative: true };
    FlakeRef::parse_as(text.as_bytes(), &form, &mut context).expect(text).0
}

/// `name=URL` is an input, `name->path` follows, `name/inner=URL` overrides; `name!=URL` is no flake.
fn spec(inputs: &[&str]) -> FlakeSpec {
    let mut out = FlakeSpec::default();
    for text in inputs {
        let (path, mut own) = match text.split_once("->") {
            Some((path, target)) => {
                let follows = Some(InputPath::parse(target).expect(text));
                (path, InputSpec { follows, ..InputSpec::default() })
            }
            None => {
                let (path, url) = text.split_once('=').expect(text);
                (path, InputSpec { reference: Some(reference(url)), ..InputSpec::default() })
            }
        };
        let path = match path.strip_suffix('!') {
            Some(path) => {
                own.is_flake = IsFlake::No;
                path
            }
            None => path,
        };
        match path.split_once('/') {
            Some((name, inner)) => {
                let outer = out.inputs.entry(name.to_owned()).or_default();
                outer.overrides.insert(inner.to_owned(), own);
            }
            None => {
                let overrides = out.inputs.remove(path).map(|known| known.overrides).unwrap_or_default();
                out.inputs.insert(path.to_owned(), InputSpec { overrides, ..own });
            }
        }
    }
    out
}

impl World {
    fn flake(&self, name: &str, inputs: &[&str]) {
        self.flakes.borrow_mut().insert(format!("/store/{name}"), spec(inputs));
    }

    fn change(&self, name: &str) {
        *self.hashes.borrow_mut().entry(name.to_owned()).or_default() += 1;
    }

    fn lock(&self, flags: &LockFlags) -> Result<LockedFlake, Failed> {
        let settings = LockSettings {
            trust_forges: true,
            allow_dirty: true,
            use_registries: true,
            warn_dirty: true,
            ..LockSettings::default()
        };
        lock_flake(self, &settings, &reference("path:/top"), flags)
    }

    /// The lock file as `path: what it is` in order.
    fn locked(&self, flags: &LockFlags) -> Vec<String> {
        let flake = self.lock(flags).expect("a lock file");
        let show = |edge: &Edge| match edge {
            Edge::Follows(path) => format!("-> {path}"),
            Edge::Node(id) => {
                let locked = flake.lock.node(*id).locked.as_ref().expect("an input");
                let text = |name: &str| match locked.locked.input.attrs.get(name) {
                    Some(Attr::Str(text)) => String::from_utf8_lossy(text).into_owned(),
                    _ => String::new(),
                };
                let version = text("narHash").chars().nth(7).unwrap_or('-');
                format!("{} {version}", text("path"))
            }
        };
        flake.lock.all_inputs().iter().map(|(path, edge)| format!("{path}: {}", show(edge))).collect()
    }
}

impl FlakeHost for World {
    type Error = Failed;

    fn fetch(&self, input: &Input, _: bool) -> Result<FetchedTree, Failed> {
        let Some(Attr::Str(path)) = input.attrs.get("path") else {
            return Err(Failed(format!("cannot fetch '{}'", input.to_url().expect("a URL"))));
        };
        let path = String::from_utf8_lossy(path).into_owned();
        let name = path.trim_start_matches('/').to_owned();
        self.fetched.borrow_mut().push(name.clone());
        let mut input = input.clone();
        let version = self.hashes.borrow().get(&name).copied().unwrap_or(0);
        let letter = char::from(b'A' + version);
        let hash = format!("sha256-{letter}{}=", "A".repeat(42));
        input.attrs.entry("narHash".to_owned()).or_insert_with(|| Attr::str(hash));
        Ok(FetchedTree { root: format!("/store/{name}").into_bytes(), input })
    }

    fn look_up(&self, input: &Input, registries: Registries) -> Result<(Input, Option<Vec<u8>>), Failed> {
        assert_ne!(registries, Registries::None);
        let Some(Attr::Str(id)) = input.attrs.get("id") else { return Ok((input.clone(), None)) };
        let id = String::from_utf8_lossy(id);
        match id.as_ref() {
            "unknown" => Err(Failed(format!("cannot find flake 'flake:{id}' in the flake registries"))),
            id => Ok((reference(&format!("path:/{id}")).input, None)),
        }
    }

    fn read_flake(&self, dir: &[u8], shown: &FlakeRef, prefix: &InputPath) -> Result<FlakeSpec, Failed> {
        let found = self.flakes.borrow().get(&*String::from_utf8_lossy(dir)).cloned();
        let mut spec = found.ok_or_else(|| Failed(format!("no flake '{}'", shown.shown())))?;
        // As the reader of `flake.nix` does.
        fn anchor(specs: &mut BTreeMap<String, InputSpec>, prefix: &InputPath) {
            for spec in specs.values_mut() {
                spec.follows = spec.follows.take().map(|path| prefix.chain(&path));
                anchor(&mut spec.overrides, prefix);
            }
        }
        anchor(&mut spec.inputs, prefix);
        Ok(spec)
    }

    fn read_file(&self, path: &[u8]) -> Result<Option<Vec<u8>>, Failed> {
        let path = String::from_utf8_lossy(path).replace("/store", "");
        Ok(self.files.borrow().get(&path).map(|text| text.clone().into_bytes()))
    }

    fn read_own_file(&self, path: &Path) -> Result<Option<Vec<u8>>, Failed> {
        self.read_file(path.to_string_lossy().as_bytes())
    }

    fn write_own_file(&self, path: &Path, contents: &[u8]) -> Result<(), Failed> {
        let text = String::from_utf8_lossy(contents).into_owned();
        self.files.borrow_mut().insert(path.to_string_lossy().into_owned(), text);
        Ok(())
    }

    fn source_path(&self, input: &Input) -> Result<Option<PathBuf>, Failed> {
        Ok((input.scheme == Some(Scheme::Path)).then(|| PathBuf::from("/nowhere")))
    }

    fn put_file(&self, _: &Input, path: &[u8], contents: &[u8], _: Option<&str>) -> Result<(), Failed> {
        let path = format!("/top/{}", String::from_utf8_lossy(path));
        self.files.borrow_mut().insert(path, String::from_utf8_lossy(contents).into_owned());
        Ok(())
    }

    fn apply_config(&self, _: &[(String, ConfigValue)]) -> Result<(), Failed> {
        Ok(())
    }

    fn has_feature(&self, _: &str) -> bool {
        true
    }

    fn warn(&self, message: &str) {
        self.said.borrow_mut().push(message.to_owned());
    }

    fn debug(&self, _: &str) {}
}

fn fails(result: Result<LockedFlake, Failed>, expected: &str) {
    let error = result.map(drop).expect_err(expected).0;
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_new_lock_file() {
    let world = World::default();
    world.flake("top", &["a=path:/a", "n!=path:/n"]);
    world.flake("a", &["b=path:/b"]);
    world.flake("b", &[]);
    assert_eq!(world.locked(&LockFlags::default()), ["a: /a A", "a/b: /b A", "n: /n A"]);
    let text = world.files.borrow()["/top/flake.lock"].clone();
    assert!(
        text.starts_with("{\n  \"nodes\": {\n    \"a\": {\n      \"inputs\": {\n        \"b\": \"b\"\n"),
        "{text}"
    );
    assert!(text.ends_with("  \"root\": \"root\",\n  \"version\": 7\n}\n"), "{text}");
    assert!(world.said.borrow()[0].starts_with("creating lock file \"/nowhere/flake.lock\": \n• "));
    // Once it is there, nothing is said or fetched, but the flake itself.
    world.said.borrow_mut().clear();
    world.fetched.borrow_mut().clear();
    world.change("a");
    assert_eq!(world.locked(&LockFlags::default()), ["a: /a A", "a/b: /b A", "n: /n A"]);
    assert_eq!(*world.said.borrow(), [""; 0]);
    assert_eq!(*world.fetched.borrow(), ["top"]);
}

#[test]
fn updates() {
    let world = World::default();
    world.flake("top", &["a=path:/a", "c=path:/c"]);
    world.flake("a", &["b=path:/b"]);
    world.flake("b", &[]);
    world.flake("c", &[]);
    world.locked(&LockFlags::default());
    for name in ["a", "b", "c"] {
        world.change(name);
    }
    let update = |paths: &[&str]| LockFlags {
        updates: paths.iter().map(|path| InputPath::parse(path).expect(path)).collect(),
        ..LockFlags::default()
    };
    assert_eq!(world.locked(&update(&["a/b"])), ["a: /a A", "a/b: /b B", "c: /c A"]);
    assert_eq!(world.locked(&update(&["c"])), ["a: /a A", "a/b: /b B", "c: /c B"]);
    world.said.borrow_mut().clear();
    assert_eq!(world.locked(&update(&["x"])), ["a: /a A", "a/b: /b B", "c: /c B"]);
    assert_eq!(*world.said.borrow(), ["'x' does not match any input of this flake"]);
    let recreate = LockFlags { recreate: true, ..LockFlags::default() };
    assert_eq!(world.locked(&recreate), ["a: /a B", "a/b: /b B", "c: /c B"]);
}

#[test]
fn follows_and_overrides() {
    let world = World::default();
    world.flake("top", &["a=path:/a", "a/b->c", "c=path:/c"]);
    world.flake("a", &["b=path:/b", "d->b"]);
    world.flake("b", &[]);
    world.flake("c", &[]);
    assert_eq!(world.locked(&LockFlags::default()), ["a: /a A", "a/b: -> c", "a/d: -> a/b", "c: /c A"]);
    world.flake("top", &["a=path:/a", "a/b=path:/c", "a/x=path:/c"]);
    assert_eq!(world.locked(&LockFlags::default()), ["a: /a A", "a/b: /c A", "a/d: -> a/b"]);
    let said = world.said.borrow().join("\n");
    assert!(said.contains("input 'a' has an override for a non-existent input 'x'"), "{said}");
    // The command line counts most, and what was asked for stays.
    let flags = LockFlags {
        overrides: [(InputPath::parse("a/b").expect("a path"), reference("path:/b"))].into(),
        ..LockFlags::default()
    };
    assert_eq!(world.locked(&flags), ["a: /a A", "a/b: /b A", "a/d: -> a/b"]);
    world.flake("top", &["a->nothing"]);
    fails(world.lock(&LockFlags::default()), "input 'a' follows a non-existent input 'nothing'");
    world.flake("top", &["a->b", "b->a"]);
    fails(world.lock(&LockFlags::default()), "follow cycle detected: [b -> a -> b]");
}

#[test]
fn inputs_of_an_input_come_from_its_own_lock_file() {
    let world = World::default();
    world.flake("top", &["b=path:/b"]);
    world.flake("b", &[]);
    world.locked(&LockFlags::default());
    let inner = world.files.borrow()["/top/flake.lock"].clone();
    world.files.borrow_mut().clear();
    world.files.borrow_mut().insert("/a/flake.lock".to_owned(), inner);
    world.change("b");
    world.flake("a", &["b=path:/b"]);
    world.flake("top", &["a=path:/a"]);
    assert_eq!(world.locked(&LockFlags::default()), ["a: /a A", "a/b: /b A"]);
}

#[test]
fn relative_inputs() {
    let world = World::default();
    world.flake("top", &["a=path:./sub"]);
    world.flake("top/sub", &["b=path:../other"]);
    world.flake("top/other", &[]);
    let flake = world.lock(&LockFlags::default()).expect("a lock file");
    let node = flake.lock.find(&InputPath::parse("a/b").expect("a path")).expect("no circle").expect("there");
    let parent = flake.lock.node(node).locked.as_ref().and_then(|locked| locked.parent.clone());
    assert_eq!(parent, Some(InputPath::parse("a").expect("a path")));
    assert_eq!(flake.dirs[&node], b"/store/top/other");
    assert_eq!(*world.fetched.borrow(), ["top", "top"]);
}

#[test]
fn what_cannot_be_locked() {
    let world = World::default();
    world.flake("top", &["a=path:/a"]);
    world.flake("a", &["b=path:/b"]);
    world.flake("b", &["a=path:/a"]);
    fails(world.lock(&LockFlags::default()), "found circular import of flake 'path:/a'");
    world.flake("b", &[]);
    let pure = LockFlags { allow_unlocked: false, ..LockFlags::default() };
    fails(world.lock(&pure), "cannot update unlocked flake input 'a' in pure mode");
    let fixed = LockFlags { update: false, ..LockFlags::default() };
    fails(
        world.lock(&fixed),
        "requires lock file changes but they're not allowed due to '--no-update-lock-file'",
    );
    world.flake("top", &["unknown=flake:unknown"]);
    fails(
        world.lock(&LockFlags::default()),
        "while updating the flake input 'unknown': cannot find flake 'flake:unknown'",
    );
    let alone = LockFlags { use_registries: Some(false), ..LockFlags::default() };
    fails(world.lock(&alone), "is an indirect flake reference, but registry lookups are not allowed");
    assert!(world.files.borrow().is_empty(), "nothing is written");
}

#[test]
fn a_lock_file_that_would_grow_without_an_end() {
    let world = World::default();
    world.flake("top", &["n0=path:/n0"]);
    let mut nodes = serde_json::Map::new();
    nodes.insert("root".into(), serde_json::json!({ "inputs": { "n0": "n0" } }));
    for number in 0..60 {
        let (name, next) = (format!("n{number}"), format!("n{}", number + 1));
        let mut node = serde_json::json!({
            "locked": { "type": "path", "path": format!("/{name}"), "narHash": "" },
            "original": { "type": "path", "path": format!("/{name}") },
        });
        if number < 59 {
            node["inputs"] = serde_json::json!({ "x": next, "y": next });
        }
        nodes.insert(name, node);
    }
    let text = serde_json::json!({ "version": 7, "root": "root", "nodes": nodes }).to_string();
    world.files.borrow_mut().insert("/top/flake.lock".to_owned(), text);
    fails(world.lock(&LockFlags::default()), "has more than 100000 inputs");
    // One that is in itself.
    let text = r#"{"version":7,"root":"root","nodes":{"root":{"inputs":{"n0":"a"}},"a":{"inputs":{"a":"a"},
        "locked":{"type":"path","path":"/n0","narHash":""},"original":{"type":"path","path":"/n0"}}}}"#;
    world.files.borrow_mut().insert("/top/flake.lock".to_owned(), text.to_owned());
    fails(world.lock(&LockFlags::default()), "inputs are more than 500 deep in each other");
}
