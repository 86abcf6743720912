//! The asynchronous runtime, started at first use.

use std::sync::OnceLock;

/// A runtime that costs nothing until something asynchronous has to run.
#[derive(Default)]
pub struct LazyRuntime {
    runtime: OnceLock<tokio::runtime::Runtime>,
}

impl LazyRuntime {
    /// The runtime.
    pub fn get(&self) -> std::io::Result<&tokio::runtime::Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(self.runtime.get_or_init(|| runtime))
    }

    /// Runs a future to its end, from a thread that is not the runtime's.
    pub fn block_on<F: Future>(&self, future: F) -> std::io::Result<F::Output> {
        Ok(self.get()?.block_on(future))
    }
}
