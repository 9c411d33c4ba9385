//! A shard's index under check. An index is a pure function of its tar, so a damaged one is rebuilt and compared:
//! that names the very byte. It leaves out the tar's own bytes.

use super::{
    Damage, Depth, Plan, ShardReport,
    files::{Files, Opened},
};
use crate::{
    ImageSettings, Index, IndexRow, Manifest, Payload, Result, Row, SampleMeta, ShardEntry, checksum, index,
    sides, tar,
};

/// Rows that the tar is checked against, or the reason why there are none.
pub(super) enum Rows {
    /// The mapped index is sound.
    Mapped(Index),
    /// The index is damaged; this one, with the digest of the manifest, was rebuilt from the tar.
    Rebuilt(Index, Vec<u8>),
    /// Neither can be trusted; only what the damaged index still vouches for row by row can be checked.
    Damaged(Option<Index>),
}

/// Checks the index and says which rows the tar is to be checked against.
pub(super) fn check(
    plan: &Plan,
    manifest: &Manifest,
    entry: &ShardEntry,
    files: &Files,
    report: &mut ShardReport,
) -> Result<Rows> {
    let Files { tar, table } = files;
    let parsed = Index::parse(table.map.bytes(), &table.path);
    if table.sound {
        return match parsed {
            Ok(index) if index.len() as u64 == entry.samples => Ok(Rows::Mapped(index)),
            Ok(index) => {
                report.add(Damage {
                    file: table.file.clone(),
                    key: None,
                    offset: None,
                    problem: "number of samples".to_owned(),
                    expected: entry.samples.to_string(),
                    found: index.len().to_string(),
                });
                Ok(Rows::Damaged(Some(index)))
            }
            Err(error) => {
                report.add(plan.damage(error)?);
                Ok(Rows::Damaged(None))
            }
        };
    }
    // To rebuild an index is to read the whole tar.
    let rows = if plan.depth == Depth::Full { rebuild(tar, &manifest.image) } else { None };
    let rebuilt = rows.map(|rows| {
        let bytes = index::encode(&rows, &manifest.image, &table.path);
        bytes.map(|bytes| (rows, bytes))
    });
    if let Some((rows, bytes)) = rebuilt.transpose()?
        && checksum::blake3_hex(&bytes) == entry.index_blake3
    {
        report.add(difference(table, parsed.ok().as_ref(), &rows, &bytes));
        return Ok(Rows::Rebuilt(Index::parse(&bytes, &table.path)?, bytes));
    }
    let listed = report.damages.len();
    let index = match parsed {
        Ok(index) => {
            for row in 0..index.len() {
                if let Err(error) = index.row(table.map.bytes(), &table.path, row) {
                    report.add(plan.damage(error)?);
                }
            }
            Some(index)
        }
        Err(error) => {
            report.add(plan.damage(error)?);
            None
        }
    };
    if report.damages.len() == listed {
        report.damages.extend(table.digest_damage(&entry.index_blake3));
    }
    Ok(Rows::Damaged(index))
}

/// The first byte in which a damaged index differs from what it should be, and the sample it belongs to.
fn difference(table: &Opened, damaged: Option<&Index>, rows: &[IndexRow], expected: &[u8]) -> Damage {
    let found = table.map.bytes();
    let offset = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let offset = offset.unwrap_or(found.len().min(expected.len()));
    let byte =
        |bytes: &[u8]| bytes.get(offset).map_or("the end of the file".to_owned(), |b| format!("{b:#04x}"));
    let key =
        damaged.filter(|index| index.is_row_byte(offset) && index.len() == rows.len()).and_then(|index| {
            let hit = |row: &usize| index.row(found, &table.path, *row).is_err();
            (0..rows.len()).find(hit).map(|row| rows[row].meta.key.to_string())
        });
    Damage {
        file: table.file.clone(),
        key,
        offset: Some(offset as u64),
        problem: "a changed byte of the index".to_owned(),
        expected: byte(expected),
        found: byte(found),
    }
}

/// The rows that a tar's own members tell, if every one of them is as the format has it.
fn rebuild(tar: &Opened, image: &ImageSettings) -> Option<Vec<IndexRow>> {
    let bytes = tar.map.bytes();
    let mut rows = Vec::new();
    let mut position = 0;
    while position as u64 + tar::END_BYTES < bytes.len() as u64 {
        let (image_name, image_payload) = member(bytes, &mut position)?;
        let (json_name, json_payload) = member(bytes, &mut position)?;
        let json = &bytes[json_payload.offset as usize..][..json_payload.bytes as usize];
        let meta: SampleMeta = serde_json::from_slice(json).ok()?;
        let key = &meta.key;
        if image_name != format!("{key}.{}", image.format.name()) || json_name != format!("{key}.json") {
            return None;
        }
        let (height, width) = if image.varies() {
            let payload = &bytes[image_payload.offset as usize..][..image_payload.bytes as usize];
            sides::of(payload, image)?
        } else {
            (image.height, image.width)
        };
        rows.push(IndexRow { meta, height, width, image: image_payload, json: json_payload });
    }
    Some(rows)
}

fn member<'a>(bytes: &'a [u8], position: &mut usize) -> Option<(&'a str, Payload)> {
    let block = tar::BLOCK_BYTES as usize;
    let (name, length) = tar::parse(bytes.get(*position..position.checked_add(block)?)?)?;
    let offset = *position + block;
    let payload = bytes.get(offset..offset.checked_add(usize::try_from(length).ok()?)?)?;
    *position = offset + usize::try_from(tar::padded(length)).ok()?;
    Some((name, Payload { offset: offset as u64, bytes: length, crc32: checksum::crc32(payload) }))
}

impl Rows {
    /// Calls `with` on every row that can be trusted, in order, with its number. Rows of an index that should
    /// be sound and are not are reported; those of a damaged one were reported already.
    pub(super) fn for_each(
        &self,
        plan: &Plan,
        table: &Opened,
        report: &mut ShardReport,
        mut with: impl FnMut(usize, &Row<'_>, &mut ShardReport) -> Result<()>,
    ) -> Result<()> {
        let (index, bytes) = match self {
            Self::Mapped(index) | Self::Damaged(Some(index)) => (index, table.map.bytes()),
            Self::Rebuilt(index, bytes) => (index, bytes.as_slice()),
            Self::Damaged(None) => return Ok(()),
        };
        for row in 0..index.len() {
            match index.row(bytes, &table.path, row) {
                Ok(found) => with(row, &found, report)?,
                Err(error) if !matches!(self, Self::Damaged(_)) => report.add(plan.damage(error)?),
                Err(_) => {}
            }
        }
        Ok(())
    }
}
