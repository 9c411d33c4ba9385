//! The scan of a baseline JPEG → whole planes of samples. It differs from `scan` in what it does without: regions, strips,
//! and coefficients beyond 16 bits. It leaves out upsampling and colour.

use crate::{
    Broken, Refusal,
    bits::{Bits, Segments},
    header::Header,
    huffman::{FAST_BITS, Fast, LOOK_UP_BITS, Table},
    idct::{Coefficients, PLACES},
    scan::{ZIGZAG, finish, value},
    simd::Kernels,
};

/// Places of [`Coefficients`] in the order in which they come; there is room for a run of zeros that leaves its block.
const ORDER: [u8; 128] = {
    let mut order = [63; 128];
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
    let unit = |most: usize| 8 * most;
    let wide = header.width.div_ceil(unit(header.components.iter().map(|c| c.horizontal).max().unwrap_or(1)));
    let high = header.height.div_ceil(unit(header.components.iter().map(|c| c.vertical).max().unwrap_or(1)));
    let interval = if header.restart_interval == 0 { wide * high } else { header.restart_interval };
    if segments.count() != (wide * high).div_ceil(interval) {
        return Err(Broken("restart marks are missing, or there are too many").into());
    }
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
        component: &crate::Component,
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
    const NO_CODE: Broken = Broken("bits that are no Huffman code");
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
    'block: loop {
        bits.refill();
        for _ in 0..LOOK_UPS {
            let entry = tables.fast.look_up(bits.peek(FAST_BITS) as usize);
            if entry.has_value() {
                bits.drop(entry.length());
                at += entry.zeros();
                block.0[usize::from(ORDER[at & 127]) & 63] = entry.value();
                at += 1;
                if at >= 64 {
                    break 'block;
                }
                continue;
            }
            if !entry.is_unknown() {
                bits.drop(entry.length());
                if entry.zeros() == 0 {
                    *from = bits;
                    return Ok(at);
                }
                at += 16;
            } else {
                bits.refill();
                let mut entry = tables.ac.look_up(bits.peek(LOOK_UP_BITS) as usize);
                if !entry.is_code() {
                    entry = tables.ac.search(bits.peek(16)).ok_or(NO_CODE)?;
                }
                bits.drop(entry.length());
                if entry.is_end() {
                    *from = bits;
                    return Ok(at);
                }
                at += entry.zeros();
                let value = if entry.has_value() { entry.value() } else { value(&mut bits, entry.value() as u32) };
                block.0[usize::from(ORDER[at & 127]) & 63] = value as i16;
                at += 1;
            }
            if at >= 64 {
                break 'block;
            }
            continue 'block;
        }
    }
    *from = bits;
    if at == 64 { Ok(at) } else { Err(Broken("a run of zeros that leaves its block")) }
}
