//! The format of the old program `compress` (`.Z`): LZW with codes of 9 to 16 bits.
//!
//! Codes are packed from the lowest bit up, eight of a width together. When the width changes, and after the code that
//! clears the table, what is left of such a group is padding. The format has no end mark and no check, so that a file
//! that was cut cannot be told from a shorter one.

use std::io::{self, BufRead, Read, Write};

const MAGIC: [u8; 2] = [0x1f, 0x9d];
const FIRST_WIDTH: u32 = 9;
const MAX_WIDTH: u32 = 16;
/// In the third byte, beside the largest width: code 256 clears the table.
const BLOCK_MODE: u8 = 0x80;
const CLEAR: u32 = 256;
/// Bytes of input between looks at whether the full table still serves.
const CHECK_EVERY: u64 = 10_000;

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("compress (.Z) data: {what}"))
}

/// Reads `.Z` data.
pub(crate) struct LzwReader<R> {
    input: R,
    started: bool,
    block_mode: bool,
    max_width: u32,
    width: u32,
    /// Codes of the current group that were read.
    in_group: u32,
    bits: u64,
    held: u32,
    prefix: Vec<u16>,
    suffix: Vec<u8>,
    next: u32,
    last: Option<u32>,
    /// The first byte of what the last code stood for.
    first: u8,
    /// What is to be given out, backwards.
    pending: Vec<u8>,
    ended: bool,
}

impl<R: BufRead> LzwReader<R> {
    pub fn new(input: R) -> LzwReader<R> {
        LzwReader {
            input,
            started: false,
            block_mode: false,
            max_width: 0,
            width: FIRST_WIDTH,
            in_group: 0,
            bits: 0,
            held: 0,
            prefix: Vec::new(),
            suffix: Vec::new(),
            next: 0,
            last: None,
            first: 0,
            pending: Vec::new(),
            ended: false,
        }
    }

    fn start(&mut self) -> io::Result<()> {
        let mut head = [0; 3];
        self.input.read_exact(&mut head)?;
        let width = u32::from(head[2] & 0x1f);
        if head[..2] != MAGIC || !(FIRST_WIDTH..=MAX_WIDTH).contains(&width) {
            return Err(broken("the header is not valid"));
        }
        self.block_mode = head[2] & BLOCK_MODE != 0;
        self.max_width = width;
        self.prefix = vec![0; 1 << width];
        self.suffix = vec![0; 1 << width];
        self.next = if self.block_mode { CLEAR + 1 } else { CLEAR };
        self.started = true;
        Ok(())
    }

    fn byte(&mut self) -> io::Result<Option<u8>> {
        let Some(byte) = self.input.fill_buf()?.first().copied() else { return Ok(None) };
        self.input.consume(1);
        Ok(Some(byte))
    }

    fn code(&mut self) -> io::Result<Option<u32>> {
        while self.held < self.width {
            let Some(byte) = self.byte()? else { return Ok(None) };
            self.bits |= u64::from(byte) << self.held;
            self.held += 8;
        }
        let code = (self.bits & ((1 << self.width) - 1)) as u32;
        self.bits >>= self.width;
        self.held -= self.width;
        self.in_group = (self.in_group + 1) % 8;
        Ok(Some(code))
    }

    /// Passes over the padding of a group, and goes on with codes of another width.
    fn change_width(&mut self, width: u32) -> io::Result<()> {
        while self.in_group != 0 {
            if self.code()?.is_none() {
                self.in_group = 0;
            }
        }
        (self.bits, self.held, self.width) = (0, 0, width);
        Ok(())
    }

    /// Decodes one code into `pending`; `false` at the end.
    fn step(&mut self) -> io::Result<bool> {
        // Codes are as wide as the largest that may come; at the full width the table just stops growing.
        if self.next > (1 << self.width) - 1 && self.width < self.max_width {
            self.change_width(self.width + 1)?;
        }
        let Some(code) = self.code()? else { return Ok(false) };
        if code == CLEAR && self.block_mode {
            self.change_width(FIRST_WIDTH)?;
            (self.next, self.last) = (CLEAR + 1, None);
            return Ok(true);
        }
        let mut at = code;
        match self.last {
            None if code >= CLEAR => return Err(broken("it begins with a code that is not known yet")),
            None => {}
            // The only code that may come before it is known is the one that is made now.
            Some(last) if code == self.next && self.next < 1 << self.max_width => {
                self.pending.push(self.first);
                at = last;
            }
            Some(_) if code >= self.next => return Err(broken("a code is not known yet")),
            Some(_) => {}
        }
        while at >= CLEAR {
            self.pending.push(self.suffix[at as usize]);
            at = u32::from(self.prefix[at as usize]);
        }
        self.first = at as u8;
        self.pending.push(self.first);
        if let Some(last) = self.last
            && self.next < 1 << self.max_width
        {
            self.prefix[self.next as usize] = last as u16;
            self.suffix[self.next as usize] = self.first;
            self.next += 1;
        }
        self.last = Some(code);
        Ok(true)
    }
}

impl<R: BufRead> Read for LzwReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if !self.started {
            self.start()?;
        }
        let mut filled = 0;
        while filled < out.len() {
            if let Some(byte) = self.pending.pop() {
                out[filled] = byte;
                filled += 1;
            } else if self.ended || !self.step()? {
                self.ended = true;
                break;
            }
        }
        Ok(filled)
    }
}

/// Slots for the strings that are known, half of them empty when the table is full.
const SLOTS: usize = 1 << 17;
const EMPTY: u32 = u32::MAX;

/// Writes `.Z` data.
pub(crate) struct LzwWriter<W: Write> {
    out: W,
    started: bool,
    /// Strings, as the code of all but the last byte and that byte, and their codes.
    keys: Vec<u32>,
    codes: Vec<u16>,
    next: u32,
    width: u32,
    in_group: u32,
    bits: u64,
    held: u32,
    buffer: Vec<u8>,
    current: Option<u32>,
    taken: u64,
    given: u64,
    check_at: u64,
    best: u64,
}

impl<W: Write> LzwWriter<W> {
    pub fn new(out: W) -> LzwWriter<W> {
        LzwWriter {
            out,
            started: false,
            keys: vec![EMPTY; SLOTS],
            codes: vec![0; SLOTS],
            next: CLEAR + 1,
            width: FIRST_WIDTH,
            in_group: 0,
            bits: 0,
            held: 0,
            buffer: Vec::new(),
            current: None,
            taken: 0,
            given: 0,
            check_at: CHECK_EVERY,
            best: 0,
        }
    }

    /// Where a string is, or would be.
    fn slot(&self, key: u32) -> usize {
        let mut slot = (key.wrapping_mul(0x9e37_79b1) >> 15) as usize % SLOTS;
        while self.keys[slot] != key && self.keys[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        slot
    }

    fn put(&mut self, code: u32) {
        self.bits |= u64::from(code) << self.held;
        self.held += self.width;
        self.in_group = (self.in_group + 1) % 8;
        while self.held >= 8 {
            self.buffer.push(self.bits as u8);
            self.given += 1;
            self.bits >>= 8;
            self.held -= 8;
        }
    }

    /// Writes a code, and goes over to wider ones when what may come next needs them.
    fn emit(&mut self, code: u32) {
        self.put(code);
        if self.next > (1 << self.width) - 1 && self.width < MAX_WIDTH {
            self.change_width(self.width + 1);
        }
    }

    fn change_width(&mut self, width: u32) {
        while self.in_group != 0 {
            self.put(0);
        }
        self.width = width;
    }

    /// With the table full: begins a new one once the input has changed so much that it does not serve any more.
    fn check(&mut self) {
        self.check_at = self.taken + CHECK_EVERY;
        let ratio = (self.taken << 8) / self.given.max(1);
        if ratio > self.best {
            self.best = ratio;
            return;
        }
        self.best = 0;
        self.put(CLEAR);
        self.change_width(FIRST_WIDTH);
        self.keys.fill(EMPTY);
        self.next = CLEAR + 1;
    }

    fn byte(&mut self, byte: u8) {
        self.taken += 1;
        let Some(current) = self.current else {
            self.current = Some(u32::from(byte));
            return;
        };
        let key = current << 8 | u32::from(byte);
        let slot = self.slot(key);
        if self.keys[slot] == key {
            self.current = Some(u32::from(self.codes[slot]));
            return;
        }
        self.emit(current);
        self.current = Some(u32::from(byte));
        if self.next < 1 << MAX_WIDTH {
            self.keys[slot] = key;
            self.codes[slot] = self.next as u16;
            self.next += 1;
        } else if self.taken >= self.check_at {
            self.check();
        }
    }

    fn start(&mut self) {
        if !self.started {
            self.started = true;
            self.buffer.extend(MAGIC);
            self.buffer.push(BLOCK_MODE | MAX_WIDTH as u8);
        }
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.start();
        if let Some(code) = self.current.take() {
            self.put(code);
        }
        if self.held > 0 {
            self.buffer.push(self.bits as u8);
        }
        self.out.write_all(&self.buffer)?;
        self.out.flush()
    }
}

impl<W: Write> Write for LzwWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.start();
        for byte in data {
            self.byte(*byte);
        }
        let full = std::mem::take(&mut self.buffer);
        self.out.write_all(&full)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = LzwWriter::new(&mut out);
        writer.write_all(data).unwrap();
        writer.finish().unwrap();
        out
    }

    fn unpack(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        LzwReader::new(data).read_to_end(&mut out).map(|_| out)
    }

    /// Text, then noise, then zeros: the table fills up, and is cleared.
    fn mixed(size: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let mut out: Vec<u8> = (0..size).map(|_| b'a' + noise() % 7).collect();
        out.extend((0..size).map(|_| noise()));
        out.resize(size * 3, 0);
        out
    }

    #[test]
    fn round_trips() {
        for size in [0, 1, 2, 3, 255, 600, 70_000, 400_000] {
            let data = mixed(size);
            assert!(unpack(&pack(&data)).unwrap() == data, "{size}");
        }
        // The string of a code that is used as soon as it is made.
        assert_eq!(unpack(&pack(&[b'a'; 50])).unwrap(), [b'a'; 50]);
    }

    #[test]
    fn damage() {
        for bad in
            [&b""[..], b"\x1f", b"\x1f\x9d", b"\x1f\x9d\x88x", b"\x1f\x9d\x91x", b"\x1f\x9d\x90\xff\xff\xff"]
        {
            assert!(unpack(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) {
            proptest::prop_assert_eq!(unpack(&pack(&data)).unwrap(), data.clone());
            let _ = unpack(&[&MAGIC[..], &[0x90], &data].concat());
            let _ = unpack(&[&MAGIC[..], &[0x0c], &data].concat());
        }
    }
}
