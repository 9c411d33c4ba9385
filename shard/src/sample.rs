//! What a sample is: its key, its pictures' settings, the JSON beside the pixels. It leaves out where its bytes
//! lie (`index`) and how they get there (`writer`).

use serde::{Deserialize, Serialize};

use crate::{Error, Result, checksum};

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 64;

/// A sample's stable name: 1–64 bytes of `[A-Za-z0-9_-]`.
///
/// WebDataset cuts a member's name at its first dot, so a key has none; nor a slash, a space or a control
/// character. The source's own id stays in the sample's JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// Accepts a key that fits already.
    ///
    /// # Errors
    /// `Unfit` where a byte or the length is outside the rule.
    pub fn new(key: &str) -> Result<Self> {
        if !Self::fits(key) {
            return Err(Error::unfit("key", key, "1 to 64 bytes of A-Z, a-z, 0-9, _ and -"));
        }
        Ok(Self(key.to_owned()))
    }

    /// Whether `key` follows the rule.
    pub fn fits(key: &str) -> bool {
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(Self::allows)
    }

    /// Makes a key of any source id: as it is if it fits, else cleaned and with the id's hash behind it.
    pub fn from_source_id(source_id: &str) -> Self {
        if Self::fits(source_id) { Self(source_id.to_owned()) } else { Self::with_hash(source_id) }
    }

    /// The key of an id whose plain key is taken: cleaned, with a suffix of 16 digits of the id's hash.
    pub fn with_hash(source_id: &str) -> Self {
        let hash = checksum::blake3_hex(source_id.as_bytes());
        // The stem, the last component of a path, is the readable part of an id that is one.
        let stem = source_id.rsplit(['/', '\\']).next().unwrap_or(source_id);
        let mut key: String = stem
            .chars()
            .map(|c| if c.is_ascii() && Self::allows(c as u8) { c } else { '_' })
            .take(KEY_BYTES_MAX - 17)
            .collect();
        key.push('-');
        key.push_str(&hash[..16]);
        Self(key)
    }

    /// The key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn allows(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Key {
    type Error = Error;
    fn try_from(key: String) -> Result<Self> {
        Self::new(&key)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

/// How a sample's pixels are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// `KEY.npy`: an uncompressed uint8 array in C order.
    Npy,
    /// `KEY.jpg`: a JPEG of the same height and width, decoded on load.
    Jpg,
}

impl ImageFormat {
    /// The member's extension, which is also its name in the index.
    pub fn name(self) -> &'static str {
        match self {
            Self::Npy => "npy",
            Self::Jpg => "jpg",
        }
    }
}

/// The order of a stored array's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Channels, rows, columns.
    Chw,
    /// Rows, columns, channels. JPEGs are always this.
    Hwc,
}

impl Layout {
    /// Its name in the index.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chw => "chw",
            Self::Hwc => "hwc",
        }
    }
}

/// What holds for every picture of a data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSettings {
    /// npy or jpg.
    pub format: ImageFormat,
    /// Axes of the array; hwc for jpg.
    pub layout: Layout,
    /// Always `uint8` in version 1.
    pub dtype: String,
    /// Always 3 (RGB) in version 1.
    pub channels: u32,
    /// Rows; of `shortest-side`, the fewest.
    pub height: u32,
    /// Columns; of `shortest-side`, the fewest.
    pub width: u32,
    /// How the source's picture was brought to that size: `center-crop`, `squash`, `pad`, `none` where it was made at
    /// it, or [`SHORTEST_SIDE`].
    pub resize: String,
    /// JPEG quality of stored pictures, for jpg alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<u8>,
    /// Chroma of stored pictures, for jpg alone; where it is missing, 4:4:4 from quality 90 on and 4:2:0 below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsampling: Option<Subsampling>,
}

/// How much of a JPEG's chroma is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subsampling {
    /// As much as of luma.
    #[serde(rename = "4:4:4")]
    Full,
    /// Half as many rows and columns, as Pillow and most cameras do.
    #[serde(rename = "4:2:0")]
    Half,
}

/// The `resize` of pictures that keep their own proportions: `height` and `width` are equal then, and are each
/// picture's shorter side.
pub const SHORTEST_SIDE: &str = "shortest-side";

/// The largest height and width that the format holds; bounds what a header can make a reader allocate.
pub const SIDE_MAX: u32 = 16_384;

impl ImageSettings {
    /// uint8 RGB arrays, 3×`size`×`size`.
    pub fn tensor(size: u32) -> Self {
        Self {
            format: ImageFormat::Npy,
            layout: Layout::Chw,
            dtype: "uint8".to_owned(),
            channels: 3,
            height: size,
            width: size,
            resize: "center-crop".to_owned(),
            quality: None,
            subsampling: None,
        }
    }

    /// JPEGs of `size`×`size`.
    pub fn jpeg(size: u32, quality: u8) -> Self {
        Self { format: ImageFormat::Jpg, layout: Layout::Hwc, quality: Some(quality), ..Self::tensor(size) }
    }

    /// Whether each picture has sides of its own.
    pub fn varies(&self) -> bool {
        self.resize == SHORTEST_SIDE
    }

    /// Whether a stored picture may have these sides.
    pub fn allows(&self, height: u32, width: u32) -> bool {
        if self.varies() {
            height.min(width) == self.height && height.max(width) <= SIDE_MAX
        } else {
            (height, width) == (self.height, self.width)
        }
    }

    /// The settings as they hold for one picture.
    #[must_use]
    pub fn sized(&self, height: u32, width: u32) -> Self {
        Self { height, width, ..self.clone() }
    }

    /// Bytes of one decoded picture of `height`×`width`.
    pub fn pixel_bytes(&self) -> usize {
        self.channels as usize * self.height as usize * self.width as usize
    }

    /// The first rule of the format that these settings break, if any.
    pub fn problem(&self) -> Option<&'static str> {
        let sides = 1..=SIDE_MAX;
        if self.dtype != "uint8" {
            Some("dtype must be uint8")
        } else if self.channels != 3 {
            Some("channels must be 3")
        } else if !sides.contains(&self.height) || !sides.contains(&self.width) {
            Some("height and width must be 1 to 16384")
        } else if self.varies() && self.height != self.width {
            Some("height and width must be the same shortest side")
        } else if self.format == ImageFormat::Jpg && self.layout != Layout::Hwc {
            Some("a jpg has layout hwc")
        } else {
            None
        }
    }
}

/// What `KEY.json` holds, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleMeta {
    /// The sample's key.
    pub key: Key,
    /// The id that the source gives it.
    pub source_id: String,
    /// Its row in the source's own order.
    pub source_row: u64,
    /// All captions, in the source's order.
    pub captions: Vec<String>,
    /// Rows of the source's picture.
    pub original_height: u32,
    /// Columns of the source's picture.
    pub original_width: u32,
    /// Where the picture came from, if the source says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its licence, if the source says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
}

/// A sample on its way into a shard.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Key, captions, provenance.
    pub meta: &'a SampleMeta,
    /// The image member's whole payload: npy header and pixels, or a JPEG file.
    pub image: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_fit_stay_and_others_are_cleaned() {
        assert_eq!(Key::from_source_id("000000000009").as_str(), "000000000009");
        for id in ["", "a b", "../x", "/etc/passwd", "é", "a.b", "日本語", &"x".repeat(300), "a\0b"] {
            let key = Key::from_source_id(id);
            assert!(Key::fits(key.as_str()), "{id:?} became {key}");
        }
        assert_eq!(Key::from_source_id("train/cat 1.jpg").as_str().split('-').next(), Some("cat_1_jpg"));
        assert_ne!(Key::from_source_id("a.b"), Key::from_source_id("a:b"));
    }

    #[test]
    fn a_bad_key_is_refused() {
        for bad in ["", "a.b", "a/b", "ä", &"k".repeat(65)] {
            assert!(Key::new(bad).is_err(), "{bad:?}");
            assert!(serde_json::from_value::<Key>(serde_json::json!(bad)).is_err());
        }
    }
}
