//! Zero-shot classification (Radford et al. 2021, §3.1): a class is the mean of its prompts' features, and
//! a picture belongs to the class with the highest cosine.
//!
//! Reads class lists and templates, builds the classifier, scores pictures. Leaves out where pictures come
//! from (`imagefolder`) and the counting (`accuracy`).

use crate::accuracy::{self, Accuracy, Rank};
use crate::error::{Error, Result};
use crate::retrieval::{Features, dot};
use crate::trained::Trained;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

/// Prompts whose features are held at once.
const PROMPTS_AT_ONCE: usize = 4096;

/// A class of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// As it stands in prompts.
    pub name: String,
    /// Its folder, where the list gives one.
    pub directory: Option<String>,
}

/// How folders were matched with classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matched {
    /// Each folder by a class's name or the folder that the list gives for it.
    Name,
    /// Sorted folders and lines in turn: the names have nothing in common, as ImageNet's synsets.
    Order,
}

/// The lines of a file that say something: not empty, not beginning with `#`; with their numbers from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    // Tabs stay: one that nothing follows is a folder that was forgotten.
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim_matches([' ', '\r'])));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn read(path: &Path, doing: &'static str) -> Result<String> {
    fs_err::read_to_string(path).map_err(Error::io(doing))
}

/// The classes of a list: one a line, `name` or `name<TAB>folder`.
///
/// # Errors
/// [`Error::Data`] when there are fewer than two, a name is empty, or only some lines give a folder;
/// [`Error::Io`].
pub fn read_classes(path: &Path) -> Result<Vec<Class>> {
    let fail = |reason: String| Error::Data { data: path.to_path_buf(), reason };
    let mut classes = Vec::new();
    for (number, line) in lines(&read(path, "read the classes")?) {
        let (name, directory) = match line.split_once('\t') {
            Some((name, directory)) => (name.trim(), Some(directory.trim().to_owned())),
            None => (line, None),
        };
        if name.is_empty() || directory.as_deref() == Some("") {
            return Err(fail(format!("line {number} is not `name` or `name<TAB>folder`")));
        }
        classes.push(Class { name: name.to_owned(), directory });
    }
    if classes.len() < 2 {
        return Err(fail(format!("it has {} classes; at least 2 are wanted, one a line", classes.len())));
    }
    let with = classes.iter().filter(|class| class.directory.is_some()).count();
    if with > 0 && with < classes.len() {
        return Err(fail(format!("{with} of {} lines give a folder; all must or none", classes.len())));
    }
    Ok(classes)
}

/// The prompt templates of a file, one a line, each with `{}` where the class's name goes.
///
/// # Errors
/// [`Error::Data`] naming a line without `{}`, or when there is none; [`Error::Io`].
pub fn read_templates(path: &Path) -> Result<Vec<String>> {
    let fail = |reason: String| Error::Data { data: path.to_path_buf(), reason };
    let mut templates = Vec::new();
    for (number, line) in lines(&read(path, "read the templates")?) {
        if !line.contains("{}") {
            return Err(fail(format!("line {number} has no {{}} for the class's name: {line:?}")));
        }
        templates.push(line.to_owned());
    }
    if templates.is_empty() {
        return Err(fail("it has no template, as `a photo of a {}.`".into()));
    }
    Ok(templates)
}

/// The class of each folder. A class may have no folder; a folder without a class is an error.
///
/// # Errors
/// [`Error::Data`] naming a folder that no class is for.
pub fn match_directories(
    list: &Path,
    classes: &[Class],
    directories: &[String],
) -> Result<(Vec<usize>, Matched)> {
    let plain = |name: &str| name.replace([' ', '-'], "_").to_lowercase();
    let mut places = HashMap::new();
    for (place, class) in classes.iter().enumerate() {
        let name = class.directory.clone().unwrap_or_else(|| plain(&class.name));
        places.entry(name).or_insert(place);
    }
    let is_given = classes.iter().any(|class| class.directory.is_some());
    let key = |directory: &String| if is_given { directory.clone() } else { plain(directory) };
    let found: Vec<Option<usize>> = directories.iter().map(|d| places.get(&key(d)).copied()).collect();
    if let Some(all) = found.iter().copied().collect::<Option<Vec<usize>>>() {
        return Ok((all, Matched::Name));
    }
    let is_foreign = found.iter().all(Option::is_none) && !is_given;
    if is_foreign && directories.len() == classes.len() {
        return Ok(((0..classes.len()).collect(), Matched::Order));
    }
    let missing = found.iter().position(Option::is_none).unwrap_or(0);
    let reason = format!(
        "no class is for the folder {:?} ({} classes, {} folders); name the folders behind tabs, or give as \
         many classes as there are folders, in the folders' order",
        directories[missing],
        classes.len(),
        directories.len()
    );
    Err(Error::Data { data: list.to_path_buf(), reason })
}

/// One row of length 1 for each class: the mean over the templates of features of length 1.
///
/// # Errors
/// [`Error::Tokenizer`] and [`Error::Tensor`].
pub fn classifier(trained: &Trained, classes: &[Class], templates: &[String]) -> Result<Features> {
    let mut rows = Features { width: trained.config.model.embed_dim, ..Features::default() };
    let classes_at_once = (PROMPTS_AT_ONCE / templates.len().max(1)).max(1);
    for classes in classes.chunks(classes_at_once) {
        let prompt = |class: &Class, template: &String| template.replace("{}", &class.name);
        let prompts: Vec<String> =
            classes.iter().flat_map(|class| templates.iter().map(move |t| prompt(class, t))).collect();
        let features = trained.text_features(&prompts)?;
        for class in 0..classes.len() {
            let mut sum = vec![0f32; rows.width];
            for template in 0..templates.len() {
                let row = features.row(class * templates.len() + template);
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            let norm = sum.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
            rows.values.extend(sum.into_iter().map(|v| v / norm));
        }
    }
    Ok(rows)
}

/// Classifies `images` by `classifier`; `labels[i]` is the class of image i.
///
/// # Errors
/// [`Error::Tensor`] when sizes do not fit or a score is not a number.
pub fn score(
    images: &Features,
    labels: &[usize],
    classifier: &Features,
    classes: &[Class],
) -> Result<Accuracy> {
    let fits = images.width == classifier.width
        && labels.len() == images.len()
        && classifier.len() == classes.len()
        && labels.iter().all(|label| *label < classes.len());
    if !fits {
        return Err(accuracy::unfit("images, labels and classes do not fit together"));
    }
    let scores = |row: &[f32]| -> Vec<f32> {
        (0..classifier.len()).map(|class| dot(row, classifier.row(class))).collect()
    };
    let found: Vec<Option<Rank>> = (0..images.len())
        .into_par_iter()
        .map(|i| accuracy::rank(&scores(images.row(i)), labels[i]))
        .collect();
    let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
    Accuracy::count(&found, labels, &names)
}

#[cfg(test)]
mod tests;
