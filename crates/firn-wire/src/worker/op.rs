//! Operations, by number.

/// What a client can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Op {
    IsValidPath = 1,
    QueryReferrers = 6,
    AddToStore = 7,
    AddTextToStore = 8,
    BuildPaths = 9,
    EnsurePath = 10,
    AddTempRoot = 11,
    AddIndirectRoot = 12,
    SyncWithGc = 13,
    FindRoots = 14,
    QueryDeriver = 18,
    SetOptions = 19,
    CollectGarbage = 20,
    QuerySubstitutablePathInfo = 21,
    QueryDerivationOutputs = 22,
    QueryAllValidPaths = 23,
    QueryPathInfo = 26,
    QueryDerivationOutputNames = 28,
    QueryPathFromHashPart = 29,
    QuerySubstitutablePathInfos = 30,
    QueryValidPaths = 31,
    QuerySubstitutablePaths = 32,
    QueryValidDerivers = 33,
    OptimiseStore = 34,
    VerifyStore = 35,
    BuildDerivation = 36,
    AddSignatures = 37,
    NarFromPath = 38,
    AddToStoreNar = 39,
    QueryMissing = 40,
    QueryDerivationOutputMap = 41,
    RegisterDrvOutput = 42,
    QueryRealisation = 43,
    AddMultipleToStore = 44,
    AddBuildLog = 45,
    BuildPathsWithResults = 46,
    AddPermRoot = 47,
}

const ALL: &[Op] = &[
    Op::IsValidPath,
    Op::QueryReferrers,
    Op::AddToStore,
    Op::AddTextToStore,
    Op::BuildPaths,
    Op::EnsurePath,
    Op::AddTempRoot,
    Op::AddIndirectRoot,
    Op::SyncWithGc,
    Op::FindRoots,
    Op::QueryDeriver,
    Op::SetOptions,
    Op::CollectGarbage,
    Op::QuerySubstitutablePathInfo,
    Op::QueryDerivationOutputs,
    Op::QueryAllValidPaths,
    Op::QueryPathInfo,
    Op::QueryDerivationOutputNames,
    Op::QueryPathFromHashPart,
    Op::QuerySubstitutablePathInfos,
    Op::QueryValidPaths,
    Op::QuerySubstitutablePaths,
    Op::QueryValidDerivers,
    Op::OptimiseStore,
    Op::VerifyStore,
    Op::BuildDerivation,
    Op::AddSignatures,
    Op::NarFromPath,
    Op::AddToStoreNar,
    Op::QueryMissing,
    Op::QueryDerivationOutputMap,
    Op::RegisterDrvOutput,
    Op::QueryRealisation,
    Op::AddMultipleToStore,
    Op::AddBuildLog,
    Op::BuildPathsWithResults,
    Op::AddPermRoot,
];

impl Op {
    /// The operation with that number, if there is one.
    pub fn from_number(number: u64) -> Option<Op> {
        ALL.iter().copied().find(|op| *op as u64 == number)
    }
}

impl From<Op> for u64 {
    fn from(op: Op) -> u64 {
        op as u64
    }
}
