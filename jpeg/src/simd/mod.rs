//! The steps that compilers make no SIMD of, and work compiled for machines with AVX2 and BMI as well as for every
//! machine. All of it is in whole numbers, so that both give the same bytes.

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub use x86::Avx2;

use crate::{
    Broken,
    bits::Bits,
    fast::{self, Tables},
    idct::{self, Coefficients},
};

/// A block's coefficients times their steps, rows first.
pub type Block = [i32; 64];

/// The inverse cosine transform, which comes in kinds that give the same samples.
pub trait Transform: Copy {
    /// `columns[x][y]` become the block's samples.
    fn inverse_transform(self, block: &Block, columns: &mut [[u8; 8]; 8]);
}

/// Steps of decoding whole pictures, which come in kinds. What does not fit into `out` is left out.
pub(crate) trait Kernels: Copy {
    /// [`fast::coefficients`], as a function of its own: inside of others it lacks registers.
    fn coefficients(
        self,
        tables: Tables<'_>,
        bits: &mut Bits,
        mean: &mut i32,
        block: &mut Coefficients,
    ) -> Result<usize, Broken>;
    /// The samples of a block as eight rows, each `stride` behind the last.
    fn block(self, block: &Coefficients, steps: &Coefficients, out: &mut [u8], stride: usize);
    /// Luma and chroma, as JFIF has them, to red, green and blue.
    fn colours(self, ycc: [&[u8]; 3], rgb: [&mut [u8]; 3]);

    /// A block that has but its mean.
    #[inline(always)]
    fn flat(self, mean: i16, out: &mut [u8], stride: usize) {
        write_rows([[idct::flat(mean.into()); 8]; 8], out, stride);
    }
}

/// Something to do, whose `run` is `#[inline(always)]` down to its loops.
pub(crate) trait Work {
    /// What comes of it.
    type Output;
    /// Does it.
    fn run<K: Kernels>(self, kernels: K) -> Self::Output;
}

/// Which instructions to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Instructions {
    /// The best that this machine has.
    #[default]
    Best,
    /// Those that every machine has, for tests that the bytes are the same.
    #[cfg(test)]
    Plain,
}

/// Does `work`.
pub(crate) fn run<W: Work>(instructions: Instructions, work: W) -> W::Output {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Best => match Avx2::found() {
            Some(found) => found.run(work),
            None => work.run(Plain),
        },
        #[cfg(not(target_arch = "x86_64"))]
        Instructions::Best => work.run(Plain),
        #[cfg(test)]
        Instructions::Plain => work.run(Plain),
    }
}

/// Instructions that every machine has.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Transform for Plain {
    #[inline(always)]
    fn inverse_transform(self, block: &Block, columns: &mut [[u8; 8]; 8]) {
        idct::samples(block, columns);
    }
}

impl Kernels for Plain {
    fn coefficients(
        self,
        tables: Tables<'_>,
        bits: &mut Bits,
        mean: &mut i32,
        block: &mut Coefficients,
    ) -> Result<usize, Broken> {
        fast::coefficients(tables, bits, mean, block)
    }

    #[inline(always)]
    fn block(self, block: &Coefficients, steps: &Coefficients, out: &mut [u8], stride: usize) {
        write_rows(idct::rows(block, steps), out, stride);
    }

    #[inline(always)]
    fn colours(self, [y, cb, cr]: [&[u8]; 3], [r, g, b]: [&mut [u8]; 3]) {
        for (((((y, cb), cr), r), g), b) in y.iter().zip(cb).zip(cr).zip(r).zip(g).zip(b) {
            [*r, *g, *b] = colour(*y, *cb, *cr);
        }
    }
}

/// `1.402`, `0.344…`, `0.714…` and `1.772` with 16 bits below the point.
const RED_OF_CR: i32 = 91_881;
const GREEN_OF_CB: i32 = -22_554;
const GREEN_OF_CR: i32 = -46_802;
const BLUE_OF_CB: i32 = 116_130;

#[inline(always)]
fn colour(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let with = |change: i32| (y + ((change + (1 << 15)) >> 16)).clamp(0, 255) as u8;
    [with(RED_OF_CR * cr), with(GREEN_OF_CB * cb + GREEN_OF_CR * cr), with(BLUE_OF_CB * cb)]
}

#[inline(always)]
fn write_rows(rows: [[u8; 8]; 8], out: &mut [u8], stride: usize) {
    for (out, row) in out.chunks_mut(stride).zip(rows) {
        if let Some(out) = out.first_chunk_mut() {
            *out = row;
        }
    }
}
