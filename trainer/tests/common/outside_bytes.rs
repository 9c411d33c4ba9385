//! What the trainer reads from outside beside data sets, called on any bytes: no panic, and no memory in proportion to
//! what they claim. A test and the fuzz targets in `fuzz/` call the same functions.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "each user takes its own part; a test may unwrap")]

use candle_core::Device;
use std::path::Path;
use trainer::lm::LanguageModel;

/// The bytes as a language model in a GGUF file, read from `folder`.
pub fn gguf(folder: &Path, bytes: &[u8]) {
    let path = folder.join("bytes.gguf");
    fs_err::write(&path, bytes).unwrap();
    if let Ok((model, tokenizer)) = LanguageModel::open(path.to_str().unwrap(), "", &Device::Cpu) {
        let _ = tokenizer.encode(&["a dog"], 16);
        let _ = tokenizer.decode(&[0, 1, u32::MAX]);
        assert!(model.sizes.parameters() > 0);
    }
}
