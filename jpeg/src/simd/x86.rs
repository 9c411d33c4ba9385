//! The steps in AVX2. This is the one home of the crate's `unsafe`: instructions that were looked for.
#![expect(unsafe_code, reason = "instructions that were looked for at run time")]

use std::arch::x86_64::*;

use super::{BLUE_OF_CB, Block, GREEN_OF_CB, GREEN_OF_CR, Kernels, Plain, RED_OF_CR, Transform, Work};
use crate::{
    Broken,
    bits::Bits,
    fast::{self, Tables},
    idct::{self, Coefficients, FRACTION, KEPT, pairs},
};

/// Proof that the machine has AVX2, BMI1 and BMI2.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, where the machine has them.
    pub fn found() -> Option<Self> {
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

#[target_feature(enable = "avx2,bmi1,bmi2")]
#[inline(never)]
fn coefficients(
    tables: Tables<'_>,
    bits: &mut Bits,
    mean: &mut i32,
    block: &mut Coefficients,
) -> Result<usize, Broken> {
    fast::coefficients(tables, bits, mean, block)
}

impl Transform for Avx2 {
    #[inline(always)]
    fn inverse_transform(self, block: &Block, columns: &mut [[u8; 8]; 8]) {
        // SAFETY: `self` proves the instructions.
        unsafe { inverse_transform(block, columns) }
    }
}

impl Kernels for Avx2 {
    #[inline(always)]
    fn coefficients(
        self,
        tables: Tables<'_>,
        bits: &mut Bits,
        mean: &mut i32,
        block: &mut Coefficients,
    ) -> Result<usize, Broken> {
        // SAFETY: `self` proves the instructions.
        unsafe { coefficients(tables, bits, mean, block) }
    }

    #[inline(always)]
    fn block(self, block: &Coefficients, steps: &Coefficients, out: &mut [u8], stride: usize) {
        // SAFETY: `self` proves the instructions.
        unsafe { rows(block, steps, out, stride) }
    }

    #[inline(always)]
    fn colours(self, ycc: [&[u8]; 3], rgb: [&mut [u8]; 3]) {
        // SAFETY: `self` proves the instructions.
        unsafe { colours(ycc, rgb) }
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
        if at < 4 { _mm256_permute2x128_si256::<0x20>(a, b) } else { _mm256_permute2x128_si256::<0x31>(a, b) }
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

/// `idct::line_16` for eight lines at once, of pairs 0 and 4, 2 and 6, 1 and 7, 5 and 3; without the narrowing.
#[target_feature(enable = "avx2")]
#[inline]
fn lines_16<const SHIFT: i32>([p04, p26, p17, p53]: [__m256i; 4]) -> [__m256i; 8] {
    let times = |pair, [a, b]: [i16; 2]| {
        _mm256_madd_epi16(pair, _mm256_set1_epi32(i32::from(a) & 0xffff | i32::from(b) << 16))
    };
    let add = |a, b| _mm256_add_epi32(a, b);
    let less = |a, b| _mm256_sub_epi32(a, b);
    let half = _mm256_set1_epi32(1 << (SHIFT - 1));
    let (t0, t1) = (add(times(p04, pairs::SUM), half), add(times(p04, pairs::DIFFERENCE), half));
    let (t2, t3) = (times(p26, pairs::EVEN_2), times(p26, pairs::EVEN_3));
    let even = [add(t0, t3), add(t1, t2), less(t1, t2), less(t0, t3)];
    let z = _mm256_add_epi16(p17, p53);
    // 1 + 5 and 7 + 3.
    let (y3, y4) = (times(z, pairs::Z3), times(z, pairs::Z4));
    let odd = [
        add(times(p17, pairs::ODD_3), y4),
        add(times(p53, pairs::ODD_2), y3),
        add(times(p53, pairs::ODD_1), y4),
        add(times(p17, pairs::ODD_0), y3),
    ];
    std::array::from_fn(|at| {
        let sum = if at < 4 { add(even[at], odd[at]) } else { less(even[7 - at], odd[7 - at]) };
        _mm256_srai_epi32::<SHIFT>(sum)
    })
}

/// Pairs for [`lines_16`] of rows as [`Coefficients`] have them.
#[target_feature(enable = "avx2")]
#[inline]
fn pairs_of([r01, r23, r45, r67]: [__m256i; 4]) -> [__m256i; 4] {
    [
        _mm256_unpacklo_epi16(r01, r45),
        _mm256_unpacklo_epi16(r23, r67),
        _mm256_unpackhi_epi16(r01, r67),
        _mm256_unpackhi_epi16(r45, r23),
    ]
}

#[target_feature(enable = "avx2")]
#[inline]
fn rows(block: &Coefficients, steps: &Coefficients, out: &mut [u8], stride: usize) {
    let load = |from: &Coefficients, at: usize| {
        // SAFETY: there are four vectors of 256 bits in the first 64 numbers of 16 bits, which are aligned to 32 bytes.
        unsafe { _mm256_load_si256(from.0.as_ptr().cast::<__m256i>().add(at)) }
    };
    let scaled = std::array::from_fn::<_, 4, _>(|at| _mm256_mullo_epi16(load(block, at), load(steps, at)));
    let down = lines_16::<{ FRACTION - KEPT }>(pairs_of(scaled));

    // Turned: quarters of four numbers are rows 0 to 3 and 4 to 7 of a column.
    let upper_lower = |first: usize| {
        let (a, b) = (
            _mm256_packs_epi32(down[first], down[first + 2]),
            _mm256_packs_epi32(down[first + 1], down[first + 3]),
        );
        let (low, high) = (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
        (_mm256_unpacklo_epi32(low, high), _mm256_unpackhi_epi32(low, high))
    };
    let ((a01, a23), (b01, b23)) = (upper_lower(0), upper_lower(4));
    let turned = [
        _mm256_permute2x128_si256::<0x20>(a01, b01),
        _mm256_permute2x128_si256::<0x20>(a23, b23),
        _mm256_permute2x128_si256::<0x31>(a01, b01),
        _mm256_permute2x128_si256::<0x31>(a23, b23),
    ];
    let across = lines_16::<{ FRACTION + KEPT + 3 }>(pairs_of(turned));

    // Lower halves hold rows 0 to 3, upper ones 4 to 7; their bytes are turned four by four.
    let order =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    let four = |at: usize| {
        let two = |at: usize| _mm256_packs_epi32(across[at], across[at + 1]);
        _mm256_shuffle_epi8(_mm256_packs_epi16(two(at), two(at + 2)), order)
    };
    let middle = _mm256_set1_epi8(-128);
    let (left, right) = (_mm256_xor_si256(four(0), middle), _mm256_xor_si256(four(4), middle));
    let (r0145, r2367) = (_mm256_unpacklo_epi32(left, right), _mm256_unpackhi_epi32(left, right));
    let two_rows = [
        _mm256_castsi256_si128(r0145),
        _mm256_castsi256_si128(r2367),
        _mm256_extracti128_si256::<1>(r0145),
        _mm256_extracti128_si256::<1>(r2367),
    ];
    if stride < 8 || out.len() < 7 * stride + 8 {
        return;
    }
    for (at, two) in two_rows.into_iter().enumerate() {
        // SAFETY: `out` has eight bytes from 7 strides on.
        unsafe {
            let to = out.as_mut_ptr().add(2 * at * stride);
            _mm_storel_epi64(to.cast(), two);
            _mm_storel_epi64(to.add(stride).cast(), _mm_unpackhi_epi64(two, two));
        }
    }
}

/// Sixteen pixels at a time; what a machine cannot multiply in 16 bits is taken apart: 1.402 = 1 + 0.402,
/// 1.772 = 2 - 0.228, 0.714… = 1 - 0.285….
#[target_feature(enable = "avx2")]
#[inline]
fn colours([y, cb, cr]: [&[u8]; 3], [r, g, b]: [&mut [u8]; 3]) {
    let len = [y.len(), cb.len(), cr.len(), r.len(), g.len(), b.len()].into_iter().min().unwrap_or(0);
    let (middle, one) = (_mm256_set1_epi16(128), _mm256_set1_epi16(1));
    let (r_of_cr, b_of_cb) =
        (_mm256_set1_epi16((RED_OF_CR - 65_536) as i16), _mm256_set1_epi16((BLUE_OF_CB - 2 * 65_536) as i16));
    let g_of_both = _mm256_set1_epi32(GREEN_OF_CB & 0xffff | (GREEN_OF_CR + 65_536) << 16);
    let half = _mm256_set1_epi32(1 << 15);
    // A 16-bit product's upper half with rounding; twice the value first, for the half that is added is a bit lower.
    let part = |value, by| {
        let twice = _mm256_mulhi_epi16(_mm256_add_epi16(value, value), by);
        _mm256_srai_epi16::<1>(_mm256_add_epi16(twice, one))
    };
    let pair = |both| _mm256_srai_epi32::<16>(_mm256_add_epi32(_mm256_madd_epi16(both, g_of_both), half));
    let mut at = 0;
    while at + 16 <= len {
        let load = |from: &[u8]| {
            // SAFETY: 16 bytes are left of all.
            _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(from.as_ptr().add(at).cast()) })
        };
        let store = |to: &mut [u8], values| {
            let bytes =
                _mm_packus_epi16(_mm256_castsi256_si128(values), _mm256_extracti128_si256::<1>(values));
            // SAFETY: as above.
            unsafe { _mm_storeu_si128(to.as_mut_ptr().add(at).cast(), bytes) };
        };
        let (y, cb, cr) = (load(y), _mm256_sub_epi16(load(cb), middle), _mm256_sub_epi16(load(cr), middle));
        store(r, _mm256_add_epi16(_mm256_add_epi16(y, cr), part(cr, r_of_cr)));
        let (low, high) = (_mm256_unpacklo_epi16(cb, cr), _mm256_unpackhi_epi16(cb, cr));
        let both = _mm256_packs_epi32(pair(low), pair(high));
        store(g, _mm256_sub_epi16(_mm256_add_epi16(y, both), cr));
        store(b, _mm256_add_epi16(_mm256_add_epi16(y, _mm256_add_epi16(cb, cb)), part(cb, b_of_cb)));
        at += 16;
    }
    Plain.colours(
        [&y[at..len], &cb[at..len], &cr[at..len]],
        [&mut r[at..len], &mut g[at..len], &mut b[at..len]],
    );
}
