//! `trainer caption`: writes captions for pictures or a data set.

use super::{outputs, report, run_folder};
use crate::cli::caption::CaptionArguments;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trainer::captioner::{Captioned, Captioner, page};
use trainer::fsync;
use trainer::imagefolder;

/// Begins what is said where two pictures would be one in a file of COCO's.
const TWICE: &str = "--results and --references name each picture once";

/// Pictures on a page at most: each is in the file itself.
pub(super) const PAGE_MAX: usize = 2_000;

/// Prints a line of JSON a picture.
pub(crate) fn run(arguments: &CaptionArguments) -> Result<ExitCode> {
    let folder = run_folder(&arguments.run.run, &arguments.run.runs_dir);
    if is_listed(arguments) {
        let mut seen = HashSet::new();
        let place = |input: &PathBuf| fs_err::canonicalize(input).unwrap_or_else(|_| input.clone());
        if let Some(input) = arguments.inputs.iter().find(|input| !seen.insert(place(input))) {
            bail!("{TWICE}: {} is given again", input.display());
        }
    }
    let outputs = [
        ("--html", arguments.html.as_deref()),
        ("--results", arguments.results.as_deref()),
        ("--references", arguments.references.as_deref()),
    ];
    let read = arguments.inputs.iter().chain([&folder]).map(PathBuf::as_path).collect::<Vec<_>>();
    outputs::check(&outputs, &read)?;
    let mut captioner = Captioner::open(&folder, &overrides(&arguments.overrides, arguments.n, &folder)?)?;
    if arguments.rerank && !captioner.tower.has_text() {
        bail!(
            "--rerank compares captions with pictures, and the run's tower has no text side (caption.tower_tokenizer)"
        );
    }
    let candidates = captioner.config.decode.candidates;
    if arguments.rerank && candidates < 2 {
        bail!("--rerank puts several captions of a picture in order, and one is written: give --n");
    }
    // As the configuration says, what is kept is CLIP's favourite; --n alone shows captions as they were written.
    captioner.reranks = arguments.rerank || (arguments.n.is_none() && candidates > 1);
    let is_kept = outputs.iter().any(|(_, path)| path.is_some());
    let found = match describe(&mut captioner, arguments, is_kept) {
        Err(_) if report::is_closed() && !is_kept => return Ok(ExitCode::SUCCESS),
        found => found?,
    };
    if let Some(path) = &arguments.html {
        write_page(path, &captioner, &found.shown, found.images)?;
    }
    if let Some(path) = &arguments.results {
        write_json(path, &Value::Array(found.results))?;
    }
    let Some(references) = &arguments.references else {
        return Ok(ExitCode::SUCCESS);
    };
    let images: Vec<Value> = found.annotations.iter().map(|a| json!({"id": a["image_id"]})).collect();
    let mut unique: Vec<Value> = Vec::new();
    images.into_iter().for_each(|image| {
        if unique.last() != Some(&image) {
            unique.push(image);
        }
    });
    write_json(references, &json!({"images": unique, "annotations": found.annotations}))?;
    Ok(ExitCode::SUCCESS)
}

/// Whether a file of COCO's is written.
fn is_listed(arguments: &CaptionArguments) -> bool {
    arguments.results.is_some() || arguments.references.is_some()
}

/// Writes captions for all inputs, for as long as somebody reads them or they are kept.
fn describe(captioner: &mut Captioner, arguments: &CaptionArguments, is_kept: bool) -> Result<Found> {
    let limit = arguments.limit.map(usize::try_from).transpose().context("--limit is too large")?;
    let mut found = Found::default();
    let inputs = inputs(&arguments.inputs)?;
    if !inputs.iter().any(|input| matches!(input, Input::DataSet(_))) {
        let of_data =
            [("--split", arguments.split.is_some()), ("--references", arguments.references.is_some())];
        if let Some((option, _)) = of_data.into_iter().find(|(_, is_given)| *is_given) {
            bail!("{option} is of data sets, and no input is one");
        }
    }
    for input in inputs {
        let left = limit.map(|limit| limit - found.images);
        if left == Some(0) {
            break;
        }
        captioner.thumbnails = if arguments.html.is_some() { PAGE_MAX - found.shown.len() } else { 0 };
        let mut visit = |picture: Captioned| -> trainer::Result<()> {
            if is_listed(arguments) && !found.keys.insert(picture.key.clone()) {
                let reason = format!("{}, which an earlier picture has too", picture.key);
                return Err(trainer::Error::Data { data: TWICE.into(), reason });
            }
            found.take(picture, arguments);
            let closed = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
            if report::is_closed() && !is_kept {
                return Err(trainer::Error::Io { doing: "print captions", source: closed() });
            }
            Ok(())
        };
        match input {
            Input::DataSet(data) => {
                let (_, loader) = captioner.open_data(data, arguments.split.as_deref())?;
                captioner.caption(&loader, left, &mut visit)?;
            }
            Input::Files(mut files) => {
                files.truncate(left.unwrap_or(usize::MAX));
                captioner.caption_files(&files, &mut visit)?;
            }
        }
    }
    Ok(found)
}

/// What was written so far.
#[derive(Default)]
struct Found {
    /// Keys of the results, which name each picture once.
    keys: HashSet<String>,
    shown: Vec<Captioned>,
    results: Vec<Value>,
    annotations: Vec<Value>,
    images: usize,
}

impl Found {
    fn take(&mut self, picture: Captioned, arguments: &CaptionArguments) {
        report::line(&json!(picture).to_string());
        self.images += 1;
        if arguments.results.is_some() {
            self.results.push(result(&picture));
        }
        if arguments.references.is_some() {
            for text in &picture.references {
                let id = self.annotations.len();
                self.annotations.push(json!({"image_id": picture.key, "id": id, "caption": text}));
            }
        }
        if picture.thumbnail.is_some() {
            self.shown.push(picture);
        }
    }
}

/// The overrides of the run's `[decode]`: those given, and `--n`.
pub(super) fn overrides(given: &[String], n: Option<u16>, folder: &Path) -> Result<Vec<String>> {
    let mut overrides = given.to_vec();
    let Some(n) = n else { return Ok(overrides) };
    let is_set = |key: &str| given.iter().any(|given| given.trim_start().starts_with(key));
    if is_set("decode.candidates") {
        bail!("-n and --set decode.candidates say the same thing: give one of them");
    }
    overrides.push(format!("decode.candidates={n}"));
    let config = trainer::run::read_config(folder)?;
    let is_drawn = config.caption.family == trainer::config::Family::Diffusion;
    let decode = config.decode;
    if n > 1
        && !is_drawn
        && decode.method == trainer::config::DecodeMethod::Greedy
        && !is_set("decode.method")
    {
        overrides.push("decode.method=sample".into());
    }
    let is_beam = |given: &String| given.replace([' ', '"'], "") == "decode.method=beam";
    if (decode.method == trainer::config::DecodeMethod::Beam || given.iter().any(is_beam))
        && usize::from(n) > decode.beams
        && !is_set("decode.beams")
    {
        overrides.push(format!("decode.beams={n}"));
    }
    Ok(overrides)
}

/// What captions are written for.
enum Input<'a> {
    DataSet(&'a Path),
    Files(Vec<PathBuf>),
}

/// The inputs in their order, files beside one another together.
fn inputs(given: &[PathBuf]) -> Result<Vec<Input<'_>>> {
    let mut inputs: Vec<Input<'_>> = Vec::new();
    for input in given {
        if input.join("dataset.json").is_file() {
            inputs.push(Input::DataSet(input));
            continue;
        }
        let mut more = files(input)?;
        match inputs.last_mut() {
            Some(Input::Files(files)) => files.append(&mut more),
            _ => inputs.push(Input::Files(more)),
        }
    }
    Ok(inputs)
}

/// The pictures of a file or a folder.
fn files(input: &Path) -> Result<Vec<PathBuf>> {
    if input.is_dir() {
        let files = imagefolder::pictures(input)?;
        if files.is_empty() {
            bail!("{} has no JPEG or PNG files in it, and is no data set (no dataset.json)", input.display());
        }
        return Ok(files);
    }
    Ok(vec![input.to_path_buf()])
}

/// A picture's first caption as an entry of COCO's results.
pub(super) fn result(picture: &Captioned) -> Value {
    let first = picture.captions.first().map_or("", |caption| caption.text.as_str());
    json!({"image_id": picture.key, "caption": first})
}

/// Writes a page of the pictures `shown`, the first of `all`.
pub(super) fn write_page(path: &Path, captioner: &Captioner, shown: &[Captioned], all: usize) -> Result<()> {
    let count =
        if shown.len() < all { format!("the first {} of {all}", shown.len()) } else { all.to_string() };
    let title = format!("{}, {count} pictures", captioner.checkpoint.display());
    fsync::replace(path, page(&title, shown)?.as_bytes()).context("could not write the page")
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    fsync::replace(path, format!("{value:#}\n").as_bytes()).context("could not write the results")
}
