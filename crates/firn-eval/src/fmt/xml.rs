//! XML, as `builtins.toXML` and `--xml` print it.

use crate::context::ContextBuilder;
use crate::error::EvalResult;
use crate::source::{Origin, Pos};
use crate::value::{Fun, Kind, Value};
use crate::vm::Vm;
use firn_syntax::Sym;
use rustc_hash::FxHashSet;
use std::borrow::Cow;

/// A value as an XML document. With `location`, positions of attributes and functions are told.
pub fn to_xml(
    vm: &mut Vm,
    value: Value,
    strict: bool,
    location: bool,
    context: &mut ContextBuilder,
) -> EvalResult<Vec<u8>> {
    let mut writer =
        Writer { vm, strict, location, context, out: Vec::new(), depth: 0, seen: FxHashSet::default() };
    writer.out.extend_from_slice(b"<?xml version='1.0' encoding='utf-8'?>\n");
    writer.open("expr", &[]);
    writer.value(value)?;
    writer.close("expr");
    Ok(writer.out)
}

struct Writer<'a> {
    vm: &'a mut Vm,
    strict: bool,
    location: bool,
    context: &'a mut ContextBuilder,
    out: Vec<u8>,
    depth: usize,
    seen: FxHashSet<Vec<u8>>,
}

type Attr<'a> = (&'a str, Cow<'a, [u8]>);

impl Writer<'_> {
    fn indent(&mut self) {
        self.out.resize(self.out.len() + self.depth * 2, b' ');
    }

    fn tag(&mut self, name: &str, attrs: &[Attr<'_>], end: &str) {
        self.indent();
        self.out.push(b'<');
        self.out.extend_from_slice(name.as_bytes());
        for (key, value) in attrs {
            self.out.push(b' ');
            self.out.extend_from_slice(key.as_bytes());
            self.out.extend_from_slice(b"=\"");
            self.escaped(value);
            self.out.push(b'"');
        }
        self.out.extend_from_slice(end.as_bytes());
        self.out.push(b'\n');
    }

    fn escaped(&mut self, mut text: &[u8]) {
        let special = |c: &u8| matches!(c, b'"' | b'<' | b'>' | b'&' | b'\n');
        while let Some(at) = text.iter().position(special) {
            self.out.extend_from_slice(&text[..at]);
            self.out.extend_from_slice(match text[at] {
                b'"' => b"&quot;",
                b'<' => b"&lt;",
                b'>' => b"&gt;",
                b'&' => b"&amp;",
                _ => b"&#xA;",
            });
            text = &text[at + 1..];
        }
        self.out.extend_from_slice(text);
    }

    fn open(&mut self, name: &str, attrs: &[Attr<'_>]) {
        self.tag(name, attrs, ">");
        self.depth += 1;
    }

    fn close(&mut self, name: &str) {
        self.depth = self.depth.saturating_sub(1);
        self.indent();
        self.out.extend_from_slice(b"</");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b">\n");
    }

    fn empty(&mut self, name: &str, attrs: &[Attr<'_>]) {
        self.tag(name, attrs, " />");
    }

    fn simple(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.empty(name, &[("value", Cow::Borrowed(value.as_ref()))]);
    }

    fn place(&mut self, pos: Pos, attrs: &mut Vec<Attr<'static>>) {
        if !self.location {
            return;
        }
        let host = self.vm.host().clone();
        if let Some(place) = pos.place(&*host) {
            if let Origin::Path(path) = &place.origin {
                attrs.push(("path", path.clone().into()));
            }
            attrs.push(("line", place.line.to_string().into_bytes().into()));
            attrs.push(("column", place.column.to_string().into_bytes().into()));
            attrs.sort();
        }
    }

    fn value(&mut self, value: Value) -> EvalResult<()> {
        self.vm.descend(Pos::NONE)?;
        let result = self.node(value);
        self.vm.ascend();
        result
    }

    fn node(&mut self, value: Value) -> EvalResult<()> {
        let mut value = value;
        if self.strict {
            value = self.vm.force(value)?;
        } else if let Some(result) = value.as_thunk().and_then(|t| t.result()) {
            value = result;
        }
        match value.kind() {
            Kind::Null => self.empty("null", &[]),
            Kind::Bool(b) => self.simple("bool", if b { "true" } else { "false" }),
            Kind::Int(n) => self.simple("int", n.to_string()),
            Kind::Float(f) => self.simple("float", firn_syntax::show::format_g6(f)),
            Kind::Str(s) => {
                self.context.add(s.context());
                self.simple("string", s.as_bytes());
            }
            Kind::Path(p) => self.simple("path", p.as_bytes()),
            Kind::List(list) => {
                self.open("list", &[]);
                for item in list.iter() {
                    self.value(item)?;
                }
                self.close("list");
            }
            Kind::Attrs(attrs) => {
                if self.vm.is_derivation(attrs)? {
                    return self.derivation(attrs);
                }
                self.open("attrs", &[]);
                self.attrs(attrs)?;
                self.close("attrs");
            }
            Kind::Fun(Fun::Closure(closure)) => {
                let (_, pos, arg) = closure.next();
                let mut place = Vec::new();
                self.place(pos, &mut place);
                self.open("function", &place);
                match closure.formals() {
                    Some(formals) => {
                        let mut attrs: Vec<Attr<'static>> = Vec::new();
                        if formals.ellipsis {
                            attrs.push(("ellipsis", b"1".into()));
                        }
                        if let Some((_, name)) = formals.at {
                            attrs.push(("name", name.as_bytes().into()));
                        }
                        self.open("attrspat", &attrs);
                        let mut names: Vec<Sym> = formals.formals.iter().map(|f| f.name).collect();
                        names.sort_by_key(|n| n.as_bytes());
                        for name in names {
                            self.empty("attr", &[("name", name.as_bytes().into())]);
                        }
                        self.close("attrspat");
                    }
                    None => {
                        let name = arg.map_or(&b""[..], |a| a.as_bytes());
                        self.empty("varpat", &[("name", name.into())]);
                    }
                }
                self.close("function");
            }
            Kind::Fun(_) | Kind::Thunk(_) | Kind::Unset => self.empty("unevaluated", &[]),
        }
        Ok(())
    }

    fn attrs(&mut self, attrs: crate::value::Attrs) -> EvalResult<()> {
        for (name, value) in attrs.sorted() {
            let mut place: Vec<Attr<'static>> = Vec::new();
            if self.location {
                self.place(attrs.position_of(name), &mut place);
            }
            place.push(("name", name.as_bytes().into()));
            place.sort();
            self.open("attr", &place);
            self.value(value)?;
            self.close("attr");
        }
        Ok(())
    }

    fn derivation(&mut self, attrs: crate::value::Attrs) -> EvalResult<()> {
        let mut tags: Vec<Attr<'static>> = Vec::new();
        let mut drv_path = Vec::new();
        for key in ["drvPath", "outPath"] {
            let Some(mut value) = attrs.find(Sym::from_static(key)) else { continue };
            if self.strict {
                value = self.vm.force(value)?;
            }
            let value = value.as_thunk().and_then(|t| t.result()).unwrap_or(value);
            if let Some(text) = value.as_str() {
                if key == "drvPath" {
                    drv_path = text.as_bytes().to_vec();
                }
                tags.push((key, text.as_bytes().to_vec().into()));
            }
        }
        self.open("derivation", &tags);
        if !drv_path.is_empty() && self.seen.insert(drv_path) {
            self.attrs(attrs)?;
        } else {
            self.empty("repeated", &[]);
        }
        self.close("derivation");
        Ok(())
    }
}
