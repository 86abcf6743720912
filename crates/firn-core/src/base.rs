//! Text encodings of bytes: base 16, Nix's base 32, and base 64.

use thiserror::Error;

/// Nix's base-32 alphabet: digits and lower-case letters without `e`, `o`, `t`, `u`.
pub const NIX32_CHARS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

const NIX32_REVERSE: [u8; 256] = {
    let mut table = [0xffu8; 256];
    let mut i = 0;
    while i < 32 {
        table[NIX32_CHARS[i] as usize] = i as u8;
        i += 1;
    }
    table
};

/// Why a text is not a valid encoding.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum DecodeError {
    #[error("invalid character in Nix32 (Nix's Base32 variation) string: '{0}'")]
    Nix32Character(char),
    #[error("invalid Nix32 (Nix's Base32 variation) string: its length or its padding bits are wrong")]
    Nix32Length,
    #[error("invalid base-16 string")]
    Base16,
    #[error("invalid base-64 string")]
    Base64,
}

/// Number of Nix32 characters for `bytes` bytes.
pub const fn nix32_len(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes * 8 - 1) / 5 + 1 }
}

/// Whether `c` is a digit of Nix32.
pub fn is_nix32_char(c: u8) -> bool {
    NIX32_REVERSE[c as usize] != 0xff
}

/// Encodes bytes in Nix32: least significant digit last, over the bytes read as a little-endian number.
pub fn nix32_encode(bytes: &[u8]) -> String {
    let mut out = vec![0; nix32_len(bytes.len())];
    // Five bytes are eight digits.
    for (digits, chunk) in out.rchunks_mut(8).zip(bytes.chunks(5)) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let mut number = u64::from_le_bytes(word);
        for digit in digits.iter_mut().rev() {
            *digit = NIX32_CHARS[(number & 0x1f) as usize];
            number >>= 5;
        }
    }
    match String::from_utf8(out) {
        Ok(text) => text,
        Err(_) => unreachable!("digits are ASCII"),
    }
}

/// Decodes Nix32 text of exactly the length that `out` needs.
pub fn nix32_decode_into(text: &[u8], out: &mut [u8]) -> Result<(), DecodeError> {
    if text.len() != nix32_len(out.len()) {
        return Err(DecodeError::Nix32Length);
    }
    out.fill(0);
    for (n, &c) in text.iter().rev().enumerate() {
        let digit = NIX32_REVERSE[c as usize];
        if digit == 0xff {
            return Err(DecodeError::Nix32Character(c as char));
        }
        let b = n * 5;
        let (i, j) = (b / 8, b % 8);
        out[i] |= digit << j;
        let carry = if j > 3 { digit >> (8 - j) } else { 0 };
        if i + 1 < out.len() {
            out[i + 1] |= carry;
        } else if carry != 0 {
            return Err(DecodeError::Nix32Length);
        }
    }
    Ok(())
}

/// Decodes Nix32 text of any length.
pub fn nix32_decode(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut out = vec![0; text.len() * 5 / 8];
    nix32_decode_into(text, &mut out)?;
    Ok(out)
}

/// Encodes bytes in lower-case hexadecimal.
pub fn base16_encode(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Decodes hexadecimal of either case.
pub fn base16_decode(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    data_encoding::HEXLOWER_PERMISSIVE.decode(text).map_err(|_| DecodeError::Base16)
}

/// Encodes bytes in padded standard base 64.
pub fn base64_encode(bytes: &[u8]) -> String {
    data_encoding::BASE64.encode(bytes)
}

/// Decodes standard base 64; line breaks are skipped and missing padding is accepted, as the reference does.
pub fn base64_decode(text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut clean: Vec<u8> = text.iter().copied().filter(|c| *c != b'\n').collect();
    while clean.last() == Some(&b'=') {
        clean.pop();
    }
    let mut spec = data_encoding::BASE64_NOPAD.specification();
    spec.check_trailing_bits = false;
    let encoding = spec.encoding().map_err(|_| DecodeError::Base64)?;
    encoding.decode(&clean).map_err(|_| DecodeError::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nix32_known_values() {
        assert_eq!(nix32_encode(&[]), "");
        assert_eq!(nix32_encode(&[0xff]), "7z");
        let sha1_empty = base16_decode(b"da39a3ee5e6b4b0d3255bfef95601890afd80709").unwrap();
        assert_eq!(nix32_encode(&sha1_empty), "143xibwh31h9bvxzalr0sjvbbvpa6ffs");
        assert_eq!(nix32_decode(b"143xibwh31h9bvxzalr0sjvbbvpa6ffs").unwrap(), sha1_empty);
    }

    #[test]
    fn nix32_rejects() {
        assert!(matches!(nix32_decode(b"e0"), Err(DecodeError::Nix32Character('e'))));
        assert_eq!(nix32_decode(b"zz"), Err(DecodeError::Nix32Length));
    }

    proptest::proptest! {
        #[test]
        fn round_trips(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            proptest::prop_assert_eq!(&nix32_decode(nix32_encode(&bytes).as_bytes()).unwrap(), &bytes);
            proptest::prop_assert_eq!(&base16_decode(base16_encode(&bytes).as_bytes()).unwrap(), &bytes);
            proptest::prop_assert_eq!(&base64_decode(base64_encode(&bytes).as_bytes()).unwrap(), &bytes);
        }
    }
}
