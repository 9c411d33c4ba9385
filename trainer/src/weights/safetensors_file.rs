//! A safetensors file read tensor by tensor: its header first, which says what lies where, then what is asked for.
//!
//! A header is numbers from a file: it is compared with the file's length before memory is taken. Leaves out writing,
//! and names.

use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The longest header, as the format's own library has it.
const HEADER_MAX: u64 = 100_000_000;

/// An open file.
#[derive(Debug)]
pub(crate) struct SafetensorsFile {
    path: PathBuf,
    file: fs_err::File,
    header: Metadata,
    /// Where the tensors begin.
    begin: u64,
}

impl SafetensorsFile {
    /// Reads the header of `path`.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Weights`] saying why it is no safetensors file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let io = || Error::io("read the weights");
        let fail = |reason: String| Error::Weights { path: path.to_path_buf(), reason };
        let file = fs_err::File::open(path).map_err(io())?;
        let length = file.metadata().map_err(io())?.len();
        let none = |why: String| fail(format!("it is no safetensors file: {why}"));
        let mut from = &file;
        let mut word = [0; 8];
        if length < word.len() as u64 {
            return Err(none(format!("it has {length} bytes")));
        }
        from.read_exact(&mut word).map_err(io())?;
        let bytes = u64::from_le_bytes(word);
        if bytes > HEADER_MAX || bytes > length - word.len() as u64 {
            return Err(none(format!("its header would be {bytes} bytes, and the file has {length}")));
        }
        // At most the bound above.
        let mut json = vec![0; bytes as usize];
        from.read_exact(&mut json).map_err(io())?;
        let header: Metadata =
            serde_json::from_slice(&json).map_err(|e| none(format!("its header is damaged: {e}")))?;
        let begin = bytes + word.len() as u64;
        let end = begin + header.data_len() as u64;
        if end != length {
            return Err(none(format!("its tensors end at byte {end}, and the file has {length}")));
        }
        Ok(Self { path: path.to_path_buf(), file, header, begin })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its tensors, in the order of the file.
    pub(crate) fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// The shape of a tensor, where there is one of this name.
    pub(crate) fn dims(&self, name: &str) -> Option<&[usize]> {
        Some(self.header.info(name)?.shape.as_slice())
    }

    /// A tensor.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Weights`] for a tensor that is not there or of a type that is not known here.
    pub(crate) fn read(&self, name: &str, device: &Device) -> Result<Tensor> {
        let fail = |reason: String| Error::Weights { path: self.path.clone(), reason };
        let io = || Error::io("read the weights");
        let TensorInfo { dtype, shape, data_offsets: (from, to) } =
            self.header.info(name).ok_or_else(|| fail(format!("it has no tensor {name}")))?;
        let kind = DType::try_from(*dtype)
            .map_err(|_| fail(format!("{name} is of {dtype:?}, and F16, BF16, F32 and F64 are read here")))?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(self.begin + *from as u64)).map_err(io())?;
        // As long as the file at most.
        let mut bytes = vec![0; to - from];
        file.read_exact(&mut bytes).map_err(io())?;
        Tensor::from_raw_buffer(&bytes, kind, shape, device)
            .map_err(|e| fail(format!("{name} could not be read: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn tensors_are_read_where_the_header_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let a = Tensor::arange(0f32, 6.0, &Device::Cpu).unwrap().reshape((2, 3)).unwrap();
        let b = Tensor::arange(6f64, 10.0, &Device::Cpu).unwrap();
        let all = HashMap::from([("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())]);
        candle_core::safetensors::save(&all, &path).unwrap();
        let file = SafetensorsFile::open(&path).unwrap();
        assert_eq!((file.names().len(), file.dims("a"), file.dims("c")), (2, Some([2, 3].as_slice()), None));
        let read = |name: &str| file.read(name, &Device::Cpu);
        assert_eq!(read("a").unwrap().to_vec2::<f32>().unwrap(), a.to_vec2::<f32>().unwrap());
        assert_eq!(read("b").unwrap().to_vec1::<f64>().unwrap(), b.to_vec1::<f64>().unwrap());
        assert!(read("c").unwrap_err().to_string().contains("it has no tensor c"));
    }

    #[test]
    fn what_is_no_safetensors_file_is_named_before_memory_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let whole = {
            let all = HashMap::from([("a", Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap())]);
            candle_core::safetensors::save(&all, &path).unwrap();
            fs_err::read(&path).unwrap()
        };
        let changed = |place: usize, byte: u8| {
            let mut bytes = whole.clone();
            bytes[place] = byte;
            bytes
        };
        let table = [
            (whole[..3].to_vec(), "it has 3 bytes"),
            (whole[..whole.len() - 1].to_vec(), "its tensors end at byte"),
            (changed(6, 0x7f), "its header would be"),
            (changed(9, b'!'), "its header is damaged"),
        ];
        for (bytes, expected) in table {
            fs_err::write(&path, bytes).unwrap();
            let told = SafetensorsFile::open(&path).unwrap_err().to_string();
            assert!(told.contains("w.safetensors") && told.contains(expected), "{told}");
        }
    }
}
