//! How a build ended.

use super::Version;
use crate::error::{WireError, WireResult};
use crate::read::WireReader;
use crate::values::{Realisation, check_output_id};
use crate::write::Message;
use firn_core::raw_text;
use std::collections::BTreeMap;
use tokio::io::AsyncRead;

/// How a build ended, in the numbers of the protocols.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildResult {
    /// At most [`BuildResult::LAST_STATUS`].
    pub status: u8,
    pub error: String,
    pub times_built: u64,
    pub non_deterministic: bool,
    /// Seconds since the epoch.
    pub start_time: i64,
    pub stop_time: i64,
    /// Microseconds (from 1.37).
    pub cpu_user: Option<i64>,
    pub cpu_system: Option<i64>,
    /// By output id (from 1.28).
    pub outputs: BTreeMap<String, Realisation>,
}

impl BuildResult {
    /// The greatest status of both protocols: there is no substituter.
    pub const LAST_STATUS: u8 = 14;

    pub fn write(&self, message: &mut Message, version: Version) {
        message.num(self.status).bytes(raw_text::restore(&self.error));
        if version.has(29) {
            self.write_times(message);
        }
        if version.has(37) {
            for time in [self.cpu_user, self.cpu_system] {
                match time {
                    Some(time) => message.num(1u64).i64(time),
                    None => message.num(0u64),
                };
            }
        }
        if version.has(28) {
            self.write_outputs(message);
        }
    }

    pub(crate) fn write_times(&self, message: &mut Message) {
        message.num(self.times_built).num(self.non_deterministic).i64(self.start_time).i64(self.stop_time);
    }

    pub(crate) fn write_outputs(&self, message: &mut Message) {
        message.count(self.outputs.len());
        for (id, realisation) in &self.outputs {
            message.bytes(id).realisation(realisation);
        }
    }

    pub async fn read<R: AsyncRead + Unpin>(
        input: &mut WireReader<R>,
        version: Version,
    ) -> WireResult<BuildResult> {
        let mut result = BuildResult::read_status(input).await?;
        if version.has(29) {
            result.read_times(input).await?;
        }
        if version.has(37) {
            result.cpu_user = read_duration(input).await?;
            result.cpu_system = read_duration(input).await?;
        }
        if version.has(28) {
            result.read_outputs(input).await?;
        }
        Ok(result)
    }

    pub(crate) async fn read_status<R: AsyncRead + Unpin>(
        input: &mut WireReader<R>,
    ) -> WireResult<BuildResult> {
        let status = input.u64().await?;
        if status > u64::from(Self::LAST_STATUS) {
            return Err(WireError::Invalid(format!("Invalid BuildResult status {status} from remote")));
        }
        let error = raw_text::keep(&input.bytes().await?).into_owned();
        Ok(BuildResult { status: status as u8, error, ..BuildResult::default() })
    }

    pub(crate) async fn read_times<R: AsyncRead + Unpin>(
        &mut self,
        input: &mut WireReader<R>,
    ) -> WireResult<()> {
        self.times_built = input.u64().await?;
        self.non_deterministic = input.bool().await?;
        self.start_time = input.i64().await?;
        self.stop_time = input.i64().await?;
        Ok(())
    }

    pub(crate) async fn read_outputs<R: AsyncRead + Unpin>(
        &mut self,
        input: &mut WireReader<R>,
    ) -> WireResult<()> {
        for _ in 0..input.count().await? {
            let id = input.text("an output's id").await?;
            check_output_id(&id)?;
            self.outputs.insert(id, input.realisation().await?);
        }
        Ok(())
    }
}

async fn read_duration<R: AsyncRead + Unpin>(input: &mut WireReader<R>) -> WireResult<Option<i64>> {
    match input.u64().await? {
        0 => Ok(None),
        1 => input.i64().await.map(Some),
        _ => Err(WireError::Invalid("Invalid optional tag from remote".into())),
    }
}
