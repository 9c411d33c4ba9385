//! Huffman tables for decoding: a look-up by the next bits that mostly gives code and value at once (ITU T.81 annex
//! F.2.2). It leaves out where the bits come from (`bits`).

/// Bits that are looked up at once.
pub(crate) const LOOK_UP_BITS: u32 = 10;

/// Longest code.
const LENGTH_MAX: usize = 16;

/// What the next bits mean. From the lowest bit: 6 bits for the length of code and value together, 1 bit for
/// whether the value is here, 1 bit for the end of the block, 8 bits for the zeros in front of the value, and the value
/// in the upper 16. Where the value is not here, its bits' number stands in its place, and the length is the code's.
/// 0 where the code is longer than the look-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Entry(u32);

impl Entry {
    fn whole(length: u32, zeros: u32, value: i32) -> Self {
        Self(length | 1 << 6 | zeros << 8 | (value as u32) << 16)
    }

    fn code(length: u32, zeros: u32, value_bits: u32) -> Self {
        Self(length | zeros << 8 | value_bits << 16)
    }

    /// The end of a block: as many zeros as there can be.
    fn end(length: u32) -> Self {
        Self(length | 1 << 6 | 1 << 7 | 64 << 8)
    }

    pub(crate) fn is_code(self) -> bool {
        self.0 != 0
    }

    pub(crate) fn has_value(self) -> bool {
        self.0 & 1 << 6 != 0
    }

    pub(crate) fn is_end(self) -> bool {
        self.0 & 1 << 7 != 0
    }

    pub(crate) fn length(self) -> u32 {
        self.0 & 63
    }

    pub(crate) fn zeros(self) -> usize {
        (self.0 >> 8 & 255) as usize
    }

    /// The value, or how many bits it has.
    pub(crate) fn value(self) -> i32 {
        self.0 as i32 >> 16
    }
}

/// A table of codes.
#[derive(Debug)]
pub(crate) struct Table {
    look_up: [Entry; 1 << LOOK_UP_BITS],
    /// For each length the first 16-bit pattern past its codes; a code has the first length whose bound is above it.
    bounds: [u32; LENGTH_MAX + 1],
    /// For each length what is added to a code to give its symbol's place.
    offsets: [i32; LENGTH_MAX + 1],
    counts: [u8; LENGTH_MAX],
    symbols: [u8; 256],
    is_dc: bool,
}

/// A value of `bits` bits as JPEG writes it: the upper half of the range is positive (T.81, EXTEND).
pub(crate) fn extended(raw: i32, bits: u32) -> i32 {
    if bits == 0 || raw >= 1 << (bits - 1) { raw } else { raw - (1 << bits) + 1 }
}

impl Table {
    /// A table of `counts` codes a length; `None` where there are more codes than their lengths allow, or symbols
    /// that no decoder takes.
    pub(crate) fn new(counts: &[u8; LENGTH_MAX], symbols: &[u8], is_dc: bool) -> Option<Self> {
        let mut table = Self {
            look_up: [Entry::default(); 1 << LOOK_UP_BITS],
            bounds: [0; LENGTH_MAX + 1],
            offsets: [0; LENGTH_MAX + 1],
            counts: *counts,
            symbols: [0; 256],
            is_dc,
        };
        if symbols.len() > 256 || is_dc && symbols.iter().any(|symbol| *symbol > 15) {
            return None;
        }
        table.symbols[..symbols.len()].copy_from_slice(symbols);
        let (mut code, mut place) = (0u32, 0);
        for length in 1..=LENGTH_MAX {
            let count = usize::from(counts[length - 1]);
            table.offsets[length] = place as i32 - code as i32;
            for symbol in &symbols[place..place + count] {
                table.enter(code, length as u32, *symbol);
                code += 1;
            }
            place += count;
            if code > 1 << length {
                return None;
            }
            table.bounds[length] = code << (LENGTH_MAX - length);
            code <<= 1;
        }
        Some(table)
    }

    /// Whether these are the codes and symbols that it was made of.
    pub(crate) fn is_of(&self, counts: &[u8; LENGTH_MAX], symbols: &[u8]) -> bool {
        self.counts == *counts && self.symbols.starts_with(symbols)
    }

    fn meaning(&self, symbol: u8, length: u32) -> Entry {
        let (zeros, bits) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        match (zeros, bits) {
            _ if self.is_dc => Entry::code(length, 0, u32::from(symbol)),
            (15, 0) => Entry::whole(length, 15, 0),
            (_, 0) => Entry::end(length),
            _ => Entry::code(length, zeros, bits),
        }
    }

    /// Enters a code in all places of the look-up that begin with it.
    fn enter(&mut self, code: u32, length: u32, symbol: u8) {
        if length > LOOK_UP_BITS || code >> length != 0 {
            return;
        }
        let free = LOOK_UP_BITS - length;
        let entry = self.meaning(symbol, length);
        for rest in 0..1u32 << free {
            let bits = entry.value() as u32;
            let known = if entry.has_value() || bits > free {
                entry
            } else {
                let raw = (rest >> (free - bits)) as i32;
                Entry::whole(length + bits, entry.zeros() as u32, extended(raw, bits))
            };
            self.look_up[(code << free | rest) as usize] = known;
        }
    }

    /// What the next bits mean, by their first [`LOOK_UP_BITS`].
    #[inline(always)]
    pub(crate) fn look_up(&self, bits: usize) -> Entry {
        self.look_up[bits & ((1 << LOOK_UP_BITS) - 1)]
    }

    /// What a long code means, by the next 16 bits; `None` for bits that are no code.
    #[cold]
    pub(crate) fn search(&self, bits: u32) -> Option<Entry> {
        let length = (1..=LENGTH_MAX).find(|length| bits < self.bounds[*length])?;
        let code = (bits >> (LENGTH_MAX - length)) as i32;
        let symbol = *self.symbols.get(usize::try_from(code + self.offsets[length]).ok()?)?;
        Some(self.meaning(symbol, length as u32))
    }
}

/// Bits that [`Fast`] looks up at once. With 12 the tables of luma and chroma would fill a first-level cache.
pub(crate) const FAST_BITS: u32 = 11;

/// What [`FastEntry::advance`] has more for the end of a block.
pub(crate) const END: usize = 128;

/// A look-up for the coefficients behind the mean: two of them at once where both are short, or one and the end. It
/// takes longer to make than [`Table`], and is made once for many pictures.
#[derive(Debug)]
pub(crate) struct Fast([FastEntry; 1 << FAST_BITS]);

impl Fast {
    /// The look-up of a table.
    pub(crate) fn of(table: &Table) -> Self {
        Self(std::array::from_fn(|bits| {
            let bits = (bits as u32) << (16 - FAST_BITS);
            let Some((length, zeros, value)) = Self::next(table, bits, FAST_BITS) else {
                return FastEntry::default();
            };
            let Some(zeros) = zeros else { return FastEntry::new(length, 0, END, [0; 2]) };
            match Self::next(table, bits << length & 0xffff, FAST_BITS - length) {
                Some((more, Some(other_zeros), other)) => {
                    FastEntry::new(length + more, zeros, zeros + other_zeros + 2, [value, other])
                }
                Some((more, None, _)) => FastEntry::new(length + more, zeros, zeros + 1 + END, [value, 0]),
                None => FastEntry::new(length, zeros, zeros + 1, [value, 0]),
            }
        }))
    }

    /// Length, zeros (none at the end of a block) and value by 16 bits of which so many are known.
    fn next(table: &Table, bits: u32, known: u32) -> Option<(u32, Option<usize>, i32)> {
        let code = table.search(bits).filter(|code| code.length() <= known)?;
        if code.has_value() {
            return Some((code.length(), Some(code.zeros()).filter(|_| !code.is_end()), 0));
        }
        let value_bits = code.value() as u32;
        let length = code.length() + value_bits;
        if length > known || value_bits > 7 {
            return None;
        }
        let raw = bits >> (16 - length) & ((1 << value_bits) - 1);
        Some((length, Some(code.zeros()), extended(raw as i32, value_bits)))
    }

    /// What the next [`FAST_BITS`] say.
    #[inline(always)]
    pub(crate) fn look_up(&self, bits: usize) -> FastEntry {
        self.0[bits & ((1 << FAST_BITS) - 1)]
    }
}

/// An entry of [`Fast`]. From the lowest bit: 4 bits for the length, 4 for the zeros in front of the first value, 8 for
/// the places to go on, 8 for the second value and 8 for the first. 0 says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FastEntry(u32);

impl FastEntry {
    fn new(length: u32, zeros: usize, advance: usize, [first, second]: [i32; 2]) -> Self {
        let byte = |value: i32| u32::from(value as u8);
        Self(byte(first) << 24 | byte(second) << 16 | (advance << 8 | zeros << 4) as u32 | length)
    }

    #[inline(always)]
    pub(crate) fn is_unknown(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub(crate) fn length(self) -> u32 {
        self.0 & 15
    }

    /// Zeros in front of the first value.
    #[inline(always)]
    pub(crate) fn zeros(self) -> usize {
        (self.0 >> 4 & 15) as usize
    }

    /// Places that zeros and values take; [`END`] more where the block ends.
    #[inline(always)]
    pub(crate) fn advance(self) -> usize {
        (self.0 >> 8 & 255) as usize
    }

    #[inline(always)]
    pub(crate) fn first(self) -> i16 {
        (self.0 as i32 >> 24) as i16
    }

    /// Stands at the last place; where there is no second value, 0.
    #[inline(always)]
    pub(crate) fn second(self) -> i16 {
        i16::from((self.0 >> 16) as i8)
    }

    /// Whether something stands behind the first value.
    #[inline(always)]
    pub(crate) fn is_double(self) -> bool {
        let advance = self.advance();
        advance != self.zeros() + 1 && advance != END
    }
}
