//! Captions as data sets write them: a text, a list of texts, objects with a text in them. It leaves out what a good
//! caption is.

use serde_json::Value;

use super::{Reason, Rejection};

/// Longest caption that is kept. Tokenizers cut at some hundred bytes; what is longer than this is not a caption.
pub const CAPTION_BYTES_MAX: usize = 16 << 10;

/// Names under which objects keep a caption, the likeliest first.
const NAMES: [&str; 7] = ["prompt", "captions", "caption", "text", "sentences", "raw", "title"];

/// The captions in a JSON value: a text, a list, or an object with one under a usual name.
///
/// # Errors
/// `BadEntry` where there is something else.
pub(crate) fn of_value(value: &Value) -> Result<Vec<String>, Rejection> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(values) => {
            let lists: Result<Vec<_>, _> = values.iter().map(of_value).collect();
            Ok(lists?.into_iter().flatten().collect())
        }
        Value::Object(object) => match NAMES.iter().find_map(|name| object.get(*name)) {
            Some(value) => of_value(value),
            None => Ok(Vec::new()),
        },
        other => Err(Rejection::new(Reason::BadEntry, format!("a caption that is no text: {other}"))),
    }
}

/// The captions in the bytes of a `.json` member.
///
/// # Errors
/// `BadEntry` where the bytes are no JSON.
pub fn of_json(bytes: &[u8]) -> Result<Vec<String>, Rejection> {
    let json: Value = serde_json::from_slice(bytes)
        .map_err(|error| Rejection::new(Reason::BadEntry, format!("its JSON does not parse: {error}")))?;
    of_value(&json)
}

/// The captions under one key of the JSON in the bytes of a `.json` member.
///
/// # Errors
/// As [`of_json`].
pub(crate) fn of_json_key(bytes: &[u8], key: &str) -> Result<Vec<String>, Rejection> {
    let json: Value = serde_json::from_slice(bytes)
        .map_err(|error| Rejection::new(Reason::BadEntry, format!("its JSON does not parse: {error}")))?;
    json.get(key).map_or(Ok(Vec::new()), of_value)
}

/// Captions without surrounding space and control characters, and without empty ones.
///
/// # Errors
/// `NoCaption` where none is left, `BadEntry` where one is longer than [`CAPTION_BYTES_MAX`].
pub(crate) fn clean<'a>(captions: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, Rejection> {
    let mut cleaned = Vec::new();
    for caption in captions {
        // Tabs and line breaks are space; other control characters, NUL among them, are no text.
        let caption: String = caption
            .chars()
            .filter_map(|c| if c.is_ascii_whitespace() { Some(' ') } else { (!c.is_control()).then_some(c) })
            .collect();
        let caption = caption.trim();
        if caption.len() > CAPTION_BYTES_MAX {
            let detail = format!("a caption of {} bytes; at most {CAPTION_BYTES_MAX}", caption.len());
            return Err(Rejection::new(Reason::BadEntry, detail));
        }
        if !caption.is_empty() {
            cleaned.push(caption.to_owned());
        }
    }
    if cleaned.is_empty() {
        return Err(Rejection::new(Reason::NoCaption, "no caption, or only empty ones"));
    }
    Ok(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_found_in_the_forms_that_data_sets_use() {
        let of = |json: serde_json::Value| of_value(&json).unwrap();
        assert_eq!(of(serde_json::json!("a")), ["a"]);
        assert_eq!(of(serde_json::json!(["a", {"raw": "b"}])), ["a", "b"]);
        assert_eq!(of(serde_json::json!({"prompt": "a", "caption": "b"})), ["a"]);
        assert!(of(serde_json::json!({"width": 3})).is_empty());
        assert!(of_value(&serde_json::json!(3)).is_err());
        assert!(of_json(b"{").is_err());
    }

    #[test]
    fn odd_characters_are_cleaned_and_long_ones_refused() {
        assert_eq!(clean([" a\0b\n\tc ", "", "日本語"]).unwrap(), ["ab  c", "日本語"]);
        assert_eq!(clean(["", " \0 "]).unwrap_err().reason, Reason::NoCaption);
        let long = "x".repeat(CAPTION_BYTES_MAX + 1);
        assert_eq!(clean([long.as_str()]).unwrap_err().reason, Reason::BadEntry);
    }
}
