//! Whole pictures as red, green and blue, bit for bit as libjpeg-turbo gives them by default (accurate cosine transform,
//! fancy upsampling), for grey, 4:4:4, 4:2:2, 4:2:0 and 4:4:0. It leaves out what a caller does with pixels.

use crate::{
    Header, Refusal, Unusual,
    bits::Segments,
    fast::{self, Plane},
    fill,
    simd::{self, Instructions, Kernels, Work},
    upsample::{Buffers, Chroma},
};

/// A decoder, with tables and buffers that are kept from one picture to the next: of one size and with the same tables,
/// all but the first take no memory.
///
/// ```
/// # fn decode(bytes: &[u8]) -> Result<Vec<u8>, jpeg::Refusal> {
/// let mut decoder = jpeg::Decoder::default();
/// let picture = decoder.open(bytes).map_err(|_| jpeg::Refusal::Unusual)?;
/// // A header may lie; compare its size with what is expected before memory is taken.
/// if picture.height().max(picture.width()) > 1024 {
///     return Err(jpeg::Refusal::Unusual);
/// }
/// let mut planes = vec![0; 3 * picture.height() * picture.width()];
/// picture.planar(&mut planes)?;
/// # Ok(planes)
/// # }
/// # assert_eq!(decode(b"no picture"), Err(jpeg::Refusal::Unusual));
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    header: Header,
    segments: Segments,
    planes: [Plane; 3],
    chroma: [Buffers; 2],
    instructions: Instructions,
}

impl Decoder {
    /// A decoder that uses these instructions.
    #[cfg(test)]
    pub(crate) fn with(instructions: Instructions) -> Self {
        Self { instructions, ..Self::default() }
    }

    /// Reads what stands in front of a picture's pixels, and takes no memory for these.
    ///
    /// # Errors
    /// [`Unusual`], for what is damaged there too.
    pub fn open<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Picture<'a>, Unusual> {
        if !bytes.starts_with(b"\xff\xd8\xff") {
            return Err(Unusual);
        }
        self.header.read(bytes)?;
        Ok(Picture { decoder: self, bytes })
    }
}

/// A picture that is not yet decoded.
#[derive(Debug)]
pub struct Picture<'a> {
    decoder: &'a mut Decoder,
    bytes: &'a [u8],
}

impl Picture<'_> {
    /// Columns.
    pub fn width(&self) -> usize {
        self.decoder.header.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.decoder.header.height
    }

    /// Decodes into three planes, 3 × height × width.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is written then.
    ///
    /// # Panics
    /// Where `out` has another length.
    pub fn planar(self, out: &mut [u8]) -> Result<(), Refusal> {
        let (width, height) = (self.width(), self.height());
        assert_eq!(out.len(), 3 * width * height, "a place for 3 planes of {height}x{width}");
        let (red, rest) = out.split_at_mut(width * height);
        let (green, blue) = rest.split_at_mut(width * height);
        let instructions = self.decoder.instructions;
        simd::run(instructions, Planar { picture: self, planes: [red, green, blue] })
    }

    #[inline(always)]
    fn samples<K: Kernels>(&mut self, kernels: K) -> Result<(), Refusal> {
        let Decoder { header, segments, planes, .. } = &mut *self.decoder;
        fill(segments, self.bytes, header)?;
        header.ac_tables.iter_mut().for_each(|slot| slot.prepare_fast());
        fast::decode(kernels, header, segments, planes)
    }
}

struct Planar<'a> {
    picture: Picture<'a>,
    planes: [&'a mut [u8]; 3],
}

impl Work for Planar<'_> {
    type Output = Result<(), Refusal>;

    #[inline(always)]
    fn run<K: Kernels>(mut self, kernels: K) -> Result<(), Refusal> {
        self.picture.samples(kernels)?;
        let width = self.picture.width();
        let [red, green, blue] = self.planes;
        let rows = red.chunks_exact_mut(width).zip(green.chunks_exact_mut(width));
        for (y, ((red, green), blue)) in rows.zip(blue.chunks_exact_mut(width)).enumerate() {
            let Decoder { header, planes, chroma, .. } = &mut *self.picture.decoder;
            convert(kernels, header, planes, chroma, y, [red, green, blue]);
        }
        Ok(())
    }
}

/// Row `y` of a picture.
#[inline(always)]
fn convert<K: Kernels>(
    kernels: K,
    header: &Header,
    planes: &[Plane; 3],
    buffers: &mut [Buffers; 2],
    y: usize,
    rgb: [&mut [u8]; 3],
) {
    let [luma, planes @ ..] = planes;
    let luma = &luma.samples[y * luma.stride..][..header.width];
    let [first, _, _] = header.components[..] else {
        return rgb.into_iter().for_each(|row| row.copy_from_slice(luma));
    };
    let (horizontal, vertical) = (first.horizontal, first.vertical);
    let [mut blueness, mut redness] = [&[][..]; 2];
    for ((row, plane), buffers) in [&mut blueness, &mut redness].into_iter().zip(planes).zip(buffers) {
        let chroma = Chroma {
            samples: &plane.samples,
            stride: plane.stride,
            width: header.width.div_ceil(horizontal),
            height: header.height.div_ceil(vertical),
        };
        *row = &buffers.row(chroma, horizontal, vertical, y)[..header.width];
    }
    kernels.colours([luma, blueness, redness], rgb);
}
