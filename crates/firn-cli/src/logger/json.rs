//! One JSON object a line: `--log-format internal-json` (each line after `@nix `) and `json-log-path`.

use super::write_stderr;
use firn_core::raw_text;
use firn_store::activity::{
    ActivityId, ActivityStart, Field, Logger, Report, ReportPlace, ResultType, Verbosity, error_layout,
};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

enum Target {
    Stderr,
    File(Mutex<File>),
}

/// Writes everything as JSON.
pub struct JsonLogger {
    verbosity: Verbosity,
    target: Target,
}

impl JsonLogger {
    pub fn stderr(verbosity: Verbosity) -> Self {
        Self { verbosity, target: Target::Stderr }
    }

    /// Appends to `path`.
    pub fn file(path: &Path, verbosity: Verbosity) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self { verbosity, target: Target::File(Mutex::new(file)) })
    }

    fn write(&self, value: &Value) {
        // Scripts look for parts of lines, so members come in the reference's order.
        let mut value = value.clone();
        value.sort_all_objects();
        self.write_lines(&format!("{}{value}\n", self.prefix()));
    }

    /// What lines begin with.
    fn prefix(&self) -> &'static str {
        if matches!(self.target, Target::Stderr) { "@nix " } else { "" }
    }

    fn write_lines(&self, text: &str) {
        match &self.target {
            Target::Stderr => write_stderr(text.as_bytes()),
            Target::File(file) => {
                if let Ok(mut file) = file.lock() {
                    let _ = file.write_all(text.as_bytes());
                }
            }
        }
    }
}

fn with_fields(mut value: Value, fields: &[Field]) -> Value {
    if !fields.is_empty() {
        let field = |field: &Field| match field {
            Field::Int(number) => json!(number),
            Field::Text(text) => json!(String::from_utf8_lossy(text)),
        };
        value["fields"] = fields.iter().map(field).collect();
    }
    value
}

fn add_place(value: &mut Value, place: Option<&ReportPlace>) {
    value["file"] = json!(place.map(|place| &place.file));
    value["line"] = json!(place.map(|place| place.line));
    value["column"] = json!(place.map(|place| place.column));
}

impl Logger for JsonLogger {
    fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    fn log(&self, level: Verbosity, message: &[u8]) {
        if level > self.verbosity {
            return;
        }
        self.write(
            &json!({ "action": "msg", "level": level as u8, "msg": String::from_utf8_lossy(message) }),
        );
    }

    /// Errors also come as they are, without layout, and say where in an expression they are: nowhere.
    fn error(&self, message: &str) {
        self.write(&json!({
            "action": "msg",
            "column": null,
            "file": null,
            "level": Verbosity::Error as u8,
            "line": null,
            "msg": raw_text::readable(&error_layout(message)),
            "raw_msg": raw_text::readable(message.trim_end()),
        }));
    }

    fn report(&self, report: &Report<'_>) {
        if report.level > self.verbosity {
            return;
        }
        let mut value = json!({
            "action": "msg",
            "level": report.level as u8,
            "msg": String::from_utf8_lossy(report.text),
            "raw_msg": String::from_utf8_lossy(report.message),
        });
        add_place(&mut value, report.place.as_ref());
        if !report.trace.is_empty() {
            let step = |(text, place): &(Vec<u8>, Option<ReportPlace>)| {
                let mut step = json!({ "raw_msg": String::from_utf8_lossy(text) });
                add_place(&mut step, place.as_ref());
                step
            };
            value["trace"] = report.trace.iter().map(step).collect();
        }
        self.write(&value);
    }

    fn start(&self, activity: &ActivityStart<'_>) {
        let value = json!({
            "action": "start",
            "id": activity.id,
            "level": activity.level as u8,
            "parent": activity.parent,
            "text": activity.text,
            "type": activity.kind as u16,
        });
        self.write(&with_fields(value, activity.fields));
    }

    fn stop(&self, id: ActivityId) {
        self.write(&json!({ "action": "stop", "id": id }));
    }

    fn build_log(&self, id: ActivityId, lines: &[u8]) {
        let mut out = String::with_capacity(lines.len() * 2);
        let (prefix, kind) = (self.prefix(), ResultType::BuildLogLine as u16);
        for line in lines.strip_suffix(b"\n").unwrap_or(lines).split(|byte| *byte == b'\n') {
            let line = Value::from(String::from_utf8_lossy(line));
            let _ = writeln!(
                out,
                "{prefix}{{\"action\":\"result\",\"fields\":[{line}],\"id\":{id},\"type\":{kind}}}"
            );
        }
        self.write_lines(&out);
    }

    fn result(&self, id: ActivityId, kind: ResultType, fields: &[Field]) {
        self.write(&with_fields(json!({ "action": "result", "id": id, "type": kind as u16 }), fields));
    }
}
