//! `builtin:fetchurl`: a file from a URL, as it is or unpacked.

use super::Context;
use firn_nar::NarReader;
use firn_nar::fs::{RestoreOptions, restore};
use std::fs::{self, File, Permissions};
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(super) fn run(context: &Context) -> Result<(), String> {
    let out = context.output("out")?;
    let url = context.attribute("url")?;
    let unpack = context.flag("unpack");
    let Some(path) = url.strip_prefix("file://") else {
        return Err(format!("cannot fetch '{url}': only 'file' URLs are supported by this version of firn"));
    };
    let fail = |what: &str, path: &Path| {
        let text = format!("{what} '{}'", path.display());
        move |e: io::Error| format!("{text}: {e}")
    };
    let source = Path::new(path);
    let mut file = File::open(source).map_err(fail("opening", source))?;
    if unpack {
        let mut reader = NarReader::new(BufReader::new(file));
        restore(&mut reader, out, RestoreOptions::default()).map_err(|e| e.to_string())?;
    } else {
        let mut target = File::create_new(out).map_err(fail("creating", out))?;
        io::copy(&mut file, &mut target).map_err(fail("copying", source))?;
    }
    if context.flag("executable") {
        fs::set_permissions(out, Permissions::from_mode(0o755))
            .map_err(fail("changing permissions of", out))?;
    }
    Ok(())
}
