//! Stored JPEGs back into pixels: those that are baseline, as `prep` writes them, bit for bit as libjpeg-turbo decodes
//! them; all others by zune-jpeg, which may differ from it by a few units a value. Left out: resizing, for a stored JPEG
//! has the size that the index says, and what EXIF data say.

use jpeg::{Broken, Picture, Refusal};
use shard::Layout;
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

use crate::pixels::{Target, Values, simd::Stores, write_interleaved};

/// What a stored JPEG turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoded<T> {
    /// What was asked for.
    Pixels(T),
    /// The picture has another size: (height, width).
    OtherSize(usize, usize),
}

/// What a worker keeps from picture to picture.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    baseline: jpeg::Decoder,
    pixels: Vec<u8>,
}

impl Decoder {
    /// Decodes `jpeg` of height × width; [`Decoder::pixels`] are then in this layout.
    pub(crate) fn decode(
        &mut self,
        jpeg: &[u8],
        size: (usize, usize),
    ) -> Result<Decoded<Layout>, DecodeErrors> {
        let Self { baseline, pixels } = self;
        let planar = |picture: Picture<'_>| {
            pixels.resize(3 * size.0 * size.1, 0);
            picture.planar(pixels)
        };
        match as_baseline(baseline, jpeg, size, planar)? {
            Some(decoded) => Ok(decoded.map(|()| Layout::Chw)),
            None => Ok(as_any(jpeg, size, pixels)?.map(|()| Layout::Hwc)),
        }
    }

    /// Decodes `jpeg` of height × width to where it stays, 3 × height × width.
    pub(crate) fn write(
        &mut self,
        jpeg: &[u8],
        size: (usize, usize),
        out: &mut [u8],
    ) -> Result<Decoded<()>, DecodeErrors> {
        if let Some(decoded) = as_baseline(&mut self.baseline, jpeg, size, |picture| picture.planar(out))? {
            return Ok(decoded);
        }
        let decoded = as_any(jpeg, size, &mut self.pixels)?;
        if let Decoded::Pixels(()) = decoded {
            write_interleaved(&self.pixels, Target { values: Values::U8(out), stores: Stores::Cached });
        }
        Ok(decoded)
    }

    /// What was decoded last.
    pub(crate) fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

impl<T> Decoded<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Decoded<U> {
        match self {
            Self::Pixels(pixels) => Decoded::Pixels(change(pixels)),
            Self::OtherSize(height, width) => Decoded::OtherSize(height, width),
        }
    }
}

/// Has a baseline JPEG decoded; nothing for one that is not.
fn as_baseline(
    decoder: &mut jpeg::Decoder,
    jpeg: &[u8],
    (height, width): (usize, usize),
    decode: impl FnOnce(Picture<'_>) -> Result<(), Refusal>,
) -> Result<Option<Decoded<()>>, DecodeErrors> {
    let Ok(picture) = decoder.open(jpeg) else { return Ok(None) };
    // Before anything is decoded: a lying header must not decide how much memory is taken.
    if (picture.height(), picture.width()) != (height, width) {
        return Ok(Some(Decoded::OtherSize(picture.height(), picture.width())));
    }
    match decode(picture) {
        Ok(()) => Ok(Some(Decoded::Pixels(()))),
        Err(Refusal::Unusual) => Ok(None),
        Err(Refusal::Broken(Broken(why))) => Err(DecodeErrors::FormatStatic(why)),
    }
}

/// Decodes a JPEG of any kind into interleaved pixels.
fn as_any(
    jpeg: &[u8],
    (height, width): (usize, usize),
    rgb: &mut Vec<u8>,
) -> Result<Decoded<()>, DecodeErrors> {
    let options = DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
    // Headers first: a lying one must not decide how much memory is taken.
    decoder.decode_headers()?;
    if let Some(info) = decoder.info()
        && (usize::from(info.height), usize::from(info.width)) != (height, width)
    {
        return Ok(Decoded::OtherSize(usize::from(info.height), usize::from(info.width)));
    }
    rgb.resize(height * width * 3, 0);
    decoder.decode_into(rgb)?;
    Ok(Decoded::Pixels(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (20, 33);

    fn encoded(is_progressive: bool) -> Vec<u8> {
        let (height, width) = SIZE;
        let pixels: Vec<u8> =
            (0..3 * height * width).map(|at| (128.0 + 90.0 * (at as f64 / 40.0).sin()) as u8).collect();
        let mut bytes = Vec::new();
        let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 90);
        encoder.set_progressive(is_progressive);
        encoder.encode(&pixels, width as u16, height as u16, jpeg_encoder::ColorType::Rgb).unwrap();
        bytes
    }

    #[test]
    fn baseline_and_other_jpegs_give_nearly_the_same_pixels() {
        let mut decoder = Decoder::default();
        let values = 3 * SIZE.0 * SIZE.1;
        let [mut baseline, mut progressive] = [vec![0; values], vec![0; values]];
        assert_eq!(decoder.write(&encoded(false), SIZE, &mut baseline).unwrap(), Decoded::Pixels(()));
        assert_eq!(decoder.write(&encoded(true), SIZE, &mut progressive).unwrap(), Decoded::Pixels(()));
        let far = baseline.iter().zip(&progressive).filter(|(a, b)| a.abs_diff(**b) > 3).count();
        assert_eq!(far, 0);

        assert_eq!(decoder.decode(&encoded(false), SIZE).unwrap(), Decoded::Pixels(Layout::Chw));
        assert_eq!(decoder.pixels(), baseline);
        assert_eq!(decoder.decode(&encoded(true), SIZE).unwrap(), Decoded::Pixels(Layout::Hwc));
        let plane = SIZE.0 * SIZE.1;
        let planar = |at: usize| progressive[at % 3 * plane + at / 3];
        assert!(decoder.pixels().iter().enumerate().all(|(at, value)| *value == planar(at)));
    }

    #[test]
    fn another_size_and_damage_are_told_before_anything_is_written() {
        let mut decoder = Decoder::default();
        for is_progressive in [false, true] {
            let jpeg = encoded(is_progressive);
            let mut out = [];
            let other = decoder.write(&jpeg, (0, 0), &mut out).unwrap();
            assert_eq!(other, Decoded::OtherSize(SIZE.0, SIZE.1));
            assert_eq!(decoder.decode(&jpeg, (20, 32)).unwrap(), Decoded::OtherSize(SIZE.0, SIZE.1));
        }
        let jpeg = encoded(false);
        let mut out = vec![7; 3 * SIZE.0 * SIZE.1];
        assert!(decoder.write(&jpeg[..jpeg.len() - 40], SIZE, &mut out).is_err());
        assert!(out.iter().all(|value| *value == 7));
    }
}
