//! `nix __dump-cli`: all commands, their arguments and flags, stores and inputs as one JSON object; and `nix __dump-language`:
//! all builtins, their arguments and documentation. In the layout of the reference, for editors and scripts that go through
//! them.

use super::flags::{COMMON, Flag};
use super::groups_of;
use super::render::Row;
use super::stores::{fetchers_json, stores_json};
use firn_eval::{BUILTINS, BuiltinDoc, feature_of_builtin};
use firn_settings::{SETTINGS, Setting, Settings, Shape};
use serde_json::{Map, Value, json};

/// The category of what is experimental or not under a name.
fn feature(name: Option<&str>) -> Value {
    name.map_or(Value::Null, Value::from)
}

/// The commands, each with the name of the feature without which it does not run, the flags of all of them, and what stores
/// and inputs can be told.
pub fn dump(rows: &[(Row<'_>, Option<&'static str>)], settings: &Settings) -> Value {
    let mut flags: Map<String, Value> = SETTINGS.iter().flat_map(flags_of_setting).collect();
    flags.extend(COMMON.flags.iter().filter_map(|flag| one_flag(flag, COMMON.title)));
    json!({
        "args": {
            "args": [{ "arity": 1, "label": "subcommand", "optional": true }],
            "commands": commands(rows, 0),
            "description": "build, share and run software that is described by expressions",
            "flags": flags,
        },
        "fetchers": fetchers_json(),
        "stores": stores_json(settings),
    })
}

/// All builtins, by name.
pub fn dump_language() -> Value {
    let entry = |doc: &BuiltinDoc| {
        let mut entry = Map::from_iter([("doc".to_owned(), json!(doc.text))]);
        if doc.args.is_empty() {
            entry.insert("type".to_owned(), json!(type_of_constant(doc.name)));
        } else {
            entry.insert("args".to_owned(), json!(doc.args));
        }
        if let "currentSystem" | "currentTime" = doc.name {
            entry.insert("impure-only".to_owned(), json!(true));
        }
        if let Some(feature) = feature_of_builtin(doc.name) {
            entry.insert("experimental-feature".to_owned(), json!(feature));
        }
        (doc.name.to_owned(), Value::Object(entry))
    };
    Value::Object(BUILTINS.iter().map(entry).collect())
}

/// How the reference's manual names the type of a constant.
fn type_of_constant(name: &str) -> &'static str {
    match name {
        "builtins" => "set",
        "currentTime" | "langVersion" => "integer",
        "false" | "true" => "Boolean",
        "nixPath" => "list",
        "null" => "null",
        _ => "string",
    }
}

/// The commands whose first `depth` words are alike.
fn commands(rows: &[(Row<'_>, Option<&'static str>)], depth: usize) -> Map<String, Value> {
    let mut all = Map::new();
    for row in rows {
        let ((path, usage, summary), needs) = row;
        let word = path[depth];
        if all.contains_key(word) {
            continue;
        }
        if path.len() == depth + 1 {
            all.insert(word.to_owned(), command(path, usage, summary, *needs));
            continue;
        }
        let below: Vec<_> =
            rows.iter().filter(|((other, ..), _)| other[..=depth] == path[..=depth]).copied().collect();
        all.insert(
            word.to_owned(),
            json!({
                "args": [{ "arity": 1, "label": "subcommand", "optional": true }],
                "category": category(*needs),
                "commands": commands(&below, depth + 1),
                "description": super::render::topic(word).unwrap_or_default(),
                "flags": {},
            }),
        );
    }
    all
}

fn category(needs: Option<&str>) -> Value {
    json!({ "description": "", "experimental-feature": feature(needs), "id": 0 })
}

fn command(path: &[&'static str], usage: &str, summary: &str, needs: Option<&str>) -> Value {
    let groups = groups_of(path).unwrap_or_default();
    let flags: Map<String, Value> = groups
        .iter()
        .flat_map(|group| group.flags.iter().filter_map(|flag| one_flag(flag, group.title)))
        .collect();
    json!({
        "args": arguments(usage),
        "category": category(needs),
        "description": summary,
        "flags": flags,
    })
}

/// A flag by its first long name.
fn one_flag(flag: &Flag, category: &str) -> Option<(String, Value)> {
    let name = flag.names.iter().find_map(|name| name.strip_prefix("--"))?;
    let short = flag.names.iter().find_map(|name| name.strip_prefix('-').filter(|rest| rest.len() == 1));
    let labels: Vec<String> = flag.args.iter().map(|arg| arg.to_lowercase()).collect();
    let mut value = described(flag.text, category, false, &labels);
    if let (Some(short), Some(fields)) = (short, value.as_object_mut()) {
        fields.insert("shortName".to_owned(), short.into());
    }
    Some((name.to_owned(), value))
}

fn described(text: &str, category: &str, hidden: bool, labels: &[String]) -> Value {
    let mut value = json!({
        "arity": labels.len(),
        "category": category,
        "description": text,
        "experimental-feature": null,
        "hiddenCategory": hidden,
    });
    if let (false, Some(fields)) = (labels.is_empty(), value.as_object_mut()) {
        fields.insert("labels".to_owned(), labels.into());
    }
    value
}

/// The flags that a setting is.
fn flags_of_setting(setting: &'static Setting) -> Vec<(String, Value)> {
    let name = setting.name;
    let flag = |flag: String, text: &str, takes: bool| {
        let labels = if takes { vec!["value".to_owned()] } else { Vec::new() };
        let category = "Options to override configuration settings";
        let mut value = described(text, category, true, &labels);
        value["experimental-feature"] = feature(setting.feature.map(|feature| feature.name()));
        (flag, value)
    };
    let set = || flag(name.to_owned(), &format!("Set the `{name}` setting."), true);
    match setting.shape {
        Shape::Boolean => vec![
            flag(name.to_owned(), &format!("Enable the `{name}` setting."), false),
            flag(format!("no-{name}"), &format!("Disable the `{name}` setting."), false),
        ],
        Shape::Sandbox => vec![
            flag(name.to_owned(), "Enable sandboxing.", false),
            flag(format!("no-{name}"), "Disable sandboxing.", false),
            flag(format!("relaxed-{name}"), "Enable sandboxing, but allow builds to disable it.", false),
        ],
        Shape::Single => vec![set()],
        Shape::Appendable => {
            let text = format!("Append to the `{name}` setting.");
            vec![set(), flag(format!("extra-{name}"), &text, true)]
        }
    }
}

/// The arguments that a line of usage shows, without its flags.
fn arguments(usage: &str) -> Vec<Value> {
    // Commands that stand as one of several words take one of these.
    if usage.split(" | ").count() > 1 && !usage.contains(['[', '-']) {
        let words: Vec<&str> = usage.split(" | ").collect();
        return vec![json!({ "arity": 1, "label": words.join("|"), "optional": false })];
    }
    let mut found = Vec::new();
    let mut rest = usage;
    let mut value_of_flag = false;
    while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
        rest = &rest[start..];
        let optional = rest.starts_with('[');
        let end = match optional {
            true => rest.find(']').map_or(rest.len(), |end| end + 1),
            false => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (one, after) = rest.split_at(end);
        rest = after;
        let inner = one.trim_start_matches('[').trim_end_matches(']').trim_start_matches("-- ");
        if inner.starts_with('-') {
            // Of several choices the one that is no flag is an argument; a flag that must be there has a value.
            let choice = inner.split(" | ").find(|choice| !choice.starts_with('-'));
            found.extend(choice.map(|choice| argument(choice, true)));
            value_of_flag = !optional;
            continue;
        }
        if !std::mem::take(&mut value_of_flag) {
            found.push(argument(inner, optional));
        }
    }
    found
}

fn argument(name: &str, optional: bool) -> Value {
    let label = name.trim_end_matches("...").to_lowercase();
    match name.ends_with("...") {
        true => json!({ "label": label, "optional": optional }),
        false => json!({ "arity": 1, "label": label, "optional": optional }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_usages() {
        let check = |usage: &str, expected: &[(&str, bool, bool)]| {
            let expected: Vec<Value> = expected
                .iter()
                .map(|(label, one, optional)| match one {
                    true => json!({ "arity": 1, "label": label, "optional": optional }),
                    false => json!({ "label": label, "optional": optional }),
                })
                .collect();
            assert_eq!(arguments(usage), expected, "{usage}");
        };
        check("", &[]);
        check("[--json] [-o LINK | --no-link] [FLAKE]", &[("flake", true, true)]);
        check("[-l] [--json] NAR PATH", &[("nar", true, false), ("path", true, false)]);
        check("--key-file FILE INSTALLABLES...", &[("installables", false, false)]);
        check("--key-name NAME", &[]);
        check("INSTALLABLE [-- ARGUMENTS...]", &[("installable", true, false), ("arguments", false, true)]);
        check("[--all | --regex REGEX | PACKAGES...] [--profile PATH]", &[("packages", false, true)]);
        check("-s STORE [-r] [--all] INSTALLABLES...", &[("installables", false, false)]);
        check("bash | zsh | fish", &[("bash|zsh|fish", true, false)]);
    }
}
