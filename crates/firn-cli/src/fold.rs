//! A tree of lines on the whole terminal, whose branches are folded and unfolded by keys.

use rustix::termios::{self, OptionalActions, Termios};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

/// A line of the tree; those that follow and are deeper are below it.
pub struct Line {
    pub depth: usize,
    pub text: String,
}

/// Which lines are seen, and where the cursor is. Knows nothing of terminals.
struct View {
    lines: Vec<Line>,
    open: Vec<bool>,
    /// The line with the cursor.
    at: usize,
    /// The first that is on the screen, counted among those that are seen.
    top: usize,
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Open,
    Close,
    Toggle,
    OpenAll,
    CloseAll,
    Quit,
    Other,
}

impl View {
    fn new(lines: Vec<Line>) -> Self {
        let open = lines.iter().map(|line| line.depth == 0).collect();
        Self { lines, open, at: 0, top: 0 }
    }

    fn has_more(&self, place: usize) -> bool {
        self.lines.get(place + 1).is_some_and(|next| next.depth > self.lines[place].depth)
    }

    fn seen(&self) -> Vec<usize> {
        let mut seen = Vec::new();
        let mut hidden_below = usize::MAX;
        for (place, line) in self.lines.iter().enumerate() {
            if line.depth > hidden_below {
                continue;
            }
            seen.push(place);
            hidden_below = if self.open[place] { usize::MAX } else { line.depth };
        }
        seen
    }

    fn parent(&self, place: usize) -> usize {
        (0..place).rev().find(|&above| self.lines[above].depth < self.lines[place].depth).unwrap_or(place)
    }

    /// Does what a key means on a screen of `height` lines.
    fn press(&mut self, key: Key, height: usize) {
        let seen = self.seen();
        let index = seen.iter().position(|&place| place == self.at).unwrap_or(0);
        let go = |index: usize| seen[index.min(seen.len() - 1)];
        match key {
            Key::Up => self.at = go(index.saturating_sub(1)),
            Key::Down => self.at = go(index + 1),
            Key::PageUp => self.at = go(index.saturating_sub(height)),
            Key::PageDown => self.at = go(index + height),
            Key::First => self.at = go(0),
            Key::Last => self.at = go(seen.len() - 1),
            Key::Open if self.open[self.at] || !self.has_more(self.at) => self.at = go(index + 1),
            Key::Open => self.open[self.at] = true,
            Key::Close if self.open[self.at] && self.has_more(self.at) => self.open[self.at] = false,
            Key::Close => self.at = self.parent(self.at),
            Key::Toggle => self.open[self.at] = !self.open[self.at],
            Key::OpenAll => self.open.fill(true),
            Key::CloseAll => {
                for (open, line) in self.open.iter_mut().zip(&self.lines) {
                    *open = line.depth == 0;
                }
                while self.lines[self.at].depth > 1 {
                    self.at = self.parent(self.at);
                }
            }
            Key::Quit | Key::Other => {}
        }
        let seen = self.seen();
        let index = seen.iter().position(|&place| place == self.at).unwrap_or(0);
        self.top =
            self.top.clamp((index + 1).saturating_sub(height), index).min(seen.len().saturating_sub(1));
    }

    fn screen(&self, head: &str, foot: &str, width: usize, height: usize) -> String {
        let cut = |text: &str| text.chars().take(width).collect::<String>();
        let mut out = format!("\x1b[H\x1b[1m{}\x1b[0m\x1b[K\r\n", cut(head));
        for place in self.seen().into_iter().skip(self.top).take(height) {
            let mark = match (self.has_more(place), self.open[place]) {
                (false, _) => ' ',
                (true, true) => '-',
                (true, false) => '+',
            };
            let text = cut(&format!("{mark} {}", self.lines[place].text));
            match place == self.at {
                true => out.push_str(&format!("\x1b[7m{text}\x1b[0m\x1b[K\r\n")),
                false => out.push_str(&format!("{text}\x1b[K\r\n")),
            }
        }
        out.push_str(&format!("\x1b[J\x1b[2m{}\x1b[0m", cut(foot)));
        out
    }
}

/// The keys in what was read, which may be several.
fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some(&first) = rest.first() {
        let length = match (first, rest.get(1)) {
            (0x1b, Some(b'[' | b'O')) => {
                let end = rest[2..].iter().position(|byte| byte.is_ascii_alphabetic() || *byte == b'~');
                end.map_or(rest.len(), |end| end + 3)
            }
            _ => 1,
        };
        keys.push(key(&rest[..length]));
        rest = &rest[length..];
    }
    keys
}

fn key(bytes: &[u8]) -> Key {
    match bytes {
        b"\x1b[A" | b"\x1bOA" | b"k" => Key::Up,
        b"\x1b[B" | b"\x1bOB" | b"j" => Key::Down,
        b"\x1b[C" | b"\x1bOC" | b"l" => Key::Open,
        b"\x1b[D" | b"\x1bOD" | b"h" => Key::Close,
        b"\x1b[5~" | b"b" => Key::PageUp,
        b"\x1b[6~" => Key::PageDown,
        b"\x1b[H" | b"\x1b[1~" | b"g" => Key::First,
        b"\x1b[F" | b"\x1b[4~" | b"G" => Key::Last,
        b"\r" | b"\n" | b" " => Key::Toggle,
        b"*" | b"E" => Key::OpenAll,
        b"/" | b"C" => Key::CloseAll,
        b"q" | b"\x1b" | b"\x03" | b"\x04" => Key::Quit,
        _ => Key::Other,
    }
}

/// Gives the terminal back as it was, whatever happens.
struct Raw(Termios);

impl Raw {
    fn take() -> io::Result<Self> {
        let input = io::stdin();
        let before = termios::tcgetattr(input.as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(input.as_fd(), OptionalActions::Flush, &raw)?;
        // The other screen, without the cursor.
        print!("\x1b[?1049h\x1b[?25l");
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        print!("\x1b[?25h\x1b[?1049l");
        let _ = io::stdout().flush();
        let _ = termios::tcsetattr(io::stdin().as_fd(), OptionalActions::Flush, &self.0);
    }
}

/// Shows lines until the user has enough of them.
pub fn view(head: &str, total: &str, lines: Vec<Line>) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut view = View::new(lines);
    let head = format!("  {head}");
    let foot = format!("{total}   arrows: move, fold   *: unfold all   /: fold all   q: quit");
    let _raw = Raw::take()?;
    let mut input = io::stdin().lock();
    let mut bytes = [0; 16];
    loop {
        let size = termios::tcgetwinsize(io::stdout().as_fd())?;
        let (width, height) =
            (usize::from(size.ws_col).max(20), usize::from(size.ws_row).saturating_sub(2).max(1));
        view.press(Key::Other, height);
        let mut out = io::stdout().lock();
        out.write_all(view.screen(&head, &foot, width, height).as_bytes())?;
        out.flush()?;
        drop(out);
        let count = match input.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        if count == 0 {
            return Ok(());
        }
        for key in keys(&bytes[..count]) {
            match key {
                Key::Quit => return Ok(()),
                key => view.press(key, height),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(keys: &[Key], seen: &[usize], at: usize) {
        let depths = [0, 1, 2, 2, 1, 2, 0];
        let lines = depths.iter().map(|&depth| Line { depth, text: String::new() }).collect();
        let mut view = View::new(lines);
        for &key in keys {
            view.press(key, 3);
        }
        assert_eq!((view.seen(), view.at), (seen.to_vec(), at));
        assert!(view.top <= view.seen().iter().position(|&place| place == at).unwrap());
    }

    #[test]
    fn folding() {
        use Key::{Close, CloseAll, Down, First, Last, Open, OpenAll, PageDown, Toggle, Up};
        check(&[], &[0, 1, 4, 6], 0);
        check(&[Up, Down], &[0, 1, 4, 6], 1);
        check(&[Down, Open], &[0, 1, 2, 3, 4, 6], 1);
        check(&[Down, Open, Open, Open], &[0, 1, 2, 3, 4, 6], 3);
        check(&[Down, Open, Down, Close], &[0, 1, 2, 3, 4, 6], 1);
        check(&[Down, Open, Down, Close, Close], &[0, 1, 4, 6], 1);
        check(&[OpenAll, Last, Up, Up], &[0, 1, 2, 3, 4, 5, 6], 4);
        check(&[OpenAll, PageDown, CloseAll], &[0, 1, 4, 6], 1);
        check(&[Toggle, PageDown, First], &[0, 6], 0);
    }

    #[test]
    fn several_keys_at_once() {
        assert_eq!(keys(b"\x1b[A\x1b[5~xq"), [Key::Up, Key::PageUp, Key::Other, Key::Quit]);
        assert_eq!(keys(b"\x1b"), [Key::Quit]);
        assert_eq!(keys(b"\x1b["), [Key::Other]);
    }
}
