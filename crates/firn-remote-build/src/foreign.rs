//! The other side of the protocol: a hook of somebody else's (setting `build-hook`) decides and builds.

use crate::log::BuildLog;
use async_trait::async_trait;
use firn_scheduler::{BuildFailure, BuildObserver, BuildRequest, BuildSuccess, Executor, Place};
use firn_store::activity::{Activity, ActivityType, Field, Logger, ResultType, Verbosity};
use firn_store::{BuildMode, BuildStatus, BuildTarget};
use firn_wire::Message;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Gives the hook its descriptors: what the builder prints is written to 4 and could be read from 5. Standard output
/// comes as the pipe of the former.
const DESCRIPTORS: &str = "exec \"$@\" 4>&1 5</proc/self/fd/1 1>&2";

/// Asks a hook for each build, and builds through `inner` what it declines.
pub struct HookExecutor {
    pub inner: Arc<dyn Executor>,
    pub target: Arc<dyn BuildTarget>,
    pub logger: Arc<dyn Logger>,
    /// The hook and its arguments.
    pub hook: Vec<String>,
    /// All settings, as the hook is told them.
    pub settings: Vec<(String, Vec<u8>)>,
    /// `build-poll-interval`: how long until a postponed build is offered again.
    pub poll: Duration,
    pub log_lines: usize,
    pub keep_build_log: bool,
    pub state: HookState,
}

/// The hook process that has not accepted a build yet.
#[derive(Default)]
pub struct HookState {
    waiting: Mutex<Option<Hook>>,
    off: AtomicBool,
}

struct Hook {
    _child: Child,
    input: ChildStdin,
    replies: BufReader<ChildStderr>,
    output: BufReader<ChildStdout>,
}

enum Reply {
    Accept(Box<Hook>),
    Decline,
    Postpone,
}

impl HookExecutor {
    async fn start(&self) -> Result<Hook, BuildFailure> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", DESCRIPTORS, "sh"])
            .args(&self.hook)
            .arg((self.logger.verbosity() as u64).to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| {
                BuildFailure::other(format!("executing build hook '{}': {e}", self.hook.join(" ")))
            })?;
        let (Some(mut input), Some(output), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(BuildFailure::other("the build hook has no standard streams"));
        };
        let mut message = Message::new();
        for (name, value) in &self.settings {
            message.num(1u64).bytes(name).bytes(value);
        }
        message.num(0u64);
        input.write_all(&message.0).await.map_err(died)?;
        Ok(Hook { _child: child, input, replies: BufReader::new(stderr), output: BufReader::new(output) })
    }

    async fn ask(&self, request: &BuildRequest, willing: bool) -> Result<Reply, BuildFailure> {
        let dir = self.target.store_dir();
        let options = request.drv.options(dir).map_err(BuildFailure::other)?;
        let mut waiting = self.state.waiting.lock().await;
        let mut hook = match waiting.take() {
            Some(hook) => hook,
            None => self.start().await?,
        };
        let mut message = Message::new();
        message
            .bytes("try")
            .num(willing)
            .bytes(&request.drv.platform)
            .path(dir, &request.drv_path)
            .strings(options.required_features(&request.drv));
        hook.input.write_all(&message.0).await.map_err(died)?;
        hook.input.flush().await.map_err(died)?;
        loop {
            let line = next_line(&mut hook.replies).await?;
            match line.strip_prefix(b"# ") {
                None => self.show(&line, None),
                Some(b"accept") => return Ok(Reply::Accept(Box::new(hook))),
                Some(b"decline") => {
                    *waiting = Some(hook);
                    return Ok(Reply::Decline);
                }
                Some(b"postpone") => {
                    *waiting = Some(hook);
                    return Ok(Reply::Postpone);
                }
                Some(b"decline-permanently") => {
                    self.state.off.store(true, Ordering::Relaxed);
                    return Ok(Reply::Decline);
                }
                Some(other) => {
                    let text = String::from_utf8_lossy(other);
                    return Err(BuildFailure::other(format!("bad hook reply '{text}'")));
                }
            }
        }
    }

    /// What the hook says: JSON messages as such, the rest as it is.
    fn show(&self, line: &[u8], log: Option<&BuildLog>) {
        let message = line
            .strip_prefix(b"@nix ")
            .and_then(|text| serde_json::from_slice::<serde_json::Value>(text).ok());
        let Some(message) = message else {
            return self.logger.log(Verbosity::Error, line);
        };
        let number = |key: &str| message.get(key).and_then(serde_json::Value::as_u64);
        let text = |key: &str| message.get(key).and_then(serde_json::Value::as_str);
        match (text("action"), text("msg"), log) {
            (Some("msg"), Some(text), _) => {
                self.logger.log(Verbosity::from_number(number("level").unwrap_or(3)), text.as_bytes());
            }
            (Some("start"), _, _) => {
                if let Some(text) = text("text").filter(|text| !text.is_empty()) {
                    let level = Verbosity::from_number(number("level").unwrap_or(4));
                    self.logger.log(level, format!("{text}...").as_bytes());
                }
            }
            (Some("result"), _, Some(log)) if number("type") == Some(ResultType::BuildLogLine as u64) => {
                if let Some(line) = message["fields"][0].as_str() {
                    log.line(line.as_bytes());
                }
            }
            _ => {}
        }
    }

    /// An accepted build, whose outputs' locks are held.
    async fn follow(&self, mut hook: Hook, request: &BuildRequest) -> Result<BuildSuccess, BuildFailure> {
        let dir = self.target.store_dir();
        let machine = String::from_utf8_lossy(&next_line(&mut hook.replies).await?).into_owned();
        let outputs = request.drv.output_paths(dir).map_err(BuildFailure::other)?;
        let mut message = Message::new();
        message.paths(dir, &request.input_paths).strings(outputs.keys());
        hook.input.write_all(&message.0).await.map_err(died)?;
        hook.input.shutdown().await.map_err(died)?;
        let Hook { _child: mut child, input, mut replies, mut output } = hook;
        drop(input);
        let drv = dir.display(&request.drv_path);
        let fields = [drv.as_str().into(), machine.as_str().into(), Field::Int(1), Field::Int(1)];
        let text = format!("building '{drv}' on '{machine}'");
        let activity = Activity::start(&self.logger, Verbosity::Info, ActivityType::Build, &text, &fields, 0);
        let file = match self.keep_build_log {
            true => Some(self.target.build_log_path(&request.drv_path).map_err(BuildFailure::other)?),
            false => None,
        };
        let log = BuildLog::start(activity, file, self.log_lines, 0).map_err(BuildFailure::other)?;
        let start_time = now();
        let said = async {
            while let Ok(line) = next_line(&mut replies).await {
                self.show(&line, Some(&log));
            }
        };
        let printed = async {
            while let Ok(line) = next_line(&mut output).await {
                log.line(&line);
            }
        };
        tokio::join!(said, printed);
        let status = child.wait().await.map_err(died)?;
        if !status.success() {
            let text = format!(
                "build of '{drv}' on '{machine}' failed: the build hook ended with {status}{}",
                log.tail()
            );
            return Err(BuildFailure::new(BuildStatus::MiscFailure, text));
        }
        let mut valid = BTreeMap::new();
        for (name, path) in outputs {
            let path =
                path.ok_or_else(|| BuildFailure::other("build hooks cannot build floating outputs"))?;
            if self.target.path_info(&path).map_err(BuildFailure::other)?.is_none() {
                return Err(BuildFailure::other("some outputs are unexpectedly invalid"));
            }
            valid.insert(name, path);
        }
        Ok(BuildSuccess {
            status: BuildStatus::Built,
            outputs: valid,
            start_time,
            stop_time: now(),
            cpu: None,
        })
    }
}

fn died(error: std::io::Error) -> BuildFailure {
    BuildFailure::other(format!("build hook died unexpectedly: {error}"))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// Longest line, in bytes.
const MAX_LINE: u64 = 1 << 20;

async fn next_line(input: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Result<Vec<u8>, BuildFailure> {
    use tokio::io::AsyncReadExt;
    let mut line = Vec::new();
    let n = input.take(MAX_LINE).read_until(b'\n', &mut line).await.map_err(died)?;
    if n == 0 {
        return Err(BuildFailure::other("build hook died unexpectedly"));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(line)
}

#[async_trait]
impl Executor for HookExecutor {
    async fn build(
        &self,
        request: BuildRequest,
        place: &Place,
        observer: &Arc<dyn BuildObserver>,
        cancel: &CancellationToken,
    ) -> Result<BuildSuccess, BuildFailure> {
        let known = request.drv.output_paths(self.target.store_dir()).map_err(BuildFailure::other)?;
        let floating = known.values().any(Option::is_none);
        if request.mode != BuildMode::Normal || floating {
            return self.inner.build(request, place, observer, cancel).await;
        }
        place.step_aside();
        let paths =
            known.values().flatten().map(|p| self.target.real_store_dir().join(p.base_name())).collect();
        loop {
            if self.state.off.load(Ordering::Relaxed) {
                return self.inner.build(request, place, observer, cancel).await;
            }
            // The hook registers outputs by itself, so they must be locked before it is asked.
            let locks = self.target.try_lock_outputs(&paths).map_err(BuildFailure::other)?;
            let mut reply = Reply::Postpone;
            if locks.is_some() {
                let mut valid = BTreeMap::new();
                for (name, path) in &known {
                    if let Some(path) = path
                        && self.target.path_info(path).map_err(BuildFailure::other)?.is_some()
                    {
                        valid.insert(name.clone(), path.clone());
                    }
                }
                if valid.len() == known.len() {
                    let time = now();
                    let status = BuildStatus::AlreadyValid;
                    return Ok(BuildSuccess {
                        status,
                        outputs: valid,
                        start_time: time,
                        stop_time: time,
                        cpu: None,
                    });
                }
                reply = self.ask(&request, place.slots().available() > 0).await?;
            }
            match reply {
                Reply::Accept(hook) => {
                    observer.started();
                    let result = tokio::select! {
                        result = self.follow(*hook, &request) => result,
                        () = cancel.cancelled() => {
                            Err(BuildFailure::new(BuildStatus::Cancelled, "interrupted by the user"))
                        }
                    };
                    observer.stopped();
                    return result;
                }
                Reply::Decline => {
                    drop(locks);
                    return self.inner.build(request, place, observer, cancel).await;
                }
                Reply::Postpone => {
                    drop(locks);
                    tokio::select! {
                        () = cancel.cancelled() => {
                            return Err(BuildFailure::new(BuildStatus::Cancelled, "interrupted by the user"));
                        }
                        () = tokio::time::sleep(self.poll) => {}
                    }
                }
            }
        }
    }
}
