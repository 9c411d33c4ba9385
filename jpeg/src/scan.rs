//! The scan of a baseline JPEG → samples, a row of blocks at a time. Every block's bits are read, for damage anywhere
//! counts; samples are made of those alone that the caller uses. It leaves out resizing and colour.

use std::ops::Range;

use crate::{
    Broken, Refusal,
    bits::{Bits, Segments},
    header::{Header, Units},
    huffman::{LOOK_UP_BITS, Table, extended},
    idct,
    simd::Transform,
};

/// Places in a block, rows first, in the order in which coefficients come.
pub(crate) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Blocks of a component that are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Along x.
    pub columns: Range<usize>,
    /// Along y.
    pub rows: Range<usize>,
}

/// Takes a component's row of blocks: columns of eight samples each, from the region's first.
pub trait Strips<S> {
    /// Component, row of blocks, columns of samples.
    fn strip(&mut self, steps: S, component: usize, row: usize, columns: &[[u8; 8]]);
}

/// Buffers that are kept from one picture to the next.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(crate) segments: Segments,
    /// For each component `vertical` rows of blocks, one after the other.
    strips: [Vec<[u8; 8]>; 3],
}

struct Plane<'a> {
    dc: &'a Table,
    ac: &'a Table,
    steps: [i32; 64],
    horizontal: usize,
    vertical: usize,
    region: &'a Region,
    /// The mean of the block before.
    mean: i32,
}

/// Decodes the units of all segments.
#[inline(always)]
pub(crate) fn decode<S: Transform>(
    steps: S,
    header: &Header,
    regions: &[Region],
    scratch: &mut Scratch,
    sink: &mut impl Strips<S>,
) -> Result<(), Refusal> {
    let mut planes = Vec::with_capacity(3);
    for (component, region) in header.components.iter().zip(regions) {
        let (Some(dc), Some(ac)) =
            (header.dc_tables[component.dc_table].table(), header.ac_tables[component.ac_table].table())
        else {
            return Err(Broken("a scan without its tables").into());
        };
        let (horizontal, vertical) = (component.horizontal, component.vertical);
        planes.push(Plane { dc, ac, steps: header.steps(component), horizontal, vertical, region, mean: 0 });
    }
    let Scratch { segments, strips } = scratch;
    for (strip, plane) in strips.iter_mut().zip(&planes) {
        strip.resize(plane.vertical * 8 * plane.region.columns.len(), [0; 8]);
    }
    let Units { wide, high, interval } = header.units(segments.count())?;
    let mut bits = segments.reader(0).ok_or(Broken("no data"))?;
    let (mut segment, mut left) = (0, interval);
    for y in 0..high {
        for x in 0..wide {
            if left == 0 {
                finish(&bits)?;
                segment += 1;
                bits = segments.reader(segment).ok_or(Broken("no data"))?;
                left = interval;
                planes.iter_mut().for_each(|plane| plane.mean = 0);
            }
            left -= 1;
            for (plane, strip) in planes.iter_mut().zip(&mut *strips) {
                unit_of(steps, plane, &mut bits, strip, x, y)?;
            }
        }
        if bits.overran() {
            return Err(Broken("its data end early").into());
        }
        for (component, (plane, strip)) in planes.iter().zip(&*strips).enumerate() {
            let columns = 8 * plane.region.columns.len();
            for (row, strip) in (y * plane.vertical..).zip(strip.chunks_exact(columns.max(1))) {
                if plane.region.rows.contains(&row) {
                    sink.strip(steps, component, row, strip);
                }
            }
        }
    }
    finish(&bits)
}

/// Ends a segment. Bytes that nobody used are left to the general decoder to judge: they may come of damage, or of a
/// writer that fills up.
pub(crate) fn finish(bits: &Bits) -> Result<(), Refusal> {
    if bits.overran() {
        return Err(Broken("its data end early").into());
    }
    if bits.left_over() > 0 { Err(Refusal::Unusual) } else { Ok(()) }
}

/// The blocks of one component in the unit at `x`, `y`.
#[inline(always)]
fn unit_of<S: Transform>(
    steps: S,
    plane: &mut Plane,
    bits: &mut Bits,
    strip: &mut [[u8; 8]],
    x: usize,
    y: usize,
) -> Result<(), Broken> {
    for v in 0..plane.vertical {
        let is_row = plane.region.rows.contains(&(y * plane.vertical + v));
        for h in 0..plane.horizontal {
            let column = x * plane.horizontal + h;
            if is_row && plane.region.columns.contains(&column) {
                let at = 8 * (v * plane.region.columns.len() + column - plane.region.columns.start);
                let columns = strip.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
                let columns: &mut [[u8; 8]; 8] = columns.ok_or(Broken("no room"))?;
                let mut block = [0i32; 64];
                let last = coefficients::<true>(plane, bits, &mut block)?;
                if last == 0 {
                    *columns = [[idct::flat(block[0]); 8]; 8];
                } else {
                    steps.inverse_transform(&block, columns);
                }
            } else {
                coefficients::<false>(plane, bits, &mut [0; 64])?;
            }
        }
    }
    Ok(())
}

/// Reads a block's coefficients; the number of the last one that is not zero.
#[inline(always)]
fn coefficients<const KEEP: bool>(
    plane: &mut Plane,
    bits: &mut Bits,
    block: &mut [i32; 64],
) -> Result<usize, Broken> {
    const NO_CODE: Broken = Broken("bits that are no Huffman code");
    bits.refill();
    let mut entry = plane.dc.look_up(bits.peek(LOOK_UP_BITS) as usize);
    if !entry.is_code() {
        entry = plane.dc.search(bits.peek(16)).ok_or(NO_CODE)?;
    }
    bits.drop(entry.length());
    let difference = if entry.has_value() { entry.value() } else { value(bits, entry.value() as u32) };
    plane.mean = plane.mean.wrapping_add(difference);
    if plane.mean.unsigned_abs() > 1 << 15 {
        return Err(Broken("a mean out of range"));
    }
    if KEEP {
        block[0] = plane.mean.wrapping_mul(plane.steps[0]);
    }
    let (mut at, mut last) = (1, 0);
    loop {
        if bits.at_hand() < 32 {
            bits.refill();
        }
        let mut entry = plane.ac.look_up(bits.peek(LOOK_UP_BITS) as usize);
        let value = if entry.has_value() {
            bits.drop(entry.length());
            entry.value()
        } else {
            if !entry.is_code() {
                entry = plane.ac.search(bits.peek(16)).ok_or(NO_CODE)?;
            }
            bits.drop(entry.length());
            if entry.has_value() { entry.value() } else { value(bits, entry.value() as u32) }
        };
        at += entry.zeros();
        if at > 63 {
            break if entry.is_end() {
                Ok(last)
            } else {
                Err(Broken("a run of zeros that leaves its block"))
            };
        }
        if KEEP {
            block[usize::from(ZIGZAG[at & 63]) & 63] = value.wrapping_mul(plane.steps[at & 63]);
            last = at;
        }
        at += 1;
        if at == 64 {
            break Ok(last);
        }
    }
}

/// Reads a value of so many bits, at most 15.
#[inline(always)]
pub(crate) fn value(bits: &mut Bits, count: u32) -> i32 {
    if count == 0 {
        return 0;
    }
    let raw = bits.peek(count) as i32;
    bits.drop(count);
    extended(raw, count)
}
