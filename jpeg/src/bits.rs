//! Entropy-coded data as a stream of bits: stuffed zeros taken out beforehand, then eight bytes read at a time. It
//! leaves out what the bits mean.

/// Bytes of zero behind each segment, so that reads past its end need no other path.
const PADDING: usize = 16;

/// Segments of entropy-coded data between restart marks, without their stuffing.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    bytes: Vec<u8>,
    /// Begin and end of each in `bytes`; the padding comes after the end.
    ranges: Vec<(usize, usize)>,
}

impl Segments {
    /// Takes the data from `at` to the next marker that is no restart mark: its code, or `None` where the file ends
    /// first. Restart marks must count as they should.
    pub(crate) fn fill(&mut self, file: &[u8], at: usize) -> Option<u8> {
        self.bytes.clear();
        self.ranges.clear();
        self.bytes.reserve(file.len().saturating_sub(at) + PADDING);
        let (mut rest, mut begun) = (file.get(at..)?, 0);
        loop {
            let plain = first_ff(rest);
            self.bytes.extend_from_slice(&rest[..plain]);
            rest = &rest[plain..];
            match *rest {
                [0xff, 0x00, ..] => {
                    self.bytes.push(0xff);
                    rest = &rest[2..];
                }
                [0xff, 0xff, ..] => rest = &rest[1..],
                [0xff, marker, ..] => {
                    self.ranges.push((begun, self.bytes.len()));
                    self.bytes.extend_from_slice(&[0; PADDING]);
                    begun = self.bytes.len();
                    let due = 0xd0 + ((self.ranges.len() - 1) & 7) as u8;
                    if marker != due {
                        return Some(marker);
                    }
                    rest = &rest[2..];
                }
                _ => return None,
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.ranges.len()
    }

    /// A reader of one.
    pub(crate) fn reader(&self, segment: usize) -> Option<Bits<'_>> {
        let (begin, end) = *self.ranges.get(segment)?;
        let data = self.bytes.get(begin..end + PADDING)?;
        Some(Bits { data, at: 0, bits: 0, count: 0 })
    }
}

/// The place of the first byte of all ones, or the end.
fn first_ff(bytes: &[u8]) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    let (words, tail) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        // A byte of the complement is zero where the word's byte is 0xff.
        let complement = !u64::from_le_bytes(*word);
        let zeros = complement.wrapping_sub(LOW) & !complement & (LOW << 7);
        if zeros != 0 {
            return 8 * number + (zeros.trailing_zeros() / 8) as usize;
        }
    }
    8 * words.len() + tail.iter().position(|byte| *byte == 0xff).unwrap_or(tail.len())
}

/// A reader of bits. Behind the end it gives zeros; [`Bits::overran`] tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bits<'a> {
    data: &'a [u8],
    /// The next byte that is not wholly in `bits`.
    at: usize,
    /// The next bits, the first one highest.
    bits: u64,
    /// How many of `bits` count.
    count: u32,
}

impl Bits<'_> {
    /// Brings 56 bits or more at hand.
    #[inline(always)]
    pub(crate) fn refill(&mut self) {
        // Bits below `count` may be there already; they are the same ones.
        if let Some(word) = self.data.get(self.at..).and_then(|rest| rest.first_chunk()) {
            self.bits |= u64::from_be_bytes(*word) >> self.count;
        }
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
    }

    /// The next `count` bits, 1 to 32, which stay.
    #[inline(always)]
    pub(crate) fn peek(&self, count: u32) -> u32 {
        (self.bits >> (64 - count)) as u32
    }

    /// Drops `count` bits that are at hand.
    #[inline(always)]
    pub(crate) fn drop(&mut self, count: u32) {
        self.bits <<= count;
        self.count -= count;
    }

    /// Takes `count` bits back that were dropped.
    pub(crate) fn back(&mut self, count: u32) {
        let used = 8 * self.at - self.count as usize - count as usize;
        (self.at, self.bits, self.count) = (used / 8, 0, 0);
        self.refill();
        self.drop((used % 8) as u32);
    }

    /// Bits at hand.
    #[inline(always)]
    pub(crate) fn at_hand(&self) -> u32 {
        self.count
    }

    /// Whether more bits were used than there are.
    pub(crate) fn overran(&self) -> bool {
        8 * self.at > 8 * (self.data.len() - PADDING) + self.count as usize
    }

    /// Whole bytes that nobody used.
    pub(crate) fn left_over(&self) -> usize {
        let used_bits = 8 * self.at - self.count as usize;
        (self.data.len() - PADDING).saturating_sub(used_bits.div_ceil(8))
    }
}
