//! The two steps that compilers do not make SIMD of, and work compiled for machines with AVX2 and BMI as well as for
//! every machine. All of it is in whole numbers, so that both give the same bytes. This is the one home of the engine's
//! `unsafe`: instructions that were looked for, and nothing else.

use super::jpeg::idct;

/// A block's coefficients times their steps, rows first.
pub(crate) type Block = [i32; 64];

/// Something to do, whose `run` is `#[inline(always)]` down to its loops.
pub(crate) trait Work {
    /// What comes of it.
    type Output;
    /// Does it.
    fn run<S: Steps>(self, steps: S) -> Self::Output;
}

/// Steps that come in kinds.
pub(crate) trait Steps: Copy {
    /// The inverse cosine transform: `columns[x][y]` become the block's samples.
    fn inverse_transform(self, block: &Block, columns: &mut [[u8; 8]; 8]);
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

impl Steps for Plain {
    #[inline(always)]
    fn inverse_transform(self, block: &Block, columns: &mut [[u8; 8]; 8]) {
        idct::samples(block, columns);
    }

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

    use super::{Block, Steps, Work, idct};

    /// Proof that the machine has AVX2, BMI1 and BMI2.
    #[derive(Debug, Clone, Copy)]
    pub(super) struct Avx2(());

    impl Avx2 {
        pub(super) fn found() -> Option<Self> {
            let found = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2");
            found.then_some(Self(()))
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

    impl Steps for Avx2 {
        #[inline(always)]
        fn inverse_transform(self, block: &Block, columns: &mut [[u8; 8]; 8]) {
            // SAFETY: `self` proves the instructions.
            unsafe { inverse_transform(block, columns) }
        }

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

    /// `idct::line` for eight lines at once: the same sums of the same products.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn lines<const SHIFT: i32>(input: [__m256i; 8]) -> [__m256i; 8] {
        use idct::turn::*;
        let times = |value, constant| _mm256_mullo_epi32(value, _mm256_set1_epi32(constant));
        let add = |a, b| _mm256_add_epi32(a, b);
        let less = |a, b| _mm256_sub_epi32(a, b);
        let z1 = times(add(input[2], input[6]), C0_541196100);
        let t2 = add(z1, times(input[6], -C1_847759065));
        let t3 = add(z1, times(input[2], C0_765366865));
        let t0 = _mm256_slli_epi32::<{ idct::FRACTION }>(add(input[0], input[4]));
        let t1 = _mm256_slli_epi32::<{ idct::FRACTION }>(less(input[0], input[4]));
        let half = _mm256_set1_epi32(1 << (SHIFT - 1));
        // What rounds the results is added once to each even part.
        let (t0, t1) = (add(t0, half), add(t1, half));
        let even = [add(t0, t3), add(t1, t2), less(t1, t2), less(t0, t3)];

        let (o0, o1, o2, o3) = (input[7], input[5], input[3], input[1]);
        let (z3, z4) = (add(o0, o2), add(o1, o3));
        let z5 = times(add(z3, z4), C1_175875602);
        let (z1, z2) = (times(add(o0, o3), -C0_899976223), times(add(o1, o2), -C2_562915447));
        let z3 = add(times(z3, -C1_961570560), z5);
        let z4 = add(times(z4, -C0_390180644), z5);
        let odd = [
            add(times(o3, C1_501321110), add(z1, z4)),
            add(times(o2, C3_072711026), add(z2, z3)),
            add(times(o1, C2_053119869), add(z2, z4)),
            add(times(o0, C0_298631336), add(z1, z3)),
        ];
        let shift = |value| _mm256_srai_epi32::<SHIFT>(value);
        [
            shift(add(even[0], odd[0])),
            shift(add(even[1], odd[1])),
            shift(add(even[2], odd[2])),
            shift(add(even[3], odd[3])),
            shift(less(even[3], odd[3])),
            shift(less(even[2], odd[2])),
            shift(less(even[1], odd[1])),
            shift(less(even[0], odd[0])),
        ]
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn transposed_i32(rows: [__m256i; 8]) -> [__m256i; 8] {
        let pairs: [__m256i; 8] = std::array::from_fn(|at| {
            let (a, b) = (rows[at / 2 * 2], rows[at / 2 * 2 + 1]);
            if at % 2 == 0 { _mm256_unpacklo_epi32(a, b) } else { _mm256_unpackhi_epi32(a, b) }
        });
        let fours: [__m256i; 8] = std::array::from_fn(|at| {
            let from = at / 4 * 4 + at % 4 / 2;
            let (a, b) = (pairs[from], pairs[from + 2]);
            if at % 2 == 0 { _mm256_unpacklo_epi64(a, b) } else { _mm256_unpackhi_epi64(a, b) }
        });
        std::array::from_fn(|at| {
            let (a, b) = (fours[at % 4], fours[at % 4 + 4]);
            if at < 4 {
                _mm256_permute2x128_si256::<0x20>(a, b)
            } else {
                _mm256_permute2x128_si256::<0x31>(a, b)
            }
        })
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn inverse_transform(block: &Block, columns: &mut [[u8; 8]; 8]) {
        // SAFETY: arrays of 64 numbers of 32 bits and of eight vectors of 256 bits are alike.
        let rows: [__m256i; 8] = unsafe { std::mem::transmute(*block) };
        let down = lines::<{ idct::FRACTION - idct::KEPT }>(rows);
        let across = lines::<{ idct::FRACTION + idct::KEPT + 3 }>(transposed_i32(down));
        let middle = _mm256_set1_epi16(128);
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let four = |at: usize| {
            let two = |at: usize| _mm256_adds_epi16(_mm256_packs_epi32(across[at], across[at + 1]), middle);
            _mm256_permutevar8x32_epi32(_mm256_packus_epi16(two(at), two(at + 2)), order)
        };
        // SAFETY: two vectors of 256 bits and 8×8 bytes are alike.
        *columns = unsafe { std::mem::transmute::<[__m256i; 2], [[u8; 8]; 8]>([four(0), four(4)]) };
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
