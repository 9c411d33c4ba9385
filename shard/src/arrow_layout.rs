//! Every place that an Arrow IPC file names, held against the file before Arrow's reader takes its word: that reader
//! asserts, unwraps and allocates by them (found by fuzzing side tables). It leaves out what the columns mean and
//! whether their texts are UTF-8, which Arrow checks.

use std::path::Path;

use arrow_ipc::{Block, Message, RecordBatch, root_as_footer, root_as_message};

use crate::{Error, Result};

/// Bytes behind the footer: its length and the magic.
const TAIL_BYTES: usize = 10;

/// Checks the blocks, buffers and lengths of the file `bytes`.
///
/// # Errors
/// `Corrupt` where one leaves the file or contradicts another. `path` only names the file.
pub(crate) fn check(bytes: &[u8], path: &Path) -> Result<()> {
    let file = File { bytes, path };
    let footer = file.footer()?;
    for blocks in [footer.dictionaries(), footer.recordBatches()].into_iter().flatten() {
        for block in blocks {
            file.check_block(block)?;
        }
    }
    Ok(())
}

struct File<'a> {
    bytes: &'a [u8],
    path: &'a Path,
}

impl<'a> File<'a> {
    fn corrupt(&self, at: usize, problem: &str, expected: impl ToString, found: impl ToString) -> Error {
        Error::corrupt(self.path, at as u64, problem, expected, found)
    }

    /// `value` as a place in the file.
    fn number(&self, value: i64, what: &str) -> Result<usize> {
        let most = self.bytes.len();
        let number = usize::try_from(value).ok().filter(|&number| number <= most);
        number.ok_or_else(|| self.corrupt(0, what, format!("0 to {most}"), value))
    }

    fn footer(&self) -> Result<arrow_ipc::Footer<'a>> {
        let len = self.bytes.len();
        let end = len.saturating_sub(TAIL_BYTES);
        let tail = &self.bytes[end..];
        if tail.len() < TAIL_BYTES || !tail.ends_with(b"ARROW1") {
            return Err(self.corrupt(end, "Arrow magic at the end", "ARROW1", "other bytes"));
        }
        let footer_bytes = i32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
        let start = usize::try_from(footer_bytes).ok().and_then(|bytes| end.checked_sub(bytes));
        let start = start.ok_or_else(|| {
            self.corrupt(end, "length of the Arrow footer", format!("0 to {end}"), footer_bytes)
        })?;
        root_as_footer(&self.bytes[start..end])
            .map_err(|error| self.corrupt(start, "Arrow footer", "a valid flatbuffer", error))
    }

    fn check_block(&self, block: &Block) -> Result<()> {
        let start = self.number(block.offset(), "offset of an Arrow block")?;
        let metadata = self.number(block.metaDataLength().into(), "length of a block's metadata")?;
        let body = self.number(block.bodyLength(), "length of a block's body")?;
        let whole = start.checked_add(metadata + body).and_then(|end| self.bytes.get(start..end));
        let Some(block) = whole else {
            let found = format!("{} bytes at {start}", metadata + body);
            return Err(self.corrupt(start, "Arrow block", "within the file", found));
        };
        // A continuation mark and a length, or in files before Arrow 0.15 the length alone.
        let head = if block.starts_with(&[0xff; 4]) { 8 } else { 4 };
        let message = block[..metadata].get(head..).unwrap_or_default();
        let message = root_as_message(message)
            .map_err(|error| self.corrupt(start + head, "Arrow message", "a valid flatbuffer", error))?;
        let batch = batch_of(&message)
            .ok_or_else(|| self.corrupt(start + head, "Arrow message", "columns", "another kind"))?;
        self.check_batch(&batch, start, body)
    }

    fn check_batch(&self, batch: &RecordBatch<'_>, start: usize, body: usize) -> Result<()> {
        for buffer in batch.buffers().into_iter().flatten() {
            let (offset, bytes) = (buffer.offset(), buffer.length());
            let end = offset.checked_add(bytes).filter(|_| offset >= 0 && bytes >= 0);
            if !end.is_some_and(|end| usize::try_from(end).is_ok_and(|end| end <= body)) {
                let (expected, found) =
                    (format!("within {body} bytes"), format!("{bytes} bytes at {offset}"));
                return Err(self.corrupt(start, "Arrow buffer", expected, found));
            }
        }
        // A value takes a bit at the least, and a column of nulls alone should not be longer than one of bits.
        let values_max = body.saturating_mul(8).max(1) as i64;
        let lengths = batch.nodes().into_iter().flatten().map(|node| (node.length(), node.null_count()));
        for (length, nulls) in lengths.chain([(batch.length(), 0)]) {
            if !(0..=values_max).contains(&length) || !(0..=length).contains(&nulls) {
                let expected = format!("0 to {values_max}, and no more nulls");
                return Err(self.corrupt(
                    start,
                    "values of an Arrow column",
                    expected,
                    format!("{length}, {nulls}"),
                ));
            }
        }
        let counts = batch.variadicBufferCounts().into_iter().flatten();
        let buffers = batch.buffers().map_or(0, |buffers| buffers.len()) as i64;
        for count in counts {
            if !(0..=buffers).contains(&count) {
                return Err(self.corrupt(
                    start,
                    "buffers of an Arrow column",
                    format!("0 to {buffers}"),
                    count,
                ));
            }
        }
        Ok(())
    }
}

/// The columns of a record batch or of a dictionary.
fn batch_of<'a>(message: &Message<'a>) -> Option<RecordBatch<'a>> {
    message.header_as_record_batch().or_else(|| message.header_as_dictionary_batch()?.data())
}
