//! Names in references: flake ids, branches and tags, commits.

/// `[a-zA-Z][a-zA-Z0-9_-]*`.
pub fn is_flake_id(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|c| c.is_ascii_alphanumeric() || b"_-".contains(c))
}

/// A SHA-1 in hexadecimal digits.
pub fn is_commit(text: &[u8]) -> bool {
    text.len() == 40 && text.iter().all(u8::is_ascii_hexdigit)
}

/// What looks like a branch or tag, without regard to git's own rules.
pub(super) fn is_ref_like(text: &[u8]) -> bool {
    text.first().is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'@')
        && text.iter().all(|c| c.is_ascii_alphanumeric() || b"_./@+-".contains(c))
}

/// What may come after the `#` of a flake id.
pub(super) fn is_fragment(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        rest = match (first, tail) {
            (b'%', [a, b, tail @ ..]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => tail,
            (c, tail) if c.is_ascii_alphanumeric() || b"-._~!$&'\"()*+,;=:@/? ^".contains(c) => tail,
            _ => return false,
        };
    }
    true
}

/// Whether git takes a name as that of a reference, a branch or a tag.
pub fn is_legal_ref_name(name: &[u8]) -> bool {
    let is_segment = |segment: &[u8]| {
        let bad_byte = |c: &u8| *c <= b' ' || *c == 0x7f || b"~^:\\?[*".contains(c);
        let bad_pair = |pair: &[u8]| matches!(pair, b".." | b"@{");
        !segment.is_empty()
            && !segment.starts_with(b".")
            && !segment.ends_with(b".lock")
            && !segment.iter().any(bad_byte)
            && !segment.windows(2).any(bad_pair)
    };
    if name == b"@" || name.ends_with(b".") || !name.split(|c| *c == b'/').all(is_segment) {
        return false;
    }
    // Branches and tags do not start with a dash, but a full name of a reference may.
    !name.starts_with(b"-") || name.contains(&b'/')
}
