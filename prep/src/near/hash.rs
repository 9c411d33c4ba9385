//! A picture's perceptual hash: 64 bits that survive another JPEG quality, another size, a little light, a sliver
//! cut off. It leaves out mirrored and turned pictures and crops of more than a few per cent, which hash like others.
//!
//! The method is pHash's (C. Zauner, *Implementation and Benchmarking of Perceptual Image Hash Functions*, 2010,
//! section 3.1): luma, a reduction to 32×32 by area, the low frequencies of its DCT-II, each a bit that says whether
//! it is above their median. Two things differ. The 64 frequencies are the lowest by diagonals without the constant
//! one, (0,1), (1,0), (0,2) … in the zigzag of JPEG, so that brightness itself has no bit. And a picture of
//! which most of these frequencies are empty has no hash ([`FLAT`]): its bits would be rounding.
//!
//! Measured on 820 photos (COCO, Flickr8k; bicubic to 224×224 after the change), the distance to the unchanged photo
//! and the share of photos within 6 bits:
//!
//! ```text
//! change                                median  95 %  99 %   max   ≤ 4     ≤ 6     ≤ 8
//! JPEG quality 60                            0     2     2     2   100 %   100 %   100 %
//! half the size                              0     2     2     4   100 %   100 %   100 %
//! a third of the size, quality 60            0     2     4     6    99.9 % 100 %   100 %
//! grey                                       0     0     2     2   100 %   100 %   100 %
//! contrast × 0.8                             0     0     0     2   100 %   100 %   100 %
//! brightness × 1.2, clipped                  2     4     6    10    97.2 %  99.3 %  99.8 %
//! 1 % cropped, × 1.1, half size, q 60        2     6     6     8    92.7 %  99.0 % 100 %
//! 2 % cropped on each side                   4     8    10    10    66.3 %  91.1 %  98.3 %
//! 5 % cropped on each side                  10    16    18    22     4.0 %  16.8 %  35.5 %
//! another photo (335,790 pairs)             32     –     –     –   none; nearest 12, 12, 14, 14, 14
//! ```
//!
//! Numbers are integers throughout, so a hash is the same on any machine.

/// The hash of a picture with too little structure to tell it from others: one colour, a plain gradient. It is at a
/// distance from nothing, and [`super::Index`] leaves it out.
pub const FLAT: u64 = 0;

/// Side of the reduced picture.
const SIDE: usize = 32;

/// `round(2¹⁴ · cos(m·π/64))` for m from 0 to 32: with their mirror images every value of the transform.
const COSINES: [i64; 33] = [
    16384, 16364, 16305, 16207, 16069, 15893, 15679, 15426, 15137, 14811, 14449, 14053, 13623, 13160, 12665,
    12140, 11585, 11003, 10394, 9760, 9102, 8423, 7723, 7005, 6270, 5520, 4756, 3981, 3196, 2404, 1606, 804,
    0,
];

/// Fraction bits of a coefficient: 8 of luma's weights, 4 of the mean, 14 of each cosine.
const FRACTION_BITS: u32 = 8 + 4 + 2 * 14;

/// A frequency counts where its wave has an amplitude of a fifth of a grey level; in units of coefficients that is
/// times `(SIDE/2)²`. Noise of JPEG quality 60 stays below half of that, and every one of 820 photos has 52 of 64
/// frequencies above it.
const AMPLITUDE_MIN: i64 = ((SIDE * SIDE / 4) as i64 * (1 << FRACTION_BITS)) / 5;

/// Fewest of the 64 frequencies that must count: with fewer, the median lies among the empty ones.
const FREQUENCIES_MIN: usize = 32;

/// The hash of an RGB picture, rows first: `3·height·width` bytes. [`FLAT`] where it has too little structure, or
/// where the bytes are fewer than the size says.
pub fn hash(rgb: &[u8], height: u32, width: u32) -> u64 {
    if rgb.len() as u64 != 3 * u64::from(height) * u64::from(width) {
        return FLAT;
    }
    let (height, width) = (height as usize, width as usize);
    of_luma(height, width, |row, lumas| {
        for (luma, pixel) in lumas.iter_mut().zip(rgb[3 * width * row..].chunks_exact(3)) {
            *luma = luma_of(pixel[0], pixel[1], pixel[2]);
        }
    })
}

/// The same of a picture in three planes, each `height·width` bytes: the `chw` layout.
pub fn hash_planes(planes: &[u8], height: u32, width: u32) -> u64 {
    if planes.len() as u64 != 3 * u64::from(height) * u64::from(width) {
        return FLAT;
    }
    let (height, width) = (height as usize, width as usize);
    of_luma(height, width, |row, lumas| {
        let of_plane = |plane: usize| &planes[plane * height * width + row * width..][..width];
        let colours = of_plane(0).iter().zip(of_plane(1)).zip(of_plane(2));
        for (luma, ((&red, &green), &blue)) in lumas.iter_mut().zip(colours) {
            *luma = luma_of(red, green, blue);
        }
    })
}

/// Rec. 601 luma, times 256.
fn luma_of(red: u8, green: u8, blue: u8) -> u32 {
    77 * u32::from(red) + 150 * u32::from(green) + 29 * u32::from(blue)
}

/// `fill_row` writes the luma of a row.
fn of_luma(height: usize, width: usize, fill_row: impl Fn(usize, &mut [u32])) -> u64 {
    if height == 0 || width == 0 {
        return FLAT;
    }
    let coefficients = transform(&reduce(height, width, fill_row));
    let mut wave = [0i64; 64];
    for (value, (row, column)) in wave.iter_mut().zip(zigzag()) {
        *value = coefficients[row][column];
    }
    if wave.iter().filter(|value| value.abs() >= AMPLITUDE_MIN).count() < FREQUENCIES_MIN {
        return FLAT;
    }
    let mut sorted = wave;
    sorted.sort_unstable();
    let median = sorted[31]; // the lower of the two in the middle: 32 bits are set unless values are equal
    wave.iter().enumerate().fold(0, |bits, (at, &value)| bits | u64::from(value > median) << at)
}

/// The 64 lowest frequencies after the constant one, by diagonals as JPEG orders them.
fn zigzag() -> impl Iterator<Item = (usize, usize)> {
    (1..FREQUENCIES)
        .flat_map(|sum| (0..=sum).map(move |i| if sum % 2 == 0 { (sum - i, i) } else { (i, sum - i) }))
}

/// Frequencies of each direction that the first 64 of the zigzag need: rows and columns 0 to 10.
const FREQUENCIES: usize = 11;

/// Where pixels go: pixel, cell, and how many 1/32 of the pixel lie in the cell.
fn spans(pixels: usize) -> Vec<(usize, usize, u64)> {
    let mut spans = Vec::with_capacity(pixels + SIDE);
    for pixel in 0..pixels {
        let (first, end) = (SIDE * pixel, SIDE * (pixel + 1)); // cell c covers pixels·c .. pixels·(c+1)
        for cell in first / pixels..=(end - 1) / pixels {
            let overlap = end.min(pixels * (cell + 1)) - first.max(pixels * cell);
            spans.push((pixel, cell, overlap as u64));
        }
    }
    spans
}

/// The mean luma of each of 32×32 cells of equal area, with 12 fraction bits.
fn reduce(height: usize, width: usize, fill_row: impl Fn(usize, &mut [u32])) -> [[i64; SIDE]; SIDE] {
    let columns = spans(width);
    let mut lumas = vec![0; width];
    let mut sums = [[0u64; SIDE]; SIDE];
    let (mut last, mut of_row) = (None, [0u64; SIDE]);
    for (row, cell_row, weight) in spans(height) {
        if last != Some(row) {
            last = Some(row);
            fill_row(row, &mut lumas);
            of_row = [0; SIDE];
            for &(column, cell, weight) in &columns {
                of_row[cell] += weight * u64::from(lumas[column]);
            }
        }
        for (sum, &value) in sums[cell_row].iter_mut().zip(&of_row) {
            *sum += weight * value;
        }
    }
    let area = (height * width) as u64; // of a cell, in units of 1/32 × 1/32 pixels
    sums.map(|row| row.map(|sum| (sum * 16 / area) as i64))
}

/// The lowest frequencies of the DCT-II of `cells`, rows of vertical ones.
fn transform(cells: &[[i64; SIDE]; SIDE]) -> [[i64; FREQUENCIES]; FREQUENCIES] {
    let mut across = [[0i64; FREQUENCIES]; SIDE];
    for (row, cells) in across.iter_mut().zip(cells) {
        for (frequency, value) in row.iter_mut().enumerate() {
            *value = cells.iter().enumerate().map(|(at, &cell)| cell * cosine(frequency, at)).sum();
        }
    }
    let mut both = [[0i64; FREQUENCIES]; FREQUENCIES];
    for (vertical, row) in both.iter_mut().enumerate() {
        for (horizontal, value) in row.iter_mut().enumerate() {
            *value = across.iter().enumerate().map(|(at, row)| row[horizontal] * cosine(vertical, at)).sum();
        }
    }
    both
}

/// `2¹⁴ · cos((2·at + 1)·frequency·π/64)`.
fn cosine(frequency: usize, at: usize) -> i64 {
    let turn = (2 * at + 1) * frequency % 128; // 128 of these are a full turn
    let half = if turn > 64 { 128 - turn } else { turn };
    if half <= 32 { COSINES[half] } else { -COSINES[64 - half] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with some of everything in it.
    fn scene(height: u32, width: u32, light: f64) -> Vec<u8> {
        let at = |value: u32, of: u32| f64::from(value) / f64::from(of);
        let mut rgb = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let (u, v) = (at(2 * x + 1, 2 * width), at(2 * y + 1, 2 * height));
                let blob =
                    |cx: f64, cy: f64, r: f64| (-((u - cx).powi(2) + (v - cy).powi(2)) / (r * r)).exp();
                let value = 40.0 + 120.0 * blob(0.3, 0.4, 0.12) + 90.0 * blob(0.75, 0.6, 0.07)
                    - 30.0 * blob(0.55, 0.2, 0.1)
                    + 40.0 * (9.0 * u + 5.0 * v * v).sin().abs();
                rgb.extend([value * light, value * light * 0.8, value * light * 0.9].map(|v| v as u8));
            }
        }
        rgb
    }

    #[test]
    fn the_table_is_the_cosine() {
        for frequency in 0..FREQUENCIES {
            for at in 0..SIDE {
                let exact = (((2 * at + 1) * frequency) as f64 * std::f64::consts::PI / 64.0).cos();
                assert_eq!(cosine(frequency, at), (exact * 16_384.0).round() as i64, "{frequency} {at}");
            }
        }
        let order: Vec<_> = zigzag().take(64).collect();
        assert_eq!(order[..6], [(0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (0, 3)]);
        assert!(order.iter().all(|&(row, column)| row < FREQUENCIES && column < FREQUENCIES));
        let distinct: std::collections::BTreeSet<_> = order.iter().collect();
        assert_eq!(distinct.len(), 64);
    }

    #[test]
    fn size_and_light_change_few_bits_and_another_picture_many() {
        let original = hash(&scene(224, 224, 1.0), 224, 224);
        assert_ne!(original, FLAT);
        assert_eq!(original.count_ones(), 32);
        for (side, light) in [(112, 1.0), (100, 1.0), (64, 1.0), (224, 1.1), (224, 0.7), (37, 0.9)] {
            let distance = (original ^ hash(&scene(side, side, light), side, side)).count_ones();
            assert!(distance <= 6, "side {side}, light {light}: {distance}");
        }
        let mut mirrored = scene(224, 224, 1.0);
        for row in mirrored.chunks_mut(3 * 224) {
            let pixels: Vec<u8> = row.rchunks(3).flatten().copied().collect();
            row.copy_from_slice(&pixels);
        }
        assert!((original ^ hash(&mirrored, 224, 224)).count_ones() > 16);
    }

    #[test]
    fn both_layouts_hash_alike() {
        let rgb = scene(60, 80, 1.0);
        let planes: Vec<u8> = (0..3).flat_map(|c| rgb.iter().skip(c).step_by(3).copied()).collect();
        assert_eq!(hash(&rgb, 60, 80), hash_planes(&planes, 60, 80));
        assert_ne!(hash(&rgb, 60, 80), FLAT);
    }

    /// Written once: a hash must be the same for ever and on any machine.
    #[test]
    fn the_hash_of_a_known_picture_stays() {
        let rgb: Vec<u8> = (0..3 * 48 * 64u64).map(|i| (i * i / 97 + 31 * (i / 300)) as u8).collect();
        assert_eq!(format!("{:016x}", hash(&rgb, 48, 64)), "760febc1f8c1d830");
    }

    #[test]
    fn flat_pictures_have_no_hash() {
        let side = 64u32;
        let of = |value: fn(u32, u32) -> u32| -> u64 {
            let pixels = (0..side * side).flat_map(|at| [value(at % side, at / side) as u8; 3]);
            hash(&pixels.collect::<Vec<u8>>(), side, side)
        };
        assert_eq!(of(|_, _| 0), FLAT);
        assert_eq!(of(|_, _| 255), FLAT);
        assert_eq!(of(|x, _| 4 * x), FLAT, "a gradient");
        assert_eq!(of(|x, y| 2 * x + 2 * y), FLAT, "a diagonal gradient");
        assert_eq!(of(|x, _| if x > 20 { 200 } else { 10 }), FLAT, "two halves");
        assert_eq!(of(|x, y| 100 + (x * 7 + y * 13) % 2), FLAT, "faint noise");
        assert_ne!(of(|x, y| if x * x + y * y < 900 { 200 } else { 10 }), FLAT, "a disc");
    }

    #[test]
    fn any_size_is_met() {
        for (height, width) in [(0, 0), (1, 1), (1, 300), (300, 1), (31, 33), (2, 2)] {
            let rgb: Vec<u8> = (0..3 * height * width).map(|i| (i * 37) as u8).collect();
            hash(&rgb, height, width);
            hash_planes(&rgb, height, width);
        }
        assert_eq!(hash(&[1, 2, 3], 2, 2), FLAT);
        assert_eq!(hash_planes(&[1, 2, 3], 2, 2), FLAT);
    }

    #[test]
    fn cells_weigh_pixels_by_their_area() {
        for pixels in [1, 7, 31, 32, 33, 100, 224] {
            let spans = spans(pixels);
            let mut of_cell = [0; SIDE];
            let mut of_pixel = vec![0; pixels];
            for (pixel, cell, weight) in spans {
                of_cell[cell] += weight;
                of_pixel[pixel] += weight;
            }
            assert!(of_cell.iter().all(|&weight| weight == pixels as u64));
            assert!(of_pixel.iter().all(|&weight| weight == SIDE as u64));
        }
    }
}
