//! Who is told about transfers. The store's loggers live above this crate; the program puts an adapter here.

/// Gets warnings and the starts of transfers.
pub trait TransferObserver: Send + Sync {
    /// Something that goes on, such as a retry.
    fn warn(&self, message: &str);

    /// Something for those who look for what goes wrong.
    fn debug(&self, _message: &str) {}

    /// A transfer starts; `text` is as in `downloading 'https://…'`. It ends when what is returned is dropped.
    /// `parent` is the number of the activity that it is part of, 0 for none.
    fn start(&self, text: &str, url: &str, parent: u64) -> Option<Box<dyn TransferProgress>>;
}

/// Gets how far one transfer is.
pub trait TransferProgress: Send {
    /// Bytes so far, and in all (0 where unknown).
    fn progress(&mut self, done: u64, expected: u64);
}

/// Tells nobody.
#[derive(Debug, Default)]
pub struct SilentObserver;

impl TransferObserver for SilentObserver {
    fn warn(&self, _: &str) {}
    fn start(&self, _: &str, _: &str, _: u64) -> Option<Box<dyn TransferProgress>> {
        None
    }
}
