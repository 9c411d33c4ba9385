//! `trainer eval` of a captioner: what its captions of a split are worth, and what re-ranking them is.

use super::{caption, eval, outputs, report};
use crate::cli::EvalArguments;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use trainer::captioner::{Caption, Captioned, Captioner, Proximity, scores, scores_of};
use trainer::metrics::CaptionRow;

/// Writes captions for the split, keeps them where a file is named, and prints their scores.
pub(super) fn run(arguments: &EvalArguments, folder: &Path) -> Result<ExitCode> {
    if arguments.shuffle_captions {
        bail!("--shuffle-captions is a control of recall, and {} trained a captioner", folder.display());
    }
    let written = [("--html", arguments.html.as_deref()), ("--results", arguments.results.as_deref())];
    outputs::check(&written, &[&arguments.samples.data, folder])?;
    let overrides = caption::overrides(&arguments.overrides, arguments.n, folder)?;
    let mut captioner = Captioner::open(folder, &overrides)?;
    captioner.thumbnails = if arguments.html.is_some() { caption::PAGE_MAX } else { 0 };
    let (split, loader) = captioner.open_data(&arguments.samples.data, arguments.samples.split.as_deref())?;
    let trained_on = &captioner.state.loader.fingerprint;
    let is_same_data = loader.fingerprint() == trained_on.as_str();
    let limit = arguments.samples.limit.map(usize::try_from).transpose().context("--limit is too large")?;
    let mut pictures = Vec::new();
    let loss = captioner.caption(&loader, limit, &mut |picture| {
        pictures.push(picture);
        Ok(())
    })?;
    let count = pictures.iter().map(|picture| picture.captions.len()).max().unwrap_or(0);
    let kept = scores(&pictures);
    let reranked = (count > 1).then(|| reranking(&pictures, count));
    if let Some(path) = &arguments.results {
        caption::write_json(path, &Value::Array(pictures.iter().map(caption::result).collect()))?;
    }
    if let Some(path) = &arguments.html {
        let shown = &pictures[..pictures.len().min(caption::PAGE_MAX)];
        caption::write_page(path, &captioner, shown, pictures.len())?;
    }
    if arguments.json {
        let mut value = json!({
            "checkpoint": captioner.checkpoint, "step": captioner.state.step, "split": split,
            "images": pictures.len(), "loss": loss.mean(), "captions": kept,
            "trained_on_this_data_set": is_same_data,
        });
        if let (Value::Object(value), Some(reranked)) = (&mut value, &reranked) {
            let rows = reranked.iter().map(|(name, row)| ((*name).to_owned(), json!(row)));
            value.insert("reranking".into(), Value::Object(rows.collect()));
        }
        report::json(&value);
        return Ok(ExitCode::SUCCESS);
    }
    let data = arguments.samples.data.display();
    report::line(&format!(
        "{} on {data} / {split}: {} images",
        captioner.checkpoint.display(),
        pictures.len()
    ));
    if !is_same_data {
        report::line(&eval::other_data(loader.fingerprint(), trained_on));
    }
    if let Some(loss) = loss.mean() {
        report::line(&format!("loss {loss:.4} nats a token"));
    }
    table(&kept, &pictures);
    if let Some(reranked) = reranked {
        report::line("");
        let header = [&format!("of {count} captions"), "image proximity", "CIDEr", "BLEU-4", "ROUGE-L"];
        let rows = reranked.iter().map(|(name, row)| {
            let near = row.image_proximity.map_or_else(|| "-".to_owned(), |near| format!("{near:.4}"));
            let number = |value: f64| format!("{value:.4}");
            vec![(*name).to_owned(), near, number(row.cider), number(row.bleu_4), number(row.rouge_l)]
        });
        report::columns(&header, &[1, 2, 3, 4], rows.collect());
    }
    Ok(ExitCode::SUCCESS)
}

fn table(row: &CaptionRow, pictures: &[Captioned]) {
    let first = |value: fn(&Caption) -> Option<f64>| -> Vec<f64> {
        pictures.iter().filter_map(|picture| picture.captions.first().and_then(value)).collect()
    };
    let deviation = |values: Vec<f64>| Proximity::of(&values).map(|near| near.deviation);
    let near = deviation(first(|caption| caption.image_proximity));
    let text = deviation(pictures.iter().filter_map(|picture| picture.text_proximity).collect());
    let with = |value: Option<f64>, deviation: Option<f64>| match (value, deviation) {
        (Some(value), Some(deviation)) => format!("{value:.4} ± {deviation:.4}"),
        _ => "-".to_owned(),
    };
    let number = |value: f64| format!("{value:.4}");
    let rows = [
        ("CIDEr", number(row.cider)),
        ("BLEU-4", number(row.bleu_4)),
        ("ROUGE-L", number(row.rouge_l)),
        ("image proximity", with(row.image_proximity, near)),
        ("text proximity", with(row.text_proximity, text)),
        ("distinct-1", number(row.distinct_1)),
        ("repeated bigrams", number(row.repeated_bigrams)),
        ("tokens a caption", number(row.length)),
        ("without an end", report::percent(Some(row.without_end))),
    ];
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    report::columns(&["score", "value"], &[1], rows);
}

/// The first caption written, the mean over all, and the one that is nearest to its picture.
fn reranking(pictures: &[Captioned], count: usize) -> [(&'static str, CaptionRow); 3] {
    let number = |wanted: usize| {
        move |picture: &Captioned| -> Option<usize> {
            picture.captions.iter().position(|caption| caption.number == wanted)
        }
    };
    let of = |wanted: usize| {
        let place = number(wanted);
        scores_of(pictures, &move |picture| place(picture).map(|place| &picture.captions[place]))
    };
    let all: Vec<CaptionRow> = (0..count).map(of).collect();
    let nearest = scores_of(pictures, &|picture| {
        let near = |caption: &Caption| caption.image_proximity.unwrap_or(f64::NEG_INFINITY);
        picture.captions.iter().reduce(|best, other| if near(other) > near(best) { other } else { best })
    });
    // How near a caption is to the references is known of the kept one alone.
    let rows = [("the first", all[0].clone()), ("the mean", mean(&all)), ("CLIP's favourite", nearest)];
    rows.map(|(name, row)| (name, CaptionRow { text_proximity: None, ..row }))
}

fn mean(rows: &[CaptionRow]) -> CaptionRow {
    let of = |value: &dyn Fn(&CaptionRow) -> f64| rows.iter().map(value).sum::<f64>() / rows.len() as f64;
    let maybe = |value: &dyn Fn(&CaptionRow) -> Option<f64>| -> Option<f64> {
        let values: Option<Vec<f64>> = rows.iter().map(value).collect();
        values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
    };
    CaptionRow {
        cider: of(&|row| row.cider),
        bleu_4: of(&|row| row.bleu_4),
        rouge_l: of(&|row| row.rouge_l),
        image_proximity: maybe(&|row| row.image_proximity),
        text_proximity: maybe(&|row| row.text_proximity),
        repeated_bigrams: of(&|row| row.repeated_bigrams),
        distinct_1: of(&|row| row.distinct_1),
        length: of(&|row| row.length),
        without_end: of(&|row| row.without_end),
        embedding_norm: None,
        embedding_cosine: None,
    }
}
