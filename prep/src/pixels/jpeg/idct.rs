//! The inverse cosine transform of a block: the slow and accurate integer one of libjpeg (Loeffler, Ligtenberg and
//! Moschytz 1989, with 11 multiplications), bit for bit. Written lane by lane, so that the compiler makes SIMD of it.

/// Bits of the constants below the point.
pub(in super::super) const FRACTION: i32 = 13;
/// Bits that the first pass keeps below the point.
pub(in super::super) const KEPT: i32 = 2;

/// 2¹³ times the constants of the transform.
pub(in super::super) mod turn {
    pub(in super::super::super) const C0_298631336: i32 = 2446;
    pub(in super::super::super) const C0_390180644: i32 = 3196;
    pub(in super::super::super) const C0_541196100: i32 = 4433;
    pub(in super::super::super) const C0_765366865: i32 = 6270;
    pub(in super::super::super) const C0_899976223: i32 = 7373;
    pub(in super::super::super) const C1_175875602: i32 = 9633;
    pub(in super::super::super) const C1_501321110: i32 = 12_299;
    pub(in super::super::super) const C1_847759065: i32 = 15_137;
    pub(in super::super::super) const C1_961570560: i32 = 16_069;
    pub(in super::super::super) const C2_053119869: i32 = 16_819;
    pub(in super::super::super) const C2_562915447: i32 = 20_995;
    pub(in super::super::super) const C3_072711026: i32 = 25_172;
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
pub(in super::super) fn samples(block: &[i32; 64], columns: &mut [[u8; 8]; 8]) {
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
