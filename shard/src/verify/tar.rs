//! A shard's tar under check: with the index at hand, every header, length and padding byte is known before it is
//! read. It leaves out the index's own bytes.

use super::{
    Damage, Depth, Job, Plan, ShardReport,
    files::{Files, Opened},
    index::Rows,
};
use crate::{
    ImageFormat, Manifest, Payload, Result, Row, SampleMeta, SampleOrder, npy, place, reader::crc_error,
    sides, tar,
};

/// Checks the tar against `rows`.
pub(super) fn check(
    plan: &Plan,
    manifest: &Manifest,
    job: &Job,
    files: &Files,
    rows: &Rows,
    report: &mut ShardReport,
) -> Result<()> {
    let listed = report.damages.len();
    let split = &manifest.splits[job.split];
    let opened = &files.tar;
    let mut walk = Walk { manifest, opened, position: 0, last: None, complete: true };
    rows.for_each(plan, &files.table, report, |number, row, report| {
        walk.row(plan, row, report)?;
        walk.placement(row, job.shard as u32, split.shards.len() as u32, report);
        let folded = blake3::hash(row.key.to_ascii_lowercase().as_bytes());
        let mut first = [0u8; 8];
        first.copy_from_slice(&folded.as_bytes()[..8]);
        report.keys.push((u64::from_le_bytes(first), number as u32));
        if manifest.order == SampleOrder::Source {
            let first = report.source_rows.map_or(row.source_row, |(first, _)| first);
            report.source_rows = Some((first, row.source_row));
        }
        Ok(())
    })?;
    if matches!(rows, Rows::Mapped(_) | Rows::Rebuilt(..)) {
        walk.end(plan, report);
    }
    if !opened.sound && report.damages.len() == listed {
        let told = report.damages.iter().any(|damage| damage.file == opened.file);
        if !told {
            report.damages.extend(opened.digest_damage(&split.shards[job.shard].tar_blake3));
        }
    }
    Ok(())
}

/// The walk through the archive, block by block.
struct Walk<'a> {
    manifest: &'a Manifest,
    opened: &'a Opened,
    /// Where the next header is due.
    position: u64,
    /// What the order of samples is judged by: the last hash or source row.
    last: Option<u128>,
    complete: bool,
}

impl<'a> Walk<'a> {
    fn damage(
        &self,
        key: &str,
        offset: u64,
        problem: &str,
        expected: impl ToString,
        found: impl ToString,
    ) -> Damage {
        Damage {
            file: self.opened.file.clone(),
            key: Some(key.to_owned()),
            offset: Some(offset),
            problem: problem.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    fn row(&mut self, plan: &Plan, row: &Row<'_>, report: &mut ShardReport) -> Result<()> {
        let image = &self.manifest.image;
        let mut sized = image.clone();
        if (row.image_format, row.layout) != (image.format, image.layout)
            || !image.allows(row.height, row.width)
        {
            let expected = format!("{:?} {}x{}", image.format, image.height, image.width);
            let found = format!("{:?} {}x{}", row.image_format, row.height, row.width);
            report.add(self.damage(row.key, 0, "image settings of the row", expected, found));
        } else {
            sized = image.sized(row.height, row.width);
        }
        if row.captions.is_empty() {
            report.add(self.damage(row.key, 0, "captions", "one at least", "none"));
        }
        let is_npy = row.image_format == ImageFormat::Npy;
        let length = npy::payload_bytes(&sized).filter(|length| is_npy && *length != row.image.bytes);
        if let Some(length) = length {
            let (at, found) = (row.image.offset, row.image.bytes);
            report.add(self.damage(row.key, at, "length of the npy payload", length, found));
        }
        let name = format!("{}.{}", row.key, row.image_format.name());
        let header = npy::header(&sized);
        if let Some(payload) = self.member(plan, row, &name, row.image, report)? {
            if !is_npy && image.varies() && sides::of(payload, &sized) != Some((sized.height, sized.width)) {
                let expected = format!("a JPEG of {}x{}", sized.height, sized.width);
                let found = sides::of(payload, &sized);
                let found = found.map_or("no JPEG".to_owned(), |(height, width)| format!("{height}x{width}"));
                report.add(self.damage(row.key, row.image.offset, "picture", expected, found));
            } else if is_npy
                && length.is_none()
                && let Some(at) = first_difference(payload, &header)
            {
                let (expected, found) = (hex(header[at]), hex(payload[at]));
                report.add(self.damage(row.key, row.image.offset + at as u64, "npy header", expected, found));
            }
        }
        let name = format!("{}.json", row.key);
        if let Some(payload) = self.member(plan, row, &name, row.json, report)? {
            self.json(row, payload, report);
        }
        Ok(())
    }

    /// Checks one member's header, place, payload and padding; gives the payload if its CRC-32 holds. A quick check
    /// ends at the header.
    fn member(
        &mut self,
        plan: &Plan,
        row: &Row<'_>,
        name: &str,
        payload: Payload,
        report: &mut ShardReport,
    ) -> Result<Option<&'a [u8]>> {
        let bytes = self.opened.map.bytes();
        let due = self.position.saturating_add(tar::BLOCK_BYTES);
        if payload.offset != due {
            report.add(self.damage(row.key, self.position, "offset of the payload", due, payload.offset));
        }
        let start = payload.offset.saturating_sub(tar::BLOCK_BYTES);
        let end = payload.offset.saturating_add(payload.bytes);
        let padded = payload.offset.saturating_add(tar::padded(payload.bytes));
        self.position = padded;
        if padded > bytes.len() as u64 {
            if self.complete {
                self.complete = false;
                let expected = format!("{name} up to byte {padded}");
                report.add(self.damage(
                    row.key,
                    bytes.len() as u64,
                    "the archive ends early",
                    expected,
                    "the end",
                ));
            }
            return Ok(None);
        }
        let (start, end, padded) = (start as usize, end as usize, padded as usize);
        let block = &bytes[start..payload.offset as usize];
        let expected = tar::header(name, payload.bytes)?;
        if let Some(at) = first_difference(block, &expected) {
            let (expected, found) = (hex(expected[at]), hex(block.get(at).copied().unwrap_or_default()));
            report.add(self.damage(row.key, (start + at) as u64, "tar header", expected, found));
        }
        if plan.depth == Depth::Quick {
            report.bytes += tar::BLOCK_BYTES;
            return Ok(None);
        }
        if let Some(at) = bytes[end..padded].iter().position(|&byte| byte != 0) {
            report.add(self.damage(row.key, (end + at) as u64, "padding", hex(0), hex(bytes[end + at])));
        }
        let content = &bytes[payload.offset as usize..end];
        let crc32 = crate::checksum::crc32(content);
        if crc32 != payload.crc32 {
            let error = crc_error(&self.opened.path, payload, content, crc32).at_key(row.key);
            report.add(plan.damage(error)?);
            return Ok(None);
        }
        Ok(Some(content))
    }

    fn json(&self, row: &Row<'_>, payload: &[u8], report: &mut ShardReport) {
        let at = row.json.offset;
        let meta: SampleMeta = match serde_json::from_slice(payload) {
            Ok(meta) => meta,
            Err(error) => {
                report.add(self.damage(row.key, at, "KEY.json", "the fields of FORMAT.md", error));
                return;
            }
        };
        let canonical = serde_json::to_vec(&meta).unwrap_or_default();
        if canonical != payload {
            let offset = first_difference(payload, &canonical).unwrap_or_default() as u64;
            report.add(self.damage(row.key, at + offset, "KEY.json", "its canonical form", "another"));
        }
        let same = meta.key.as_str() == row.key
            && meta.source_id == row.source_id
            && meta.source_row == row.source_row
            && meta.captions.iter().map(String::as_str).eq(row.captions);
        if !same {
            report.add(self.damage(row.key, at, "KEY.json", "what the index says", "something else"));
        }
    }

    fn placement(&mut self, row: &Row<'_>, shard: u32, shards: u32, report: &mut ShardReport) {
        let rank = match self.manifest.order {
            SampleOrder::Shuffled => {
                let h = place::hash128(self.manifest.seed, row.source_id);
                let due = place::shard_of(h, shards);
                if due != shard {
                    report.add(self.damage(row.key, 0, "the shard of the sample", due, shard));
                }
                h
            }
            SampleOrder::Source => u128::from(row.source_row),
        };
        if self.last.is_some_and(|last| last >= rank) {
            report.add(self.damage(
                row.key,
                0,
                "order of the samples",
                "above the one before",
                "not above it",
            ));
        }
        self.last = Some(rank);
    }

    /// After the last sample: two zero blocks and nothing more.
    fn end(&self, plan: &Plan, report: &mut ShardReport) {
        let bytes = self.opened.map.bytes();
        let Some(rest) = usize::try_from(self.position).ok().and_then(|position| bytes.get(position..))
        else {
            return; // told as an archive that ends early
        };
        let mut read = rest.len();
        if plan.depth == Depth::Quick {
            read = read.min(tar::END_BYTES as usize);
            report.bytes += read as u64;
        }
        let mut damage = |offset: u64, expected: String, found: String| {
            report.add(Damage {
                file: self.opened.file.clone(),
                key: None,
                offset: Some(offset),
                problem: "end of the archive".to_owned(),
                expected,
                found,
            });
        };
        if let Some(at) = rest[..read].iter().position(|&byte| byte != 0) {
            damage(self.position + at as u64, hex(0), hex(rest[at]));
        }
        if rest.len() as u64 != tar::END_BYTES {
            damage(self.position, format!("{} zero bytes", tar::END_BYTES), format!("{} bytes", rest.len()));
        }
    }
}

fn first_difference(found: &[u8], expected: &[u8]) -> Option<usize> {
    found.iter().zip(expected).position(|(found, expected)| found != expected)
}

fn hex(byte: u8) -> String {
    format!("{byte:#04x}")
}
