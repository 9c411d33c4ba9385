//! The steps of a reduction that compilers do not make SIMD of, and work compiled for machines with AVX2 and BMI as
//! well as for every machine. All of it is in whole numbers, so that both give the same bytes. This is the one home of
//! `unsafe` in the Rust engine: instructions that were looked for, and nothing else.

use jpeg::{Block, Transform};

/// Something to do, whose `run` is `#[inline(always)]` down to its loops.
pub(crate) trait Work {
    /// What comes of it.
    type Output;
    /// Does it.
    fn run<S: Steps>(self, steps: S) -> Self::Output;
}

/// Steps that come in kinds.
pub(crate) trait Steps: Transform {
    /// Samples with seven bits below the point.
    fn widened(self, column: [u8; 8]) -> [i16; 8];
    /// `bias` and the products of each column and its weight, over 2¹⁶ and rounded down.
    fn sum_of_products(self, columns: &[[i16; 8]], weights: &[i16], bias: i16) -> [i16; 8];
    /// The columns of an 8×8 block of a plane that begins with the block.
    #[cfg(feature = "turbo")]
    fn columns(self, plane: &[u8], stride: usize) -> [[u8; 8]; 8];
    /// Rows become columns.
    fn transposed(self, rows: &[[i16; 8]; 8]) -> [[i16; 8]; 8];
}

/// Which instructions to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// The best that this machine has.
    Best,
    /// Those that every machine has, for tests that the bytes are the same.
    #[cfg(test)]
    Plain,
}

/// Does `work`.
pub(crate) fn run<W: Work>(instructions: Instructions, work: W) -> W::Output {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Best => match avx2::Avx2::found() {
            Some(found) => found.run(work),
            None => work.run(Plain),
        },
        #[cfg(not(target_arch = "x86_64"))]
        Instructions::Best => work.run(Plain),
        #[cfg(test)]
        Instructions::Plain => work.run(Plain),
    }
}

/// Steps for every machine.
#[derive(Debug, Clone, Copy)]
struct Plain;

impl Transform for Plain {
    #[inline(always)]
    fn inverse_transform(self, block: &Block, columns: &mut [[u8; 8]; 8]) {
        jpeg::Plain.inverse_transform(block, columns);
    }
}

impl Steps for Plain {
    #[inline(always)]
    fn widened(self, column: [u8; 8]) -> [i16; 8] {
        column.map(|sample| i16::from(sample) << 7)
    }

    #[inline(always)]
    fn sum_of_products(self, columns: &[[i16; 8]], weights: &[i16], bias: i16) -> [i16; 8] {
        let mut sums = [bias; 8];
        for (column, &weight) in columns.iter().zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(column) {
                *sum = sum.wrapping_add(((i32::from(sample) * i32::from(weight)) >> 16) as i16);
            }
        }
        sums
    }

    #[cfg(feature = "turbo")]
    #[inline(always)]
    fn columns(self, plane: &[u8], stride: usize) -> [[u8; 8]; 8] {
        std::array::from_fn(|x| std::array::from_fn(|y| plane[y * stride + x]))
    }

    #[inline(always)]
    fn transposed(self, rows: &[[i16; 8]; 8]) -> [[i16; 8]; 8] {
        std::array::from_fn(|x| std::array::from_fn(|y| rows[y][x]))
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "instructions that were looked for at run time")]
mod avx2 {
    use std::arch::x86_64::*;

    use super::{Block, Steps, Transform, Work};

    /// Proof that the machine has AVX2, BMI1 and BMI2.
    #[derive(Debug, Clone, Copy)]
    pub(super) struct Avx2(jpeg::Avx2);

    impl Avx2 {
        pub(super) fn found() -> Option<Self> {
            jpeg::Avx2::found().map(Self)
        }

        pub(super) fn run<W: Work>(self, work: W) -> W::Output {
            // SAFETY: `self` proves the instructions.
            unsafe { run(self, work) }
        }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn run<W: Work>(avx2: Avx2, work: W) -> W::Output {
        work.run(avx2)
    }

    impl Transform for Avx2 {
        #[inline(always)]
        fn inverse_transform(self, block: &Block, columns: &mut [[u8; 8]; 8]) {
            self.0.inverse_transform(block, columns);
        }
    }

    impl Steps for Avx2 {
        #[inline(always)]
        fn widened(self, column: [u8; 8]) -> [i16; 8] {
            // SAFETY: `self` proves the instructions.
            unsafe { widened(column) }
        }

        #[inline(always)]
        fn sum_of_products(self, columns: &[[i16; 8]], weights: &[i16], bias: i16) -> [i16; 8] {
            // SAFETY: `self` proves the instructions.
            unsafe { sum_of_products(columns, weights, bias) }
        }

        #[cfg(feature = "turbo")]
        #[inline(always)]
        fn columns(self, plane: &[u8], stride: usize) -> [[u8; 8]; 8] {
            // SAFETY: `self` proves the instructions.
            unsafe { columns(plane, stride) }
        }

        #[inline(always)]
        fn transposed(self, rows: &[[i16; 8]; 8]) -> [[i16; 8]; 8] {
            // SAFETY: `self` proves the instructions.
            unsafe { transposed(rows) }
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn widened(column: [u8; 8]) -> [i16; 8] {
        let samples = _mm_cvtsi64_si128(i64::from_le_bytes(column));
        let wide = _mm_slli_epi16::<7>(_mm_cvtepu8_epi16(samples));
        // SAFETY: a vector of 128 bits and eight numbers of 16 bits are alike.
        unsafe { std::mem::transmute(wide) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn sum_of_products(columns: &[[i16; 8]], weights: &[i16], bias: i16) -> [i16; 8] {
        let mut sums = _mm_set1_epi16(bias);
        for (column, &weight) in columns.iter().zip(weights) {
            // SAFETY: eight numbers of 16 bits and a vector of 128 bits are alike.
            let column: __m128i = unsafe { std::mem::transmute(*column) };
            sums = _mm_add_epi16(sums, _mm_mulhi_epi16(column, _mm_set1_epi16(weight)));
        }
        // SAFETY: as above.
        unsafe { std::mem::transmute(sums) }
    }

    #[cfg(feature = "turbo")]
    #[target_feature(enable = "avx2")]
    #[inline]
    fn columns(plane: &[u8], stride: usize) -> [[u8; 8]; 8] {
        let row = |y: usize| -> __m128i {
            let row: [u8; 8] = *plane[y * stride..].first_chunk().expect("planes have rows to spare");
            _mm_cvtsi64_si128(i64::from_le_bytes(row))
        };
        let pairs: [__m128i; 4] = std::array::from_fn(|at| _mm_unpacklo_epi8(row(2 * at), row(2 * at + 1)));
        let fours: [__m128i; 4] = std::array::from_fn(|at| {
            let (a, b) = (pairs[at / 2 * 2], pairs[at / 2 * 2 + 1]);
            if at % 2 == 0 { _mm_unpacklo_epi16(a, b) } else { _mm_unpackhi_epi16(a, b) }
        });
        let columns: [__m128i; 4] = std::array::from_fn(|at| {
            let (a, b) = (fours[at / 2], fours[at / 2 + 2]);
            if at % 2 == 0 { _mm_unpacklo_epi32(a, b) } else { _mm_unpackhi_epi32(a, b) }
        });
        // SAFETY: four vectors of 128 bits and 8×8 bytes are alike.
        unsafe { std::mem::transmute(columns) }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn transposed(rows: &[[i16; 8]; 8]) -> [[i16; 8]; 8] {
        // SAFETY: eight vectors of 128 bits and 8×8 numbers of 16 bits are alike.
        let rows: [__m128i; 8] = unsafe { std::mem::transmute(*rows) };
        let pairs: [__m128i; 8] = std::array::from_fn(|at| {
            let (a, b) = (rows[at / 2 * 2], rows[at / 2 * 2 + 1]);
            if at % 2 == 0 { _mm_unpacklo_epi16(a, b) } else { _mm_unpackhi_epi16(a, b) }
        });
        let fours: [__m128i; 8] = std::array::from_fn(|at| {
            let from = at / 4 * 4 + at % 4 / 2;
            let (a, b) = (pairs[from], pairs[from + 2]);
            if at % 2 == 0 { _mm_unpacklo_epi32(a, b) } else { _mm_unpackhi_epi32(a, b) }
        });
        let columns: [__m128i; 8] = std::array::from_fn(|at| {
            let (a, b) = (fours[at / 2], fours[at / 2 + 4]);
            if at % 2 == 0 { _mm_unpacklo_epi64(a, b) } else { _mm_unpackhi_epi64(a, b) }
        });
        // SAFETY: as above.
        unsafe { std::mem::transmute(columns) }
    }
}
