//! The scan of a baseline JPEG → whole planes of samples. It differs from `scan` in what it does without: regions, strips,
//! and coefficients beyond 16 bits. It leaves out upsampling and colour.

use crate::{
    Broken, Component, Refusal,
    bits::{Bits, Segments},
    header::{Header, Units},
    huffman::{END, FAST_BITS, Fast, LOOK_UP_BITS, Table},
    idct::{BEYOND, Coefficients, PLACES},
    scan::{ZIGZAG, finish, value},
    simd::Kernels,
};

/// Places in [`Coefficients`] in the order in which coefficients come; what lies behind a block has one place, the last.
const ORDER: [u8; 256] = {
    let mut order = [BEYOND as u8; 256];
    let mut at = 0;
    while at < 64 {
        order[at] = PLACES[ZIGZAG[at] as usize];
        at += 1;
    }
    order
};

/// Samples of a component, rows first.
#[derive(Debug, Default)]
pub(crate) struct Plane {
    pub(crate) samples: Vec<u8>,
    pub(crate) stride: usize,
}

const NO_CODE: Broken = Broken("bits that are no Huffman code");

/// Times that [`FAST_BITS`] are at hand after a refill.
const LOOK_UPS: u32 = 56 / FAST_BITS;

struct Part<'a> {
    tables: Tables<'a>,
    steps: Coefficients,
    horizontal: usize,
    vertical: usize,
    samples: &'a mut [u8],
    stride: usize,
    /// The mean of the block before.
    mean: i32,
}

/// Decodes all units into `planes`.
#[inline(always)]
pub(crate) fn decode<K: Kernels>(
    kernels: K,
    header: &Header,
    segments: &Segments,
    planes: &mut [Plane; 3],
) -> Result<(), Refusal> {
    let Units { wide, high, interval } = header.units(segments.count())?;
    let [a, b, c] = planes;
    let mut parts = [None, None, None];
    for ((part, component), plane) in parts.iter_mut().zip(&header.components).zip([a, b, c]) {
        *part = Some(Part::new(header, component, plane, wide, high)?);
    }
    let mut bits = segments.reader(0).ok_or(Broken("no data"))?;
    let (mut segment, mut left) = (0, interval);
    for y in 0..high {
        for x in 0..wide {
            if left == 0 {
                finish(&bits)?;
                segment += 1;
                bits = segments.reader(segment).ok_or(Broken("no data"))?;
                left = interval;
                parts.iter_mut().flatten().for_each(|part| part.mean = 0);
            }
            left -= 1;
            for part in parts.iter_mut().flatten() {
                part.unit(kernels, &mut bits, x, y)?;
            }
        }
        if bits.overran() {
            return Err(Broken("its data end early").into());
        }
    }
    finish(&bits)
}

impl<'a> Part<'a> {
    fn new(
        header: &'a Header,
        component: &Component,
        plane: &'a mut Plane,
        wide: usize,
        high: usize,
    ) -> Result<Self, Broken> {
        let (dc, ac) = (&header.dc_tables[component.dc_table], &header.ac_tables[component.ac_table]);
        let (Some(dc), Some(fast), Some(ac)) = (dc.table(), ac.fast(), ac.table()) else {
            return Err(Broken("a scan without its tables"));
        };
        let (horizontal, vertical) = (component.horizontal, component.vertical);
        let mut steps = Coefficients::default();
        for (place, step) in ORDER.iter().zip(header.steps(component)) {
            steps.0[usize::from(*place)] = step as i16;
        }
        plane.stride = 8 * horizontal * wide;
        plane.samples.resize(plane.stride * 8 * vertical * high, 0);
        let (samples, stride) = (&mut plane.samples[..], plane.stride);
        let tables = Tables { dc, ac, fast };
        Ok(Self { tables, steps, horizontal, vertical, samples, stride, mean: 0 })
    }

    /// The blocks of the unit at `x`, `y`.
    #[inline(always)]
    fn unit<K: Kernels>(&mut self, kernels: K, bits: &mut Bits, x: usize, y: usize) -> Result<(), Broken> {
        for v in 0..self.vertical {
            for h in 0..self.horizontal {
                let mut block = Coefficients::default();
                let last = kernels.coefficients(self.tables, bits, &mut self.mean, &mut block)?;
                let at = 8 * ((y * self.vertical + v) * self.stride + x * self.horizontal + h);
                let out = self.samples.get_mut(at..).ok_or(Broken("no room"))?;
                if last == 1 {
                    kernels.flat(block.0[0].wrapping_mul(self.steps.0[0]), out, self.stride);
                } else {
                    kernels.block(&block, &self.steps, out, self.stride);
                }
            }
        }
        Ok(())
    }
}

/// The tables of a component.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables<'a> {
    dc: &'a Table,
    ac: &'a Table,
    fast: &'a Fast,
}

/// Reads a block's coefficients, with `mean` of the block before; where their end is, at least 1.
#[inline(always)]
pub(crate) fn coefficients(
    tables: Tables<'_>,
    from: &mut Bits,
    mean: &mut i32,
    block: &mut Coefficients,
) -> Result<usize, Broken> {
    let mut bits = *from;
    bits.refill();
    let mut entry = tables.dc.look_up(bits.peek(LOOK_UP_BITS) as usize);
    if !entry.is_code() {
        entry = tables.dc.search(bits.peek(16)).ok_or(NO_CODE)?;
    }
    bits.drop(entry.length());
    let difference = if entry.has_value() { entry.value() } else { value(&mut bits, entry.value() as u32) };
    *mean = mean.wrapping_add(difference);
    if mean.unsigned_abs() > 1 << 15 {
        return Err(Broken("a mean out of range"));
    }
    block.0[0] = *mean as i16;
    let mut at = 1;
    'block: while at < 64 {
        bits.refill();
        for _ in 0..LOOK_UPS {
            let entry = tables.fast.look_up(bits.peek(FAST_BITS) as usize);
            if entry.is_unknown() {
                at = one(tables, &mut bits, block, at)?;
                continue 'block;
            }
            bits.drop(entry.length());
            let mut next = at + entry.advance();
            // In this order: where there is one value only, both places are the same.
            block.0[place(next - 1)] = entry.second();
            block.0[place(at + entry.zeros())] = entry.first();
            if next >= 64 {
                if at + entry.zeros() >= 63 && entry.is_double() {
                    // The first value ends the block, and what stands behind it is the next one's.
                    bits.back(entry.length());
                    next = one(tables, &mut bits, block, at)?;
                }
                at = next;
                break 'block;
            }
            at = next;
        }
    }
    *from = bits;
    match at {
        64 => Ok(64),
        END.. => Ok(at - END),
        _ => Err(Broken("a run of zeros that leaves its block")),
    }
}

/// The place of a coefficient.
#[inline(always)]
fn place(at: usize) -> usize {
    usize::from(ORDER[at & 255])
}

/// Reads one coefficient at `at`, however long its code is; where the next one is.
#[inline(always)]
fn one(tables: Tables<'_>, bits: &mut Bits, block: &mut Coefficients, at: usize) -> Result<usize, Broken> {
    bits.refill();
    let mut entry = tables.ac.look_up(bits.peek(LOOK_UP_BITS) as usize);
    if !entry.is_code() {
        entry = tables.ac.search(bits.peek(16)).ok_or(NO_CODE)?;
    }
    bits.drop(entry.length());
    if entry.is_end() {
        return Ok(at + END);
    }
    let at = at + entry.zeros();
    let value = if entry.has_value() { entry.value() } else { value(bits, entry.value() as u32) };
    block.0[place(at)] = value as i16;
    Ok(at + 1)
}
