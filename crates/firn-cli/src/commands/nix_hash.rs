//! `nix-hash`.

use crate::args::{FlagSink, Values};
use crate::context::{Context, Start};
use crate::error::{CliError, CliResult};
use firn_core::{Hash, HashAlgo, HashFormat};
use firn_nar::HashSink;
use firn_nar::fs::{DumpOptions, dump_path};
use firn_store::StoreError;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;

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
                let name = values.next_text(flag)?;
                let parsed = name.parse();
                self.algo =
                    Some(parsed.map_err(|e: firn_core::hash::HashError| CliError::usage(e.to_string()))?);
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
    for arg in &line.args {
        let hash = match line.convert {
            true => Hash::parse_any(&arg.to_string_lossy(), line.algo)
                .map_err(|e| CliError::failed(e.to_string()))?,
            false => hash_file(&context, &line, arg)?,
        };
        context.print_line(render(&hash, &line))?;
    }
    Ok(0)
}

fn render(hash: &Hash, line: &Line) -> String {
    if !line.truncate || line.convert || hash.algo().size() <= 20 {
        return hash.to_base(line.format);
    }
    // 20 bytes are no digest of the algorithm any more, so it is written by hand.
    let short: [u8; 20] = hash.compress();
    match line.format {
        HashFormat::Base16 => firn_core::base::base16_encode(&short),
        HashFormat::Nix32 => firn_core::base::nix32_encode(&short),
        HashFormat::Base64 => firn_core::base::base64_encode(&short),
        HashFormat::Sri => format!("{}-{}", hash.algo(), firn_core::base::base64_encode(&short)),
    }
}

fn hash_file(context: &Context, line: &Line, arg: &OsStr) -> CliResult<Hash> {
    let mut sink = HashSink::new(line.algo.unwrap_or(HashAlgo::Md5));
    if line.flat {
        let io = |operation| CliError::io(operation, arg);
        let mut file = std::fs::File::open(arg).map_err(io("opening file"))?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => sink.update(&buffer[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io("reading")(e)),
            }
        }
        return Ok(sink.finish().0);
    }
    let options = DumpOptions { undo_case_hack: context.settings.use_case_hack, filter: None };
    let sink = dump_path(Path::new(arg), sink, options).map_err(StoreError::from)?;
    Ok(sink.finish().0)
}

const HELP: &str = "
Usage: nix-hash [--flat] [--type ALGO] [--base16 | --base32 | --base64 | --sri] [--truncate] PATHS...
       nix-hash (--to-base16 | --to-base32 | --to-base64 | --to-sri) [--type ALGO] HASHES...

Prints the hash of the archive of each path, or with --flat of the bytes of each file. ALGO is md5 (the default), sha1,
sha256, sha512 or blake3. --truncate folds hashes to 160 bits. The second form writes hashes in another base.
";
