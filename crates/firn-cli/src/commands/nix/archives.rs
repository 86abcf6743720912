//! Reading store objects as archives, whatever store has them.

use crate::context::Context;
use crate::error::{CliError, CliResult};
use firn_core::StorePath;
use firn_nar::{NarReader, NarResult};
use firn_store::export::BlockingWriter;
use firn_store::{Store, StoreError};
use std::io::{BufReader, PipeReader};

/// What `look` gets to read.
pub type Archive = NarReader<BufReader<PipeReader>>;

/// Runs `look` on the archive of a valid path. It need not read to the end.
pub fn read_archive<T: Send>(
    context: &Context,
    store: &dyn Store,
    path: &StorePath,
    look: impl FnOnce(&mut Archive) -> NarResult<T> + Send,
) -> CliResult<T> {
    let (reader, writer) = std::io::pipe().map_err(CliError::io("creating", "a pipe"))?;
    let (sent, seen) = std::thread::scope(|scope| {
        let looking = scope.spawn(move || {
            let mut archive = NarReader::new(BufReader::with_capacity(64 * 1024, reader));
            look(&mut archive)
        });
        let mut writer = BlockingWriter(writer);
        let sent = context.block_on(store.look_into(path, &mut writer));
        drop(writer);
        (sent, looking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    match (sent?, seen) {
        // What happened behind that which was looked for is of no interest.
        (_, Ok(value)) => Ok(value),
        // A source that failed is why the archive ended early.
        (Err(error), Err(_)) if !matches!(&error, StoreError::Nar(firn_nar::NarError::Write(_))) => {
            Err(error.into())
        }
        (_, Err(error)) => Err(StoreError::from(error).into()),
    }
}
