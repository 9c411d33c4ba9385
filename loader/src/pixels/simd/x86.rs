//! The steps in AVX2 and AVX-512. This is the one home of the loader's `unsafe`: instructions that were looked for.
//! Streamed stores, which only work that is run here can make, are fenced when it ends, so that no other thread can see
//! a batch without them.
#![expect(unsafe_code, reason = "instructions that were looked for at run time")]

use std::arch::x86_64::*;

use super::super::CHUNK_BYTES;
use super::{Plain, Steps, Stores, Work, eight};

/// Proof that the machine has AVX2, BMI1 and BMI2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

/// Proof that the machine has AVX-512 F, BW, DQ and VL, and what [`Avx2`] proves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(Avx2);

impl Avx2 {
    pub(super) fn found() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2");
        found.then_some(Self(()))
    }

    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        // SAFETY: `self` proves the instructions.
        unsafe { run_avx2(self, work) }
    }
}

impl Avx512 {
    pub(super) fn found() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if found { Avx2::found().map(Self) } else { None }
    }

    pub(super) fn run<W: Work>(self, work: W) -> W::Output {
        // SAFETY: `self` proves the instructions.
        unsafe { run_avx512(self, work) }
    }
}

/// Makes streamed stores visible before whatever follows the work, even where it panics.
struct Fence;

impl Drop for Fence {
    fn drop(&mut self) {
        // SAFETY: every x86-64 has SSE.
        unsafe { _mm_sfence() };
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn run_avx2<W: Work>(proof: Avx2, work: W) -> W::Output {
    let _fence = Fence;
    work.run(proof)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2")]
fn run_avx512<W: Work>(proof: Avx512, work: W) -> W::Output {
    let _fence = Fence;
    work.run(proof)
}

impl Steps for Avx2 {
    #[inline(always)]
    fn copy(self, values: &[u8], out: &mut [u8], stores: Stores) {
        match stores {
            Stores::Cached => Plain.copy(values, out, stores),
            // SAFETY: `self` proves the instructions.
            Stores::Streamed => unsafe { stream_copy(values, out) },
        }
    }

    #[inline(always)]
    fn normalize(self, values: &[u8], out: &mut [f32], affine: (f32, f32), stores: Stores) {
        match stores {
            Stores::Cached => Plain.normalize(values, out, affine, stores),
            // SAFETY: `self` proves the instructions.
            Stores::Streamed => unsafe { stream_normalize(values, out, affine) },
        }
    }

    #[inline(always)]
    fn split(self, interleaved: &[u8], planes: [&mut [u8]; 3]) {
        // SAFETY: `self` proves the instructions.
        unsafe { split(interleaved, planes) }
    }

    #[inline(always)]
    fn sum_of_rows(self, rows: &[u8], stride: usize, weights: &[f32]) -> [f32; 8] {
        // SAFETY: `self` proves the instructions.
        unsafe { sum_of_rows(rows, stride, weights) }
    }

    #[inline(always)]
    fn sum_of_columns(self, columns: &[[f32; 8]], stride: usize, weights: &[f32]) -> [f32; 8] {
        // SAFETY: `self` proves the instructions.
        unsafe { sum_of_columns(columns, stride, weights) }
    }

    #[inline(always)]
    fn transposed(self, rows: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
        // SAFETY: `self` proves the instructions.
        unsafe { transposed(rows) }
    }
}

impl Steps for Avx512 {
    #[inline(always)]
    fn copy(self, values: &[u8], out: &mut [u8], stores: Stores) {
        match stores {
            Stores::Cached => Plain.copy(values, out, stores),
            // SAFETY: `self` proves the instructions.
            Stores::Streamed => unsafe { stream_copy_512(values, out) },
        }
    }

    #[inline(always)]
    fn normalize(self, values: &[u8], out: &mut [f32], affine: (f32, f32), stores: Stores) {
        match stores {
            Stores::Cached => Plain.normalize(values, out, affine, stores),
            // SAFETY: `self` proves the instructions.
            Stores::Streamed => unsafe { stream_normalize_512(values, out, affine) },
        }
    }

    #[inline(always)]
    fn split(self, interleaved: &[u8], planes: [&mut [u8]; 3]) {
        self.0.split(interleaved, planes);
    }

    #[inline(always)]
    fn sum_of_rows(self, rows: &[u8], stride: usize, weights: &[f32]) -> [f32; 8] {
        self.0.sum_of_rows(rows, stride, weights)
    }

    #[inline(always)]
    fn sum_of_columns(self, columns: &[[f32; 8]], stride: usize, weights: &[f32]) -> [f32; 8] {
        self.0.sum_of_columns(columns, stride, weights)
    }

    #[inline(always)]
    fn transposed(self, rows: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
        self.0.transposed(rows)
    }
}

/// Both slices at their common length, cut where `out` is first aligned to 64 bytes; nothing is left of the second
/// part where that is nowhere.
#[inline(always)]
fn aligned<'a, T>(values: &'a [u8], out: &'a mut [T]) -> [(&'a [u8], &'a mut [T]); 2] {
    let len = values.len().min(out.len());
    let head = out.as_ptr().align_offset(64).min(len);
    let (first, rest) = values[..len].split_at(head);
    let (out_first, out_rest) = out[..len].split_at_mut(head);
    [(first, out_first), (rest, out_rest)]
}

/// Asks for what comes a chunk later, so that it is read while results are written and not after: a sixth more
/// checked f32 samples a second on a Zen 3; copies gain nothing by it.
#[inline(always)]
fn ahead(values: &[u8]) {
    // SAFETY: every x86-64 has SSE, and a prefetch reads nothing that the program could see, from whatever address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().wrapping_add(CHUNK_BYTES).cast()) };
}

#[target_feature(enable = "avx2")]
#[inline]
fn stream_copy(values: &[u8], out: &mut [u8]) {
    let [head, (values, out)] = aligned(values, out);
    Plain.copy(head.0, head.1, Stores::Cached);
    let (blocks, rest) = values.as_chunks::<64>();
    let (out_blocks, out_rest) = out.as_chunks_mut::<64>();
    for (block, out) in blocks.iter().zip(out_blocks) {
        // SAFETY: a block has 64 bytes, and `aligned` made the start of each of `out`'s a multiple of 64.
        unsafe {
            let from = block.as_ptr().cast::<__m256i>();
            let to = out.as_mut_ptr().cast::<__m256i>();
            let (first, second) = (_mm256_loadu_si256(from), _mm256_loadu_si256(from.add(1)));
            _mm256_stream_si256(to, first);
            _mm256_stream_si256(to.add(1), second);
        }
    }
    Plain.copy(rest, out_rest, Stores::Cached);
}

#[target_feature(enable = "avx2")]
#[inline]
fn stream_normalize(values: &[u8], out: &mut [f32], affine: (f32, f32)) {
    let [head, (values, out)] = aligned(values, out);
    Plain.normalize(head.0, head.1, affine, Stores::Cached);
    let (scale, shift) = (_mm256_set1_ps(affine.0), _mm256_set1_ps(affine.1));
    let (blocks, rest) = values.as_chunks::<32>();
    let (out_blocks, out_rest) = out.as_chunks_mut::<32>();
    for (block, out) in blocks.iter().zip(out_blocks) {
        ahead(block);
        let (eights, _) = block.as_chunks::<8>();
        let (out_eights, _) = out.as_chunks_mut::<8>();
        for (eight, out) in eights.iter().zip(out_eights) {
            let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(*eight));
            let wide = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
            let result = _mm256_add_ps(_mm256_mul_ps(wide, scale), shift);
            // SAFETY: eight floats are 32 bytes, and `aligned` made the start of the first a multiple of 64.
            unsafe { _mm256_stream_ps(out.as_mut_ptr(), result) };
        }
    }
    Plain.normalize(rest, out_rest, affine, Stores::Cached);
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn stream_copy_512(values: &[u8], out: &mut [u8]) {
    let [head, (values, out)] = aligned(values, out);
    Plain.copy(head.0, head.1, Stores::Cached);
    let (blocks, rest) = values.as_chunks::<64>();
    let (out_blocks, out_rest) = out.as_chunks_mut::<64>();
    for (block, out) in blocks.iter().zip(out_blocks) {
        // SAFETY: a block has 64 bytes, and `aligned` made the start of each of `out`'s a multiple of 64.
        unsafe {
            _mm512_stream_si512(out.as_mut_ptr().cast(), _mm512_loadu_si512(block.as_ptr().cast()));
        }
    }
    Plain.copy(rest, out_rest, Stores::Cached);
}

#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn stream_normalize_512(values: &[u8], out: &mut [f32], affine: (f32, f32)) {
    let [head, (values, out)] = aligned(values, out);
    Plain.normalize(head.0, head.1, affine, Stores::Cached);
    let (scale, shift) = (_mm512_set1_ps(affine.0), _mm512_set1_ps(affine.1));
    let (blocks, rest) = values.as_chunks::<16>();
    let (out_blocks, out_rest) = out.as_chunks_mut::<16>();
    for (block, out) in blocks.iter().zip(out_blocks) {
        ahead(block);
        // SAFETY: a block has 16 bytes; 16 floats are 64 bytes, to which `aligned` aligned the first.
        unsafe {
            let bytes = _mm_loadu_si128(block.as_ptr().cast());
            let wide = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
            _mm512_stream_ps(out.as_mut_ptr(), _mm512_add_ps(_mm512_mul_ps(wide, scale), shift));
        }
    }
    Plain.normalize(rest, out_rest, affine, Stores::Cached);
}

/// For channel `c`, where its 16 bytes stand in a row of three vectors: in vector v at the places p with
/// (16·v + p) mod 3 = c. No place is taken by two vectors, so that two blends and one shuffle gather a channel.
const fn places(c: usize) -> ([[u8; 16]; 2], [u8; 16]) {
    let (mut blends, mut shuffle) = ([[0; 16]; 2], [0; 16]);
    let mut pixel = 0;
    while pixel < 16 {
        let byte = 3 * pixel + c;
        shuffle[pixel] = (byte % 16) as u8;
        if byte >= 16 {
            blends[byte / 16 - 1][byte % 16] = 0xFF;
        }
        pixel += 1;
    }
    (blends, shuffle)
}

const PLACES: [([[u8; 16]; 2], [u8; 16]); 3] = [places(0), places(1), places(2)];

#[target_feature(enable = "avx2")]
#[inline]
fn split(interleaved: &[u8], planes: [&mut [u8]; 3]) {
    let len = planes.iter().map(|plane| plane.len()).min().unwrap_or(0).min(interleaved.len() / 3);
    let blocks = len / 32;
    let twice = |half: [u8; 16]| {
        // SAFETY: 16 bytes are read from an array of 16.
        _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(half.as_ptr().cast()) })
    };
    let masks = PLACES.map(|(blends, shuffle)| (blends.map(twice), twice(shuffle)));
    let mut planes = planes;
    for (block, bytes) in interleaved.as_chunks::<96>().0.iter().take(blocks).enumerate() {
        // Pixels 0 to 15 in the lower halves, 16 to 31 in the upper ones.
        let vectors: [__m256i; 3] = std::array::from_fn(|at| {
            // SAFETY: both ends, 16·at + 16 and 16·at + 64, are within the 96 bytes.
            unsafe {
                let from = bytes.as_ptr().add(16 * at).cast::<__m128i>();
                _mm256_inserti128_si256::<1>(
                    _mm256_castsi128_si256(_mm_loadu_si128(from)),
                    _mm_loadu_si128(from.add(3)),
                )
            }
        });
        for (plane, (blends, shuffle)) in planes.iter_mut().zip(masks) {
            let mixed = _mm256_blendv_epi8(vectors[0], vectors[1], blends[0]);
            let mixed = _mm256_blendv_epi8(mixed, vectors[2], blends[1]);
            let out = &mut plane[32 * block..32 * block + 32];
            // SAFETY: `out` has 32 bytes.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_shuffle_epi8(mixed, shuffle)) };
        }
    }
    let done = 32 * blocks;
    Plain.split(&interleaved[3 * done..3 * len], planes.map(|plane| &mut plane[done..len]));
}

#[target_feature(enable = "avx2")]
#[inline]
fn sum_of_rows(rows: &[u8], stride: usize, weights: &[f32]) -> [f32; 8] {
    let mut sums = _mm256_setzero_ps();
    for (k, &weight) in weights.iter().enumerate() {
        let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(eight(rows, k * stride)));
        let wide = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
        sums = _mm256_add_ps(sums, _mm256_mul_ps(_mm256_set1_ps(weight), wide));
    }
    // SAFETY: a vector of 256 bits and eight floats are alike.
    unsafe { std::mem::transmute(sums) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn sum_of_columns(columns: &[[f32; 8]], stride: usize, weights: &[f32]) -> [f32; 8] {
    let mut sums = _mm256_setzero_ps();
    for (k, &weight) in weights.iter().enumerate() {
        let column = &columns[k * stride];
        // SAFETY: a column has eight floats.
        let column = unsafe { _mm256_loadu_ps(column.as_ptr()) };
        sums = _mm256_add_ps(sums, _mm256_mul_ps(_mm256_set1_ps(weight), column));
    }
    // SAFETY: as above.
    unsafe { std::mem::transmute(sums) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn transposed(rows: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
    // SAFETY: eight vectors of 256 bits and 8×8 floats are alike.
    let rows: [__m256; 8] = unsafe { std::mem::transmute(*rows) };
    let pairs: [__m256; 8] = std::array::from_fn(|at| {
        let (a, b) = (rows[at / 2 * 2], rows[at / 2 * 2 + 1]);
        if at % 2 == 0 { _mm256_unpacklo_ps(a, b) } else { _mm256_unpackhi_ps(a, b) }
    });
    let fours: [__m256; 8] = std::array::from_fn(|at| {
        let from = at / 4 * 4 + at % 4 / 2;
        let (a, b) = (_mm256_castps_pd(pairs[from]), _mm256_castps_pd(pairs[from + 2]));
        _mm256_castpd_ps(if at % 2 == 0 { _mm256_unpacklo_pd(a, b) } else { _mm256_unpackhi_pd(a, b) })
    });
    let columns: [__m256; 8] = std::array::from_fn(|at| {
        let (a, b) = (fours[at % 4], fours[at % 4 + 4]);
        if at < 4 { _mm256_permute2f128_ps::<0x20>(a, b) } else { _mm256_permute2f128_ps::<0x31>(a, b) }
    });
    // SAFETY: as above.
    unsafe { std::mem::transmute(columns) }
}
