//! `nix-store --serve`: the serve protocol on standard input and output.

use crate::error::{OpError, OpResult, refuse};
use crate::host::{Host, Stores};
use crate::input::Input;
use crate::ops::to_wire;
use crate::output::Output;
use crate::output_ids::OutputIds;
use firn_core::DerivedPath;
use firn_core::raw_text;
use firn_derivation::Derivation;
use firn_settings::Settings;
use firn_store::activity::{ActivityId, ActivityStart, Field, Logger, ResultType, Verbosity};
use firn_store::export::import_paths;
use firn_store::{
    BuildMode, BuildResult, BuildStatus, ClosureOptions, NarStream, StoreError, compute_fs_closure,
};
use firn_wire::serve::{
    BuildOptions, Command, Version, read_client_magic, read_client_version, server_greeting,
    write_build_result, write_path_info,
};
use firn_wire::values::parse_path_with_outputs;
use firn_wire::worker;
use firn_wire::{Message, WireError};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::io::SyncIoBridge;

/// Memory that the strings of one command may take, in bytes.
const BUDGET: usize = 256 << 20;

/// Serves until the client is done. The error is for standard error: the protocol has no place for it.
pub async fn serve_store(
    mut input: Input,
    output: Arc<Output>,
    host: Arc<dyn Host>,
    mut settings: Settings,
    logger: Arc<dyn Logger>,
    write_allowed: bool,
) -> Result<(), StoreError> {
    let served = async {
        read_client_magic(&mut input).await?;
        output.send(&server_greeting(Version::LATEST))?;
        output.flush()?;
        let version = read_client_version(&mut input).await?;
        // The caller says what to build; fetching is its own business.
        let stores = host.open(&settings, &logger)?;
        settings.substitute = false;
        settings.keep_build_log = false;
        let mut server = Server {
            input,
            output,
            host,
            settings,
            logger,
            stores,
            version,
            write_allowed,
            ids: OutputIds::default(),
        };
        loop {
            let Some(number) = server.input.u64_or_end().await? else { return Ok(()) };
            let command = Command::from_number(number)
                .ok_or_else(|| refuse(format!("unknown serve command {number}")))?;
            server.input.start_message(BUDGET);
            server.perform(command).await?;
            server.output.flush()?;
        }
    };
    match served.await {
        Ok(()) => Ok(()),
        Err(OpError::Store(error)) => Err(error),
        Err(OpError::Wire(error)) => Err(StoreError::Other(error.to_string())),
    }
}

struct Server {
    input: Input,
    output: Arc<Output>,
    host: Arc<dyn Host>,
    settings: Settings,
    logger: Arc<dyn Logger>,
    stores: Stores,
    version: Version,
    write_allowed: bool,
    ids: OutputIds,
}

impl Server {
    fn require_write(&self, what: &str) -> OpResult<()> {
        match self.write_allowed {
            true => Ok(()),
            false => Err(refuse(format!("{what} is not allowed"))),
        }
    }

    async fn perform(&mut self, command: Command) -> OpResult<()> {
        let store = Arc::clone(&self.stores.store);
        let dir = store.store_dir().clone();
        let mut reply = Message::new();
        match command {
            Command::QueryValidPaths => {
                let lock = self.input.bool().await? && self.write_allowed;
                let substitute = self.input.bool().await? && self.write_allowed;
                let paths = self.input.paths(&dir).await?;
                if lock {
                    for path in &paths {
                        store.add_temp_root(path).await?;
                    }
                }
                let mut valid = store.query_valid_paths(&paths).await?;
                if substitute {
                    let missing: Vec<DerivedPath> =
                        paths.difference(&valid).cloned().map(DerivedPath::Opaque).collect();
                    if !missing.is_empty() {
                        self.stores.build.build_paths(&missing, BuildMode::Normal).await?;
                        valid = store.query_valid_paths(&paths).await?;
                    }
                }
                reply.paths(&dir, &valid);
            }
            Command::QueryPathInfos => {
                let paths = self.input.paths(&dir).await?;
                for (path, info) in store.query_path_infos(&paths).await? {
                    reply.path(&dir, &path);
                    write_path_info(&mut reply, &dir, &info, self.version);
                }
                reply.bytes("");
            }
            Command::DumpStorePath => {
                let path = self.input.path(&dir).await?;
                store.nar_from_path(&path, &mut self.output.raw()).await?;
            }
            Command::ImportPaths => {
                self.require_write("importing paths")?;
                self.import().await?;
                reply.num(1u64);
            }
            Command::ExportPaths => return Err(refuse("unknown serve command 5")),
            Command::BuildPaths => {
                self.require_write("building paths")?;
                let texts: Vec<String> = self.input.texts("a path").await?;
                let paths: Vec<DerivedPath> = texts
                    .iter()
                    .map(|text| parse_path_with_outputs(&dir, text))
                    .collect::<Result<_, WireError>>()?;
                let stores = self.build_stores().await?;
                match stores.build.realise(&paths, BuildMode::Normal).await {
                    Ok(_) => reply.num(0u64),
                    Err(StoreError::Build { status, message }) => {
                        reply.num(status).bytes(raw_text::restore(&message))
                    }
                    Err(error) => reply.num(1u64).bytes(crate::tunnel::error_text(&error)),
                };
            }
            Command::BuildDerivation => {
                self.require_write("building paths")?;
                let path = self.input.path(&dir).await?;
                let name = Derivation::name_from_path(&path)
                    .ok_or_else(|| refuse(format!("path '{}' is not a derivation", dir.display(&path))))?
                    .to_owned();
                let drv = self.input.derivation(&dir, &name).await?;
                let stores = self.build_stores().await?;
                let result = match stores.build.build_derivation(&path, &drv, BuildMode::Normal).await {
                    Ok(result) => result,
                    // What a store refuses is an answer; without one the client would think that we died.
                    Err(error) => failed(DerivedPath::Opaque(path), &error),
                };
                let ids = self.ids.of(&*store, &drv).await?;
                write_build_result(&mut reply, &to_wire(&result, &ids), self.version);
            }
            Command::QueryClosure => {
                let include_outputs = self.input.bool().await?;
                let paths = self.input.paths(&dir).await?;
                let options = ClosureOptions { include_outputs, ..ClosureOptions::default() };
                reply.paths(&dir, &compute_fs_closure(&*store, &paths, options).await?);
            }
            Command::AddToStoreNar => {
                self.require_write("importing paths")?;
                let info = worker::read_path_info(&mut self.input, &dir).await?;
                if info.nar_size == 0 {
                    return Err(refuse("narInfo is too old and missing the narSize field"));
                }
                let mut archive = NarStream::new(&mut self.input);
                store.add_nar(&info, &mut archive, false, false).await?;
                archive.drain().await?;
                reply.num(1u64);
            }
        }
        Ok(self.output.send(&reply)?)
    }

    /// What builds, under the options that follow in the request.
    async fn build_stores(&mut self) -> OpResult<Stores> {
        let options = BuildOptions::read(&mut self.input, self.version).await?;
        if options.repeats != 0 {
            return Err(refuse("client requested repeating builds, but this is not currently implemented"));
        }
        let mut settings = self.settings.clone();
        settings.max_silent_time = options.max_silent_time.try_into().unwrap_or(i64::MAX);
        settings.timeout = options.build_timeout.try_into().unwrap_or(i64::MAX);
        if self.version.has(2) {
            settings.max_build_log_size = options.max_log_size;
        }
        settings.run_diff_hook = true;
        settings.keep_failed = options.keep_failed;
        let quiet: Arc<dyn Logger> = Arc::new(Quiet(Arc::clone(&self.logger)));
        Ok(self.host.open(&settings, &quiet)?)
    }

    async fn import(&mut self) -> OpResult<()> {
        let store = Arc::clone(&self.stores.store);
        let input =
            std::mem::replace(&mut self.input, firn_wire::WireReader::new(Box::new(tokio::io::empty())));
        let runtime = tokio::runtime::Handle::current();
        // The stream's parser blocks, so it runs on a thread of its own.
        let work = tokio::task::spawn_blocking(move || {
            let mut reader = SyncIoBridge::new_with_handle(input, runtime.clone());
            let result = runtime.block_on(import_paths(&*store, &mut reader, false));
            (reader.into_inner(), result)
        });
        let (input, result) = work.await.map_err(|e| refuse(format!("importing ended unexpectedly: {e}")))?;
        self.input = input;
        result?;
        Ok(())
    }
}

/// The result of a build that was not begun.
fn failed(path: DerivedPath, error: &StoreError) -> BuildResult {
    BuildResult {
        path,
        status: BuildStatus::MiscFailure,
        error: crate::tunnel::error_text(error),
        outputs: BTreeMap::new(),
        times_built: 0,
        start_time: 0,
        stop_time: 0,
        cpu: None,
    }
}

/// Lets through errors and what builders print: the client takes all of it for the build's log.
struct Quiet(Arc<dyn Logger>);

impl Logger for Quiet {
    fn verbosity(&self) -> Verbosity {
        Verbosity::Error
    }

    fn log(&self, level: Verbosity, message: &[u8]) {
        if level == Verbosity::Error {
            self.0.log(level, message);
        }
    }

    fn start(&self, _: &ActivityStart<'_>) {}

    fn stop(&self, _: ActivityId) {}

    fn result(&self, id: ActivityId, kind: ResultType, fields: &[Field]) {
        self.0.result(id, kind, fields);
    }
}
