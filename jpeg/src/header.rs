//! The segments in front of a JPEG's entropy-coded data: tables, frame, scan. Whatever is unusual is
//! [`Unusual`], which sends the file to the general decoder: progressive and arithmetic coding, several scans, 12 bits,
//! inks, RGB, rare samplings. It leaves out the data themselves, and what EXIF data say.

use std::ops::Range;

use crate::{
    Broken,
    huffman::{Fast, Table},
};

/// A file that this decoder does not take; another may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusual;

/// The units of a scan along x and along y, and how many there are from one restart mark to the next.
pub(crate) struct Units {
    pub(crate) wide: usize,
    pub(crate) high: usize,
    pub(crate) interval: usize,
}

/// One component of a frame.
#[derive(Debug, Clone, Copy, Default)]
pub struct Component {
    id: u8,
    /// Blocks of a unit along x.
    pub horizontal: usize,
    /// Blocks of a unit along y.
    pub vertical: usize,
    quantisation: usize,
    pub(crate) dc_table: usize,
    pub(crate) ac_table: usize,
}

/// Everything that is known when the entropy-coded data begin.
#[derive(Debug, Default)]
pub struct Header {
    /// Columns of the picture, one or more.
    pub width: usize,
    /// Rows of the picture, one or more.
    pub height: usize,
    /// One, or three: luma and two of chroma.
    pub components: Vec<Component>,
    /// Units between restart marks, 0 for none.
    pub(crate) restart_interval: usize,
    /// Offset of the entropy-coded data.
    pub(crate) data: usize,
    pub(crate) dc_tables: [Slot; 4],
    pub(crate) ac_tables: [Slot; 4],
    /// In zigzag order.
    quantisation: [Option<[u16; 64]>; 4],
    is_jfif: bool,
    adobe_transform: Option<u8>,
    /// Where the contents of APP1 segments are.
    exif: Vec<Range<usize>>,
}

/// A place for a Huffman table. The pictures of a data set mostly have the same ones, which are made but once.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    table: Option<Box<Table>>,
    fast: Option<Box<Fast>>,
    /// Whether the picture at hand has it; else it is an earlier one's.
    is_defined: bool,
}

impl Slot {
    /// The picture's table.
    pub(crate) fn table(&self) -> Option<&Table> {
        self.table.as_deref().filter(|_| self.is_defined)
    }

    /// The same for whole pictures, after [`Slot::prepare_fast`].
    pub(crate) fn fast(&self) -> Option<&Fast> {
        self.fast.as_deref().filter(|_| self.is_defined)
    }

    /// Makes what [`Slot::fast`] gives.
    pub(crate) fn prepare_fast(&mut self) {
        if let (Some(table), None) = (&self.table, &self.fast) {
            self.fast = Some(Box::new(Fast::of(table)));
        }
    }

    fn define(&mut self, counts: &[u8; 16], symbols: &[u8], is_dc: bool) -> Result<(), Unusual> {
        if !self.table.as_ref().is_some_and(|table| table.is_of(counts, symbols)) {
            self.fast = None;
            self.table = None;
            self.table = Some(Box::new(Table::new(counts, symbols, is_dc).ok_or(Unusual)?));
        }
        self.is_defined = true;
        Ok(())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<usize, Unusual> {
    bytes.get(at..at + 2).map(|pair| usize::from(pair[0]) << 8 | usize::from(pair[1])).ok_or(Unusual)
}

impl Header {
    /// Reads the segments up to the data of the first scan.
    ///
    /// # Errors
    /// [`Unusual`], where they are damaged too.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unusual> {
        let mut header = Self::default();
        header.read(bytes)?;
        Ok(header)
    }

    /// As [`Header::parse`], in the place of another picture's header, whose tables are kept where they are the same.
    ///
    /// # Errors
    /// [`Unusual`], where they are damaged too.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), Unusual> {
        self.components.clear();
        self.exif.clear();
        (self.dc_tables.iter_mut().chain(&mut self.ac_tables)).for_each(|slot| slot.is_defined = false);
        self.quantisation = [None; 4];
        (self.restart_interval, self.is_jfif, self.adobe_transform) = (0, false, None);
        let header = self;
        let mut at = 2;
        loop {
            let marker = match bytes.get(at..at + 2).ok_or(Unusual)? {
                [0xff, marker @ 1..=0xfe] => *marker,
                // Fill bytes, or stray ones, which are harmless and met in real photos.
                _ => {
                    at += 1;
                    continue;
                }
            };
            let length = u16_at(bytes, at + 2)?;
            let content = bytes.get(at + 4..at + 2 + length).ok_or(Unusual)?;
            at += 2 + length;
            match marker {
                0xc0 | 0xc1 => header.frame(content)?,
                0xc4 => header.huffman(content)?,
                0xdb => header.quantisation(content)?,
                0xdd => header.restart_interval = u16_at(content, 0)?,
                0xda => {
                    header.scan(content)?;
                    header.data = at;
                    return Ok(());
                }
                0xe0 => header.is_jfif |= content.starts_with(b"JFIF\0"),
                0xe1 => header.exif.push(at - content.len()..at),
                0xee if content.starts_with(b"Adobe") => {
                    header.adobe_transform = Some(*content.get(11).ok_or(Unusual)?);
                }
                0xe2..=0xef | 0xfe => {}
                _ => return Err(Unusual),
            }
        }
    }

    fn frame(&mut self, content: &[u8]) -> Result<(), Unusual> {
        let [8, high, low, _, _, count, ..] = *content else { return Err(Unusual) };
        if !self.components.is_empty()
            || !matches!(count, 1 | 3)
            || content.len() != 6 + 3 * usize::from(count)
        {
            return Err(Unusual);
        }
        self.height = usize::from(high) << 8 | usize::from(low);
        self.width = u16_at(content, 3)?;
        if self.width == 0 || self.height == 0 {
            return Err(Unusual);
        }
        for part in content[6..].chunks_exact(3) {
            self.components.push(Component {
                id: part[0],
                horizontal: usize::from(part[1] >> 4),
                vertical: usize::from(part[1] & 15),
                quantisation: usize::from(part[2]),
                ..Component::default()
            });
        }
        let is_taken = match &mut self.components[..] {
            // The factors of a single component mean nothing.
            [one] => {
                (one.horizontal, one.vertical) = (1, 1);
                true
            }
            [luma, chroma @ ..] => {
                matches!((luma.horizontal, luma.vertical), (1 | 2, 1 | 2))
                    && chroma.iter().all(|chroma| (chroma.horizontal, chroma.vertical) == (1, 1))
            }
            [] => false,
        };
        if is_taken { Ok(()) } else { Err(Unusual) }
    }

    fn huffman(&mut self, mut content: &[u8]) -> Result<(), Unusual> {
        while let Some((&class_and_place, rest)) = content.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or(Unusual)?;
            let total = counts.iter().map(|count| usize::from(*count)).sum();
            let symbols = rest.get(..total).ok_or(Unusual)?;
            let is_dc = class_and_place >> 4 == 0;
            let tables = match class_and_place >> 4 {
                0 => &mut self.dc_tables,
                1 => &mut self.ac_tables,
                _ => return Err(Unusual),
            };
            let slot = tables.get_mut(usize::from(class_and_place & 15)).ok_or(Unusual)?;
            slot.define(counts, symbols, is_dc)?;
            content = &rest[total..];
        }
        Ok(())
    }

    fn quantisation(&mut self, mut content: &[u8]) -> Result<(), Unusual> {
        while let Some((&kind_and_place, rest)) = content.split_first() {
            let wide = match kind_and_place >> 4 {
                0 => 1,
                1 => 2,
                _ => return Err(Unusual),
            };
            let values = rest.get(..64 * wide).ok_or(Unusual)?;
            let mut table = [0; 64];
            for (entry, value) in table.iter_mut().zip(values.chunks_exact(wide)) {
                *entry = value.iter().fold(0, |whole, byte| whole << 8 | u16::from(*byte));
            }
            *self.quantisation.get_mut(usize::from(kind_and_place & 15)).ok_or(Unusual)? = Some(table);
            content = &rest[64 * wide..];
        }
        Ok(())
    }

    fn scan(&mut self, content: &[u8]) -> Result<(), Unusual> {
        let count = self.components.len();
        if count == 0 || content.len() != 4 + 2 * count || usize::from(content[0]) != count {
            return Err(Unusual);
        }
        for (component, part) in self.components.iter_mut().zip(content[1..].chunks_exact(2)) {
            (component.dc_table, component.ac_table) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
            let has = |tables: &[Slot; 4], place: usize| {
                tables.get(place).is_some_and(|slot| slot.table().is_some())
            };
            if part[0] != component.id
                || !has(&self.dc_tables, component.dc_table)
                || !has(&self.ac_tables, component.ac_table)
                || self.quantisation.get(component.quantisation).is_none_or(Option::is_none)
            {
                return Err(Unusual);
            }
        }
        let is_sequential = content[1 + 2 * count..] == [0, 63, 0];
        if is_sequential && self.is_luma_and_chroma() { Ok(()) } else { Err(Unusual) }
    }

    /// The contents of the APP1 segments, in which EXIF data are.
    pub fn exif<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.exif.iter().filter_map(|place| bytes.get(place.clone()))
    }

    /// Three components may be RGB; where neither JFIF nor Adobe's mark says otherwise, their names do.
    fn is_luma_and_chroma(&self) -> bool {
        let ids = || self.components.iter().map(|component| component.id);
        match self.adobe_transform {
            _ if self.components.len() == 1 => true,
            Some(transform) => transform == 1,
            None => self.is_jfif || ids().eq([1, 2, 3]) || ids().eq([0, 1, 2]),
        }
    }

    /// The units of the scan, which stand in so many segments.
    pub(crate) fn units(&self, segments: usize) -> Result<Units, Broken> {
        let most = |factor: fn(&Component) -> usize| self.components.iter().map(factor).max().unwrap_or(1);
        let wide = self.width.div_ceil(8 * most(|component| component.horizontal));
        let high = self.height.div_ceil(8 * most(|component| component.vertical));
        let interval = if self.restart_interval == 0 { wide * high } else { self.restart_interval };
        if segments != (wide * high).div_ceil(interval) {
            return Err(Broken("restart marks are missing, or there are too many"));
        }
        Ok(Units { wide, high, interval })
    }

    /// Steps of a component's coefficients, in zigzag order.
    pub(crate) fn steps(&self, component: &Component) -> [i32; 64] {
        self.quantisation[component.quantisation].unwrap_or([1; 64]).map(i32::from)
    }
}
