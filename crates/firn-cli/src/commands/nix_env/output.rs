//! JSON and XML of queries.

use firn_eval::Value;

/// Appends text as a JSON string.
pub fn json_string(text: &[u8], out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(text);
    out.extend_from_slice(serde_json::Value::from(text.as_ref()).to_string().as_bytes());
}

/// JSON with two spaces of indentation for each level, as Nix prints it. Numbers and strings stay as they are.
pub fn indent_json(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut depth = 0usize;
    let mut string = false;
    let mut escaped = false;
    let newline = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 2));
    };
    for (at, &byte) in compact.iter().enumerate() {
        if string {
            out.push(byte);
            string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                if !matches!(compact.get(at + 1), Some(b'}' | b']')) {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            b'}' | b']' => {
                let empty = at > 0 && matches!(compact[at - 1], b'{' | b'[');
                if !empty {
                    depth = depth.saturating_sub(1);
                    newline(&mut out, depth);
                }
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                newline(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            b'"' => {
                string = true;
                out.push(byte);
            }
            _ => out.push(byte),
        }
    }
    out
}

/// Attributes of an XML element.
pub type XmlAttrs = Vec<(&'static str, Vec<u8>)>;

/// Writes XML with two spaces of indentation for each level.
pub struct Xml {
    pub out: Vec<u8>,
    open: Vec<&'static str>,
}

impl Xml {
    pub fn new() -> Self {
        Self { out: b"<?xml version='1.0' encoding='utf-8'?>\n".to_vec(), open: Vec::new() }
    }

    pub fn open(&mut self, name: &'static str, attrs: XmlAttrs) {
        self.tag(name, attrs);
        self.out.extend_from_slice(b">\n");
        self.open.push(name);
    }

    pub fn empty(&mut self, name: &'static str, attrs: XmlAttrs) {
        self.tag(name, attrs);
        self.out.extend_from_slice(b" />\n");
    }

    pub fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            self.out.extend(std::iter::repeat_n(b' ', self.open.len() * 2));
            self.out.extend_from_slice(format!("</{name}>\n").as_bytes());
        }
    }

    /// How many elements are open.
    pub fn depth(&self) -> usize {
        self.open.len()
    }

    fn tag(&mut self, name: &str, mut attrs: XmlAttrs) {
        attrs.sort_by_key(|(key, _)| *key);
        self.out.extend(std::iter::repeat_n(b' ', self.open.len() * 2));
        self.out.push(b'<');
        self.out.extend_from_slice(name.as_bytes());
        for (key, value) in attrs {
            self.out.extend_from_slice(format!(" {key}=\"").as_bytes());
            for byte in value {
                match byte {
                    b'"' => self.out.extend_from_slice(b"&quot;"),
                    b'<' => self.out.extend_from_slice(b"&lt;"),
                    b'>' => self.out.extend_from_slice(b"&gt;"),
                    b'&' => self.out.extend_from_slice(b"&amp;"),
                    b'\n' => self.out.extend_from_slice(b"&#xA;"),
                    _ => self.out.push(byte),
                }
            }
            self.out.push(b'"');
        }
    }

    /// A meta attribute. Of lists and sets only the texts directly in them are told. The value must be evaluated.
    pub fn meta(&mut self, name: &[u8], value: Value) {
        use firn_eval::Kind;
        let mut plain = |kind: &str, text: Vec<u8>| {
            self.empty(
                "meta",
                vec![("name", name.to_vec()), ("type", kind.as_bytes().to_vec()), ("value", text)],
            );
        };
        let strings = || vec![("name", name.to_vec()), ("type", b"strings".to_vec())];
        match value.kind() {
            Kind::Str(text) => plain("string", text.as_bytes().to_vec()),
            Kind::Int(number) => plain("int", number.to_string().into_bytes()),
            Kind::Float(number) => plain("float", float(number).into_bytes()),
            Kind::Bool(truth) => plain("bool", truth.to_string().into_bytes()),
            Kind::List(list) => {
                self.open("meta", strings());
                for item in list.iter() {
                    if let Some(text) = evaluated_text(item) {
                        self.empty("string", vec![("value", text)]);
                    }
                }
                self.close();
            }
            Kind::Attrs(attrs) => {
                self.open("meta", strings());
                // Not sorted: names come in the order in which evaluation met them.
                for (at, key) in attrs.shape().syms().iter().enumerate() {
                    if let Some(text) = evaluated_text(attrs.get(at)) {
                        self.empty("string", vec![("type", key.as_bytes().to_vec()), ("value", text)]);
                    }
                }
                self.close();
            }
            _ => {}
        }
    }
}

/// A text that was evaluated before.
fn evaluated_text(value: Value) -> Option<Vec<u8>> {
    value.evaluated().as_str().map(|text| text.as_bytes().to_vec())
}

/// Six significant digits, as C's `%g`.
fn float(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "nan"
        } else if number > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    let scientific = format!("{number:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..6).contains(&exponent) {
        let digits = usize::try_from(5 - exponent).unwrap_or(0);
        return trim(&format!("{number:.digits$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented() {
        let compact = br#"{"a":{},"b":[1,"x\",:{"],"c":[]}"#;
        let expected = "{\n  \"a\": {},\n  \"b\": [\n    1,\n    \"x\\\",:{\"\n  ],\n  \"c\": []\n}";
        assert_eq!(String::from_utf8_lossy(&indent_json(compact)), expected);
    }

    #[test]
    fn floats_are_short() {
        for (number, text) in
            [(1.0, "1"), (0.1, "0.1"), (1234567.0, "1.23457e+06"), (0.00001, "1e-05"), (0.0, "0")]
        {
            assert_eq!(float(number), text);
        }
    }
}
