//! The inverse cosine transform of a block: the slow and accurate integer one of libjpeg (Loeffler, Ligtenberg and
//! Moschytz 1989, with 11 multiplications), bit for bit. Twice: with numbers of 32 bits throughout, and with 16 bits
//! between the steps as libjpeg-turbo's SIMD has them. They differ only for coefficients that no picture has. Written
//! lane by lane, so that the compiler makes SIMD of it.

/// Bits of the constants below the point.
pub(crate) const FRACTION: i32 = 13;
/// Bits that the first pass keeps below the point.
pub(crate) const KEPT: i32 = 2;

/// 2¹³ times the constants of the transform.
pub(crate) mod turn {
    pub(crate) const C0_298631336: i32 = 2446;
    pub(crate) const C0_390180644: i32 = 3196;
    pub(crate) const C0_541196100: i32 = 4433;
    pub(crate) const C0_765366865: i32 = 6270;
    pub(crate) const C0_899976223: i32 = 7373;
    pub(crate) const C1_175875602: i32 = 9633;
    pub(crate) const C1_501321110: i32 = 12_299;
    pub(crate) const C1_847759065: i32 = 15_137;
    pub(crate) const C1_961570560: i32 = 16_069;
    pub(crate) const C2_053119869: i32 = 16_819;
    pub(crate) const C2_562915447: i32 = 20_995;
    pub(crate) const C3_072711026: i32 = 25_172;
}

/// One 8-point transform; results are rounded and shifted down by `shift`.
#[inline(always)]
fn line(input: [i32; 8], shift: i32) -> [i32; 8] {
    use turn::*;
    let times = |value: i32, constant: i32| value.wrapping_mul(constant);
    let add = |a: i32, b: i32| a.wrapping_add(b);
    let z1 = times(add(input[2], input[6]), C0_541196100);
    let t2 = add(z1, times(input[6], -C1_847759065));
    let t3 = add(z1, times(input[2], C0_765366865));
    let t0 = add(input[0], input[4]).wrapping_shl(FRACTION as u32);
    let t1 = input[0].wrapping_sub(input[4]).wrapping_shl(FRACTION as u32);
    let even = [add(t0, t3), add(t1, t2), t1.wrapping_sub(t2), t0.wrapping_sub(t3)];

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
    let rounded = |value: i32| add(value, 1 << (shift - 1)) >> shift;
    [
        rounded(add(even[0], odd[0])),
        rounded(add(even[1], odd[1])),
        rounded(add(even[2], odd[2])),
        rounded(add(even[3], odd[3])),
        rounded(even[3].wrapping_sub(odd[3])),
        rounded(even[2].wrapping_sub(odd[2])),
        rounded(even[1].wrapping_sub(odd[1])),
        rounded(even[0].wrapping_sub(odd[0])),
    ]
}

/// Coefficients, times their steps, rows first → samples, columns first: `columns[x][y]`.
#[inline(always)]
pub(crate) fn samples(block: &[i32; 64], columns: &mut [[u8; 8]; 8]) {
    let mut down = [0i32; 64];
    for x in 0..8 {
        let input = std::array::from_fn(|y| block[8 * y + x]);
        let output = line(input, FRACTION - KEPT);
        for (y, value) in output.into_iter().enumerate() {
            down[8 * y + x] = value;
        }
    }
    let mut turned = [0i32; 64];
    for y in 0..8 {
        for x in 0..8 {
            turned[8 * x + y] = down[8 * y + x];
        }
    }
    for y in 0..8 {
        let input = std::array::from_fn(|x| turned[8 * x + y]);
        let output = line(input, FRACTION + KEPT + 3);
        for (x, value) in output.into_iter().enumerate() {
            columns[x][y] = value.wrapping_add(128).clamp(0, 255) as u8;
        }
    }
}

/// A block that has but its mean.
#[inline(always)]
pub(super) fn flat(mean: i32) -> u8 {
    // Both passes of the transform come to this.
    ((mean.wrapping_shl(KEPT as u32).wrapping_add(1 << (KEPT + 2))) >> (KEPT + 3))
        .wrapping_add(128)
        .clamp(0, 255) as u8
}

/// A block's coefficients, or their steps. Two rows of a block stand together, their left halves first: so that a
/// vector of 256 bits has the left half of each in its lower half, and pairs of rows need no turning. Behind the 64 is a
/// place for what belongs nowhere.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Coefficients(pub(crate) [i16; BEYOND + 1]);

/// The place for what belongs nowhere.
pub(crate) const BEYOND: usize = 64;

impl Default for Coefficients {
    #[inline(always)]
    fn default() -> Self {
        Self([0; BEYOND + 1])
    }
}

/// Where a coefficient stands in [`Coefficients`], rows first.
pub(crate) const PLACES: [u8; 64] = {
    let mut places = [0; 64];
    let mut at = 0;
    while at < 64 {
        let (y, x) = (at / 8, at % 8);
        places[at] = (y / 2 * 16 + x / 4 * 8 + y % 2 * 4 + x % 4) as u8;
        at += 1;
    }
    places
};

/// One 8-point transform of numbers of 16 bits, rounded and shifted down by `shift`.
#[inline(always)]
fn line_16(input: [i16; 8], shift: i32) -> [i16; 8] {
    use pairs::*;
    let pair =
        |a: i16, b: i16, by: [i16; 2]| i32::from(a) * i32::from(by[0]) + i32::from(b) * i32::from(by[1]);
    let add = |a: i32, b: i32| a.wrapping_add(b);
    let [i0, i1, i2, i3, i4, i5, i6, i7] = input;
    let half = 1 << (shift - 1);
    let (t0, t1) = (pair(i0, i4, SUM) + half, pair(i0, i4, DIFFERENCE) + half);
    let (t2, t3) = (pair(i2, i6, EVEN_2), pair(i2, i6, EVEN_3));
    let even = [add(t0, t3), add(t1, t2), t1.wrapping_sub(t2), t0.wrapping_sub(t3)];
    let (z4, z3) = (i1.wrapping_add(i5), i7.wrapping_add(i3));
    let (y3, y4) = (pair(z4, z3, Z3), pair(z4, z3, Z4));
    let odd = [
        add(pair(i1, i7, ODD_3), y4),
        add(pair(i5, i3, ODD_2), y3),
        add(pair(i5, i3, ODD_1), y4),
        add(pair(i1, i7, ODD_0), y3),
    ];
    std::array::from_fn(|at| {
        let sum = if at < 4 { add(even[at], odd[at]) } else { even[7 - at].wrapping_sub(odd[7 - at]) };
        (sum >> shift).clamp(i16::MIN.into(), i16::MAX.into()) as i16
    })
}

/// The products of [`line_16`] in pairs, of which a machine makes a sum at once.
pub(crate) mod pairs {
    use super::turn::*;

    /// Constants that fit 16 bits, as sums of those that the transform has.
    const fn short(constant: i32) -> i16 {
        assert!(constant as i16 as i32 == constant);
        constant as i16
    }

    pub(crate) const SUM: [i16; 2] = [1 << super::FRACTION; 2];
    pub(crate) const DIFFERENCE: [i16; 2] = [1 << super::FRACTION, -1 << super::FRACTION];
    pub(crate) const EVEN_2: [i16; 2] = [short(C0_541196100), short(C0_541196100 - C1_847759065)];
    pub(crate) const EVEN_3: [i16; 2] = [short(C0_541196100 + C0_765366865), short(C0_541196100)];
    /// Of 1 + 5 and 7 + 3.
    pub(crate) const Z3: [i16; 2] = [short(C1_175875602), short(C1_175875602 - C1_961570560)];
    pub(crate) const Z4: [i16; 2] = [short(C1_175875602 - C0_390180644), short(C1_175875602)];
    /// Of 1 and 7.
    pub(crate) const ODD_0: [i16; 2] = [short(-C0_899976223), short(C0_298631336 - C0_899976223)];
    pub(crate) const ODD_3: [i16; 2] = [short(C1_501321110 - C0_899976223), short(-C0_899976223)];
    /// Of 5 and 3.
    pub(crate) const ODD_1: [i16; 2] = [short(C2_053119869 - C2_562915447), short(-C2_562915447)];
    pub(crate) const ODD_2: [i16; 2] = [short(-C2_562915447), short(C3_072711026 - C2_562915447)];
}

/// Coefficients and their steps → rows of samples.
pub(crate) fn rows(block: &Coefficients, steps: &Coefficients) -> [[u8; 8]; 8] {
    let value = |y: usize, x: usize| {
        let place = usize::from(PLACES[8 * y + x]);
        block.0[place].wrapping_mul(steps.0[place])
    };
    let columns: [[i16; 8]; 8] =
        std::array::from_fn(|x| line_16(std::array::from_fn(|y| value(y, x)), FRACTION - KEPT));
    std::array::from_fn(|y| {
        let row = line_16(std::array::from_fn(|x| columns[x][y]), FRACTION + KEPT + 3);
        row.map(|value| (value.clamp(-128, 127) + 128) as u8)
    })
}
