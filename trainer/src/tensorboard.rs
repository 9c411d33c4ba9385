//! TensorBoard event files: scalars only, written by hand.
//!
//! An event file is a row of TFRecords: length (u64 LE), masked CRC-32C of the length, payload, masked
//! CRC-32C of the payload. The payload is a protobuf `Event`: 1 `wall_time` (double), 2 `step` (int64),
//! 3 `file_version` (string), 5 `summary`; a `Summary` has 1 `value` {1 `tag`, 2 `simple_value` (float)}.
//! Leaves out histograms, pictures and text.

use crate::error::{Error, Result};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Appends scalars to one event file.
pub struct EventWriter {
    file: std::io::BufWriter<fs_err::File>,
    path: PathBuf,
}

impl std::fmt::Debug for EventWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl EventWriter {
    /// Begins a new event file in `folder`, named after the second at which it begins.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(folder: &Path, wall_time: f64) -> Result<Self> {
        // Seconds since 1970; not negative.
        let path = folder.join(format!("events.out.tfevents.{:010}.trainer", wall_time as u64));
        let file = fs_err::File::create(&path).map_err(Error::io("begin the event file"))?;
        let mut writer = Self { file: std::io::BufWriter::new(file), path };
        let mut event = Vec::new();
        double(&mut event, 1, wall_time);
        bytes(&mut event, 3, b"brain.Event:2");
        writer.record(&event)?;
        Ok(writer)
    }

    /// Adds scalars of one step, one event for all of them.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scalars(&mut self, wall_time: f64, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            bytes(&mut entry, 1, tag.as_bytes());
            // `simple_value` is a float of 32 bits.
            float(&mut entry, 2, *value as f32);
            bytes(&mut summary, 1, &entry);
        }
        let mut event = Vec::new();
        double(&mut event, 1, wall_time);
        varint_field(&mut event, 2, step);
        bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write the event file"))
    }

    fn record(&mut self, payload: &[u8]) -> Result<()> {
        let mut framed = Vec::with_capacity(payload.len() + 16);
        let length = (payload.len() as u64).to_le_bytes();
        framed.extend_from_slice(&length);
        framed.extend_from_slice(&masked_crc(&length).to_le_bytes());
        framed.extend_from_slice(payload);
        framed.extend_from_slice(&masked_crc(payload).to_le_bytes());
        self.file.write_all(&framed).map_err(Error::io("write the event file"))
    }
}

/// TFRecord's mask over CRC-32C: a rotation and a constant, so that a CRC of CRCs stays sound.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The low seven bits, with the mark that more follow.
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_field(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn float(out: &mut Vec<u8>, field: u64, value: f32) {
    varint(out, field << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of a protobuf message: its number and its raw value.
    #[derive(Debug, PartialEq)]
    enum Field<'a> {
        Varint(u64, u64),
        Fixed64(u64, [u8; 8]),
        Bytes(u64, &'a [u8]),
        Fixed32(u64, [u8; 4]),
    }

    fn read_varint(data: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = data[0];
            *data = &data[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn fields(mut data: &[u8]) -> Vec<Field<'_>> {
        let mut fields = Vec::new();
        while !data.is_empty() {
            let tag = read_varint(&mut data);
            let field = tag >> 3;
            fields.push(match tag & 7 {
                0 => Field::Varint(field, read_varint(&mut data)),
                1 => {
                    let (head, tail) = data.split_at(8);
                    data = tail;
                    Field::Fixed64(field, head.try_into().unwrap())
                }
                2 => {
                    let length = read_varint(&mut data) as usize;
                    let (head, tail) = data.split_at(length);
                    data = tail;
                    Field::Bytes(field, head)
                }
                5 => {
                    let (head, tail) = data.split_at(4);
                    data = tail;
                    Field::Fixed32(field, head.try_into().unwrap())
                }
                other => panic!("wire type {other}"),
            });
        }
        fields
    }

    fn records(mut data: &[u8]) -> Vec<&[u8]> {
        let mut records = Vec::new();
        while !data.is_empty() {
            let length = u64::from_le_bytes(data[..8].try_into().unwrap()) as usize;
            assert_eq!(u32::from_le_bytes(data[8..12].try_into().unwrap()), masked_crc(&data[..8]));
            let payload = &data[12..12 + length];
            let crc = u32::from_le_bytes(data[12 + length..16 + length].try_into().unwrap());
            assert_eq!(crc, masked_crc(payload));
            records.push(payload);
            data = &data[16 + length..];
        }
        records
    }

    #[test]
    fn the_mask_is_that_of_tfrecord() {
        // CRC-32C of "123456789" is e3069283 (RFC 3720). Every event file begins with a record of 24 bytes, and
        // TensorFlow writes 224b7fa3 behind that length.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(&24u64.to_le_bytes()), 0x224b_7fa3);
    }

    #[test]
    fn what_is_written_parses_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(folder.path(), 1_700_000_000.5).unwrap();
        writer.scalars(1_700_000_001.0, 300, &[("train/loss", 2.5), ("train/lr", 1e-4)]).unwrap();
        writer.scalars(1_700_000_002.0, 1 << 40, &[("val/recall", f64::NAN)]).unwrap();
        writer.flush().unwrap();
        let data = fs_err::read(&writer.path).unwrap();
        let records = records(&data);
        assert_eq!(records.len(), 3);
        assert_eq!(
            fields(records[0]),
            [Field::Fixed64(1, 1_700_000_000.5f64.to_le_bytes()), Field::Bytes(3, b"brain.Event:2")]
        );
        let event = fields(records[1]);
        assert_eq!(event[..2], [Field::Fixed64(1, 1_700_000_001f64.to_le_bytes()), Field::Varint(2, 300)]);
        let Field::Bytes(5, summary) = event[2] else { panic!("{event:?}") };
        let values: Vec<Vec<Field<'_>>> = fields(summary)
            .into_iter()
            .map(|f| if let Field::Bytes(1, value) = f { fields(value) } else { panic!("{f:?}") })
            .collect();
        assert_eq!(values[0], [Field::Bytes(1, b"train/loss"), Field::Fixed32(2, 2.5f32.to_le_bytes())]);
        assert_eq!(values[1], [Field::Bytes(1, b"train/lr"), Field::Fixed32(2, 1e-4f32.to_le_bytes())]);
        assert_eq!(fields(records[2])[1], Field::Varint(2, 1 << 40));
    }
}
