//! Baseline JPEG, the kind that nearly all photos are. Two ways to decode it: [`strips`] for a reduction, which gives
//! only the blocks below a crop, planes at their own size, eight rows at a time, without memory for the picture; and
//! [`Decoder`] for whole pictures, bit for bit as libjpeg-turbo decodes them unless it is told otherwise.
//!
//! It leaves out every other kind, which is [`Unusual`] and for a general decoder; resizing; and what EXIF data say.

mod bits;
mod fast;
mod header;
mod huffman;
mod idct;
mod picture;
mod scan;
mod simd;
#[cfg(test)]
mod tests;
mod upsample;

pub use header::{Component, Header, Unusual};
pub use picture::{Decoder, Picture};
pub use scan::{Region, Scratch, Strips};
#[cfg(target_arch = "x86_64")]
pub use simd::Avx2;
pub use simd::{Block, Plain, Transform};

/// Why a file is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// Why a file gave no samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another decoder should try.
    Unusual,
    /// No decoder gives all of it.
    Broken(Broken),
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Decodes the data behind `header`, a strip at a time; `regions` has one for each component.
///
/// # Errors
/// [`Refusal`]; strips may have been given before.
#[inline(always)]
pub fn strips<T: Transform>(
    transform: T,
    bytes: &[u8],
    header: &Header,
    regions: &[Region],
    scratch: &mut Scratch,
    sink: &mut impl Strips<T>,
) -> Result<(), Refusal> {
    fill(&mut scratch.segments, bytes, header)?;
    scan::decode(transform, header, regions, scratch, sink)
}

fn fill(segments: &mut bits::Segments, bytes: &[u8], header: &Header) -> Result<(), Refusal> {
    match segments.fill(bytes, header.data) {
        Some(0xd9) => Ok(()),
        // Another scan, or tables in between.
        Some(_) => Err(Refusal::Unusual),
        None => Err(Refusal::Broken(Broken("the file ends early, without an end-of-image mark"))),
    }
}
