//! Small seeded data sets for the tests of the other crates, written through the crate `shard`; [`source`]s to
//! prepare, [`files`] to compare, and a [`server`] to download from.
//!
//! What a data set holds is a pure function of its [`Spec`], so a test can say what it expects without reading it
//! back. Left out: pictures that mean anything; the source `shapes` of prep makes those.
//!
//! Everything here panics on failure: a test that cannot have its data has nothing to test.

pub mod files;
pub mod server;
pub mod source;

use std::path::Path;

use shard::{
    ImageFormat, ImageSettings, Key, Layout, Manifest, SHORTEST_SIDE, Sample, SampleMeta, ShardWriter,
    SplitEntry, npy, place,
};

/// A data set to write.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Decides every pixel and the placement.
    pub seed: u64,
    /// Names of the splits and how many samples each has.
    pub splits: Vec<(String, usize)>,
    /// Shards of each split.
    pub shards: u32,
    /// Pictures.
    pub image: ImageSettings,
    /// Rows that are equal modulo this number have the same captions; all have their own where it is none.
    pub caption_rows: Option<usize>,
}

impl Spec {
    /// 60 training and 13 validation samples of 8×8 in 3 shards each.
    pub fn small() -> Spec {
        Spec {
            seed: 1,
            splits: vec![("train".to_owned(), 60), ("val".to_owned(), 13)],
            shards: 3,
            image: ImageSettings::tensor(8),
            caption_rows: None,
        }
    }

    /// One split `train` of `samples`, else as [`small`](Self::small).
    pub fn train(samples: usize) -> Spec {
        Spec { splits: vec![("train".to_owned(), samples)], ..Spec::small() }
    }

    /// The same with another number of shards.
    #[must_use]
    pub fn shards(self, shards: u32) -> Spec {
        Spec { shards, ..self }
    }

    /// The same with JPEGs of quality 90.
    #[must_use]
    pub fn jpeg(self) -> Spec {
        Spec { image: ImageSettings::jpeg(self.image.height, 90), ..self }
    }

    /// The same with the pixels of npy payloads interleaved: height × width × 3.
    #[must_use]
    pub fn interleaved(self) -> Spec {
        Spec { image: ImageSettings { layout: Layout::Hwc, ..self.image }, ..self }
    }

    /// The same with pictures of `size`×`size`.
    #[must_use]
    pub fn size(self, size: u32) -> Spec {
        Spec { image: ImageSettings { height: size, width: size, ..self.image }, ..self }
    }

    /// The same with pictures of many sides, whose shorter one is the size.
    #[must_use]
    pub fn shortest_side(self) -> Spec {
        Spec { image: ImageSettings { resize: SHORTEST_SIDE.to_owned(), ..self.image }, ..self }
    }

    /// Height and width of sample `row` of `split`.
    pub fn sides(&self, split: &str, row: usize) -> (u32, u32) {
        let (height, width) = (self.image.height, self.image.width);
        let longer =
            u32::from(place::hash128(self.seed ^ 0x51DE, &source_id(split, row)).to_le_bytes()[0] % 11);
        match (self.image.varies(), row.is_multiple_of(2)) {
            (false, _) => (height, width),
            (true, true) => (height, width + longer),
            (true, false) => (height + longer, width),
        }
    }

    /// Writes it into a temporary folder, which lasts as long as the value.
    #[expect(clippy::expect_used, reason = "a test without its data has nothing to test")]
    pub fn temporary(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        self.write(dir.path()).expect("a data set in a temporary folder");
        dir
    }

    /// Writes it into `dir`, which exists. Each sample stands where prep would place it.
    ///
    /// # Errors
    /// As the crate `shard`.
    pub fn write(&self, dir: &Path) -> shard::Result<()> {
        let mut splits = Vec::new();
        for (split, samples) in &self.splits {
            let folder = dir.join(split);
            fs_err::create_dir_all(&folder).map_err(|source| shard::Error::Io {
                action: "create",
                path: folder.clone(),
                source,
            })?;
            let mut placed: Vec<(u128, usize)> =
                (0..*samples).map(|row| (place::hash128(self.seed, &source_id(split, row)), row)).collect();
            placed.sort_unstable();
            let mut entries = Vec::new();
            for shard in 0..self.shards {
                let mut writer = ShardWriter::create(&folder, shard, &self.image)?;
                for (_, row) in placed.iter().filter(|(hash, _)| place::shard_of(*hash, self.shards) == shard)
                {
                    let (meta, image) = (self.meta(split, *row), self.payload(split, *row));
                    writer.append(&Sample { meta: &meta, image: &image })?;
                }
                entries.push(writer.commit()?);
            }
            splits.push(SplitEntry::of(split, entries));
        }
        let mut manifest = Manifest::of(self.image.clone(), splits);
        manifest.seed = self.seed;
        manifest.write(dir)
    }

    /// The planar pixels of sample `row` of `split`, before any JPEG: smooth, so that a JPEG comes close to them.
    pub fn pixels(&self, split: &str, row: usize) -> Vec<u8> {
        let hash = place::hash128(self.seed ^ 0x5EED, &source_id(split, row)).to_le_bytes();
        let (height, width) = self.sides(split, row);
        let mut pixels = Vec::new();
        for c in 0..3 {
            let (base, down, across) =
                (hash[c], i32::from(hash[3 + c] % 17) - 8, i32::from(hash[6 + c] % 17) - 8);
            for y in 0..height as i32 {
                pixels.extend(
                    (0..width as i32).map(|x| (i32::from(base) + y * down + x * across).clamp(0, 255) as u8),
                );
            }
        }
        pixels
    }

    fn meta(&self, split: &str, row: usize) -> SampleMeta {
        SampleMeta {
            key: Key::from_source_id(&source_id(split, row)),
            source_id: source_id(split, row),
            source_row: row as u64,
            captions: captions(split, self.caption_rows.map_or(row, |rows| row % rows)),
            original_height: self.image.height,
            original_width: self.image.width,
            url: None,
            license: None,
        }
    }

    #[expect(clippy::expect_used, reason = "the encoder refuses only sizes that the format refuses too")]
    fn payload(&self, split: &str, row: usize) -> Vec<u8> {
        let planar = self.pixels(split, row);
        let plane = planar.len() / 3;
        let interleaved = || (0..planar.len()).map(|i| planar[i % 3 * plane + i / 3]).collect::<Vec<u8>>();
        if self.image.format == ImageFormat::Npy {
            let (height, width) = self.sides(split, row);
            let mut payload = npy::header(&self.image.sized(height, width)).to_vec();
            match self.image.layout {
                Layout::Chw => payload.extend(&planar),
                Layout::Hwc => payload.extend(interleaved()),
            }
            return payload;
        }
        let rgb = interleaved();
        let mut jpeg = Vec::new();
        let (height, width) = self.sides(split, row);
        let quality = self.image.quality.unwrap_or(90);
        jpeg_encoder::Encoder::new(&mut jpeg, quality)
            .encode(&rgb, width as u16, height as u16, jpeg_encoder::ColorType::Rgb)
            .expect("a picture of a size that JPEG holds");
        jpeg
    }
}

/// The source id, and the key, of sample `row` of `split`.
pub fn source_id(split: &str, row: usize) -> String {
    format!("{split}-{row:05}")
}

/// The captions of sample `row` of `split`: one to five, some with more than ASCII.
pub fn captions(split: &str, row: usize) -> Vec<String> {
    (0..row % 5 + 1).map(|caption| format!("caption {caption} of {split} {row}, naïve ☂")).collect()
}
