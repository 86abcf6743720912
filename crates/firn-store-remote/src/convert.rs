//! Between the stores' types and those of the wire.

use firn_core::DerivedPath;
use firn_store::{BuildResult, BuildStatus, CpuTimes, Realisation};
use firn_wire::values::Realisation as WireRealisation;
use firn_wire::worker::BuildResult as WireResult;

const STATUSES: &[BuildStatus] = &[
    BuildStatus::Built,
    BuildStatus::Substituted,
    BuildStatus::AlreadyValid,
    BuildStatus::PermanentFailure,
    BuildStatus::InputRejected,
    BuildStatus::OutputRejected,
    BuildStatus::TransientFailure,
    BuildStatus::CachedFailure,
    BuildStatus::TimedOut,
    BuildStatus::MiscFailure,
    BuildStatus::DependencyFailed,
    BuildStatus::LogLimitExceeded,
    BuildStatus::NotDeterministic,
    BuildStatus::ResolvesToAlreadyValid,
    BuildStatus::NoSubstituters,
];

pub(crate) fn status(number: u8) -> BuildStatus {
    STATUSES.get(usize::from(number)).copied().unwrap_or(BuildStatus::MiscFailure)
}

fn micros(time: Option<i64>) -> u64 {
    time.and_then(|time| u64::try_from(time).ok()).unwrap_or(0)
}

/// The result of building `path`.
pub(crate) fn from_wire_result(path: DerivedPath, result: WireResult) -> BuildResult {
    BuildResult {
        path,
        status: status(result.status),
        error: result.error,
        outputs: result
            .outputs
            .into_values()
            .map(|realisation| (realisation.output_name().to_owned(), realisation.out_path))
            .collect(),
        times_built: u32::try_from(result.times_built).unwrap_or(u32::MAX),
        start_time: result.start_time,
        stop_time: result.stop_time,
        cpu: match (result.cpu_user, result.cpu_system) {
            (None, None) => None,
            (user, system) => Some(CpuTimes { user: micros(user), system: micros(system) }),
        },
    }
}

pub(crate) fn from_wire_realisation(realisation: WireRealisation) -> Realisation {
    let WireRealisation { id, out_path, signatures, dependent_realisations } = realisation;
    Realisation { id, out_path, signatures, dependent_realisations }
}

pub(crate) fn to_wire_realisation(realisation: &Realisation) -> WireRealisation {
    let Realisation { id, out_path, signatures, dependent_realisations } = realisation.clone();
    WireRealisation { id, out_path, signatures, dependent_realisations }
}
