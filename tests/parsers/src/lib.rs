//! Parsers of foreign bytes, each as a function of any bytes at all: it must return, and it panics where something that
//! always holds does not. `fuzz/` calls them with what libFuzzer thinks of; `tests/it` with the seeds and with
//! everything that fuzzers have found.

mod archives;
mod stores;
mod texts;
mod wire;

/// One function to feed.
pub struct Target {
    /// The folder's name below `fuzz/seeds` and `fuzz/findings`; the fuzzer is `fuzz_<name>`.
    pub name: &'static str,
    /// Says whether the input was good.
    pub feed: fn(&[u8]) -> bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "nar", feed: archives::nar },
    Target { name: "restore", feed: archives::restore },
    Target { name: "aterm", feed: stores::aterm },
    Target { name: "narinfo", feed: stores::narinfo },
    Target { name: "export", feed: stores::export },
    Target { name: "wire", feed: wire::wire },
    Target { name: "nix", feed: texts::nix },
    Target { name: "conf", feed: texts::conf },
];

/// The function with that name.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}
