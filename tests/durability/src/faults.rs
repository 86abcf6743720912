//! What is to go wrong, and when.

/// What happens at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes: this operation and all others fail.
    Power,
    /// This operation fails, once, with an error number.
    Once(i32),
    /// This operation and all others of its kind (those that need space) fail from now on.
    From(i32),
    /// This operation takes this many milliseconds longer.
    Delay(u64),
}

/// Which operation it happens at. Operations that change something, or sync, are counted from 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan {
    pub at: Option<(u64, Fault)>,
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Operations so far.
    pub count: u64,
    /// The operation at which it happened, if it did.
    pub struck: Option<&'static str>,
    /// Whether the power is off.
    pub off: bool,
    /// What operations that need space fail with.
    pub failing: Option<i32>,
}

impl Progress {
    /// Counts an operation; an error number if it fails.
    pub fn step(&mut self, plan: &Plan, operation: &'static str, needs_space: bool) -> Result<(), i32> {
        if self.off {
            return Err(libc::EIO);
        }
        self.count += 1;
        if let Some((at, fault)) = plan.at
            && at == self.count
        {
            self.struck = Some(operation);
            match fault {
                Fault::Power => {
                    self.off = true;
                    return Err(libc::EIO);
                }
                Fault::Once(error) => return Err(error),
                Fault::From(error) => self.failing = Some(error),
                Fault::Delay(time) => std::thread::sleep(std::time::Duration::from_millis(time)),
            }
        }
        match self.failing {
            Some(error) if needs_space => Err(error),
            _ => Ok(()),
        }
    }
}
