//! Baseline JPEG, the kind that nearly all photos are, decoded for what a reduction needs: only the blocks below
//! the crop, planes at their own size, eight rows at a time, no memory for the whole picture. It leaves out every other
//! kind, which the general decoder takes (`decode`), and resizing.

mod bits;
mod header;
mod huffman;
pub(super) mod idct;
mod scan;

use super::simd::Steps;
pub(crate) use header::Header;
#[cfg(feature = "turbo")]
pub(crate) use header::may_be_turned;
pub(crate) use scan::{Region, Scratch, Strips};

/// Why a file is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(pub &'static str);

/// Why a file gave no samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
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

/// Decodes the data behind `header`; `regions` has one for each component.
#[inline(always)]
pub(crate) fn decode<S: Steps>(
    steps: S,
    bytes: &[u8],
    header: &Header,
    regions: &[Region],
    scratch: &mut Scratch,
    sink: &mut impl Strips<S>,
) -> Result<(), Refusal> {
    match scratch.segments.fill(bytes, header.data) {
        Some(0xd9) => {}
        // Another scan, or tables in between.
        Some(_) => return Err(Refusal::Unusual),
        None => return Err(Refusal::Broken(Broken("the file ends early, without an end-of-image mark"))),
    }
    scan::decode(steps, header, regions, scratch, sink)
}
