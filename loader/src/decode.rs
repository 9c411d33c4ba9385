//! Stored JPEGs back into pixels. Left out: resizing; a stored JPEG has the size that the manifest says.

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::{JpegDecoder, errors::DecodeErrors};

/// What a stored JPEG turned out to be.
pub(crate) enum Decoded {
    /// `rgb` is filled, interleaved.
    Pixels,
    /// The picture has another size: (height, width).
    OtherSize(usize, usize),
}

/// Decodes `jpeg` into `rgb`, which is used again from picture to picture.
pub(crate) fn decode(
    jpeg: &[u8],
    height: usize,
    width: usize,
    rgb: &mut Vec<u8>,
) -> Result<Decoded, DecodeErrors> {
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
    Ok(Decoded::Pixels)
}
