//! Ending the process at once.

/// Ends this process without running anything of Rust's or the C library's.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any status and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends the process without what libraries do at an exit: the allocator would give back its memory piece by piece, which
/// takes longer than to let the kernel take all of it. What was buffered must be written before.
pub fn leave(status: u8) -> ! {
    exit_now(i32::from(status))
}
