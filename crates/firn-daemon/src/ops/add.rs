//! Making paths valid.

use crate::connection::Session;
use crate::error::{OpResult, refuse};
use crate::tunnel;
use async_trait::async_trait;
use firn_core::{CaMethod, HashAlgo, StoreDir, StorePath, ValidPathInfo};
use firn_store::supply::Between;
use firn_store::{AddSource, NarStream, NarSupply, NarToAdd, Realisation, Store, StoreError, StoreResult};
use firn_wire::worker::{read_path_info, write_path_info};
use firn_wire::{FramedReader, Message, WireError, WireReader};
use std::collections::BTreeSet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// Flat files up to this size are kept in memory, larger ones on disk, in bytes.
const SMALL: u64 = 1 << 20;

/// Longest text of the older operation, and longest build log, in bytes.
const MAX_TEXT: u64 = 64 << 20;

/// `fixed:r:sha256`, `text:sha256` and the like.
fn parse_method(text: &str) -> StoreResult<(CaMethod, HashAlgo)> {
    let bad =
        || StoreError::Other(format!("'{text}' is not a content addressing method with a hash algorithm"));
    let (method, algo) = match (text.strip_prefix("text:"), text.strip_prefix("fixed:")) {
        (Some(algo), _) => (CaMethod::Text, algo),
        (None, Some(rest)) => CaMethod::split_prefix(rest),
        (None, None) => return Err(bad()),
    };
    Ok((method, HashAlgo::parse_opt(algo).ok_or_else(bad)?))
}

pub(super) async fn to_store(session: &mut Session) -> OpResult<()> {
    if !session.version.has(25) {
        return to_store_old(session).await;
    }
    let store = session.stores()?.store;
    let name = session.input.text("a name").await?;
    let method = session.input.text("a content addressing method").await?;
    let references = session.input.paths(store.store_dir()).await?;
    let repair = session.input.bool().await?;
    session.start()?;
    let mut source = FramedReader::new(&mut session.input);
    let added = match parse_method(&method) {
        Ok((method, algo)) => {
            add_stream(&*store, &name, &mut source, method, algo, &references, repair).await
        }
        Err(error) => Err(error),
    };
    // Also after an error the client sends all that it has.
    source.drain().await?;
    let info = added?;
    session.has_roots = true;
    let mut message = Message::new();
    write_path_info(&mut message, store.store_dir(), &info);
    session.answer(&message)
}

/// Adds what a client sends: an archive, or for flat and text the bytes of the file.
async fn add_stream(
    store: &dyn Store,
    name: &str,
    source: &mut (dyn AsyncRead + Send + Unpin),
    method: CaMethod,
    algo: HashAlgo,
    references: &BTreeSet<StorePath>,
    repair: bool,
) -> StoreResult<firn_core::ValidPathInfo> {
    if !matches!(method, CaMethod::Flat | CaMethod::Text) {
        return store.add_to_store(name, AddSource::Nar(source), method, algo, references, repair).await;
    }
    let failed = |e| StoreError::from(firn_store::read_failed(e));
    let mut start = Vec::new();
    (&mut *source).take(SMALL).read_to_end(&mut start).await.map_err(failed)?;
    if (start.len() as u64) < SMALL {
        return store.add_to_store(name, AddSource::Bytes(&start), method, algo, references, repair).await;
    }
    // Too much for the memory: it waits on disk until all of it is there.
    let spool = |e| StoreError::io("writing", std::env::temp_dir())(e);
    let temporary = tempfile::NamedTempFile::new().map_err(spool)?;
    let mut file = tokio::fs::File::from_std(temporary.reopen().map_err(spool)?);
    file.write_all(&start).await.map_err(spool)?;
    drop(start);
    tokio::io::copy(source, &mut file).await.map_err(failed)?;
    file.flush().await.map_err(spool)?;
    store.add_to_store(name, AddSource::Path(temporary.path()), method, algo, references, repair).await
}

/// Before 1.25: an archive always, right behind the arguments.
async fn to_store_old(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    let name = session.input.text("a name").await?;
    let fixed = session.input.bool().await?;
    let recursive: u8 = session.input.number("the method").await?;
    let algo = session.input.text("a hash algorithm").await?;
    if recursive > 1 {
        return Err(refuse(format!(
            "unsupported FileIngestionMethod with value of {recursive}; you may need to upgrade nix-daemon"
        )));
    }
    let (method, algo) = match (fixed, recursive) {
        (false, _) => (CaMethod::NixArchive, HashAlgo::Sha256),
        (true, recursive) => {
            let algo = algo.parse().map_err(|e: firn_core::hash::HashError| refuse(e.to_string()))?;
            (if recursive == 1 { CaMethod::NixArchive } else { CaMethod::Flat }, algo)
        }
    };
    session.start()?;
    let mut archive = NarStream::new(&mut session.input);
    let added = match method {
        CaMethod::NixArchive => {
            let source = AddSource::Nar(&mut archive);
            store.add_to_store(&name, source, method, algo, &BTreeSet::new(), false).await
        }
        _ => {
            // Old clients send small files so.
            let mut bytes = Vec::new();
            (&mut archive).take(MAX_TEXT).read_to_end(&mut bytes).await?;
            match flat_contents(&bytes) {
                Ok(contents) => {
                    let source = AddSource::Bytes(&contents);
                    store.add_to_store(&name, source, method, algo, &BTreeSet::new(), false).await
                }
                Err(error) => Err(error),
            }
        }
    };
    archive.drain().await?;
    let info = added?;
    session.has_roots = true;
    session.answer(Message::new().path(store.store_dir(), &info.path))
}

/// The contents of the regular file that an archive is.
fn flat_contents(archive: &[u8]) -> StoreResult<Vec<u8>> {
    firn_store::regular_file_of_archive(archive)
}

pub(super) async fn text(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    let name = session.input.text("a name").await?;
    let contents = session.input.bytes().await?;
    let references = session.input.paths(store.store_dir()).await?;
    session.start()?;
    let path = store.add_text(&name, &contents, &references, false).await?;
    session.has_roots = true;
    session.answer(Message::new().path(store.store_dir(), &path))
}

pub(super) async fn nar(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    let mut info = read_path_info(&mut session.input, store.store_dir()).await?;
    let repair = session.input.bool().await?;
    let unchecked = session.input.bool().await?;
    info.ultimate &= session.trusted;
    let check = !(unchecked && session.trusted);
    // Replacing what is valid takes it away from others for a moment.
    let repair = repair && session.trusted;
    session.start()?;
    let added = if session.version.has(23) {
        let mut source = FramedReader::new(&mut session.input);
        let added = store.add_nar(&info, &mut source, repair, check).await;
        source.drain().await?;
        added
    } else if session.version.has(21) {
        let (mut reader, writer) = tokio::io::duplex(1 << 20);
        let add = async {
            let added = store.add_nar(&info, &mut reader, repair, check).await;
            drop(reader);
            added
        };
        let pump = tunnel::pump(&mut session.input, &session.output, writer);
        let (added, pumped) = tokio::join!(add, pump);
        pumped?;
        added
    } else {
        let mut archive = NarStream::new(&mut session.input);
        let added = store.add_nar(&info, &mut archive, repair, check).await;
        archive.drain().await?;
        added
    };
    added?;
    session.has_roots = true;
    session.answer(&Message::new())
}

pub(super) async fn multiple(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    let repair = session.input.bool().await?;
    let unchecked = session.input.bool().await?;
    let check = !(unchecked && session.trusted);
    // Replacing what is valid takes it away from others for a moment.
    let repair = repair && session.trusted;
    session.start()?;
    let mut source = FramedReader::new(&mut session.input);
    let added = add_each(&*store, &mut source, repair, check).await;
    source.drain().await?;
    session.has_roots = true;
    added?;
    session.answer(&Message::new())
}

async fn add_each(
    store: &dyn Store,
    source: &mut (dyn AsyncRead + Send + Unpin),
    repair: bool,
    check: bool,
) -> OpResult<()> {
    let mut input = WireReader::new(source);
    let count = input.u64().await?;
    let dir = store.store_dir().clone();
    let mut sent = Sent { dir, left: count, input: Between::Before(input) };
    Ok(store.add_nars(&mut sent, repair, check).await?)
}

/// The objects that a client sends.
struct Sent<'a> {
    dir: StoreDir,
    left: u64,
    input: Between<WireReader<&'a mut (dyn AsyncRead + Send + Unpin)>>,
}

impl Sent<'_> {
    async fn next_facts(&mut self) -> Result<ValidPathInfo, WireError> {
        let mut input = self.input.behind().await?;
        input.start_message(firn_wire::read::DEFAULT_BUDGET);
        let info = read_path_info(&mut input, &self.dir).await?;
        self.input.start(input);
        Ok(info)
    }
}

#[async_trait]
impl NarSupply for Sent<'_> {
    fn count(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    async fn next(&mut self) -> StoreResult<Option<NarToAdd<'_>>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        // The frames around all this keep the connection in step, whatever is wrong within.
        let mut info = self.next_facts().await.map_err(|e| StoreError::Other(e.to_string()))?;
        info.ultimate = false;
        Ok(Some(NarToAdd { info, archive: Box::new(&mut self.input) }))
    }
}

pub(super) async fn build_log(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    let base = session.input.text("a store path").await?;
    let path = StorePath::from_base_name(&base).map_err(StoreError::from);
    session.start()?;
    let mut source = FramedReader::new(&mut session.input);
    if !session.trusted {
        source.drain().await?;
        return Err(refuse("you are not privileged to add logs"));
    }
    let log = source.read_all(MAX_TEXT).await?;
    let logs = store.as_log().ok_or_else(|| store.unsupported("adding build logs"))?;
    logs.add_build_log(&path?, &log).await?;
    session.answer(Message::new().num(1u64))
}

pub(super) async fn signatures(session: &mut Session) -> OpResult<()> {
    let store = session.stores()?.store;
    let path = session.input.path(store.store_dir()).await?;
    let signatures = session.input.texts("a signature").await?;
    session.start()?;
    store.add_signatures(&path, &signatures).await?;
    session.answer(Message::new().num(1u64))
}

pub(super) async fn realisation(session: &mut Session) -> OpResult<()> {
    let realisation = match session.version.has(31) {
        true => from_wire_realisation(session.input.realisation().await?),
        false => {
            let id = session.input.text("an output's id").await?;
            firn_wire::values::check_output_id(&id)?;
            let path = session.input.text("a store path").await?;
            Realisation::new(id, StorePath::from_base_name(&path).map_err(StoreError::from)?)
        }
    };
    let store = session.stores()?.store;
    session.start()?;
    let check = !session.trusted && session.settings.require_sigs;
    store.register_realisation(&realisation, check).await?;
    session.answer(&Message::new())
}

fn from_wire_realisation(realisation: firn_wire::values::Realisation) -> Realisation {
    let firn_wire::values::Realisation { id, out_path, signatures, dependent_realisations } = realisation;
    Realisation { id, out_path, signatures, dependent_realisations }
}
