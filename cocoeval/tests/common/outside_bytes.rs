//! The files that are scored, of any bytes: no panic. A test and a fuzz target in `fuzz/` call the same function.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test may unwrap, and its panic names the place")]

use cocoeval::{DocumentFrequencies, Hypotheses, Missing, Options, References, evaluate};
use std::path::Path;

/// The bytes as results, as references and as document frequencies, read from `folder` and scored.
pub fn scored(folder: &Path, bytes: &[u8]) {
    let path = folder.join("bytes.json");
    fs_err::write(&path, bytes).unwrap();
    let frequencies = DocumentFrequencies::read(&path).ok();
    let options = Options { missing: Missing::Skip, frequencies };
    let one = [(1.into(), vec!["a dog runs", "the dog"])];
    if let Ok(hypotheses) = Hypotheses::read(&path) {
        let images =
            hypotheses.captions().iter().map(|(id, caption)| (id.clone(), vec![caption.as_str(), "a dog"]));
        let _ = evaluate(&References::new(images), &hypotheses, &options);
        let _ = evaluate(&References::new(one.clone()), &hypotheses, &options);
    }
    if let Ok(references) = References::read(&path) {
        let captions = references.images().iter().map(|image| (image.id.clone(), "a dog"));
        let _ = evaluate(&references, &Hypotheses::new(captions), &options);
    }
    let _ = evaluate(&References::new(one), &Hypotheses::new([(1.into(), "a dog")]), &options);
}
