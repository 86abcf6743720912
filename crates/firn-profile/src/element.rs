//! What a user environment is made of, and the manifest that remembers it: an expression of the language, which is
//! read by evaluating it.

use crate::error::{ProfileError, ProfileResult};
use firn_core::StorePath;
use firn_core::store_path::StoreDir;
use std::collections::BTreeMap;

/// A value of `meta`.
#[derive(Debug, Clone, PartialEq)]
pub enum Meta {
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Vec<u8>),
    List(Vec<Meta>),
    Attrs(BTreeMap<Vec<u8>, Meta>),
}

/// An installed package.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    pub name: String,
    /// Empty if it is not known.
    pub system: Vec<u8>,
    pub drv_path: Option<StorePath>,
    pub out_path: StorePath,
    /// Outputs that are to be installed.
    pub outputs: BTreeMap<String, StorePath>,
    pub meta: BTreeMap<Vec<u8>, Meta>,
}

impl Element {
    /// A whole number of `meta`, also when it is written as a text.
    pub fn meta_int(&self, name: &str) -> Option<i64> {
        match self.meta.get(name.as_bytes())? {
            Meta::Int(n) => Some(*n),
            Meta::Str(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// A truth value of `meta`, also when it is written as a text.
    pub fn meta_bool(&self, name: &str) -> Option<bool> {
        match self.meta.get(name.as_bytes())? {
            Meta::Bool(b) => Some(*b),
            Meta::Str(text) if text == b"true" => Some(true),
            Meta::Str(text) if text == b"false" => Some(false),
            _ => None,
        }
    }

    /// What decides between packages of one name; higher numbers of `meta.priority` are lower priorities.
    pub fn priority(&self) -> i64 {
        self.meta_int("priority").unwrap_or(0)
    }

    /// Whether upgrades and installations leave it as it is.
    pub fn keep(&self) -> bool {
        self.meta_bool("keep").unwrap_or(false)
    }

    pub fn set_meta(&mut self, name: &str, value: &str) {
        self.meta.insert(name.as_bytes().to_vec(), Meta::Str(value.as_bytes().to_vec()));
    }
}

/// The text of `manifest.nix`.
pub fn manifest(elements: &[Element], dir: &StoreDir, keep_derivations: bool) -> ProfileResult<Vec<u8>> {
    let text = |text: &str| Meta::Str(text.as_bytes().to_vec());
    let path = |path: &StorePath| text(&dir.display(path));
    let mut list = Vec::new();
    for element in elements {
        let mut attrs = BTreeMap::new();
        let mut set = |name: &str, value: Meta| attrs.insert(name.as_bytes().to_vec(), value);
        for (name, output) in &element.outputs {
            set(name, Meta::Attrs([(b"outPath".to_vec(), path(output))].into()));
        }
        set("type", text("derivation"));
        set("name", text(&element.name));
        if !element.system.is_empty() {
            set("system", Meta::Str(element.system.clone()));
        }
        set("outPath", path(&element.out_path));
        if let Some(drv) = element.drv_path.as_ref().filter(|_| keep_derivations) {
            set("drvPath", path(drv));
        }
        set("outputs", Meta::List(element.outputs.keys().map(|name| text(name)).collect()));
        set("meta", Meta::Attrs(element.meta.clone()));
        list.push(Meta::Attrs(attrs));
    }
    let mut out = Vec::new();
    print(&Meta::List(list), &mut out)?;
    Ok(out)
}

fn print(value: &Meta, out: &mut Vec<u8>) -> ProfileResult<()> {
    match value {
        Meta::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Meta::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
        Meta::Float(x) if x.is_finite() => out.extend_from_slice(format!("{x:?}").as_bytes()),
        Meta::Float(x) => return Err(ProfileError::Manifest(format!("the number {x}"))),
        Meta::Str(text) => print_text(text, out),
        Meta::List(items) => {
            out.extend_from_slice(b"[ ");
            for item in items {
                print(item, out)?;
                out.push(b' ');
            }
            out.push(b']');
        }
        Meta::Attrs(attrs) => {
            out.extend_from_slice(b"{ ");
            for (name, value) in attrs {
                print_name(name, out);
                out.extend_from_slice(b" = ");
                print(value, out)?;
                out.extend_from_slice(b"; ");
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn print_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'$' if text.get(at + 1) == Some(&b'{') => out.extend_from_slice(b"\\$"),
            byte => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// Words of the language, which have to be quoted as names.
const KEYWORDS: [&[u8]; 9] = [b"if", b"then", b"else", b"assert", b"with", b"let", b"in", b"rec", b"inherit"];

/// Names that are no identifiers are quoted, so that the manifest can be read again.
fn print_name(name: &[u8], out: &mut Vec<u8>) {
    let plain = name.first().is_some_and(|c| c.is_ascii_alphabetic() || *c == b'_')
        && name.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'\''))
        && !KEYWORDS.contains(&name);
    match plain {
        true => out.extend_from_slice(name),
        false => print_text(name, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: Meta, expected: &str) {
        let mut out = Vec::new();
        print(&value, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn printing() {
        check(Meta::Float(1.0), "1.0");
        check(Meta::Float(1e30), "1e30");
        check(Meta::Str(b"a\"b\\c\n${x}$y".to_vec()), r#""a\"b\\c\n\${x}$y""#);
        check(Meta::List(vec![]), "[ ]");
        check(Meta::List(vec![Meta::Int(-1), Meta::Bool(true)]), "[ -1 true ]");
        let attrs =
            [(b"a".to_vec(), Meta::Int(1)), (b"b.c".to_vec(), Meta::Int(2)), (b"in".to_vec(), Meta::Int(3))];
        check(Meta::Attrs(attrs.into()), r#"{ a = 1; "b.c" = 2; "in" = 3; }"#);
        assert!(print(&Meta::Float(f64::NAN), &mut Vec::new()).is_err());
    }

    #[test]
    fn manifests() {
        let dir = StoreDir::new("/nix/store");
        let path = |name: &str| StorePath::from_base_name(&format!("{}-{name}", "a".repeat(32))).unwrap();
        let element = Element {
            name: "hello-2.10".into(),
            system: b"x86_64-linux".to_vec(),
            drv_path: Some(path("hello.drv")),
            out_path: path("hello"),
            outputs: [("out".into(), path("hello"))].into(),
            meta: [(b"priority".to_vec(), Meta::Str(b"7".to_vec()))].into(),
        };
        assert_eq!(element.priority(), 7);
        let a = "a".repeat(32);
        let expected = format!(
            "[ {{ meta = {{ priority = \"7\"; }}; name = \"hello-2.10\"; out = {{ outPath = \
             \"/nix/store/{a}-hello\"; }}; outPath = \"/nix/store/{a}-hello\"; outputs = [ \"out\" ]; system = \
             \"x86_64-linux\"; type = \"derivation\"; }} ]"
        );
        assert_eq!(
            String::from_utf8(manifest(std::slice::from_ref(&element), &dir, false).unwrap()).unwrap(),
            expected
        );
        let kept = String::from_utf8(manifest(&[element], &dir, true).unwrap()).unwrap();
        assert!(kept.contains(&format!("drvPath = \"/nix/store/{a}-hello.drv\"")));
    }
}
