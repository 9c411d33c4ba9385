//! Contact sheets: samples in a grid of cards, each with its picture, its key and its captions.
//! The text of a card wraps; a row is as high as its fullest card. Light theme only.

use image::RgbImage;

use crate::{
    PictureError,
    canvas::{Area, Colour, Picture},
    text::{Face, Type},
};

/// The most tiles that one sheet takes. More is an error, as a sheet of thousands is not looked at.
pub const TILES_MAX: usize = 1024;

const PAGE: Colour = Colour::rgb(244, 244, 241);
const CARD: Colour = Colour::rgb(255, 255, 255);
const EDGE: Colour = Colour::rgb(222, 222, 217);
const INK: Colour = Colour::rgb(32, 34, 38);
const FAINT: Colour = Colour::rgb(116, 118, 124);
const RULE: Colour = Colour::rgb(206, 206, 200);

const HEADING: Type = Type { face: Face::Words, size: 27.0, colour: INK };
const SUBHEADING: Type = Type { face: Face::Words, size: 16.0, colour: FAINT };
const TITLE: Type = Type { face: Face::Keys, size: 11.5, colour: FAINT };
const CAPTION: Type = Type { face: Face::Words, size: 14.5, colour: INK };

const MARGIN: i64 = 32;
const GAP: i64 = 18;
/// Between a card's edge and what is in it.
const PADDING: i64 = 12;
/// Between one caption and the next.
const CAPTION_GAP: i64 = 5;
/// Hanging indent of a caption, with its bullet, where a card has several.
const INDENT: i64 = 13;

/// One sample on a sheet.
#[derive(Clone, Debug, Default)]
pub struct Tile {
    /// RGB, `height · width · 3` bytes, rows from the top.
    pub pixels: Vec<u8>,
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Width in pixels, at least 1.
    pub width: usize,
    /// Set in monospace above the captions, on one line: the sample's key.
    pub title: String,
    /// Each is wrapped and cut after [`Sheet::caption_lines`] lines.
    pub captions: Vec<String>,
}

/// A contact sheet to be drawn.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// Large, at the top: the data set's name. Nothing is drawn for an empty one.
    pub heading: String,
    /// Smaller, below it: counts and sizes.
    pub subheading: String,
    /// Cards in a row, 1 to 64; 0 chooses a number that suits the count of tiles.
    pub columns: usize,
    /// Side of the square into which each picture is fitted, 48 to 1024 pixels.
    pub tile_size: usize,
    /// The most lines that one caption may take, 1 to 32.
    pub caption_lines: usize,
    /// The samples, at most [`TILES_MAX`].
    pub tiles: Vec<Tile>,
}

impl Default for Sheet {
    fn default() -> Self {
        Self {
            heading: String::new(),
            subheading: String::new(),
            columns: 0,
            tile_size: 224,
            caption_lines: 3,
            tiles: Vec::new(),
        }
    }
}

/// The words of a card, broken into lines.
struct Card {
    image: RgbImage,
    title: String,
    captions: Vec<Vec<String>>,
}

impl Sheet {
    /// Draws the sheet. One without tiles has its heading alone.
    ///
    /// # Errors
    /// [`PictureError::TooMany`] over [`TILES_MAX`] tiles, [`PictureError::TileSize`] where a tile's
    /// bytes do not match its height and width, [`PictureError::TooLarge`].
    pub fn draw(&self) -> Result<Picture, PictureError> {
        if self.tiles.len() > TILES_MAX {
            return Err(PictureError::TooMany { what: "tiles", found: self.tiles.len(), at_most: TILES_MAX });
        }
        let size = self.tile_size.clamp(48, 1024) as i64;
        let columns = self.column_count();
        let cards = self
            .tiles
            .iter()
            .enumerate()
            .map(|(number, tile)| self.card(number, tile, size))
            .collect::<Result<Vec<_>, _>>()?;

        let step = size + 2 * PADDING + GAP;
        let width = 2 * MARGIN + columns as i64 * step - GAP;
        let header = self.header_height();
        let rows: Vec<i64> = cards
            .chunks(columns)
            .map(|row| row.iter().map(|card| card.height(size)).max().unwrap_or(0))
            .collect();
        let body: i64 = rows.iter().map(|row| row + GAP).sum::<i64>() - if rows.is_empty() { 0 } else { GAP };
        let height = header + body + MARGIN;
        let mut picture =
            Picture::new(width.try_into().unwrap_or(u32::MAX), height.try_into().unwrap_or(u32::MAX), PAGE)?;

        self.draw_header(&mut picture, header);
        let mut top = header;
        for (row, row_height) in cards.chunks(columns).zip(rows) {
            for (column, card) in row.iter().enumerate() {
                card.draw(&mut picture, MARGIN + column as i64 * step, top, row_height, size);
            }
            top += row_height + GAP;
        }
        Ok(picture)
    }

    fn column_count(&self) -> usize {
        let tiles = self.tiles.len().max(1);
        if self.columns > 0 {
            return self.columns.min(64).min(tiles);
        }
        // A sheet somewhat wider than high (a card is about 1.4 times as high as wide), by a column
        // more or less where that leaves fewer places empty in the last row.
        let ideal = ((tiles as f64 * 2.2).sqrt().round() as usize).clamp(3, 8);
        let empty = |columns: &usize| (columns - tiles % columns) % columns;
        [ideal, ideal + 1, ideal - 1].into_iter().min_by_key(empty).unwrap_or(ideal)
    }

    fn card(&self, number: usize, tile: &Tile, size: i64) -> Result<Card, PictureError> {
        let expected_bytes = tile.height.checked_mul(tile.width).and_then(|pixels| pixels.checked_mul(3));
        let image = match (u32::try_from(tile.width), u32::try_from(tile.height)) {
            (Ok(width), Ok(height))
                if width > 0 && height > 0 && expected_bytes == Some(tile.pixels.len()) =>
            {
                RgbImage::from_raw(width, height, tile.pixels.clone())
            }
            _ => None,
        };
        let image = image.ok_or_else(|| PictureError::TileSize {
            tile: number,
            title: tile.title.clone(),
            height: tile.height,
            width: tile.width,
            expected_bytes: expected_bytes.filter(|bytes| *bytes > 0),
            found_bytes: tile.pixels.len(),
        })?;
        let indent = if tile.captions.len() > 1 { INDENT } else { 0 };
        let lines_max = self.caption_lines.clamp(1, 32);
        let captions = tile
            .captions
            .iter()
            .map(|caption| CAPTION.wrap(caption, (size - indent) as f32, lines_max))
            .collect();
        Ok(Card { image, title: TITLE.shorten(&tile.title, size as f32), captions })
    }

    fn header_height(&self) -> i64 {
        let lines = [(&self.heading, HEADING), (&self.subheading, SUBHEADING)];
        let text: i64 =
            lines.iter().filter(|(text, _)| !text.is_empty()).map(|(_, ty)| ty.line_height() + 4).sum();
        if text == 0 { MARGIN } else { MARGIN - 6 + text + 26 }
    }

    fn draw_header(&self, picture: &mut Picture, height: i64) {
        let width = i64::from(picture.width()) - 2 * MARGIN;
        let mut top = MARGIN - 6;
        for (text, ty) in [(&self.heading, HEADING), (&self.subheading, SUBHEADING)] {
            if !text.is_empty() {
                ty.draw(picture, MARGIN as f32, top as f32, &ty.shorten(text, width as f32));
                top += ty.line_height() + 4;
            }
        }
        if height > MARGIN {
            picture.fill(Area { left: MARGIN, top: top + 6, width, height: 1 }, RULE);
        }
    }
}

impl Card {
    fn height(&self, size: i64) -> i64 {
        let captions: i64 =
            self.captions.iter().map(|lines| lines.len() as i64 * CAPTION.line_height() + CAPTION_GAP).sum();
        let title = if self.title.is_empty() { 0 } else { TITLE.line_height() + 6 };
        PADDING + size + 10 + title + captions + PADDING - 4
    }

    fn draw(&self, picture: &mut Picture, left: i64, top: i64, height: i64, size: i64) {
        let whole = Area { left, top, width: size + 2 * PADDING, height };
        picture.fill_rounded(whole, 7.0, EDGE);
        let inner = Area { left: left + 1, top: top + 1, width: whole.width - 2, height: height - 2 };
        picture.fill_rounded(inner, 6.0, CARD);
        let left = left + PADDING;
        picture.draw_image(Area { left, top: top + PADDING, width: size, height: size }, &self.image);

        let mut top = top + PADDING + size + 10;
        if !self.title.is_empty() {
            TITLE.draw(picture, left as f32, top as f32, &self.title);
            top += TITLE.line_height() + 6;
        }
        let indent = if self.captions.len() > 1 { INDENT } else { 0 };
        for lines in &self.captions {
            if indent > 0 {
                Type { colour: FAINT, ..CAPTION }.draw(picture, left as f32, top as f32, "•");
            }
            for line in lines {
                CAPTION.draw(picture, (left + indent) as f32, top as f32, line);
                top += CAPTION.line_height();
            }
            top += CAPTION_GAP;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(height: usize, width: usize) -> Tile {
        let captions = vec!["a sentence that is rather long for a small card".into(), "two \u{1} 漢".into()];
        Tile { pixels: vec![90; height * width * 3], height, width, title: "train-00000001".into(), captions }
    }

    #[test]
    fn every_tile_is_drawn_in_its_place() {
        let mut sheet = Sheet { heading: "shapes".into(), tile_size: 64, columns: 2, ..Sheet::default() };
        for red in [10, 20, 30] {
            let mut tile = tile(32, 32);
            tile.pixels.chunks_mut(3).for_each(|pixel| pixel.copy_from_slice(&[red, 200, 0]));
            sheet.tiles.push(tile);
        }
        let picture = sheet.draw().unwrap();
        let count = |red: u8| picture.pixels().chunks(3).filter(|pixel| *pixel == [red, 200, 0]).count();
        assert_eq!([count(10), count(20), count(30)], [64 * 64; 3]);
    }

    #[test]
    fn pictures_of_any_shape_fit_their_square() {
        for (height, width) in [(1, 1), (1, 900), (700, 2), (64, 64)] {
            let sheet = Sheet { tiles: vec![tile(height, width)], tile_size: 64, ..Sheet::default() };
            assert!(sheet.draw().is_ok());
        }
    }

    #[test]
    fn an_empty_sheet_is_a_picture() {
        assert!(Sheet::default().draw().is_ok());
        assert!(Sheet { heading: "no samples".into(), ..Sheet::default() }.draw().is_ok());
    }

    #[test]
    fn wrong_sizes_and_too_many_tiles_are_errors() {
        let wrong = Tile { pixels: vec![0; 11], ..tile(2, 2) };
        let sheet = Sheet { tiles: vec![tile(1, 1), wrong], ..Sheet::default() };
        let error = sheet.draw().unwrap_err();
        assert!(matches!(error, PictureError::TileSize { tile: 1, found_bytes: 11, .. }), "{error}");
        for (height, width) in [(0, 5), (usize::MAX, 2), (0, 0)] {
            let tile = Tile { height, width, ..Tile::default() };
            let sheet = Sheet { tiles: vec![tile], ..Sheet::default() };
            assert!(matches!(sheet.draw(), Err(PictureError::TileSize { .. })));
        }
        let sheet = Sheet { tiles: vec![tile(1, 1); TILES_MAX + 1], ..Sheet::default() };
        assert!(matches!(sheet.draw(), Err(PictureError::TooMany { .. })));
        let sheet = Sheet { tiles: vec![tile(1, 1); 900], tile_size: 1024, ..Sheet::default() };
        assert!(matches!(sheet.draw(), Err(PictureError::TooLarge { .. })));
    }
}
