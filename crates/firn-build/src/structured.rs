//! Structured attributes as the builder gets them: `.attrs.json` and `.attrs.sh`.
//!
//! Source: the manual's "Advanced Attributes", `__structuredAttrs`.

use serde_json::{Map, Value};

/// A shell script that declares a variable for each attribute that the shell can hold.
pub fn shell(attrs: &Map<String, Value>) -> String {
    let mut out = String::new();
    for (name, value) in attrs {
        if !is_variable(name) {
            continue;
        }
        if let Some(text) = simple(value) {
            out += &format!("declare {name}={text}\n");
        } else if let Value::Array(items) = value {
            let items: Option<Vec<String>> = items.iter().map(simple).collect();
            if let Some(items) = items {
                let list: String = items.iter().map(|item| format!("{item} ")).collect();
                out += &format!("declare -a {name}=({list})\n");
            }
        } else if let Value::Object(map) = value {
            let entries: Option<String> = map
                .iter()
                .map(|(key, value)| Some(format!("[{}]={} ", quote(key), simple(value)?)))
                .collect();
            if let Some(entries) = entries {
                out += &format!("declare -A {name}=({entries})\n");
            }
        }
    }
    out
}

/// A value that is one word in the shell. Numbers are so only if they are whole.
fn simple(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(quote(text)),
        Value::Number(number) => match number.as_i64() {
            // The reference goes through 32 bits.
            Some(whole) => Some((whole as i32).to_string()),
            None => {
                let float = number.as_f64()?;
                ((float as f32).ceil() == float as f32).then(|| (float as i32).to_string())
            }
        },
        Value::Null => Some("''".to_owned()),
        Value::Bool(true) => Some("1".to_owned()),
        Value::Bool(false) => Some(String::new()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations() {
        let attrs: Value = serde_json::json!({
            "a": "it's", "b": 1, "c": 2.5, "d": null, "e": true, "f": false, "g": ["x y", 2],
            "h": [[1]], "i": {"k": "v"}, "j-k": "no", "l": 3.0
        });
        let Value::Object(attrs) = attrs else { return };
        assert_eq!(
            shell(&attrs),
            "declare a='it'\\''s'\ndeclare b=1\ndeclare d=''\ndeclare e=1\ndeclare f=\ndeclare -a g=('x y' 2 )\n\
             declare -A i=(['k']='v' )\ndeclare l=3\n"
        );
    }
}
