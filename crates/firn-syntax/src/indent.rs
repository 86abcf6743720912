//! Indented strings: the common indentation of all lines is taken away.

/// A piece of an indented string.
pub(crate) enum Piece<N> {
    /// Text; `raw` text counts for indentation, escaped text does not.
    Text {
        text: Vec<u8>,
        raw: bool,
    },
    Expr(N),
}

/// Strips the indentation. Pieces that become empty are dropped.
pub(crate) fn strip<N: Copy>(pieces: Vec<(u32, Piece<N>)>) -> Vec<(u32, Piece<N>)> {
    let indent = common_indentation(&pieces);
    let mut out = Vec::with_capacity(pieces.len());
    let mut at_start = true;
    let mut dropped = 0usize;
    let count = pieces.len();
    for (i, (pos, piece)) in pieces.into_iter().enumerate() {
        match piece {
            Piece::Expr(node) => {
                at_start = false;
                dropped = 0;
                out.push((pos, Piece::Expr(node)));
            }
            Piece::Text { text, raw } => {
                let mut kept = Vec::with_capacity(text.len());
                for c in text {
                    if at_start {
                        if c == b' ' {
                            dropped += 1;
                            if dropped > indent {
                                kept.push(c);
                            }
                            continue;
                        }
                        dropped = 0;
                        at_start = c == b'\n';
                    } else if c == b'\n' {
                        at_start = true;
                    }
                    kept.push(c);
                }
                // The last line does not count when it is only spaces.
                if i + 1 == count {
                    if let Some(newline) = kept.iter().rposition(|c| *c == b'\n') {
                        if kept[newline + 1..].iter().all(|c| *c == b' ') {
                            kept.truncate(newline + 1);
                        }
                    }
                }
                if !kept.is_empty() {
                    out.push((pos, Piece::Text { text: kept, raw }));
                }
            }
        }
    }
    out
}

fn common_indentation<N>(pieces: &[(u32, Piece<N>)]) -> usize {
    let mut at_start = true;
    let mut least = 1_000_000;
    let mut current = 0;
    for (_, piece) in pieces {
        let text = match piece {
            Piece::Text { text, raw: true } => text,
            _ => {
                if at_start {
                    at_start = false;
                    least = least.min(current);
                }
                continue;
            }
        };
        for c in text {
            if at_start {
                match c {
                    b' ' => current += 1,
                    b'\n' => current = 0,
                    _ => {
                        at_start = false;
                        least = least.min(current);
                    }
                }
            } else if *c == b'\n' {
                at_start = true;
                current = 0;
            }
        }
    }
    least
}
