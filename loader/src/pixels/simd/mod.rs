//! Loops over pixels, compiled for the widest vectors of this machine as well as for every machine, and the few steps
//! that compilers make no vectors of. Which instructions run is decided when a program runs, and every kind gives the
//! same bits: each product and sum is rounded by itself, in the same order. NEON needs nothing of its own, for every
//! aarch64 has it and the plain loops are compiled to it. What is done with pixels is left to [`super`] and to
//! [`crate::augment`].

#[cfg(target_arch = "x86_64")]
mod x86;

/// Something to do, whose `run` is `#[inline(always)]` down to its loops.
pub(crate) trait Work {
    /// What comes of it.
    type Output;
    /// Does it.
    fn run<S: Steps>(self, steps: S) -> Self::Output;
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stores {
    /// Into the caches: for what is read again at once.
    Cached,
    /// Past the caches: for batches that no cache holds. It spares reading each line before it is overwritten.
    Streamed,
}

impl Stores {
    /// From here on a batch is written past the caches: half of the largest cache that a core of today's servers has.
    const STREAMED_FROM_BYTES: usize = 16 << 20;

    /// How a batch of so many bytes is written.
    pub(crate) fn of_batch(bytes: usize) -> Stores {
        if bytes >= Self::STREAMED_FROM_BYTES { Stores::Streamed } else { Stores::Cached }
    }
}

/// Steps that come in kinds. Of two slices, what the longer one has more is left alone.
pub(crate) trait Steps: Copy {
    /// Copies.
    fn copy(self, values: &[u8], out: &mut [u8], stores: Stores);
    /// `value · scale + shift`: a product and a sum, not a fused one.
    fn normalize(self, values: &[u8], out: &mut [f32], affine: (f32, f32), stores: Stores);
    /// Takes interleaved pixels (R, G, B, R, …) apart.
    fn split(self, interleaved: &[u8], planes: [&mut [u8]; 3]);
    /// The sum over k of `weights[k]` times the eight bytes from `k · stride` on, in ascending order from zero.
    ///
    /// # Panics
    /// Where `rows` ends before.
    fn sum_of_rows(self, rows: &[u8], stride: usize, weights: &[f32]) -> [f32; 8];
    /// The sum over k of `weights[k]` times column `k · stride`, likewise.
    fn sum_of_columns(self, columns: &[[f32; 8]], stride: usize, weights: &[f32]) -> [f32; 8];
    /// Rows become columns.
    fn transposed(self, rows: &[[f32; 8]; 8]) -> [[f32; 8]; 8];
}

/// The eight bytes from `start` on.
#[inline(always)]
fn eight(row: &[u8], start: usize) -> [u8; 8] {
    *row[start..].first_chunk().expect("callers pad the last row")
}

/// Which instructions to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    /// The best that this machine has.
    Best,
    /// AVX2 where the machine has it, else the plain ones.
    #[cfg(test)]
    Avx2,
    /// Those that every machine has.
    #[cfg(test)]
    Plain,
}

#[cfg(test)]
impl Instructions {
    /// All kinds, for tests that the bits are the same.
    pub(crate) const ALL: [Instructions; 3] = [Instructions::Plain, Instructions::Avx2, Instructions::Best];
}

/// Does `work`.
pub(crate) fn run<W: Work>(instructions: Instructions, work: W) -> W::Output {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Best => match (x86::Avx512::found(), x86::Avx2::found()) {
            (Some(found), _) => found.run(work),
            (None, Some(found)) => found.run(work),
            (None, None) => work.run(Plain),
        },
        #[cfg(all(test, target_arch = "x86_64"))]
        Instructions::Avx2 => match x86::Avx2::found() {
            Some(found) => found.run(work),
            None => work.run(Plain),
        },
        #[cfg(not(target_arch = "x86_64"))]
        Instructions::Best => work.run(Plain),
        #[cfg(all(test, not(target_arch = "x86_64")))]
        Instructions::Avx2 => work.run(Plain),
        #[cfg(test)]
        Instructions::Plain => work.run(Plain),
    }
}

/// Steps for every machine, which know no streams.
#[derive(Clone, Copy, Debug)]
struct Plain;

impl Steps for Plain {
    #[inline(always)]
    fn copy(self, values: &[u8], out: &mut [u8], _: Stores) {
        let len = values.len().min(out.len());
        out[..len].copy_from_slice(&values[..len]);
    }

    #[inline(always)]
    fn normalize(self, values: &[u8], out: &mut [f32], (scale, shift): (f32, f32), _: Stores) {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = f32::from(value) * scale + shift;
        }
    }

    #[inline(always)]
    fn split(self, interleaved: &[u8], [r, g, b]: [&mut [u8]; 3]) {
        let (pixels, _) = interleaved.as_chunks::<3>();
        for (((r, g), b), pixel) in r.iter_mut().zip(g).zip(b).zip(pixels) {
            [*r, *g, *b] = *pixel;
        }
    }

    #[inline(always)]
    fn sum_of_rows(self, rows: &[u8], stride: usize, weights: &[f32]) -> [f32; 8] {
        let mut sums = [0.0; 8];
        for (k, &weight) in weights.iter().enumerate() {
            let values = eight(rows, k * stride);
            for lane in 0..8 {
                sums[lane] += weight * f32::from(values[lane]);
            }
        }
        sums
    }

    #[inline(always)]
    fn sum_of_columns(self, columns: &[[f32; 8]], stride: usize, weights: &[f32]) -> [f32; 8] {
        let mut sums = [0.0; 8];
        for (k, &weight) in weights.iter().enumerate() {
            let values = &columns[k * stride];
            for lane in 0..8 {
                sums[lane] += weight * values[lane];
            }
        }
        sums
    }

    #[inline(always)]
    fn transposed(self, rows: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
        std::array::from_fn(|x| std::array::from_fn(|y| rows[y][x]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct All<'a> {
        values: &'a [u8],
        start: usize,
        stores: Stores,
    }

    impl Work for All<'_> {
        type Output = (Vec<u8>, Vec<u32>, [Vec<u8>; 3], Vec<[f32; 8]>);

        #[inline(always)]
        fn run<S: Steps>(self, steps: S) -> Self::Output {
            let All { values, start, stores } = self;
            // A start that is aligned to nothing, and guards on both sides.
            let mut copied = vec![7; start + values.len() + 3];
            steps.copy(values, &mut copied[start..start + values.len()], stores);
            let mut normalized = vec![7.0; start + values.len() + 3];
            let range = start..start + values.len();
            steps.normalize(values, &mut normalized[range], (0.0173, -1.79), stores);
            let mut planes: [Vec<u8>; 3] = std::array::from_fn(|_| vec![9; values.len() / 3]);
            steps.split(values, planes.each_mut().map(Vec::as_mut_slice));
            let rows = std::array::from_fn(|y| std::array::from_fn(|x| (8 * y + x) as f32 / 7.0));
            let mut blocks = steps.transposed(&rows).to_vec();
            assert!((0..64).all(|at| blocks[at % 8][at / 8] == rows[at / 8][at % 8]));
            let weights = [0.1, -0.7, 1.3, 0.01].map(|weight: f32| weight / 3.0);
            blocks.push(steps.sum_of_columns(&rows, 2, &weights));
            for stride in 0..values.len().saturating_sub(7) / 3 {
                blocks.push(steps.sum_of_rows(values, stride, &weights));
            }
            let bits = normalized.into_iter().map(f32::to_bits).collect();
            (copied, bits, planes, blocks)
        }
    }

    #[test]
    fn all_instructions_give_the_same_bits_at_any_length_and_alignment() {
        let values: Vec<u8> = (0..1000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for len in (0..200).chain([255, 256, 257, 999, 1000]) {
            for start in [0, 1, 5, 8, 31] {
                let with =
                    |instructions, stores| run(instructions, All { values: &values[..len], start, stores });
                let wanted = with(Instructions::Plain, Stores::Cached);
                assert_eq!(wanted.0[start..start + len], values[..len]);
                for instructions in Instructions::ALL {
                    for stores in [Stores::Cached, Stores::Streamed] {
                        assert!(
                            with(instructions, stores) == wanted,
                            "{len} {start} {instructions:?} {stores:?}"
                        );
                    }
                }
            }
        }
    }
}
