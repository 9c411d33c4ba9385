//! What can go wrong while a picture is drawn or written.

use std::path::PathBuf;

/// The error of this library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// A file could not be written. The cause names the system's reason.
    #[error("could not write the picture {path}", path = path.display())]
    Io {
        /// The picture's own path, not that of the temporary file beside it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The pixels could not be encoded as PNG.
    #[error("could not encode a picture of {width}×{height} pixels as PNG")]
    Encode {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// What the encoder said.
        #[source]
        source: image::ImageError,
    },
    /// A tile's pixels do not match its height and width.
    #[error(
        "tile {tile} ({title:?}) has {found_bytes} bytes where {height}×{width} RGB pixels are {expected_bytes:?}"
    )]
    TileSize {
        /// The tile's place in the list, from 0.
        tile: usize,
        /// The tile's title.
        title: String,
        /// Its stated height in pixels.
        height: usize,
        /// Its stated width in pixels.
        width: usize,
        /// `height · width · 3`; none where that is zero or overflows.
        expected_bytes: Option<usize>,
        /// The bytes that it has.
        found_bytes: usize,
    },
    /// More tiles or panels than one picture may have.
    #[error("{found} {what} are too many for one picture: at most {at_most}")]
    TooMany {
        /// "tiles" or "panels".
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        at_most: usize,
    },
    /// The picture would be larger than this library draws.
    #[error("a picture of {width}×{height} pixels is too large: at most {pixels_max} pixels")]
    TooLarge {
        /// Width in pixels that was asked for.
        width: u64,
        /// Height in pixels that was asked for.
        height: u64,
        /// The greatest product of the two.
        pixels_max: u64,
    },
}
