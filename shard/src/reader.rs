//! A mapped shard: rows, payloads, pixels. Opening parses no tar header and reads no row; what is used is
//! checked when it is used. It leaves out headers and padding, which `verify` alone checks, and decoding of JPEGs.

use std::path::{Path, PathBuf};

use crate::{
    Error, ImageFormat, ImageSettings, Index, Payload, Result, Row, ShardEntry, checksum,
    mmap::{Advice, Mapping},
    npy, unreadable,
};

/// A shard's tar and index, mapped.
#[derive(Debug)]
pub struct ShardReader {
    tar_path: PathBuf,
    index_path: PathBuf,
    tar: Mapping,
    table: Mapping,
    index: Index,
    image: ImageSettings,
    npy_header: [u8; npy::HEADER_BYTES],
}

impl ShardReader {
    /// Maps the shard `entry` in the split's folder `dir`; `image` are the manifest's settings.
    ///
    /// # Errors
    /// `Io`; `Corrupt` where a length or the number of rows is not the manifest's.
    pub fn open(dir: &Path, entry: &ShardEntry, image: &ImageSettings) -> Result<Self> {
        let (tar_path, index_path) = (dir.join(entry.tar_name()), dir.join(entry.index_name()));
        let (tar, table) = (Mapping::open(&tar_path)?, Mapping::open(&index_path)?);
        for (path, map, bytes) in
            [(&tar_path, &tar, entry.tar_bytes), (&index_path, &table, entry.index_bytes)]
        {
            let found = map.bytes().len() as u64;
            if found != bytes {
                return Err(Error::corrupt(path, found.min(bytes), "length of the file", bytes, found));
            }
        }
        let index = Index::parse(table.bytes(), &index_path)?;
        if index.len() as u64 != entry.samples {
            return Err(Error::corrupt(&index_path, 0, "number of samples", entry.samples, index.len()));
        }
        let npy_header = npy::header(image);
        Ok(Self { tar_path, index_path, tar, table, index, image: image.clone(), npy_header })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The tar's path, for messages.
    pub fn tar_path(&self) -> &Path {
        &self.tar_path
    }

    /// The index's path, for messages.
    pub fn index_path(&self) -> &Path {
        &self.index_path
    }

    /// The row of sample `row` of this shard, with its CRC-32, bounds and values checked.
    ///
    /// # Errors
    /// `Corrupt`, naming the sample.
    ///
    /// # Panics
    /// If `row` is not below `len()`.
    pub fn row(&self, row: usize) -> Result<Row<'_>> {
        let row = self.index.row(self.table.bytes(), &self.index_path, row)?;
        let (image, table) = (&self.image, &self.index_path);
        if (row.image_format, row.layout) != (image.format, image.layout)
            || !image.allows(row.height, row.width)
        {
            let expected = format!("{image:?}");
            let found = format!("{:?} {:?} {}x{}", row.image_format, row.layout, row.height, row.width);
            return Err(Error::corrupt(table, 0, "image settings", expected, found).at_key(row.key));
        }
        Ok(row)
    }

    /// The bytes of a row's payload, within the tar's bounds. Their CRC-32 is not yet checked.
    ///
    /// # Errors
    /// `Corrupt` where the range leaves the tar.
    pub fn payload<'a>(&'a self, row: &Row<'_>, payload: Payload) -> Result<&'a [u8]> {
        let tar = self.tar.bytes();
        let range = usize::try_from(payload.offset).ok().zip(usize::try_from(payload.bytes).ok());
        range.and_then(|(offset, bytes)| tar.get(offset..offset.checked_add(bytes)?)).ok_or_else(|| {
            let expected = format!("within the tar's {} bytes", tar.len());
            let found = format!("{} bytes at {}", payload.bytes, payload.offset);
            Error::corrupt(&self.index_path, 0, "range of a payload", expected, found).at_key(row.key)
        })
    }

    /// The picture's payload split into npy header and pixels, or for a JPEG an empty header and the file. The
    /// header has been compared; the CRC-32, of both together, has not been checked.
    ///
    /// # Errors
    /// `Corrupt` where the range, the length or the header is wrong.
    pub fn image<'a>(&'a self, row: &Row<'_>) -> Result<(&'a [u8], &'a [u8])> {
        let payload = self.payload(row, row.image)?;
        if self.image.format == ImageFormat::Jpg {
            return Ok((&[], payload));
        }
        let sized;
        let (image, due) = if self.image.varies() {
            sized = self.image.sized(row.height, row.width);
            (&sized, npy::header(&sized))
        } else {
            (&self.image, self.npy_header)
        };
        let expected = npy::payload_bytes(image).unwrap_or_default();
        if payload.len() as u64 != expected {
            let error =
                Error::corrupt(&self.index_path, 0, "length of the npy payload", expected, payload.len());
            return Err(error.at_key(row.key));
        }
        let (header, pixels) = payload.split_at(npy::HEADER_BYTES);
        if header != due {
            let at = header.iter().zip(&due).position(|(found, expected)| found != expected);
            let at = at.unwrap_or_default();
            let error = Error::corrupt(
                &self.tar_path,
                row.image.offset + at as u64,
                "npy header",
                format!("{:#04x}", due[at]),
                format!("{:#04x}", header[at]),
            );
            return Err(error.at_key(row.key));
        }
        Ok((header, pixels))
    }

    /// Checks bytes that were read against a row's CRC-32.
    ///
    /// # Errors
    /// `Corrupt`, with the changed byte where one alone explains the difference.
    pub fn check(&self, row: &Row<'_>, payload: Payload, bytes: &[u8]) -> Result<()> {
        let found = checksum::crc32(bytes);
        if found == payload.crc32 { Ok(()) } else { Err(self.crc_error(row.key, payload, bytes, found)) }
    }

    /// The error for a payload whose CRC-32 came out as `found`, for callers that compute it while copying.
    pub fn crc_error(&self, key: &str, payload: Payload, bytes: &[u8], found: u32) -> Error {
        crc_error(&self.tar_path, payload, bytes, found).at_key(key)
    }

    /// Whether tar and index could be read wherever they were, and are as long as they were mapped. A file cut short reads
    /// as zeros past its new end, and so does a block that the disk does not give back: this is asked after a read and
    /// before its bytes are believed.
    ///
    /// # Errors
    /// `Corrupt`, with the length that the file had and the one that it has; or that a part of it cannot be read.
    pub fn check_whole(&self) -> Result<()> {
        for (path, map) in [(&self.tar_path, &self.tar), (&self.index_path, &self.table)] {
            if map.is_cut() {
                let bytes = map.bytes().len() as u64;
                let found = fs_err::metadata(path).map_or(0, |metadata| metadata.len());
                if found == bytes {
                    // The kernel reports a block that the disk does not give back in the same way.
                    let problem = "a read of the mapped file failed: the page here";
                    let (offset, found) = unreadable::find(path, bytes).map_or_else(
                        || (0, "nothing unreadable now; the system log may say what it was".to_owned()),
                        |(offset, error)| (offset, error.to_string()),
                    );
                    return Err(Error::corrupt(path, offset, problem, "a readable one", found));
                }
                let problem = "the file was cut short while it was read: length";
                return Err(Error::corrupt(path, found.min(bytes), problem, bytes, found));
            }
        }
        Ok(())
    }

    /// Advises the kernel on coming reads of the tar.
    pub fn advise(&self, advice: Advice) {
        self.tar.advise(advice, 0, usize::MAX);
    }

    /// Advises the kernel that rows of the index are read soon, in no order.
    pub fn prefetch_rows(&self) {
        self.table.advise(Advice::WillNeed, 0, usize::MAX);
    }

    /// Advises the kernel that a payload is read soon.
    pub fn prefetch(&self, payload: Payload) {
        if let (Ok(offset), Ok(bytes)) = (usize::try_from(payload.offset), usize::try_from(payload.bytes)) {
            self.tar.advise(Advice::WillNeed, offset, bytes);
        }
    }
}

/// A payload's CRC-32 mismatch, pinned to the byte where one changed byte explains it.
pub(crate) fn crc_error(tar_path: &Path, payload: Payload, bytes: &[u8], found: u32) -> Error {
    let range = format!("{}..{}", payload.offset, payload.offset.saturating_add(payload.bytes));
    match checksum::changed_byte(bytes.len(), payload.crc32, found) {
        Some(changed) => {
            let byte = bytes[changed.position];
            Error::corrupt(
                tar_path,
                payload.offset + changed.position as u64,
                format!(
                    "CRC-32 {found:08x} instead of {:08x} of bytes {range}: one changed byte",
                    payload.crc32
                ),
                format!("{:#04x}", byte ^ changed.xor),
                format!("{byte:#04x}"),
            )
        }
        None => Error::corrupt(
            tar_path,
            payload.offset,
            format!("CRC-32 of bytes {range}"),
            format!("{:08x}", payload.crc32),
            format!("{found:08x}"),
        ),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::{Key, Sample, SampleMeta, ShardWriter};

    /// A bus error over a file that has its full length: what an unreadable block looks like. Here the length comes back
    /// after the read, for want of a disk that can be broken.
    #[test]
    fn a_failed_read_of_a_whole_file_is_no_cut() {
        let dir = tempfile::tempdir().unwrap();
        let image = ImageSettings::tensor(64);
        let mut writer = ShardWriter::create(dir.path(), 0, &image).unwrap();
        let mut payload = npy::header(&image).to_vec();
        payload.resize(payload.len() + 3 * 64 * 64, 7);
        let meta = SampleMeta {
            key: Key::from_source_id("a"),
            source_id: "a".to_owned(),
            source_row: 0,
            captions: vec!["a caption".to_owned()],
            original_height: 64,
            original_width: 64,
            url: None,
            license: None,
        };
        writer.append(&Sample { meta: &meta, image: &payload }).unwrap();
        let entry = writer.commit().unwrap();
        let reader = ShardReader::open(dir.path(), &entry, &image).unwrap();
        reader.check_whole().unwrap();
        let row = reader.row(0).unwrap();
        let file = fs_err::OpenOptions::new().write(true).open(reader.tar_path()).unwrap();
        file.set_len(0).unwrap();
        assert_eq!(reader.payload(&row, row.image).unwrap()[8_000], 0);
        let cut = reader.check_whole().unwrap_err().to_string();
        assert!(cut.contains("cut short") && cut.contains("found 0"), "{cut}");
        file.set_len(entry.tar_bytes).unwrap();
        let error = reader.check_whole().unwrap_err();
        let text = error.to_string();
        assert!(error.is_corrupt() && text.contains("a read of the mapped file failed"), "{text}");
        assert!(text.contains("shard-000000.tar") && !text.contains("cut short"), "{text}");
    }
}
