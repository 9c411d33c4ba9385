//! The files of captions: references as COCO has them, hypotheses as its evaluation takes them.
//!
//! References: `{"images": [{"id": 1}], "annotations": [{"image_id": 1, "caption": "..."}]}`, `images` being optional.
//! Hypotheses: `[{"image_id": 1, "caption": "..."}]`. Ids are whole numbers or strings, and `1` is not `"1"`. What else
//! the files hold is passed over. Left out: boxes, categories, results that are no captions.

use std::{fmt, path::Path};

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::CocoevalError;

/// The id of an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageId {
    /// A whole number.
    Number(i64),
    /// A string.
    Text(String),
}

impl fmt::Display for ImageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Text(text) => write!(formatter, "{text:?}"),
        }
    }
}

impl From<i64> for ImageId {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for ImageId {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// An image and its captions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptionedImage {
    /// The image's id.
    pub id: ImageId,
    /// At least one caption, in the file's order.
    pub captions: Vec<String>,
}

/// Reference captions by image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    images: Vec<CaptionedImage>,
    places: FxHashMap<ImageId, usize>,
    without_captions: Vec<ImageId>,
}

impl References {
    /// References from memory. Captions of an image that is named twice are joined; an image without captions is only
    /// [remembered](Self::without_captions).
    pub fn new<T: Into<String>>(images: impl IntoIterator<Item = (ImageId, Vec<T>)>) -> Self {
        let mut references = Self::default();
        for (id, captions) in images {
            if captions.is_empty() {
                references.without_captions.push(id);
            } else {
                references.captions_of(id).extend(captions.into_iter().map(Into::into));
            }
        }
        let places = &references.places;
        references.without_captions.retain(|id| !places.contains_key(id));
        references
    }

    /// Reads a file of the form `captions_*.json`. Images are in the order of `images`, where that is given.
    ///
    /// # Errors
    /// [`Io`](CocoevalError::Io), [`NotJson`](CocoevalError::NotJson), [`Form`](CocoevalError::Form),
    /// [`UnlistedImage`](CocoevalError::UnlistedImage).
    pub fn read(path: &Path) -> Result<Self, CocoevalError> {
        let value = read_json(path, "read the references")?;
        let form = Form { path };
        let mut by_image: FxHashMap<ImageId, Vec<String>> = FxHashMap::default();
        let mut order = Vec::new();
        if !value["images"].is_null() {
            for (number, image) in form.list(&value["images"], "images", LIST)?.iter().enumerate() {
                let id = form.id(&image["id"], || format!("images[{number}].id"))?;
                if by_image.insert(id.clone(), Vec::new()).is_none() {
                    order.push(id);
                }
            }
        }
        let is_listed = !value["images"].is_null();
        for (number, annotation) in
            form.list(&value["annotations"], "annotations", OBJECT_OF_LISTS)?.iter().enumerate()
        {
            let (id, caption) = form.caption(annotation, || format!("annotations[{number}]"))?;
            match by_image.get_mut(&id) {
                Some(captions) => captions.push(caption),
                None if is_listed => {
                    return Err(CocoevalError::UnlistedImage { path: path.to_owned(), image: id });
                }
                None => {
                    order.push(id.clone());
                    by_image.insert(id, vec![caption]);
                }
            }
        }
        Ok(Self::new(order.into_iter().map(|id| {
            let captions = by_image.remove(&id).unwrap_or_default();
            (id, captions)
        })))
    }

    /// Images that have captions, in order.
    pub fn images(&self) -> &[CaptionedImage] {
        &self.images
    }

    /// Images that a file lists but that have no caption; nothing can be scored for them.
    pub fn without_captions(&self) -> &[ImageId] {
        &self.without_captions
    }

    /// The captions of an image.
    pub fn get(&self, id: &ImageId) -> Option<&[String]> {
        self.places.get(id).map(|&place| self.images[place].captions.as_slice())
    }

    fn captions_of(&mut self, id: ImageId) -> &mut Vec<String> {
        let place = *self.places.entry(id.clone()).or_insert(self.images.len());
        if place == self.images.len() {
            self.images.push(CaptionedImage { id, captions: Vec::new() });
        }
        &mut self.images[place].captions
    }
}

/// One generated caption by image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hypotheses {
    captions: Vec<(ImageId, String)>,
    places: FxHashMap<ImageId, usize>,
}

impl Hypotheses {
    /// Hypotheses from memory; of two for one image the later one counts.
    pub fn new<T: Into<String>>(captions: impl IntoIterator<Item = (ImageId, T)>) -> Self {
        let mut hypotheses = Self::default();
        for (id, caption) in captions {
            hypotheses.insert(id, caption.into());
        }
        hypotheses
    }

    /// Reads a file of results.
    ///
    /// # Errors
    /// [`Io`](CocoevalError::Io), [`NotJson`](CocoevalError::NotJson), [`Form`](CocoevalError::Form),
    /// [`DuplicateHypothesis`](CocoevalError::DuplicateHypothesis).
    pub fn read(path: &Path) -> Result<Self, CocoevalError> {
        let value = read_json(path, "read the hypotheses")?;
        let form = Form { path };
        let mut hypotheses = Self::default();
        for (number, result) in form.list(&value, "the file", LIST_OF_RESULTS)?.iter().enumerate() {
            let (id, caption) = form.caption(result, || format!("[{number}]"))?;
            if !hypotheses.insert(id.clone(), caption) {
                return Err(CocoevalError::DuplicateHypothesis { path: path.to_owned(), image: id });
            }
        }
        Ok(hypotheses)
    }

    /// Images and captions, in order.
    pub fn captions(&self) -> &[(ImageId, String)] {
        &self.captions
    }

    /// The caption of an image.
    pub fn get(&self, id: &ImageId) -> Option<&str> {
        self.places.get(id).map(|&place| self.captions[place].1.as_str())
    }

    /// Images that have references but no caption here, in the order of the references.
    pub fn missing(&self, references: &References) -> Vec<ImageId> {
        let has_none = |image: &&CaptionedImage| !self.places.contains_key(&image.id);
        references.images().iter().filter(has_none).map(|image| image.id.clone()).collect()
    }

    /// Refuses hypotheses for images without references.
    ///
    /// # Errors
    /// [`UnknownImages`](CocoevalError::UnknownImages).
    pub fn check_known(&self, references: &References) -> Result<(), CocoevalError> {
        let known: FxHashSet<&ImageId> = references.places.keys().collect();
        let mut unknown = self.captions.iter().map(|(id, _)| id).filter(|id| !known.contains(id));
        let Some(first) = unknown.next() else { return Ok(()) };
        let other = match first {
            ImageId::Number(number) => ImageId::Text(number.to_string()),
            ImageId::Text(text) => text.parse().map_or(ImageId::Text(String::new()), ImageId::Number),
        };
        let hint = if known.contains(&other) {
            " (one file has the id as a number, the other as a string)"
        } else if references.without_captions.contains(first) {
            " (it is listed, but without captions)"
        } else {
            ""
        };
        Err(CocoevalError::UnknownImages { count: 1 + unknown.count(), image: first.clone(), hint })
    }

    /// Whether the image is new.
    fn insert(&mut self, id: ImageId, caption: String) -> bool {
        if let Some(&place) = self.places.get(&id) {
            self.captions[place].1 = caption;
            return false;
        }
        self.places.insert(id.clone(), self.captions.len());
        self.captions.push((id, caption));
        true
    }
}

const LIST: &str = "a list of images with an `id`";
const OBJECT_OF_LISTS: &str =
    "a list in an object (`{\"annotations\": [{\"image_id\": …, \"caption\": …}]}`)";
const LIST_OF_RESULTS: &str = "a list of results (`[{\"image_id\": …, \"caption\": …}]`)";

fn read_json(path: &Path, doing: &'static str) -> Result<Value, CocoevalError> {
    let bytes = fs_err::read(path).map_err(|source| CocoevalError::Io { doing, source })?;
    serde_json::from_slice(&bytes).map_err(|source| CocoevalError::NotJson { path: path.to_owned(), source })
}

/// Reads parts of one file.
struct Form<'a> {
    path: &'a Path,
}

impl Form<'_> {
    fn list<'v>(
        &self,
        value: &'v Value,
        at: &str,
        expected: &'static str,
    ) -> Result<&'v Vec<Value>, CocoevalError> {
        value.as_array().ok_or_else(|| self.error(value, at.to_owned(), expected))
    }

    fn id(&self, value: &Value, at: impl Fn() -> String) -> Result<ImageId, CocoevalError> {
        match value {
            Value::String(text) => Ok(ImageId::Text(text.clone())),
            _ => value
                .as_i64()
                .map(ImageId::Number)
                .ok_or_else(|| self.error(value, at(), "a whole number or a string")),
        }
    }

    fn caption(&self, value: &Value, at: impl Fn() -> String) -> Result<(ImageId, String), CocoevalError> {
        let id = self.id(&value["image_id"], || format!("{}.image_id", at()))?;
        let caption = value["caption"]
            .as_str()
            .ok_or_else(|| self.error(&value["caption"], format!("{}.caption", at()), "a string"))?;
        Ok((id, caption.to_owned()))
    }

    fn error(&self, value: &Value, at: String, expected: &'static str) -> CocoevalError {
        let found = match value {
            Value::Null => "missing or null".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            other => other.to_string().chars().take(80).collect(),
        };
        CocoevalError::Form { path: self.path.to_owned(), at, found, expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a file and keeps its folder.
    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("captions.json");
        fs_err::write(&path, text).unwrap();
        (folder, path)
    }

    fn references(text: &str) -> Result<References, CocoevalError> {
        let (_folder, path) = file(text);
        References::read(&path)
    }

    fn hypotheses(text: &str) -> Result<Hypotheses, CocoevalError> {
        let (_folder, path) = file(text);
        Hypotheses::read(&path)
    }

    #[test]
    fn images_are_in_the_order_of_their_list() {
        let found = references(
            r#"{"images": [{"id": 2}, {"id": "x"}, {"id": 9}],
                "annotations": [{"image_id": "x", "caption": "c"}, {"image_id": 2, "caption": "a"},
                                {"image_id": "x", "caption": "d"}]}"#,
        )
        .unwrap();
        let ids: Vec<String> = found.images().iter().map(|image| image.id.to_string()).collect();
        assert_eq!(ids, ["2", "\"x\""]);
        assert_eq!(found.get(&"x".into()).unwrap(), ["c", "d"]);
        assert_eq!(found.without_captions(), [9.into()]);
        let unlisted = references(r#"{"annotations": [{"image_id": 3, "caption": "a"}]}"#).unwrap();
        assert_eq!(unlisted.images().len(), 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let told = |error: CocoevalError, parts: &[&str]| {
            let text = error.to_string();
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        };
        let of = |text| references(text).unwrap_err();
        told(of("{"), &["captions.json is not JSON"]);
        told(of("[]"), &["annotations is missing or null", "\"annotations\""]);
        told(of(r#"{"images": 1, "annotations": []}"#), &["images is 1", "a list of images"]);
        told(
            of(r#"{"annotations": [{"image_id": 1.5, "caption": "a"}]}"#),
            &["annotations[0].image_id is 1.5"],
        );
        told(of(r#"{"annotations": [{"image_id": 1}]}"#), &["annotations[0].caption is missing or null"]);
        told(
            of(r#"{"images": [], "annotations": [{"image_id": 1, "caption": "a"}]}"#),
            &["image 1", "does not list"],
        );
        let of = |text| hypotheses(text).unwrap_err();
        told(of("{}"), &["the file is an object", "a list of results"]);
        told(of(r#"[{"image_id": 1, "caption": "a"}, {"caption": "a"}]"#), &["[1].image_id is missing"]);
        told(
            of(r#"[{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}]"#),
            &["image 1 has more than one hypothesis"],
        );
        let missing = Hypotheses::read(Path::new("no/such/file.json")).unwrap_err();
        told(missing, &["could not read the hypotheses"]);
    }

    #[test]
    fn images_that_one_side_lacks() {
        let references = References::new([(1.into(), vec!["a"]), (2.into(), vec!["b"]), (3.into(), vec![])]);
        let of = |ids: &[ImageId]| Hypotheses::new(ids.iter().map(|id| (id.clone(), "a")));
        assert_eq!(of(&[2.into()]).missing(&references), [1.into()]);
        let error = of(&[1.into(), 7.into(), 8.into()]).check_known(&references).unwrap_err().to_string();
        assert!(
            error.starts_with("2 hypotheses are for images that have no reference, the first is image 7;")
        );
        let error = of(&["1".into()]).check_known(&references).unwrap_err().to_string();
        assert!(error.contains("as a number, the other as a string"), "{error}");
        let error = of(&[3.into()]).check_known(&references).unwrap_err().to_string();
        assert!(error.contains("listed, but without captions"), "{error}");
    }
}
