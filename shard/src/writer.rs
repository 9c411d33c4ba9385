//! Samples → a shard's two files. Each is written beside its place, synced and renamed, so a file with a
//! shard's name is whole. It leaves out which sample goes where (`place`) and the manifest.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use crate::{
    Error, ImageSettings, IndexRow, NewFile, Payload, Result, Sample, ShardEntry, checksum, index,
    manifest::shard_name, npy, replace_file, sides, tar,
};

/// Bytes that are hashed and written at once. BLAKE3 hashes a tree: of pieces of a power of two, from the start on, all
/// leaves fill its vectors.
const BLOCK_BYTES: usize = 1 << 20;

/// Writes one shard, sample by sample.
#[derive(Debug)]
pub struct ShardWriter {
    dir: PathBuf,
    name: String,
    image: ImageSettings,
    tar: NewFile,
    tar_path: PathBuf,
    /// Bytes on their way to the file: hashed and written [`BLOCK_BYTES`] at a time.
    block: Vec<u8>,
    digest: blake3::Hasher,
    position: u64,
    rows: Vec<IndexRow>,
    json: Vec<u8>,
}

impl ShardWriter {
    /// Starts shard number `shard` in the split's folder `dir`, which exists.
    ///
    /// # Errors
    /// `Io`; `Unfit` for settings that the format cannot hold.
    pub fn create(dir: &Path, shard: u32, image: &ImageSettings) -> Result<Self> {
        if let Some(problem) = image.problem() {
            return Err(Error::unfit("image settings", "", problem));
        }
        let name = shard_name(shard);
        let tar_path = dir.join(format!("{name}.tar"));
        let tar = NewFile::create(&tar_path)?;
        Ok(Self {
            dir: dir.to_path_buf(),
            name,
            image: image.clone(),
            tar,
            tar_path,
            block: Vec::with_capacity(BLOCK_BYTES),
            digest: blake3::Hasher::new(),
            position: 0,
            rows: Vec::new(),
            json: Vec::new(),
        })
    }

    /// Samples so far.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Appends a sample: its picture, then its JSON.
    ///
    /// # Errors
    /// `Unfit` where the payload does not have the settings' shape; `Io`.
    pub fn append(&mut self, sample: &Sample<'_>) -> Result<()> {
        let (height, width) = self.check(sample)?;
        let key = &sample.meta.key;
        let image = self.member(&format!("{key}.{}", self.image.format.name()), sample.image)?;
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        serde_json::to_writer(&mut json, sample.meta).expect("a struct of texts and numbers");
        let written = self.member(&format!("{key}.json"), &json);
        self.json = json;
        self.rows.push(IndexRow { meta: sample.meta.clone(), height, width, image, json: written? });
        Ok(())
    }

    /// Height and width of the picture, which has the settings' form.
    fn check(&self, sample: &Sample<'_>) -> Result<(u32, u32)> {
        let sides = if self.image.varies() {
            sides::of(sample.image, &self.image)
        } else {
            Some((self.image.height, self.image.width))
        };
        let fits = |&(height, width): &(u32, u32)| self.image.allows(height, width);
        let (height, width) = sides.filter(fits).ok_or_else(|| {
            let found = sides.map_or("none".to_owned(), |(height, width)| format!("{height}x{width}"));
            let found = format!("{found} of {}", sample.meta.key);
            Error::unfit(
                "sides of the picture",
                &found,
                "the shorter as the image settings have it, the longer at most 16384",
            )
        })?;
        let image = self.image.sized(height, width);
        let Some(bytes) = npy::payload_bytes(&image) else { return Ok((height, width)) };
        let header = npy::header(&image);
        if sample.image.len() as u64 != bytes || !sample.image.starts_with(&header) {
            let found = format!("{} bytes for {}", sample.image.len(), sample.meta.key);
            return Err(Error::unfit(
                "image payload",
                &found,
                "the npy header and pixels of the image settings",
            ));
        }
        Ok((height, width))
    }

    fn member(&mut self, name: &str, payload: &[u8]) -> Result<Payload> {
        let header = tar::header(name, payload.len() as u64)?;
        self.write(&header)?;
        let entry =
            Payload { offset: self.position, bytes: payload.len() as u64, crc32: checksum::crc32(payload) };
        self.write(payload)?;
        let padding = (tar::padded(entry.bytes) - entry.bytes) as usize;
        self.write(&[0; tar::BLOCK_BYTES as usize][..padding])?;
        Ok(entry)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.position += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK_BYTES {
                self.write_block()?;
            }
        }
        Ok(())
    }

    fn write_block(&mut self) -> Result<()> {
        self.digest.update(&self.block);
        self.tar.write_all(&self.block).map_err(Error::io("write", &self.tar_path))?;
        self.block.clear();
        Ok(())
    }

    /// Ends the archive, syncs it, puts it and its index into place.
    ///
    /// # Errors
    /// `Io`, `Arrow`.
    pub fn commit(mut self) -> Result<ShardEntry> {
        self.write(&[0; tar::END_BYTES as usize])?;
        self.write_block()?;
        self.tar.sync()?;
        let index_path = self.dir.join(format!("{}.arrow", self.name));
        let index = index::encode(&self.rows, &self.image, &index_path)?;
        self.tar.commit()?;
        replace_file(&index_path, |file| file.write_all(&index))?;
        Ok(ShardEntry {
            name: self.name,
            samples: self.rows.len() as u64,
            tar_bytes: self.position,
            tar_blake3: self.digest.finalize().to_hex().to_string(),
            index_bytes: index.len() as u64,
            index_blake3: checksum::blake3_hex(&index),
            side_tables: Default::default(),
        })
    }
}
