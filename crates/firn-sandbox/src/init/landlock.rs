//! Landlock: abstract Unix sockets do not cross the sandbox's border, also where the network namespace is shared.

use super::os_message;
use std::io;

/// `struct landlock_ruleset_attr` of Landlock ABI 6.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

const CREATE_RULESET_VERSION: u32 = 1;
const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
/// The first ABI that knows scopes.
const SCOPES_ABI: libc::c_long = 6;

/// Applies the scope where the kernel knows it; the error is a warning.
pub(super) fn scope_abstract_sockets() -> Result<(), String> {
    // SAFETY: with this flag the call takes no attributes and returns the ABI version.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0,
            CREATE_RULESET_VERSION,
        )
    };
    if abi < SCOPES_ABI {
        return Ok(());
    }
    let attr =
        RulesetAttr { handled_access_fs: 0, handled_access_net: 0, scoped: SCOPE_ABSTRACT_UNIX_SOCKET };
    // SAFETY: the attributes are valid for the size that is passed.
    let ruleset = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &attr, std::mem::size_of::<RulesetAttr>(), 0)
    };
    if ruleset < 0 {
        return Err(format!("setting up landlock: {}", os_message(&io::Error::last_os_error())));
    }
    // SAFETY: the descriptor was just made and is closed once, below.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) };
    let error = io::Error::last_os_error();
    // SAFETY: nothing else owns the descriptor.
    unsafe { libc::close(ruleset as libc::c_int) };
    if result < 0 {
        return Err(format!("setting up landlock: {}", os_message(&error)));
    }
    Ok(())
}
