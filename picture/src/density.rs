//! Densities: how often points fall into each cell of a square, dark where often. Several squares make a sheet, with
//! words below. Points are given as shares of both axes, from 0 to 1; others are left out.

use crate::{
    PictureError,
    canvas::{Area, Colour, Picture},
    text::{Face, Type},
};

/// The most squares on one sheet.
pub const DENSITIES_MAX: usize = 64;
/// The most cells along a side.
const CELLS_MAX: usize = 1024;

const PAGE: Colour = Colour::rgb(255, 255, 255);
const DARK: Colour = Colour::rgb(0, 62, 116);
const INK: Colour = Colour::rgb(32, 34, 38);
const FAINT: Colour = Colour::rgb(112, 115, 122);
const EDGE: Colour = Colour::rgb(150, 153, 160);

const HEADING: Type = Type { face: Face::Words, size: 25.0, colour: INK };
const TITLE: Type = Type { face: Face::Words, size: 17.0, colour: INK };
const SMALL: Type = Type { face: Face::Words, size: 13.5, colour: FAINT };
const NOTE: Type = Type { face: Face::Words, size: 15.0, colour: INK };

const MARGIN: i64 = 30;
const GAP: i64 = 26;
const SIDE: i64 = 384;
const PANEL_TOP: i64 = 28;
const PANEL_BOTTOM: i64 = 48;

/// One square of cells.
#[derive(Clone, Debug)]
pub struct Density {
    title: String,
    x_label: String,
    y_label: String,
    cells: usize,
    /// Rows from the top, that is from the highest y.
    counts: Vec<u64>,
}

impl Density {
    /// Counts `points`, (x, y) as shares of the axes within 0..1, in `cells`×`cells` cells (1 to 1024).
    pub fn of(
        title: &str,
        x_label: &str,
        y_label: &str,
        cells: usize,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Density {
        let cells = cells.clamp(1, CELLS_MAX);
        let mut counts = vec![0; cells * cells];
        let inside = |share: f64| (0.0..=1.0).contains(&share);
        for (x, y) in points.into_iter().filter(|&(x, y)| inside(x) && inside(y)) {
            let cell = |share: f64| ((share * cells as f64) as usize).min(cells - 1);
            counts[(cells - 1 - cell(y)) * cells + cell(x)] += 1;
        }
        Density { title: title.into(), x_label: x_label.into(), y_label: y_label.into(), cells, counts }
    }

    fn draw(&self, picture: &mut Picture, left: i64, top: i64) {
        let title = TITLE.shorten(&self.title, SIDE as f32);
        TITLE.draw(picture, left as f32, top as f32, &title);
        let area = Area { left, top: top + PANEL_TOP, width: SIDE, height: SIDE };
        let mean = self.counts.iter().sum::<u64>() as f64 / self.counts.len() as f64;
        let edge = |cell: usize| (cell as i64) * SIDE / self.cells as i64;
        for (cell, &count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (row, column) = (cell / self.cells, cell % self.cells);
            // A cell with the mean is a third dark, one with six times as much nearly full.
            let opacity = 1.0 - (-0.4 * count as f64 / mean).exp();
            let place = Area {
                left: area.left + edge(column),
                top: area.top + edge(row),
                width: edge(column + 1) - edge(column),
                height: edge(row + 1) - edge(row),
            };
            for y in place.top..place.top + place.height {
                (place.left..place.left + place.width)
                    .for_each(|x| picture.blend(x, y, DARK, opacity as f32));
            }
        }
        picture.outline(area, EDGE);
        let below = (area.top + SIDE + 6) as f32;
        let up = SMALL.shorten(&format!("↑ {}", self.y_label), SIDE as f32 / 2.0);
        SMALL.draw(picture, left as f32, below, &up);
        let across = SMALL.shorten(&format!("{} →", self.x_label), SIDE as f32 / 2.0);
        SMALL.draw(picture, (left + SIDE) as f32 - SMALL.width(&across), below, &across);
    }
}

/// Densities in a grid, with a title above and notes below.
#[derive(Clone, Debug, Default)]
pub struct DensitySheet {
    /// Large, at the top.
    pub title: String,
    /// Smaller, below it.
    pub subtitle: String,
    /// Squares in a row; 0 counts as 1.
    pub columns: usize,
    /// Row by row, at most [`DENSITIES_MAX`].
    pub panels: Vec<Density>,
    /// Lines below the squares; long ones wrap.
    pub notes: Vec<String>,
}

impl DensitySheet {
    /// Draws the sheet.
    ///
    /// # Errors
    /// [`PictureError::TooMany`] over [`DENSITIES_MAX`] squares, [`PictureError::TooLarge`].
    pub fn draw(&self) -> Result<Picture, PictureError> {
        let found = self.panels.len();
        if found > DENSITIES_MAX {
            return Err(PictureError::TooMany { what: "panels", found, at_most: DENSITIES_MAX });
        }
        let columns = self.columns.clamp(1, found.max(1));
        let width = (2 * MARGIN + columns as i64 * (SIDE + GAP) - GAP).max(640);
        let text_width = (width - 2 * MARGIN) as f32;
        let wrapped = |ty: &Type, text: &str| ty.wrap(text, text_width, 4);
        let head: Vec<(Type, String)> = [(HEADING, &self.title), (SMALL, &self.subtitle)]
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .flat_map(|(ty, text)| wrapped(&ty, text).into_iter().map(move |line| (ty, line)))
            .collect();
        let notes: Vec<String> = self.notes.iter().flat_map(|note| wrapped(&NOTE, note)).collect();
        let height_of =
            |lines: &[(Type, String)]| lines.iter().map(|(ty, _)| ty.line_height() + 2).sum::<i64>();
        let panels_top = 20 + height_of(&head) + 10;
        let row_height = PANEL_TOP + SIDE + PANEL_BOTTOM;
        let notes_top = panels_top + found.div_ceil(columns) as i64 * row_height;
        let height = notes_top + notes.len() as i64 * (NOTE.line_height() + 2) + 20;
        let size = |side: i64| side.try_into().unwrap_or(u32::MAX);
        let mut picture = Picture::new(size(width), size(height), PAGE)?;
        let mut top = 20;
        for (ty, line) in &head {
            ty.draw(&mut picture, MARGIN as f32, top as f32, line);
            top += ty.line_height() + 2;
        }
        for (number, panel) in self.panels.iter().enumerate() {
            let left = MARGIN + (number % columns) as i64 * (SIDE + GAP);
            panel.draw(&mut picture, left, panels_top + (number / columns) as i64 * row_height);
        }
        for (number, line) in notes.iter().enumerate() {
            let top = notes_top + number as i64 * (NOTE.line_height() + 2);
            NOTE.draw(&mut picture, MARGIN as f32, top as f32, line);
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean darkness of the left upper quarter of the first square, and of the right upper one.
    fn quarters(density: Density) -> (f64, f64) {
        let sheet = DensitySheet { columns: 1, panels: vec![density], ..DensitySheet::default() };
        let picture = sheet.draw().unwrap();
        let dark = |from: i64| {
            let mut sum = 0;
            for y in 0..SIDE / 2 - 4 {
                for x in 0..SIDE / 2 - 4 {
                    let (x, y) = ((MARGIN + from + 2 + x) as usize, (30 + PANEL_TOP + 2 + y) as usize);
                    sum += 255 - u64::from(picture.pixels()[(y * picture.width() as usize + x) * 3]);
                }
            }
            sum as f64 / ((SIDE / 2 - 4) * (SIDE / 2 - 4)) as f64
        };
        (dark(0), dark(SIDE / 2))
    }

    #[test]
    fn points_darken_their_own_cell() {
        let (left, right) = quarters(Density::of("", "", "", 2, [(0.9, 0.9), (0.99, 1.0)]));
        assert!(left < 1.0 && right > 150.0, "{left} {right}");
        let (left, right) =
            quarters(Density::of("", "", "", 2, (0..100).map(|i| (0.2, 0.9 - 0.3 * f64::from(i % 2)))));
        assert!(left > 150.0 && right < 1.0, "{left} {right}");
    }

    #[test]
    fn any_points_and_any_words_are_drawn() {
        let odd = [(f64::NAN, 0.5), (-1.0, 0.5), (2.0, 0.5), (1.0, 1.0), (0.0, 0.0)];
        for cells in [0, 1, 7, 5000] {
            let density = Density::of(&"long ".repeat(200), "x", "y", cells, odd);
            assert_eq!(density.counts.iter().sum::<u64>(), 2);
            let sheet = DensitySheet {
                title: "t".repeat(500),
                subtitle: "word ".repeat(500),
                columns: 0,
                panels: vec![density, Density::of("", "", "", 3, [])],
                notes: vec!["note ".repeat(300)],
            };
            assert!(sheet.draw().unwrap().width() >= 640);
        }
        assert!(DensitySheet::default().draw().is_ok());
    }

    #[test]
    fn too_many_squares_are_refused() {
        let panels = vec![Density::of("", "", "", 1, []); DENSITIES_MAX + 1];
        let error = DensitySheet { columns: 3, panels, ..DensitySheet::default() }.draw().unwrap_err();
        assert!(matches!(error, PictureError::TooMany { found: 65, .. }), "{error}");
    }
}
