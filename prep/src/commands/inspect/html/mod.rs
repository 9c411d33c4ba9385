//! `--html`: what is in a data set as one page that needs nothing else: style, charts and pictures are in it, nothing is
//! loaded, and its own policy forbids it to. It leaves out scripts.

mod histogram;
mod near;
mod pictures;
mod text;

use std::{cmp::Reverse, fmt::Write as _};

use shard::{Dataset, SplitEntry};

use super::{facts::Facts, facts::Summary, samples::spread};
use crate::{Result, report::human_bytes};
use pictures::Album;
use text::{escaped, grouped, shortened};

const STYLE: &str = include_str!("report.css");

/// Characters of a caption that are shown, and captions of a sample.
const CAPTION_CHARACTERS: usize = 300;
const CAPTIONS_SHOWN: usize = 8;

/// Left-out samples that are shown for each reason.
const LEFT_OUT_SHOWN: usize = 8;

/// Words that are listed.
const WORDS_SHOWN: usize = 60;

/// Words that say nothing of a picture; those of other languages stay.
const STOP_WORDS: [&str; 30] = [
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "her", "his", "in", "into", "is",
    "it", "its", "of", "on", "or", "that", "the", "their", "there", "this", "to", "up", "while", "with",
];

/// The page of a data set; `samples` of each split are shown.
///
/// # Errors
/// Where a picture cannot be read.
pub(super) fn page(dataset: &Dataset, summary: &Summary, facts: &[Facts], samples: usize) -> Result<String> {
    let album = Album::of(dataset)?;
    let splits = &dataset.manifest().splits;
    let mut html = String::new();
    head(&mut html, dataset, summary);
    splits_table(&mut html, summary);
    if let Some(found) = &summary.near {
        near::section(&mut html, &album, found)?;
    }
    left_out(&mut html, splits);
    for (number, (split, facts)) in splits.iter().zip(facts).enumerate() {
        let _ = write!(html, "<h2 id=\"split-{number}\">Split {}</h2>", escaped(&split.name));
        samples_grid(&mut html, &album, number, samples)?;
        captions(&mut html, facts);
        sizes(&mut html, facts);
        shards(&mut html, split);
    }
    html.push_str("</body></html>\n");
    Ok(html)
}

fn head(html: &mut String, dataset: &Dataset, summary: &Summary) {
    let manifest = dataset.manifest();
    let samples: u64 = summary.splits.iter().map(|split| split.samples).sum();
    let title = format!("{} · {} samples", escaped(&summary.source), grouped(samples));
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1><nav>\
         <a href=\"#near\">near-duplicates</a><a href=\"#left-out\">left out</a>"
    );
    for (number, split) in summary.splits.iter().enumerate() {
        let _ = write!(html, "<a href=\"#split-{number}\">{}</a>", escaped(&split.name));
    }
    html.push_str("</nav><table>");
    let image = &manifest.image;
    let stored = format!(
        "{} {} {}×{}, {}{}",
        summary.image_format,
        summary.layout,
        summary.height,
        summary.width,
        summary.resize,
        image.quality.map(|quality| format!(", quality {quality}")).unwrap_or_default()
    );
    let facts = [
        ("revision", &summary.source_revision),
        ("pictures", &stored),
        ("engine", &summary.engine),
        ("program", &summary.program),
        ("order", &format!("{}, seed {}", summary.order, summary.seed)),
        ("fingerprint", &summary.fingerprint),
    ];
    for (name, value) in facts {
        let _ = write!(html, "<tr><th>{name}</th><td><code>{}</code></td></tr>", escaped(value));
    }
    for (name, value) in &manifest.selection {
        let (name, value) = (escaped(name), escaped(value));
        let _ = write!(html, "<tr><th>{name}</th><td><code>{value}</code></td></tr>");
    }
    html.push_str("</table>");
}

fn splits_table(html: &mut String, summary: &Summary) {
    html.push_str("<h2>Splits</h2><div class=\"scroll\"><table><tr><th>split</th>");
    for name in ["samples", "shards", "bytes", "captions a sample", "words a caption", "left out"] {
        let _ = write!(html, "<th class=\"number\">{name}</th>");
    }
    html.push_str("</tr>");
    for split in &summary.splits {
        let _ = write!(html, "<tr><td>{}</td>", escaped(&split.name));
        for number in [
            grouped(split.samples),
            grouped(split.shards as u64),
            human_bytes(split.bytes),
            format!("{:.1}", split.captions_per_sample.mean),
            format!("{:.1}", split.caption_words.mean),
            grouped(split.left_out.values().sum()),
        ] {
            let _ = write!(html, "<td class=\"number\">{number}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div>");
}

fn left_out(html: &mut String, splits: &[SplitEntry]) {
    html.push_str("<h2 id=\"left-out\">Left out</h2>");
    if splits.iter().all(|split| split.left_out_counts.is_empty()) {
        html.push_str("<p class=\"good\">No sample was left out.</p>");
        return;
    }
    for split in splits {
        for (reason, &count) in &split.left_out_counts {
            let (split_name, reason_name) = (escaped(&split.name), escaped(reason));
            let _ = write!(html, "<h3>{split_name}: {} {reason_name}</h3>", grouped(count));
            let examples = || split.left_out.iter().filter(|left| left.reason == *reason);
            html.push_str("<div class=\"scroll\"><table><tr><th>source id</th><th>why</th></tr>");
            for left in examples().take(LEFT_OUT_SHOWN) {
                let (id, detail) = (shortened(&left.source_id, 120), shortened(&left.detail, 300));
                let _ = write!(html, "<tr><td><code>{id}</code></td><td dir=\"auto\">{detail}</td></tr>");
            }
            html.push_str("</table></div>");
            let more = count.saturating_sub(examples().take(LEFT_OUT_SHOWN).count() as u64);
            if more > 0 {
                let _ = write!(html, "<p class=\"faint\">and {} more</p>", grouped(more));
            }
        }
    }
}

fn samples_grid(html: &mut String, album: &Album<'_>, split: usize, samples: usize) -> Result<()> {
    let shown = spread(album.shards(split), samples);
    let _ = write!(html, "<h3>{} samples, evenly spread</h3><div class=\"grid\">", shown.len());
    for (shard, number) in shown {
        let row = shard.row(number)?;
        let one = if row.captions.len() == 1 { " one" } else { "" };
        let _ = write!(
            html,
            "<figure class=\"card\">{}<figcaption><div class=\"key\">{}</div><ul class=\"captions{one}\">",
            album.img(shard, number)?,
            escaped(row.key)
        );
        for caption in row.captions.into_iter().take(CAPTIONS_SHOWN) {
            let _ = write!(html, "<li dir=\"auto\">{}</li>", shortened(caption, CAPTION_CHARACTERS));
        }
        if row.captions.len() > CAPTIONS_SHOWN {
            let _ = write!(html, "<li class=\"faint\">and {} more</li>", row.captions.len() - CAPTIONS_SHOWN);
        }
        html.push_str("</ul></figcaption></figure>");
    }
    html.push_str("</div>");
    Ok(())
}

fn captions(html: &mut String, facts: &Facts) {
    html.push_str("<h3>Captions</h3><div class=\"charts\">");
    for (title, counts) in [
        ("captions a sample", &facts.captions),
        ("words a caption", &facts.words),
        ("characters a caption", &facts.characters),
    ] {
        let stats = counts.stats();
        let title =
            format!("{title}: median {}, mean {:.1}, most {}", stats.median, stats.mean, grouped(stats.max));
        html.push_str(&histogram::svg(&title, counts.counts(), grouped));
    }
    html.push_str("</div>");
    let listed = facts.vocabulary.iter().filter(|(word, _)| !STOP_WORDS.contains(&word.as_str()));
    let mut words: Vec<(&String, u64)> = listed.map(|(word, &count)| (word, count)).collect();
    words.sort_by_key(|&(word, count)| (Reverse(count), word));
    let _ = write!(
        html,
        "<h3>Most frequent words</h3><p class=\"faint\">How many captions have each; {} distinct words, \
         English function words not listed.</p><ul class=\"words\">",
        grouped(facts.vocabulary.len() as u64)
    );
    for (word, count) in words.into_iter().take(WORDS_SHOWN) {
        let _ = write!(html, "<li><bdi>{}</bdi><span>{}</span></li>", escaped(word), grouped(count));
    }
    html.push_str("</ul>");
}

fn sizes(html: &mut String, facts: &Facts) {
    html.push_str("<h3>Original pictures</h3><div class=\"charts\">");
    for (title, counts) in [("width", &facts.widths), ("height", &facts.heights)] {
        let stats = counts.stats();
        let title =
            format!("{title} in pixels: least {}, median {}, most {}", stats.min, stats.median, stats.max);
        html.push_str(&histogram::svg(&title, counts.counts(), |value| value.to_string()));
    }
    let ratio = |hundredths: u64| format!("{}.{:02}", hundredths / 100, hundredths % 100);
    let title = format!("width over height: median {}", ratio(facts.aspects.stats().median));
    html.push_str(&histogram::svg(&title, facts.aspects.counts(), ratio));
    html.push_str("</div>");
}

fn shards(html: &mut String, split: &SplitEntry) {
    let mut of_samples = std::collections::BTreeMap::new();
    let mut of_kilobytes = std::collections::BTreeMap::new();
    for shard in &split.shards {
        *of_samples.entry(shard.samples).or_insert(0u64) += 1;
        *of_kilobytes.entry((shard.tar_bytes + shard.index_bytes) / 1_000).or_insert(0u64) += 1;
    }
    let _ = write!(html, "<h3>{} shards</h3><div class=\"charts\">", grouped(split.shards.len() as u64));
    html.push_str(&histogram::svg("samples a shard", &of_samples, grouped));
    let size = |kilobytes: u64| human_bytes(kilobytes.saturating_mul(1_000));
    html.push_str(&histogram::svg("size of a shard, with its index", &of_kilobytes, size));
    html.push_str("</div>");
}
