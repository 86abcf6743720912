//! The operations. Each reads its arguments, starts work, asks the store and answers.

mod add;
mod build;
mod query;
mod upkeep;

pub(crate) use build::to_wire;

use crate::connection::Session;
use crate::error::OpResult;
use firn_wire::Message;
use firn_wire::read::DEFAULT_BUDGET;
use firn_wire::worker::{ClientOptions, Op};

/// Performs one operation.
pub(crate) async fn perform(session: &mut Session, op: Op) -> OpResult<()> {
    session.input.start_message(DEFAULT_BUDGET);
    match op {
        Op::SetOptions => {
            let options = ClientOptions::read(&mut session.input).await?;
            session.start()?;
            session.set_options(options)?;
            session.answer(&Message::new())
        }
        Op::SyncWithGc => {
            session.start()?;
            session.answer(Message::new().num(1u64))
        }
        Op::IsValidPath => query::is_valid_path(session).await,
        Op::QueryValidPaths => query::valid_paths(session).await,
        Op::QuerySubstitutablePaths => query::substitutable_paths(session).await,
        Op::QuerySubstitutablePathInfo => query::substitutable_path_info(session).await,
        Op::QuerySubstitutablePathInfos => query::substitutable_path_infos(session).await,
        Op::QueryReferrers | Op::QueryValidDerivers | Op::QueryDerivationOutputs => {
            query::related_paths(session, op).await
        }
        Op::QueryDerivationOutputNames => query::output_names(session).await,
        Op::QueryDerivationOutputMap => query::output_map(session).await,
        Op::QueryDeriver => query::deriver(session).await,
        Op::QueryPathFromHashPart => query::path_from_hash_part(session).await,
        Op::QueryPathInfo => query::path_info(session).await,
        Op::QueryAllValidPaths => query::all_valid_paths(session).await,
        Op::QueryRealisation => query::realisation(session).await,
        Op::NarFromPath => query::nar_from_path(session).await,
        Op::AddToStore => add::to_store(session).await,
        Op::AddTextToStore => add::text(session).await,
        Op::AddToStoreNar => add::nar(session).await,
        Op::AddMultipleToStore => add::multiple(session).await,
        Op::AddBuildLog => add::build_log(session).await,
        Op::AddSignatures => add::signatures(session).await,
        Op::RegisterDrvOutput => add::realisation(session).await,
        Op::BuildPaths => build::paths(session).await,
        Op::BuildPathsWithResults => build::paths_with_results(session).await,
        Op::BuildDerivation => build::derivation(session).await,
        Op::QueryMissing => build::missing(session).await,
        Op::EnsurePath => build::ensure_path(session).await,
        Op::AddTempRoot => upkeep::temp_root(session).await,
        Op::AddIndirectRoot => upkeep::indirect_root(session).await,
        Op::AddPermRoot => upkeep::permanent_root(session).await,
        Op::FindRoots => upkeep::find_roots(session).await,
        Op::CollectGarbage => upkeep::collect_garbage(session).await,
        Op::OptimiseStore => upkeep::optimise(session).await,
        Op::VerifyStore => upkeep::verify(session).await,
    }
}
