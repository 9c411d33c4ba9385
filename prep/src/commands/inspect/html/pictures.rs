//! Stored pictures as data URIs. It leaves out which ones.

use shard::{Dataset, ImageFormat, ImageSettings, ShardReader};

use super::text::base64;
use crate::{Error, Result, near::Member, pixels};

/// Longest side of a picture on the page; a larger one is shrunk by a whole factor.
const SIDE_MAX: usize = 448;

/// JPEG quality of pictures that are stored as arrays.
const QUALITY: u8 = 85;

/// Side below which pixels are shown as squares.
const SMALL: u32 = 96;

/// The shards of all splits, to show pictures of.
pub(super) struct Album<'a> {
    image: &'a ImageSettings,
    splits: Vec<(String, Vec<ShardReader>)>,
}

impl<'a> Album<'a> {
    pub(super) fn of(dataset: &'a Dataset) -> Result<Self> {
        let open = |name: &String| Ok((name.clone(), dataset.open_split(name)?));
        let manifest = dataset.manifest();
        let splits = manifest.splits.iter().map(|split| open(&split.name)).collect::<Result<_>>()?;
        Ok(Self { image: &manifest.image, splits })
    }

    /// The shards of split number `split`.
    pub(super) fn shards(&self, split: usize) -> &[ShardReader] {
        &self.splits[split].1
    }

    /// The `img` of a member of a pair.
    pub(super) fn member(&self, member: &Member) -> Result<String> {
        let split = self.splits.iter().find(|(name, _)| *name == member.split);
        match split.and_then(|(_, shards)| shards.get(member.shard)) {
            Some(shard) => self.img(shard, member.row),
            None => Ok(String::new()),
        }
    }

    /// The `img` of a sample.
    pub(super) fn img(&self, shard: &ShardReader, row: usize) -> Result<String> {
        let row = shard.row(row)?;
        let payload = shard.payload(&row, row.image)?;
        shard.check(&row, row.image, payload)?;
        let (height, width) = (row.height, row.width);
        let is_large = height.max(width) as usize > SIDE_MAX;
        let jpeg = if self.image.format == ImageFormat::Jpg && !is_large {
            base64(payload)
        } else {
            base64(&self.encode(payload, height, width)?)
        };
        let class = if height.max(width) < SMALL { " class=\"small\"" } else { "" };
        Ok(format!(
            "<img{class} loading=\"lazy\" width=\"{width}\" height=\"{height}\" alt=\"{}\" src=\"data:image/jpeg;base64,{jpeg}\">",
            row.key // a key has letters, digits, _ and - alone
        ))
    }

    fn encode(&self, payload: &[u8], height: u32, width: u32) -> Result<Vec<u8>> {
        let rgb = pixels::stored_rgb(payload, self.image)?;
        let (rgb, height, width) = shrunk(rgb, height as usize, width as usize);
        let mut bytes = Vec::new();
        let broken = |problem: String| Error::Config(format!("a picture for the page: {problem}"));
        let side = |side: usize| u16::try_from(side).map_err(|error| broken(error.to_string()));
        jpeg_encoder::Encoder::new(&mut bytes, QUALITY)
            .encode(&rgb, side(width)?, side(height)?, jpeg_encoder::ColorType::Rgb)
            .map_err(|error| broken(error.to_string()))?;
        Ok(bytes)
    }
}

/// The picture brought to at most [`SIDE_MAX`] by the mean of whole squares of pixels; what is left at the right and the
/// bottom is cut off.
fn shrunk(rgb: Vec<u8>, height: usize, width: usize) -> (Vec<u8>, usize, usize) {
    let factor = height.max(width).div_ceil(SIDE_MAX);
    let (rows, columns) = (height / factor.max(1), width / factor.max(1));
    if factor <= 1 || rows == 0 || columns == 0 {
        return (rgb, height, width);
    }
    let mut small = Vec::with_capacity(3 * rows * columns);
    for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
        for channel in 0..3 {
            let line = |y: usize| 3 * ((row * factor + y) * width + column * factor) + channel;
            let square = (0..factor).flat_map(|y| (0..factor).map(move |x| line(y) + 3 * x));
            let sum: usize = square.map(|at| usize::from(rgb[at])).sum();
            small.push((sum / (factor * factor)) as u8);
        }
    }
    (small, rows, columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pictures_become_means_of_squares() {
        let (height, width) = (2, 900);
        let rgb: Vec<u8> =
            (0..3 * height * width).map(|i| if i / 3 % width < 450 { 10 } else { 30 }).collect();
        let (small, rows, columns) = shrunk(rgb, height, width);
        // 900 needs a factor of 3, which two rows do not have: it stays.
        assert_eq!((small.len(), rows, columns), (3 * 2 * 900, 2, 900));
        let rgb: Vec<u8> = (0..3 * 6 * width).map(|i| if i / 3 % width < 450 { 10 } else { 30 }).collect();
        let (small, rows, columns) = shrunk(rgb, 6, width);
        assert_eq!((rows, columns), (2, 300));
        assert_eq!((small[0], small[3 * 149], small[3 * 150]), (10, 10, 30));
    }
}
