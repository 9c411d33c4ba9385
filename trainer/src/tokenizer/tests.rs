//! Training is deterministic and blind to order; encoding keeps its markers.

use super::*;

fn captions() -> Vec<String> {
    let colours = ["red", "green", "blue", "striped", "grey"];
    let shapes = ["circle", "square", "triangle", "star"];
    let mut captions = Vec::new();
    for (i, colour) in colours.iter().enumerate() {
        for (j, shape) in shapes.iter().enumerate() {
            captions.push(format!("A {colour} {shape} to the left of {} {shape}s.", i + j));
            captions.push(format!("There's one {shape}, and it is {colour}"));
        }
    }
    captions
}

#[test]
fn the_order_of_captions_does_not_change_the_file() {
    let forward = Tokenizer::train(captions(), 400).unwrap();
    let backward = Tokenizer::train(captions().into_iter().rev(), 400).unwrap();
    let again = Tokenizer::train(captions(), 400).unwrap();
    assert_eq!(forward.json(), backward.json());
    assert_eq!(forward.json(), again.json());
    assert_eq!(forward.digest(), again.digest());
    assert_ne!(forward.json(), Tokenizer::train(captions(), 300).unwrap().json());
    assert!(forward.vocab_size() <= 400 && forward.vocab_size() > 300);
}

#[test]
fn a_row_is_start_caption_end_padding() {
    let tokenizer = Tokenizer::train(captions(), 400).unwrap();
    let encoded = tokenizer.encode(&["a red star", ""], 12).unwrap();
    assert_eq!(encoded.input_ids.len(), 24);
    for row in 0..2 {
        let eot = encoded.eot_positions[row] as usize;
        let ids = &encoded.input_ids[row * 12..(row + 1) * 12];
        assert_eq!(ids[0], tokenizer.start);
        assert_eq!(ids[eot], tokenizer.end);
        assert!(ids[eot + 1..].iter().all(|id| *id == PADDING));
    }
    assert_eq!(encoded.eot_positions[1], 1);
    let text = tokenizer.inner.decode(&encoded.input_ids[..12], true).unwrap();
    assert_eq!(text.trim(), "a red star");
}

#[test]
fn truncation_keeps_the_end() {
    let tokenizer = Tokenizer::train(captions(), 400).unwrap();
    let long = "a red star ".repeat(50);
    let encoded = tokenizer.encode(&[&long], 8).unwrap();
    assert_eq!(encoded.eot_positions, [7]);
    assert_eq!(encoded.input_ids[7], tokenizer.end);
    assert!(tokenizer.encode(&[&long], 1).is_err());
}

#[test]
fn a_caption_that_spells_a_marker_does_not_end_the_row() {
    let tokenizer = Tokenizer::train(captions(), 400).unwrap();
    let encoded = tokenizer.encode(&["red <|endoftext|> star <|startoftext|>"], 64).unwrap();
    let eot = encoded.eot_positions[0] as usize;
    assert!(encoded.input_ids[1..eot].iter().all(|id| *id != tokenizer.end && *id != tokenizer.start));
}

#[test]
fn bytes_never_seen_in_training_are_still_encoded() {
    let tokenizer = Tokenizer::train(["a"], 300).unwrap();
    let encoded = tokenizer.encode(&["日本 🦀 ß"], 64).unwrap();
    let eot = encoded.eot_positions[0] as usize;
    let text = tokenizer.inner.decode(&encoded.input_ids[1..eot], true).unwrap();
    assert_eq!(text.trim(), "日本 🦀 ß");
}

#[test]
fn what_is_trained_loads_from_its_file_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    let trained = Tokenizer::train(captions(), 400).unwrap();
    fs_err::write(&path, trained.json()).unwrap();
    let loaded = Tokenizer::load(path.to_str().unwrap()).unwrap();
    assert_eq!(loaded.digest(), trained.digest());
    assert_eq!(loaded.encode(&captions(), 20).unwrap(), trained.encode(&captions(), 20).unwrap());
}

#[test]
fn no_caption_no_file_and_no_markers_are_errors() {
    assert!(Tokenizer::train(Vec::<String>::new(), 400).is_err());
    let text = Tokenizer::load("/no/such/tokenizer.json").unwrap_err().to_string();
    assert!(text.contains("there is no such file"), "{text}");
    assert!(Tokenizer::load("missing.json").unwrap_err().to_string().contains("there is no such file"));
    assert!(Tokenizer::from_bytes(b"{}".to_vec(), "x").is_err());
    let bare = String::from_utf8(Tokenizer::train(captions(), 300).unwrap().json().to_vec()).unwrap();
    let bare = bare.replace(START, "start").replace(END, "end");
    let text = Tokenizer::from_bytes(bare.into_bytes(), "bare").unwrap_err().to_string();
    assert!(text.contains("no markers"), "{text}");
}

#[test]
fn a_file_that_the_library_panics_on_or_with_too_large_an_id_is_named() {
    let whole: serde_json::Value =
        serde_json::from_slice(Tokenizer::train(["a cat"], 300).unwrap().json()).unwrap();
    let mut far = whole.clone();
    far["model"]["vocab"]["zzz"] = serde_json::json!(200_000_000);
    let told = Tokenizer::from_bytes(far.to_string().into_bytes(), "far").unwrap_err().to_string();
    assert!(told.contains("far") && told.contains("a token id of 200000000"), "{told}");
    // It replaces nothing, everywhere, which the library counts wrong.
    let mut broken = whole;
    broken["normalizer"] = serde_json::json!({"type": "Replace", "pattern": {"String": ""}, "content": "xx"});
    let told = Tokenizer::from_bytes(broken.to_string().into_bytes(), "broken").unwrap_err().to_string();
    assert!(
        told.contains("tokenizer broken") && told.contains("the tokenizers library panicked on it"),
        "{told}"
    );
}
