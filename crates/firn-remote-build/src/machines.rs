//! The setting `builders` and machines files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use thiserror::Error;

/// A machine that builds for us.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// The store's URI, as written but with `ssh://` in front of bare host names.
    pub uri: String,
    pub systems: BTreeSet<String>,
    pub ssh_key: Option<String>,
    pub max_jobs: u32,
    pub speed_factor: f32,
    pub supported_features: BTreeSet<String>,
    /// Only builds that need all of these go there.
    pub mandatory_features: BTreeSet<String>,
    /// In base 64.
    pub host_key: Option<String>,
}

#[derive(Debug, Error)]
pub enum MachineError {
    /// The whole message.
    #[error("{0}")]
    Bad(String),
    #[error("reading machines file '{}': {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
}

impl Machine {
    /// Whether it can build for `system` with these features.
    pub fn suits(&self, system: &str, features: &BTreeSet<String>) -> bool {
        (system == "builtin" || self.systems.contains(system))
            && features
                .iter()
                .all(|f| self.supported_features.contains(f) || self.mandatory_features.contains(f))
            && self.mandatory_features.is_subset(features)
    }

    /// The URI with everything that the machine's line says of the connection and of what it offers.
    pub fn store_uri(&self) -> String {
        let mut uri = self.uri.clone();
        let mut add = |name: &str, value: &str| {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri += &format!("{name}={}", percent_encode(value));
        };
        let is_ssh = self.uri.starts_with("ssh://");
        if is_ssh || self.uri.starts_with("ssh-ng://") {
            add("max-connections", "1");
            if let Some(key) = &self.ssh_key {
                add("ssh-key", key);
            }
            if let Some(key) = &self.host_key {
                add("base64-ssh-public-host-key", key);
            }
        }
        let features: Vec<&str> =
            self.supported_features.iter().chain(&self.mandatory_features).map(String::as_str).collect();
        add("system-features", &features.join(" "));
        uri
    }
}

fn percent_encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'-' | b'_' | b'.' | b'~' | b'/' | b':' | b'@' => out.push(byte as char),
            _ if byte.is_ascii_alphanumeric() => out.push(byte as char),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

/// Files may name files so deep.
const MAX_DEPTH: usize = 16;

/// Parses the setting: machines separated by `;` or newlines, `@file` for the machines of a file.
pub fn parse_machines(builders: &str, default_system: &str) -> Result<Vec<Machine>, MachineError> {
    let mut lines = Vec::new();
    expand(builders, 0, &mut lines)?;
    lines.iter().map(|line| parse_line(line, default_system)).collect()
}

fn expand(text: &str, depth: usize, lines: &mut Vec<String>) -> Result<(), MachineError> {
    if depth > MAX_DEPTH {
        return Err(MachineError::Bad("machines files include each other".into()));
    }
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        for entry in line.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry.strip_prefix('@') {
                None => lines.push(entry.to_owned()),
                Some(path) => match std::fs::read_to_string(path.trim()) {
                    Ok(text) => expand(&text, depth + 1, lines)?,
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    Err(source) => return Err(MachineError::Read { path: path.trim().into(), source }),
                },
            }
        }
    }
    Ok(())
}

fn parse_line(line: &str, default_system: &str) -> Result<Machine, MachineError> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let field = |index: usize| fields.get(index).copied().filter(|text| *text != "-");
    let set = |text: Option<&str>| -> BTreeSet<String> {
        text.unwrap_or_default().split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let not_a = |index: usize, kind: &str| {
        MachineError::Bad(format!(
            "bad machine specification: failed to convert column #{index} in a row: '{line}' to '{kind}'"
        ))
    };
    let Some(uri) = field(0) else {
        return Err(MachineError::Bad(format!(
            "bad machine specification: store URL was not found at the first column of a row: '{line}'"
        )));
    };
    let systems = match field(1) {
        Some(text) => set(Some(text)),
        None => [default_system.to_owned()].into(),
    };
    let speed_factor = match field(4) {
        Some(text) => text.parse::<f32>().ok().filter(|f| f.is_finite()).ok_or_else(|| not_a(4, "float"))?,
        None => 1.0,
    };
    if speed_factor < 0.0 {
        return Err(MachineError::Bad("speed factor must be >= 0".into()));
    }
    if let Some(key) = field(7)
        && firn_core::base::base64_decode(key.as_bytes()).is_err()
    {
        return Err(MachineError::Bad(format!(
            "invalid base64 while parsing machine specification at a column #7 in a row: '{line}'"
        )));
    }
    Ok(Machine {
        uri: complete_uri(uri),
        systems,
        ssh_key: field(2).map(str::to_owned),
        max_jobs: match field(3) {
            Some(text) => text.parse().map_err(|_| not_a(3, "unsigned int"))?,
            None => 1,
        },
        speed_factor: if speed_factor == 0.0 { 1.0 } else { speed_factor },
        supported_features: set(field(5)),
        mandatory_features: set(field(6)),
        host_key: field(7).map(str::to_owned),
    })
}

/// Bare host names mean ssh.
fn complete_uri(uri: &str) -> String {
    let special = ["auto", "daemon", "local"];
    let bare = !uri.contains('/')
        && !special.contains(&uri)
        && !special.iter().any(|word| uri.starts_with(&format!("{word}?")))
        && !uri.starts_with('?');
    if bare { format!("ssh://{uri}") } else { uri.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(builders: &str, expected: &str) {
        let shown = match parse_machines(builders, "x86_64-linux") {
            Err(error) => error.to_string(),
            Ok(machines) => machines
                .iter()
                .map(|m| {
                    let set = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
                    format!(
                        "{} {} {} {} [{}] [{}]",
                        m.uri,
                        set(&m.systems),
                        m.max_jobs,
                        m.speed_factor,
                        set(&m.supported_features),
                        set(&m.mandatory_features)
                    )
                })
                .collect::<Vec<_>>()
                .join("; "),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn lines() {
        check("", "");
        check("nix@scratchy", "ssh://nix@scratchy x86_64-linux 1 1 [] []");
        check("a;b # c", "ssh://a x86_64-linux 1 1 [] []; ssh://b x86_64-linux 1 1 [] []");
        check(
            "ssh-ng://h i686-linux,x86_64-linux /key 8 2.5 kvm,big-parallel benchmark -",
            "ssh-ng://h i686-linux,x86_64-linux 8 2.5 [big-parallel,kvm] [benchmark]",
        );
        check("/tmp/m - - 1 0", "/tmp/m x86_64-linux 1 1 [] []");
        check("local?root=x", "local?root=x x86_64-linux 1 1 [] []");
        check(
            "h - - x",
            "bad machine specification: failed to convert column #3 in a row: 'h - - x' to 'unsigned int'",
        );
        check("h - - 1 -2", "speed factor must be >= 0");
        check(
            "h - - 1 1 - - /?",
            "invalid base64 while parsing machine specification at a column #7 in a row: 'h - - 1 1 - - /?'",
        );
        check("-", "bad machine specification: store URL was not found at the first column of a row: '-'");
        check("@/no/such/file", "");
    }

    #[test]
    fn what_suits() {
        let machine = &parse_machines("h a - 1 1 kvm,x m", "b").unwrap()[0];
        let suits = |system: &str, features: &str| {
            machine.suits(system, &features.split_whitespace().map(str::to_owned).collect())
        };
        assert!(suits("a", "m") && suits("builtin", "m kvm") && suits("a", "m x kvm"));
        assert!(!suits("b", "m") && !suits("a", "") && !suits("a", "m other"));
    }
}
