//! The system call filter: no files with set-user-id or set-group-id bits, no extended attributes.
//!
//! A set-user-id file of a build user would let anybody become that user, and with it reach into later builds.
//! Extended attributes (capabilities, access control lists) have no place in a store object.

use super::{SetupError, SetupResult};
use std::io;

const SPECIAL_BITS: u32 = 0o6000;
/// A file is made, so there is a mode: `O_CREAT`, `__O_TMPFILE`.
const CREATES: u32 = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u32;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const fn error(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

/// When a system call is refused, and how.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Always, with this error.
    Refuse(i32),
    /// With special bits in the mode, which is this argument.
    Mode(u32),
    /// With special bits in the mode, if the flags say that a file is made.
    OpenMode { flags: u32, mode: u32 },
}

/// One architecture's numbers; the order is that of [`rules`].
struct Arch {
    /// `AUDIT_ARCH_…`.
    audit: u32,
    numbers: &'static [(u32, Rule)],
}

use Rule::{Mode, OpenMode, Refuse};
const OPEN: Rule = OpenMode { flags: 1, mode: 2 };
const OPENAT: Rule = OpenMode { flags: 2, mode: 3 };
const NO_XATTR: Rule = Refuse(libc::ENOTSUP);
/// Programs fall back to calls that can be looked into.
const ABSENT: Rule = Refuse(libc::ENOSYS);

/// Numbers that all architectures share since Linux 5: io_uring_setup, openat2, fchmodat2, setxattrat, getxattrat.
const NEW: [(u32, Rule); 5] =
    [(425, ABSENT), (437, ABSENT), (452, Mode(2)), (463, NO_XATTR), (464, NO_XATTR)];

macro_rules! with_new {
    ($($entry:expr),* $(,)?) => {
        &[$($entry,)* NEW[0], NEW[1], NEW[2], NEW[3], NEW[4]]
    };
}

#[cfg(target_arch = "x86_64")]
const ARCHES: &[Arch] = &[
    // x86_64, and x32, whose numbers differ by one bit only for the calls here.
    Arch {
        audit: 0xc000_003e,
        numbers: with_new![
            (2, OPEN),
            (257, OPENAT),
            (85, Mode(1)),
            (90, Mode(1)),
            (91, Mode(1)),
            (268, Mode(2)),
            (133, Mode(1)),
            (259, Mode(2)),
            (188, NO_XATTR),
            (189, NO_XATTR),
            (190, NO_XATTR),
            (191, NO_XATTR),
            (192, NO_XATTR),
            (193, NO_XATTR),
        ],
    },
    // i386
    Arch {
        audit: 0x4000_0003,
        numbers: with_new![
            (5, OPEN),
            (295, OPENAT),
            (8, Mode(1)),
            (15, Mode(1)),
            (94, Mode(1)),
            (306, Mode(2)),
            (14, Mode(1)),
            (297, Mode(2)),
            (226, NO_XATTR),
            (227, NO_XATTR),
            (228, NO_XATTR),
            (229, NO_XATTR),
            (230, NO_XATTR),
            (231, NO_XATTR),
        ],
    },
];

#[cfg(target_arch = "aarch64")]
const ARCHES: &[Arch] = &[
    // aarch64
    Arch {
        audit: 0xc000_00b7,
        numbers: with_new![
            (56, OPENAT),
            (52, Mode(1)),
            (53, Mode(2)),
            (33, Mode(2)),
            (5, NO_XATTR),
            (6, NO_XATTR),
            (7, NO_XATTR),
            (8, NO_XATTR),
            (9, NO_XATTR),
            (10, NO_XATTR),
        ],
    },
    // 32-bit ARM
    Arch {
        audit: 0x4000_0028,
        numbers: with_new![
            (5, OPEN),
            (322, OPENAT),
            (8, Mode(1)),
            (15, Mode(1)),
            (94, Mode(1)),
            (333, Mode(2)),
            (14, Mode(1)),
            (324, Mode(2)),
            (226, NO_XATTR),
            (227, NO_XATTR),
            (228, NO_XATTR),
            (229, NO_XATTR),
            (230, NO_XATTR),
            (231, NO_XATTR),
        ],
    },
];

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHES: &[Arch] = &[];

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(index: u32) -> u32 {
    // The lower half; modes and flags are 32 bits wide.
    16 + index * 8 + if cfg!(target_endian = "big") { 4 } else { 0 }
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const JUMP_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const JUMP_BITS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

fn op(code: u32, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: yes, jf: no, k }
}

/// What to do once the number is known to be the rule's.
fn rule(rule: Rule) -> Vec<libc::sock_filter> {
    match rule {
        Refuse(errno) => vec![op(RETURN, error(errno), 0, 0)],
        Mode(argument_index) => vec![
            op(LOAD, argument(argument_index), 0, 0),
            op(JUMP_BITS, SPECIAL_BITS, 0, 1),
            op(RETURN, error(libc::EPERM), 0, 0),
            op(RETURN, ALLOW, 0, 0),
        ],
        OpenMode { flags, mode } => vec![
            op(LOAD, argument(flags), 0, 0),
            op(JUMP_BITS, CREATES, 0, 3),
            op(LOAD, argument(mode), 0, 0),
            op(JUMP_BITS, SPECIAL_BITS, 0, 1),
            op(RETURN, error(libc::EPERM), 0, 0),
            op(RETURN, ALLOW, 0, 0),
        ],
    }
}

/// The program: for each architecture, each number with its rule; everything else is allowed.
fn program() -> Vec<libc::sock_filter> {
    let mut out = vec![op(LOAD, ARCHITECTURE, 0, 0)];
    for arch in ARCHES {
        // The number without the x32 bit, which no other architecture sets.
        let mut body = vec![op(LOAD, NUMBER, 0, 0), op(AND, 0xbfff_ffff, 0, 0)];
        for (number, what) in arch.numbers {
            let what = rule(*what);
            body.push(op(JUMP_EQUAL, *number, 0, what.len() as u8));
            body.extend(what);
        }
        body.push(op(RETURN, ALLOW, 0, 0));
        out.push(op(JUMP_EQUAL, arch.audit, 1, 0));
        out.push(op(JUMP, body.len() as u32, 0, 0));
        out.extend(body);
    }
    out.push(op(RETURN, ALLOW, 0, 0));
    out
}

/// Applies the filter to this process and all it will become. Needs no-new-privileges or administrator rights.
pub(super) fn install() -> SetupResult<()> {
    let mut program = program();
    let length = u16::try_from(program.len())
        .map_err(|_| SetupError::Failed("the system call filter is too long".into()))?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it; its length is the one given.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) };
    if result == -1 {
        return Err(SetupError::os("unable to load seccomp BPF program")(io::Error::last_os_error()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would; knows the instructions that it uses.
    fn run(arch: u32, number: u32, args: [u32; 6]) -> u32 {
        let program = program();
        let (mut at, mut a) = (0, 0u32);
        loop {
            let op = program[at];
            at += 1;
            match u32::from(op.code) {
                LOAD => {
                    a = match op.k {
                        NUMBER => number,
                        ARCHITECTURE => arch,
                        k => args[((k - 16) / 8) as usize],
                    }
                }
                AND => a &= op.k,
                JUMP => at += op.k as usize,
                JUMP_EQUAL => at += usize::from(if a == op.k { op.jt } else { op.jf }),
                JUMP_BITS => at += usize::from(if a & op.k != 0 { op.jt } else { op.jf }),
                RETURN => return op.k,
                code => panic!("unknown instruction {code}"),
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn refuses_special_bits_only() {
        const X86_64: u32 = 0xc000_003e;
        const I386: u32 = 0x4000_0003;
        let eperm = error(libc::EPERM);
        // chmod, fchmodat of either architecture, and of x32
        assert_eq!(run(X86_64, 90, [0, 0o4755, 0, 0, 0, 0]), eperm);
        assert_eq!(run(X86_64, 90 | 0x4000_0000, [0, 0o2755, 0, 0, 0, 0]), eperm);
        assert_eq!(run(X86_64, 90, [0, 0o1777, 0, 0, 0, 0]), ALLOW);
        assert_eq!(run(X86_64, 268, [0, 0, 0o2000, 0, 0, 0]), eperm);
        assert_eq!(run(I386, 15, [0, 0o4000, 0, 0, 0, 0]), eperm);
        assert_eq!(run(I386, 90, [0, 0o4000, 0, 0, 0, 0]), ALLOW);
        // openat: only where a file is made
        assert_eq!(run(X86_64, 257, [0, 0, libc::O_CREAT as u32, 0o4755, 0, 0]), eperm);
        assert_eq!(run(X86_64, 257, [0, 0, libc::O_TMPFILE as u32, 0o4755, 0, 0]), eperm);
        assert_eq!(run(X86_64, 257, [0, 0, libc::O_DIRECTORY as u32, 0o4755, 0, 0]), ALLOW);
        assert_eq!(run(X86_64, 257, [0, 0, libc::O_CREAT as u32, 0o755, 0, 0]), ALLOW);
        assert_eq!(run(X86_64, 188, [0; 6]), error(libc::ENOTSUP));
        assert_eq!(run(X86_64, 437, [0; 6]), error(libc::ENOSYS));
        assert_eq!(run(X86_64, 0, [0; 6]), ALLOW);
        assert_eq!(run(12345, 90, [0, 0o4755, 0, 0, 0, 0]), ALLOW);
    }
}
