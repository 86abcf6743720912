//! Names that cannot be guessed.

use std::io;

/// 16 hexadecimal digits.
pub(crate) fn token() -> io::Result<String> {
    let mut bytes = [0u8; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled < bytes.len() {
        return Err(io::Error::other("the system gave too few random bytes"));
    }
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}
