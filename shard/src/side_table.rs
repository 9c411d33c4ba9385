//! Side tables: more columns for a shard's samples (embeddings, tokens, cluster ids, new captions), added later
//! without touching the pixels. Each is an Arrow IPC file `shard-000000.NAME.arrow` whose first column `key`
//! repeats the index's keys in order; the manifest lists its digest. It leaves out what the columns mean.

use std::{
    fs::TryLockError,
    io::{Cursor, Write as _},
    path::Path,
};

use arrow_array::{Array, RecordBatch, StringArray, cast::AsArray};
use arrow_schema::{ArrowError, DataType};

use crate::{
    Dataset, Error, Manifest, Result, ShardReader, SideTableEntry, arrow_layout, checksum,
    manifest::{self, MANIFEST_NAME},
    new_file::{self, Finished, NewFile},
};

/// Largest side table that is read into memory.
const TABLE_BYTES_MAX: u64 = 16 << 30;

/// Adds (or replaces) side table `table` on every shard of `split`: `columns` is called with each shard and gives
/// its record batch, whose first column is `key`. Tables wait beside their places until all are written; then they are
/// put there, and the manifest is rewritten. One program at a time adds side tables to a data set.
///
/// # Errors
/// `Unfit` where the name or a batch does not fit, `Busy` where another program is at it, `Io`, `Arrow`, or what `columns`
/// returns; the data set is as before then.
pub fn write(
    dir: &Path,
    split: &str,
    table: &str,
    mut columns: impl FnMut(&ShardReader) -> Result<RecordBatch>,
) -> Result<()> {
    if !manifest::split_name_fits(table) {
        return Err(Error::unfit("side table", table, "1 to 32 of a-z, 0-9, _ and -"));
    }
    Dataset::open(dir)?;
    let _lock = lock(dir)?;
    // As it is under the lock: another program may just have added tables.
    let dataset = Dataset::open(dir)?;
    let shards = dataset.open_split(split)?;
    let mut changed: Manifest = dataset.manifest().clone();
    let entries = changed.splits.iter_mut().find(|entry| entry.name == split);
    let entries = &mut entries.expect("open_split found it").shards;
    let folder = dir.join(split);
    let mut finished = Vec::with_capacity(shards.len());
    for (shard, entry) in shards.iter().zip(entries) {
        let path = folder.join(entry.side_table_name(table));
        let batch = columns(shard)?;
        check_keys(shard, &batch, &path)?;
        let arrow = |source: ArrowError| Error::Arrow { path: path.clone(), source };
        let mut writer =
            arrow_ipc::writer::FileWriter::try_new(Vec::new(), &batch.schema()).map_err(arrow)?;
        writer.write(&batch).map_err(arrow)?;
        let bytes = writer.into_inner().map_err(arrow)?;
        let mut file = NewFile::create(&path)?;
        file.write_all(&bytes).map_err(Error::io("write", &path))?;
        finished.push(file.finish()?);
        let entry_of_table =
            SideTableEntry { bytes: bytes.len() as u64, blake3: checksum::blake3_hex(&bytes) };
        entry.side_tables.insert(table.to_owned(), entry_of_table);
    }
    finished.into_iter().try_for_each(Finished::place)?;
    new_file::sync_folder(&folder)?;
    changed.write(dir)
}

/// Takes the lock of whoever adds side tables: the manifest's own file, which is another one once they are added.
fn lock(dir: &Path) -> Result<fs_err::File> {
    let path = dir.join(MANIFEST_NAME);
    loop {
        let file = fs_err::File::open(&path).map_err(Error::io("read", &path))?;
        match file.file().try_lock() {
            Ok(()) if is_at(&file, &path) => return Ok(file),
            // The one that had it has replaced the manifest meanwhile.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Busy { dir: dir.to_path_buf() }),
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
        }
    }
}

/// Whether an open file is still the one at `path`.
fn is_at(file: &fs_err::File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let there = fs_err::metadata(path).map(|found| (found.dev(), found.ino()));
        file.metadata().is_ok_and(|ours| there.is_ok_and(|there| there == (ours.dev(), ours.ino())))
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        true
    }
}

/// Reads side table `table` of shard number `shard` of `split`; its digest is checked before Arrow parses it.
///
/// # Errors
/// `Unfit` where there is none, `Corrupt` where its digest or its keys differ, `Io`, `Arrow`.
pub fn read(dataset: &Dataset, split: &str, shard: usize, table: &str) -> Result<RecordBatch> {
    let entry = dataset.split(split)?.shards.get(shard);
    let entry = entry.ok_or_else(|| Error::unfit("shard", &shard.to_string(), "a shard of the split"))?;
    let Some(listed) = entry.side_tables.get(table) else {
        return Err(Error::unfit("side table", table, "one that the manifest lists for this shard"));
    };
    let dir = dataset.dir().join(split);
    let path = dir.join(entry.side_table_name(table));
    let length = fs_err::metadata(&path).map_err(Error::io("read", &path))?.len();
    if length != listed.bytes || length > TABLE_BYTES_MAX {
        return Err(Error::corrupt(&path, 0, "length of the file", listed.bytes, length));
    }
    let bytes = fs_err::read(&path).map_err(Error::io("read", &path))?;
    let digest = checksum::blake3_hex(&bytes);
    if digest != listed.blake3 {
        return Err(Error::corrupt(&path, 0, "BLAKE3 of the file", &listed.blake3, digest));
    }
    arrow_layout::check(&bytes, &path)?;
    let arrow = |source: ArrowError| Error::Arrow { path: path.clone(), source };
    // What the check of the layout leaves (an offset that is not aligned, say) Arrow's reader meets with an assertion.
    let batches = std::panic::catch_unwind(|| -> Result<Vec<RecordBatch>, ArrowError> {
        arrow_ipc::reader::FileReader::try_new(Cursor::new(bytes), None)?.collect()
    });
    let batches = batches
        .map_err(|_| Error::corrupt(&path, 0, "Arrow file", "what Arrow's reader accepts", "a panic of it"))?
        .map_err(arrow)?;
    let [batch] = <[RecordBatch; 1]>::try_from(batches)
        .map_err(|batches| Error::corrupt(&path, 0, "record batches", 1, batches.len()))?;
    check_keys(&ShardReader::open(&dir, entry, &dataset.manifest().image)?, &batch, &path)?;
    Ok(batch)
}

/// The batch's first column must repeat the shard's keys.
fn check_keys(shard: &ShardReader, batch: &RecordBatch, path: &Path) -> Result<()> {
    let first = batch.columns().first().filter(|column| *column.data_type() == DataType::Utf8);
    let named = batch.schema().fields().first().is_some_and(|field| field.name() == "key");
    let Some(keys) = first.filter(|_| named).map(|column| column.as_string::<i32>()) else {
        return Err(Error::unfit("side table", &path.to_string_lossy(), "its first column is `key`, utf8"));
    };
    let keys: &StringArray = keys;
    if keys.len() != shard.len() {
        return Err(Error::corrupt(path, 0, "rows of the side table", shard.len(), keys.len()));
    }
    for row in 0..shard.len() {
        let expected = shard.row(row)?.key;
        if keys.value(row) != expected {
            return Err(Error::corrupt(path, 0, format!("key of row {row}"), expected, keys.value(row)));
        }
    }
    Ok(())
}
