//! COCO's caption files and Karpathy's split of them, parsed as they are read. It leaves out the pictures.

use std::{collections::HashMap, io::Read};

use serde::Deserialize;

/// A picture with its captions.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) file_name: String,
    pub(super) url: Option<String>,
    pub(super) license: Option<i64>,
    pub(super) captions: Vec<String>,
}

/// What `captions_SPLIT2017.json` holds.
#[derive(Debug)]
pub(super) struct Captions {
    pub(super) entries: Vec<Entry>,
    pub(super) licenses: HashMap<i64, String>,
}

#[derive(Deserialize)]
struct Annotations {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
    #[serde(default)]
    licenses: Vec<License>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
    coco_url: Option<String>,
    license: Option<i64>,
}

#[derive(Deserialize)]
struct Annotation {
    image_id: i64,
    caption: String,
}

#[derive(Deserialize)]
struct License {
    id: i64,
    url: Option<String>,
    name: Option<String>,
}

impl Captions {
    /// Parses `captions_SPLIT2017.json`.
    pub(super) fn parse(reader: impl Read) -> Result<Self, serde_json::Error> {
        let parsed: Annotations = serde_json::from_reader(reader)?;
        let mut captions: HashMap<i64, Vec<String>> = HashMap::new();
        for annotation in parsed.annotations {
            captions.entry(annotation.image_id).or_default().push(annotation.caption);
        }
        let entries = parsed.images.into_iter().map(|image| Entry {
            captions: captions.remove(&image.id).unwrap_or_default(),
            id: image.id,
            file_name: image.file_name,
            url: image.coco_url,
            license: image.license,
        });
        let licenses = parsed.licenses.into_iter();
        let licenses = licenses.filter_map(|license| Some((license.id, license.url.or(license.name)?)));
        Ok(Self { entries: entries.collect(), licenses: licenses.collect() })
    }
}

/// Karpathy's `dataset_coco.json`: a split and captions for each picture of COCO 2014, which 2017 has under the same
/// ids. (Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions", CVPR 2015.)
#[derive(Deserialize)]
pub(super) struct Karpathy {
    pub(super) images: Vec<KarpathyImage>,
}

#[derive(Deserialize)]
pub(super) struct KarpathyImage {
    pub(super) cocoid: i64,
    split: String,
    sentences: Vec<Sentence>,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
}

impl KarpathyImage {
    /// Its split: `restval` is trained on, as everybody does.
    pub(super) fn split(&self) -> Option<&'static str> {
        match self.split.as_str() {
            "train" | "restval" => Some("train"),
            "val" => Some("val"),
            "test" => Some("test"),
            _ => None,
        }
    }

    pub(super) fn captions(self) -> Vec<String> {
        self.sentences.into_iter().map(|sentence| sentence.raw).collect()
    }
}
