//! Text on a canvas: two embedded faces (Ubuntu Light for words, Hack for keys), measuring,
//! wrapping and drawing. A character that no face has, and every control character that is not a
//! space of some kind, is drawn as a box. No shaping: combining marks stand after their letter.

use std::sync::LazyLock;

use ab_glyph::{Font as _, FontRef, GlyphId, PxScale, ScaleFont as _};

use crate::canvas::{Colour, Picture};

/// Characters of one text that are looked at; what comes after is cut with an ellipsis.
const CHARACTERS_MAX: usize = 4096;

/// A kind of type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// Proportional, for sentences.
    Words,
    /// Fixed width, for keys and numbers.
    Keys,
}

/// A face at a size in pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Type {
    pub(crate) face: Face,
    pub(crate) size: f32,
    pub(crate) colour: Colour,
}

/// The faces in order of trial for sentences; keys try the second first.
static FACES: LazyLock<Vec<FontRef<'static>>> = LazyLock::new(|| {
    use epaint_default_fonts::{EMOJI_ICON, HACK_REGULAR, NOTO_EMOJI_REGULAR, UBUNTU_LIGHT};
    [UBUNTU_LIGHT, HACK_REGULAR, NOTO_EMOJI_REGULAR, EMOJI_ICON]
        .into_iter()
        // A face that cannot be read is done without: its characters become boxes.
        .filter_map(|bytes| FontRef::try_from_slice(bytes).ok())
        .collect()
});

/// What is drawn for a character.
enum Mark {
    Glyph { font: &'static FontRef<'static>, glyph: GlyphId },
    Box,
}

fn mark(face: Face, character: char) -> Mark {
    if !character.is_control() {
        let faces = &*FACES;
        let own = match face {
            Face::Words => 0,
            Face::Keys => 1,
        };
        for font in faces.get(own).into_iter().chain(faces) {
            let glyph = font.glyph_id(character);
            if glyph.0 != 0 {
                return Mark::Glyph { font, glyph };
            }
        }
    }
    Mark::Box
}

impl Type {
    /// From one line's baseline to the next, in pixels.
    pub(crate) fn line_height(&self) -> i64 {
        (self.size * 1.32).round() as i64
    }

    /// ab_glyph scales by ascent + descent; sizes here are of the em.
    fn scale(&self, font: &FontRef<'static>) -> PxScale {
        let em = font.units_per_em().unwrap_or(1000.0);
        PxScale::from(self.size * font.height_unscaled() / em)
    }

    fn advance(&self, character: char) -> f32 {
        match mark(self.face, character) {
            Mark::Glyph { font, glyph } => font.as_scaled(self.scale(font)).h_advance(glyph),
            Mark::Box => self.size * 0.6,
        }
    }

    /// Width of a text on one line, in pixels.
    pub(crate) fn width(&self, text: &str) -> f32 {
        text.chars().map(|character| self.advance(character)).sum()
    }

    /// Draws a line of text with its box's top left corner at (`left`, `top`); gives its right end.
    pub(crate) fn draw(&self, picture: &mut Picture, left: f32, top: f32, text: &str) -> f32 {
        let baseline = (top + self.size * 1.02).round();
        let mut x = left;
        for character in text.chars() {
            match mark(self.face, character) {
                Mark::Glyph { font, glyph } => {
                    let placed =
                        glyph.with_scale_and_position(self.scale(font), ab_glyph::point(x, baseline));
                    if let Some(outlined) = font.outline_glyph(placed) {
                        let bounds = outlined.px_bounds();
                        outlined.draw(|dx, dy, cover| {
                            let (x, y) =
                                (bounds.min.x as i64 + i64::from(dx), bounds.min.y as i64 + i64::from(dy));
                            // Thin type on a light ground fades when blended in sRGB: darken its edges.
                            picture.blend(x, y, self.colour, cover.clamp(0.0, 1.0).powf(0.72));
                        });
                    }
                }
                Mark::Box => self.draw_box(picture, x, baseline),
            }
            x += self.advance(character);
        }
        x
    }

    /// The box of a character that no face has.
    fn draw_box(&self, picture: &mut Picture, left: f32, baseline: f32) {
        let area = crate::canvas::Area {
            left: (left + self.size * 0.08).round() as i64,
            top: (baseline - self.size * 0.7).round() as i64,
            width: (self.size * 0.44).round().max(2.0) as i64,
            height: (self.size * 0.7).round().max(2.0) as i64,
        };
        picture.outline(area, self.colour);
    }

    /// One line of at most `width` pixels; what does not fit gives way to "…".
    pub(crate) fn shorten(&self, text: &str, width: f32) -> String {
        self.wrap(text, width, 1).into_iter().next().unwrap_or_default()
    }

    /// Breaks a text into at most `lines_max` lines of at most `width` pixels: between words, inside
    /// a word only where it is longer than a line. Runs of white space count as one space; where
    /// text is left over the last line ends in "…".
    pub(crate) fn wrap(&self, text: &str, width: f32, lines_max: usize) -> Vec<String> {
        let cut = text.char_indices().nth(CHARACTERS_MAX).map_or(text.len(), |(at, _)| at);
        let mut lines = vec![String::new()];
        let mut used = 0.0;
        let space = self.advance(' ');
        for word in text[..cut].split_whitespace() {
            let word_width = self.width(word);
            if used > 0.0 && used + space + word_width > width {
                lines.push(String::new());
                used = 0.0;
            } else if used > 0.0 {
                push(&mut lines, ' ');
                used += space;
            }
            for character in word.chars() {
                let advance = self.advance(character);
                if used > 0.0 && used + advance > width {
                    lines.push(String::new());
                    used = 0.0;
                }
                push(&mut lines, character);
                used += advance;
            }
            if lines.len() > lines_max {
                break;
            }
        }
        if lines.len() > lines_max || (cut < text.len() && !lines.is_empty()) {
            lines.truncate(lines_max);
            if let Some(last) = lines.last_mut() {
                self.end_in_ellipsis(last, width);
            }
        }
        lines
    }

    fn end_in_ellipsis(&self, line: &mut String, width: f32) {
        while !line.is_empty() && self.width(line) + self.advance('…') > width {
            line.pop();
        }
        line.truncate(line.trim_end_matches([' ', ',', '.', ';', ':']).len());
        line.push('…');
    }
}

fn push(lines: &mut [String], character: char) {
    if let Some(last) = lines.last_mut() {
        last.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: Type = Type { face: Face::Words, size: 15.0, colour: Colour::rgb(0, 0, 0) };
    const KEYS: Type = Type { face: Face::Keys, ..WORDS };

    #[test]
    fn every_embedded_face_is_read() {
        assert_eq!(FACES.len(), 4);
        assert!(matches!(mark(Face::Words, 'é'), Mark::Glyph { .. }));
        assert!(matches!(mark(Face::Words, '\u{7}'), Mark::Box));
        assert!(matches!(mark(Face::Words, '漢'), Mark::Box));
    }

    #[test]
    fn keys_have_one_width() {
        assert_eq!(KEYS.width("iiii"), KEYS.width("MMMM"));
        assert!(WORDS.width("iiii") < WORDS.width("MMMM"));
    }

    #[test]
    fn wrapped_lines_fit_and_lose_nothing() {
        let text = "a large striped red circle in the top left corner, and a small blue star below it";
        for width in [60.0, 97.0, 300.0] {
            let lines = WORDS.wrap(text, width, 100);
            assert!(lines.iter().all(|line| WORDS.width(line) <= width), "{lines:?}");
            assert_eq!(lines.join(" "), text);
        }
    }

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis() {
        let lines = WORDS.wrap("one two three four five six seven eight nine ten", 80.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('…') && WORDS.width(&lines[1]) <= 80.0, "{lines:?}");
        assert!(WORDS.shorten(&"x".repeat(100_000), 50.0).ends_with('…'));
        assert_eq!(WORDS.wrap("short", 80.0, 2), ["short"]);
        assert_eq!(WORDS.wrap(" \n ", 80.0, 2), [""]);
    }

    #[test]
    fn any_character_is_drawn_without_panic() {
        let mut picture = Picture::new(64, 32, Colour::rgb(255, 255, 255)).unwrap();
        let odd = "\u{0}\u{1b}[31m\u{202e}漢字 العربية 🙂👩‍👩‍👧 e\u{301} \u{fffd}\u{10ffff}\t\r\n";
        for size in [0.0, 0.5, 12.0, 300.0] {
            let ty = Type { size, ..WORDS };
            ty.draw(&mut picture, -20.0, -10.0, odd);
            for width in [0.0, -1.0, 3.0, f32::NAN] {
                ty.wrap(odd, width, 3);
                ty.wrap(odd, width, 0);
            }
        }
    }
}
