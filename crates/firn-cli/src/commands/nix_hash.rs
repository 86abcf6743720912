//! `nix-hash`.

use super::hashing::{self, Mode, hash_path};
use crate::args::{FlagSink, Values};
use crate::context::Start;
use crate::error::{CliError, CliResult};
use firn_core::{Hash, HashAlgo, HashFormat};
use std::ffi::OsString;

struct Line {
    algo: Option<HashAlgo>,
    flat: bool,
    format: HashFormat,
    truncate: bool,
    /// Arguments are hashes to write in another form.
    convert: bool,
    args: Vec<OsString>,
}

impl FlagSink for Line {
    fn flag(&mut self, flag: &str, values: &mut Values) -> CliResult<bool> {
        match flag {
            "--flat" => self.flat = true,
            "--truncate" => self.truncate = true,
            "--type" => {
                self.algo = Some(hashing::parse_algo(&values.next_text(flag)?)?);
            }
            _ => {
                let (convert, name) = match flag.strip_prefix("--to-") {
                    Some(name) => (true, name),
                    None => (false, flag.strip_prefix("--").unwrap_or_default()),
                };
                self.format = match name {
                    "base16" => HashFormat::Base16,
                    "base32" => HashFormat::Nix32,
                    "base64" => HashFormat::Base64,
                    "sri" => HashFormat::Sri,
                    _ => return Ok(false),
                };
                self.convert |= convert;
            }
        }
        Ok(true)
    }

    fn positional(&mut self, arg: OsString) -> CliResult<()> {
        self.args.push(arg);
        Ok(())
    }
}

pub fn main(start: Start) -> CliResult<u8> {
    let mut line = Line {
        algo: None,
        flat: false,
        format: HashFormat::Base16,
        truncate: false,
        convert: false,
        args: Vec::new(),
    };
    let context = start.parse(&mut line, HELP)?;
    let algo = line.algo.unwrap_or(HashAlgo::Md5);
    for arg in &line.args {
        let hash = match line.convert {
            true => Hash::parse_any(&arg.to_string_lossy(), line.algo)
                .map_err(|e| CliError::failed(e.to_string()))?,
            false => hash_path(&context, arg, algo, if line.flat { Mode::Flat } else { Mode::Nar })?,
        };
        let text = match line.truncate && !line.convert {
            true => hashing::render_truncated(&hash, line.format),
            false => hash.to_base(line.format),
        };
        context.print_line(text)?;
    }
    Ok(0)
}

pub const HELP: &str = "
Usage: nix-hash [--flat] [--type ALGO] [--base16 | --base32 | --base64 | --sri] [--truncate] PATHS...
       nix-hash (--to-base16 | --to-base32 | --to-base64 | --to-sri) [--type ALGO] HASHES...

Prints the hash of the archive of each path, or with --flat of the bytes of each file. ALGO is md5 (the default), sha1,
sha256, sha512 or blake3. --truncate folds hashes to 160 bits. The second form writes hashes in another base.
";
