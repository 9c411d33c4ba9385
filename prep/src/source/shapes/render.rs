//! From a scene to pixels, at any size: ground, then objects from first to last, then light and
//! noise. Edges are anti-aliased by their distance. Noise lives on a fixed lattice, so that a scene
//! looks the same at 64 and at 224 pixels.
//!
//! Exact on every machine: f32 with +, -, ×, ÷, square root and floor only, in a fixed order.

use super::{
    draw::mix,
    outline::distance,
    scene::{Backdrop, Object, Scene},
    words::{Colour, Ground, Pattern, Rgb, Texture},
};

/// Sides of a rendered picture, in pixels; other sizes are brought within.
const SIDES: (usize, usize) = (16, 4096);
/// Cells of the noise along a side.
const NOISE_CELLS: usize = 40;

impl Scene {
    /// The scene as RGB8, rows from the top: `size · size · 3` bytes. `size` is at least 16 and at
    /// most 4096; others are brought within.
    pub fn render(&self, size: usize) -> Vec<u8> {
        let size = size.clamp(SIDES.0, SIDES.1);
        let mut pixels: Vec<Rgb> = Vec::with_capacity(size * size);
        self.paint_ground(&mut pixels, size);
        for object in &self.objects {
            paint_object(&mut pixels, size, object);
        }
        self.backdrop.develop(&pixels, size)
    }

    fn paint_ground(&self, pixels: &mut Vec<Rgb>, size: usize) {
        let Backdrop { rgb, angle, phase, period, strength, .. } = self.backdrop;
        let second = second_ground(self.ground, rgb, self.pattern, strength);
        let fill = match self.pattern {
            Pattern::Plain | Pattern::Gradient => Texture::Solid,
            Pattern::Striped => Texture::Striped,
            Pattern::Dotted => Texture::Dotted,
            Pattern::Checkered => Texture::Checkered,
        };
        let weave = Weave { fill, angle, phase, period, pixel: 1.0 / size as f32 };
        for row in 0..size {
            let y = (row as f32 + 0.5) / size as f32;
            for column in 0..size {
                let x = (column as f32 + 0.5) / size as f32;
                let share = match self.pattern {
                    Pattern::Plain => 0.0,
                    Pattern::Gradient => along(angle, x, y),
                    _ => weave.share(x, y),
                };
                pixels.push(blend(rgb, second, share));
            }
        }
    }
}

impl Backdrop {
    /// Light and noise over everything, then bytes.
    fn develop(&self, pixels: &[Rgb], size: usize) -> Vec<u8> {
        let noise: Vec<f32> = (0..=NOISE_CELLS as u64)
            .flat_map(|row| (0..=NOISE_CELLS as u64).map(move |column| row << 32 | column))
            .map(|cell| (mix(self.noise_seed ^ cell) >> 40) as f32 / 8_388_608.0 - 1.0)
            .collect();
        let mut bytes = Vec::with_capacity(pixels.len() * 3);
        for (row, line) in pixels.chunks(size).enumerate() {
            let y = (row as f32 + 0.5) / size as f32;
            let (cell_y, part_y) = cell(y);
            for (column, pixel) in line.iter().enumerate() {
                let x = (column as f32 + 0.5) / size as f32;
                let (cell_x, part_x) = cell(x);
                let corner = cell_y * (NOISE_CELLS + 1) + cell_x;
                let below = corner + NOISE_CELLS + 1;
                let upper = noise[corner] + (noise[corner + 1] - noise[corner]) * part_x;
                let lower = noise[below] + (noise[below + 1] - noise[below]) * part_x;
                let grain = (upper + (lower - upper) * part_y) * self.noise_strength;
                let light = self.light * (1.03 - 0.07 * along(self.light_angle, x, y));
                bytes.extend(pixel.map(|channel| (channel * light + grain + 0.5).clamp(0.0, 255.0) as u8));
            }
        }
        bytes
    }
}

/// The noise cell of a place along a side, and the part of the way through it.
fn cell(place: f32) -> (usize, f32) {
    let place = place * NOISE_CELLS as f32;
    let cell = (place as usize).min(NOISE_CELLS - 1);
    (cell, place - cell as f32)
}

/// From 0 to 1 across the picture: downwards, to the right, or to one of the two lower corners.
fn along(angle: usize, x: f32, y: f32) -> f32 {
    match angle {
        0 => y,
        1 => x,
        2 => (x + y) * 0.5,
        _ => (1.0 - x + y) * 0.5,
    }
}

fn blend(under: Rgb, over: Rgb, share: f32) -> Rgb {
    [0, 1, 2].map(|channel| under[channel] + (over[channel] - under[channel]) * share)
}

/// The second tone of a ground's pattern: fainter than those of objects.
fn second_ground(ground: Ground, rgb: Rgb, pattern: Pattern, strength: f32) -> Rgb {
    let dark = matches!(ground, Ground::Black | Ground::DarkBlue);
    let (towards, share) = match (dark, pattern) {
        (true, Pattern::Gradient) => ([255.0; 3], 0.34),
        (true, _) => ([255.0; 3], 0.2),
        (false, Pattern::Gradient) => ([0.0; 3], 0.36),
        (false, _) => ([0.0; 3], 0.17),
    };
    blend(rgb, towards, share * strength)
}

/// The second tone of an object's texture.
fn second_tone(object: &Object) -> Rgb {
    match object.colour {
        Colour::White => [132.0, 134.0, 140.0],
        Colour::Yellow => [178.0, 122.0, 10.0],
        Colour::Black => blend(object.look.rgb, [255.0; 3], 0.62),
        _ => blend(object.look.rgb, [255.0; 3], 0.74),
    }
}

fn paint_object(pixels: &mut [Rgb], size: usize, object: &Object) {
    let side = size as f32;
    let look = &object.look;
    // Rational rotation: t = tan(angle / 2) needs no sine.
    let norm = 1.0 + look.turn * look.turn;
    let (cos, sin) = ((1.0 - look.turn * look.turn) / norm, 2.0 * look.turn / norm);
    let second = second_tone(object);
    let weave = Weave {
        fill: object.texture,
        angle: look.texture_angle,
        phase: look.texture_phase,
        period: look.texture_period,
        pixel: 1.0 / side,
    };
    let rim = (0.05 * object.radius * side).max(0.55);
    // The triangle's lower corners and the star's points reach a little past the radius.
    let reach = object.radius * 1.2;
    let span = |middle: f32| {
        let low = ((middle - reach) * side).max(0.0) as usize;
        low..(((middle + reach) * side).max(0.0) as usize + 2).min(size)
    };
    for row in span(object.y) {
        let dy = (row as f32 + 0.5) / side - object.y;
        for column in span(object.x) {
            let dx = (column as f32 + 0.5) / side - object.x;
            let (x, y) = (cos * dx + sin * dy, cos * dy - sin * dx);
            let away = distance(object.shape, x / object.radius, y / object.radius) * object.radius * side;
            let cover = (0.5 - away).clamp(0.0, 1.0);
            if cover == 0.0 {
                continue;
            }
            let fill = blend(look.rgb, second, weave.share(x, y));
            // A darker rim, and a little light from above.
            let edge = (0.5 + away + rim).clamp(0.0, 1.0);
            let shade = (1.0 - 0.3 * edge) * (1.0 - 0.07 * y / object.radius);
            let pixel = &mut pixels[row * size + column];
            *pixel = blend(*pixel, fill.map(|channel| (channel * shade).min(255.0)), cover);
        }
    }
}

/// A texture over the plane.
struct Weave {
    fill: Texture,
    angle: usize,
    phase: f32,
    period: f32,
    /// A pixel's side, for anti-aliasing.
    pixel: f32,
}

impl Weave {
    /// The second tone's share at a place, 0 to 1.
    fn share(&self, x: f32, y: f32) -> f32 {
        const DIAGONAL: f32 = 0.707_106_77;
        let (x, y) = match (self.fill, self.angle) {
            (Texture::Solid, _) => return 0.0,
            // Dots and checks stand upright or on a corner; stripes have four directions.
            (Texture::Striped, 0) | (_, 0 | 1) => (x, y),
            (_, 2) => ((x + y) * DIAGONAL, (x - y) * DIAGONAL),
            (_, _) => ((x - y) * DIAGONAL, (x + y) * DIAGONAL),
        };
        let across = if self.fill == Texture::Striped && self.angle == 1 { y } else { x };
        let scale = self.period / self.pixel;
        match self.fill {
            Texture::Solid => 0.0,
            Texture::Striped => {
                (0.5 - (wave(across / self.period + self.phase) - 0.23) * scale).clamp(0.0, 1.0)
            }
            Texture::Dotted => {
                let (dx, dy) = (wave(x / self.period + self.phase), wave(y / self.period + self.phase));
                (0.5 - ((dx * dx + dy * dy).sqrt() - 0.31) * scale).clamp(0.0, 1.0)
            }
            Texture::Checkered => {
                // A check's period is two squares.
                let square = |along: f32| {
                    ((wave(along / self.period * 0.75 + self.phase) - 0.25) * 2.7 * scale).clamp(-1.0, 1.0)
                };
                0.5 - 0.5 * square(x) * square(y)
            }
        }
    }
}

/// The distance to the nearest whole number: 0 to 0.5.
fn wave(value: f32) -> f32 {
    let part = value - value.floor();
    part.min(1.0 - part)
}
