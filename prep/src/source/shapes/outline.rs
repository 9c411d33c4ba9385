//! Signed distances to the outlines of the shapes, negative inside, in units of an object's radius.
//! Exact or nearly so at the outline itself, which is all that anti-aliasing needs.
//!
//! Only +, -, ×, ÷, square root and comparisons, which IEEE 754 fixes to the last bit: every machine
//! draws the same. The star and the heart are Inigo Quilez' 2D distance functions.

use super::words::Shape;

/// The distance from (`x`, `y`), measured from the object's middle with y downwards.
pub(super) fn distance(shape: Shape, x: f32, y: f32) -> f32 {
    match shape {
        Shape::Circle => length(x, y) - 0.94,
        Shape::Square => x.abs().max(y.abs()) - 0.82,
        Shape::Triangle => {
            let y = y - 0.16;
            y.max(0.866_025_4 * x.abs() - 0.5 * y) - 0.51
        }
        // 0.66 wide, 1 high: the plane through both corners, normalised.
        Shape::Diamond => (x.abs() / 0.66 + y.abs() - 1.0) * 0.550_843_4,
        Shape::Star => star(x, 0.06 - y),
        Shape::Heart => heart(x * 0.62, 0.54 - y * 0.62) / 0.62,
        Shape::Cross => {
            let (x, y) = (x.abs(), y.abs());
            let (long, short) = (x.max(y), x.min(y));
            (long - 0.94).max(short - 0.31)
        }
        Shape::Ring => (length(x, y) - 0.73).abs() - 0.22,
    }
}

fn length(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

/// Five points, y upwards, outer radius 1.
fn star(x: f32, y: f32) -> f32 {
    /// Cosine and sine of 36°.
    const COS: f32 = 0.809_017;
    const SIN: f32 = 0.587_785_24;
    /// The inner radius that makes the points plump enough for 16 pixels.
    const INNER: f32 = 0.48;
    let mut x = x.abs();
    let mut y = y;
    let fold = 2.0 * (COS * x - SIN * y).max(0.0);
    (x, y) = (x - fold * COS, y + fold * SIN);
    let fold = 2.0 * (-COS * x - SIN * y).max(0.0);
    (x, y) = (x + fold * COS, y + fold * SIN);
    x = x.abs();
    y -= 1.0;
    let (bx, by) = (INNER * SIN, INNER * COS - 1.0);
    let along = ((x * bx + y * by) / (bx * bx + by * by)).clamp(0.0, 1.0);
    let away = length(x - bx * along, y - by * along);
    if y * bx - x * by < 0.0 { -away } else { away }
}

/// A heart with its point at the origin and y upwards, about 1.1 high.
fn heart(x: f32, y: f32) -> f32 {
    let x = x.abs();
    if x + y > 1.0 {
        return length(x - 0.25, y - 0.75) - 0.353_553_4;
    }
    let half = 0.5 * (x + y).max(0.0);
    let away = length(x, y - 1.0).min(length(x - half, y - half));
    if x < y { -away } else { away }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_fills_its_circle_and_stays_in_it() {
        for &shape in Shape::ALL {
            let (mut reach, mut inside) = (0.0_f32, 0);
            for row in -60..=60 {
                for column in -60..=60 {
                    let (x, y) = (column as f32 / 50.0, row as f32 / 50.0);
                    if distance(shape, x, y) < 0.0 {
                        reach = reach.max(length(x, y));
                        inside += 1;
                    }
                }
            }
            // Of the 2,500 cells a unit square has, π · 2,500 = 7,854 make up the circle.
            assert!((0.9..1.16).contains(&reach), "{shape:?} reaches {reach}");
            assert!((2_400..7_200).contains(&inside), "{shape:?} covers {inside}");
        }
    }

    #[test]
    fn distances_grow_by_at_most_the_way_gone() {
        for &shape in Shape::ALL {
            for step in 0..2_000 {
                let (x, y) = ((step % 50) as f32 / 25.0 - 1.0, (step / 50) as f32 / 20.0 - 1.0);
                let here = distance(shape, x, y);
                for (dx, dy) in [(0.01, 0.0), (0.0, 0.01)] {
                    let change = (distance(shape, x + dx, y + dy) - here).abs();
                    // The fold of the heart's and the star's inside may be steeper by rounding.
                    assert!(change <= 0.0102, "{shape:?} at {x},{y}: {change}");
                }
            }
        }
    }
}
