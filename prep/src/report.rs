//! Results in words: the only printer of this crate. It leaves out errors, which `main` prints.
#![allow(clippy::print_stdout, reason = "this is where results are printed")]

use std::{
    io::{self, Write as _},
    path::Path,
    sync::OnceLock,
    time::Duration,
};

use shard::{Manifest, SourceInfo, verify};

use crate::{
    commands::{advise::Advice, inspect::Summary, judge::Outcome},
    near::{Member, NearDuplicates},
    pack::PackSettings,
    plan::Plan,
    source::shapes::{Judged, Kind, Tally},
};

/// `1.23 GB` of decimal units.
pub(crate) fn human_bytes(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1_000.0 && unit + 1 < units.len() {
        value /= 1_000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.2} {}", units[unit]) }
}

/// Why standard output takes no more lines.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Writes a line; the first that cannot be written is the last that is tried.
fn line(text: &str) {
    if FAILED.get().is_none()
        && let Err(error) = writeln!(io::stdout().lock(), "{text}")
    {
        let _ = FAILED.set(error);
    }
}

/// Why results were not all written, if they were not. A reader who has gone away is no error.
pub fn unwritten() -> Option<&'static io::Error> {
    FAILED.get().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
}

/// What a packing made.
pub(crate) fn packed(dir: &Path, manifest: &Manifest, elapsed: Option<Duration>) {
    let image = &manifest.image;
    let state = if elapsed.is_some() { "wrote" } else { "already complete:" };
    let sides = if image.varies() {
        format!("with a shortest side of {}", image.height)
    } else {
        format!("{}x{}", image.height, image.width)
    };
    line(&format!("{state} {}: {} as {} {sides}", dir.display(), manifest.source.name, image.format.name()));
    for split in &manifest.splits {
        let bytes: u64 = split.shards.iter().map(|shard| shard.tar_bytes + shard.index_bytes).sum();
        let (samples, shards) = (split.samples, split.shards.len());
        line(&format!(
            "  {:<6} {samples:>9} samples  {shards:>6} shards  {:>10}",
            split.name,
            human_bytes(bytes)
        ));
        let empty = split.shards.iter().filter(|shard| shard.samples == 0).count();
        if empty > 0 {
            line(&format!("         {empty} of its shards are empty: fewer --shards would do"));
        }
        for (reason, count) in &split.left_out_counts {
            let example = split.left_out.iter().find(|left| left.reason == *reason);
            let example = example.map(|left| format!(" (such as {}: {})", left.source_id, left.detail));
            line(&format!("         left out: {count} {reason}{}", example.unwrap_or_default()));
        }
    }
    line(&format!("  fingerprint {}", manifest.fingerprint));
    if let Some(elapsed) = elapsed {
        let samples: u64 = manifest.splits.iter().map(|split| split.samples).sum();
        let seconds = elapsed.as_secs_f64();
        line(&format!("  {seconds:.1} s, {:.0} samples/s", samples as f64 / seconds.max(1e-9)));
    }
}

/// What a packing would make of a source whose samples are listed.
pub(crate) fn planned(settings: &PackSettings, source: &SourceInfo, plan: &Plan) {
    line(&format!("would write {}: {} ({})", settings.out.display(), source.name, source.revision));
    for split in &plan.splits {
        let (samples, shards) = (split.places.len() as u64, split.shards());
        let image = Some(&settings.pixels.image).filter(|image| !image.varies());
        let bytes = image.and_then(shard::npy::payload_bytes).map(|bytes| bytes * samples);
        let bytes = bytes.map_or(String::new(), |bytes| format!("  {:>10} of pixels", human_bytes(bytes)));
        line(&format!("  {:<6} {samples:>9} samples  {shards:>6} shards{bytes}", split.name));
        if !split.left_out.is_empty() {
            line(&format!("         left out: {} by the list alone", split.left_out.len()));
        }
    }
}

/// What a packing would read of a source that comes in inputs.
pub(crate) fn planned_inputs(settings: &PackSettings, source: &SourceInfo, inputs: &[String]) {
    line(&format!("would write {}: {} ({})", settings.out.display(), source.name, source.revision));
    line(&format!("  from {} files:", inputs.len()));
    inputs.iter().for_each(|input| line(&format!("  {input}")));
}

/// What storing either way would come to.
pub(crate) fn advised(advice: &Advice) {
    let (tried, left_out, threads) = (advice.tried, advice.left_out, advice.threads);
    line(&format!(
        "{} samples; {tried} tried on {threads} threads, {left_out} of them left out",
        advice.samples
    ));
    let free = advice.free_bytes.map_or("unknown".to_owned(), human_bytes);
    line(&format!(
        "disk: writes {}/s, reads {}/s, {free} free; memory {}",
        human_bytes(advice.disk_write_bytes_per_second as u64),
        human_bytes(advice.disk_read_bytes_per_second as u64),
        human_bytes(advice.memory_bytes)
    ));
    for way in &advice.ways {
        line(&format!(
            "  --store {:<6} {:>10}  prepared at {:>7.0} images/s  read at {:>7.0} samples/s, bound by {}",
            way.store,
            human_bytes(way.bytes),
            way.prepared_per_second,
            way.read_per_second,
            way.bound
        ));
    }
    line(&format!("recommended: --store {} ({})", advice.recommended, advice.reason));
}

/// Damages that no source can mend.
pub(crate) fn beyond_repair(damages: &[String]) {
    damages.iter().for_each(|damage| line(&format!("not to be mended from the source: {damage}")));
}

/// A shard that was made again.
pub(crate) fn repaired(shard: &str) {
    line(&format!("made again: {shard}"));
}

/// A shard that could not be made again.
pub(crate) fn not_repaired(shard: &str, reason: &str) {
    line(&format!("not made again: {shard}: {reason}"));
}

/// What a check found.
pub(crate) fn verified(dir: &Path, report: &verify::Report, json: bool) {
    if json {
        let json =
            serde_json::json!({ "sound": report.is_sound(), "dir": dir.to_string_lossy(), "report": report });
        line(&serde_json::to_string_pretty(&json).unwrap_or_default());
        return;
    }
    for damage in &report.damages {
        line(&damage.to_string());
    }
    let (shards, samples, bytes) = (report.shards, report.samples, human_bytes(report.bytes));
    if report.is_sound() {
        let what = match report.depth {
            verify::Depth::Full => "sound",
            verify::Depth::Quick => "sound in structure (payloads were not read)",
        };
        line(&format!("{}: {what}: {shards} shards, {samples} samples, {bytes} read", dir.display()));
        line(&format!("fingerprint {}", report.fingerprint.as_deref().unwrap_or_default()));
    } else {
        let damages = report.damages.len() as u64 + report.damages_omitted;
        line(&format!(
            "{}: damaged: {damages} broken promises in {shards} shards, {bytes} read",
            dir.display()
        ));
    }
}

/// What is in a data set.
pub(crate) fn inspected(dir: &Path, summary: &Summary, list_near: bool, json: bool) {
    if json {
        line(&serde_json::to_string_pretty(summary).unwrap_or_default());
        return;
    }
    line(&format!("{}: {} ({})", dir.display(), summary.source, summary.source_revision));
    line(&format!(
        "  {} {} {}x{} {}, order {}, seed {}, by {}",
        summary.image_format,
        summary.layout,
        summary.height,
        summary.width,
        summary.resize,
        summary.order,
        summary.seed,
        summary.program
    ));
    line(&format!("  engine {}", summary.engine));
    line(&format!("  fingerprint {}", summary.fingerprint));
    for split in &summary.splits {
        line(&format!(
            "  {:<6} {:>9} samples  {:>6} shards of {}–{} samples  {:>10}",
            split.name,
            split.samples,
            split.shards,
            split.shard_samples_min,
            split.shard_samples_max,
            human_bytes(split.bytes)
        ));
        for (name, stats) in [
            ("captions a sample", &split.captions_per_sample),
            ("words a caption", &split.caption_words),
            ("characters a caption", &split.caption_characters),
            ("original width", &split.original_width),
            ("original height", &split.original_height),
        ] {
            line(&format!(
                "         {name:<20} min {:>5}  median {:>5}  mean {:>7.1}  max {:>5}",
                stats.min, stats.median, stats.mean, stats.max
            ));
        }
        for (reason, count) in &split.left_out {
            line(&format!("         left out: {count} {reason}"));
        }
    }
    if let Some(near) = &summary.near {
        near_duplicates(near, if list_near { NEAR_PAIRS_PRINTED } else { 0 });
    }
}

/// Near-duplicate pairs of each relation that are printed; `--json` and `--html` have more.
const NEAR_PAIRS_PRINTED: usize = 20;

fn near_duplicates(near: &NearDuplicates, printed: usize) {
    let (compared, most) = (near.compared, near.max_distance);
    line(&format!("  near-duplicates: {compared} pictures compared, pairs of at most {most} bits of 64"));
    if near.flat > 0 {
        line(&format!("         {} flat pictures (one colour, a gradient) were not compared", near.flat));
    }
    if !near.complete {
        line("         there are more pairs than could be counted: a lower --max-distance finds fewer");
    }
    let name = |member: &Member| format!("{}/{}", member.split, member.key);
    for relation in &near.relations {
        let [one, two] = &relation.splits;
        let of =
            if relation.is_across() { format!("across {one} and {two}") } else { format!("within {one}") };
        let (pairs, noun) = (relation.pairs, if relation.pairs == 1 { "pair" } else { "pairs" });
        line(&format!("         {of}: {pairs} {noun}"));
        for pair in relation.listed.iter().take(printed) {
            let (first, second) = (name(&pair.first), name(&pair.second));
            line(&format!("           {:>2} bits  {first}  {second}", pair.distance));
        }
        let more = relation.pairs.saturating_sub(printed as u64);
        if printed > 0 && more > 0 {
            line(&format!("           and {more} more"));
        }
    }
    if let Some(largest) = near.clusters.first() {
        let (count, size) = (near.cluster_count, largest.size);
        line(&format!(
            "         {count} clusters, the largest of {size}, with {}",
            name(&largest.members[0])
        ));
    }
}

/// Where a picture went.
pub(crate) fn drawn(path: &Path) {
    line(&format!("drew {}", path.display()));
}

/// How much of captions is true.
pub(crate) fn judged(dir: &Path, split: &str, outcome: &Outcome, json: bool) {
    let Outcome { judged, shifted } = outcome;
    if json {
        let shifted = shifted.as_ref().map(judged_json);
        let json = serde_json::json!({
            "dir": dir.to_string_lossy(), "split": split, "judged": judged_json(judged), "shifted": shifted
        });
        return line(&serde_json::to_string_pretty(&json).unwrap_or_default());
    }
    line(&format!("{}: {} captions of {split}", dir.display(), judged.captions));
    line(&format!("  {:<22}{:>9}  {:>17}{:>17}", "", "its scene", "", "another's scene"));
    let row = |name: &str, one: Tally, other: Option<Tally>| {
        let share =
            |tally: Tally| tally.share().map_or("–".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        let of = format!("{} of {}", one.right, one.claimed);
        let other = other.map_or("–".to_owned(), share);
        line(&format!("  {name:<22}{:>9}  {of:>17}{other:>17}", share(one)));
    };
    row("claims true", judged.total, shifted.map(|shifted| shifted.total));
    for (number, kind) in Kind::ALL.iter().enumerate() {
        row(
            &format!("  {}", kind.name()),
            judged.kinds[number],
            shifted.map(|shifted| shifted.kinds[number]),
        );
    }
    row("captions all true", judged.captions_true(), shifted.map(|shifted| shifted.captions_true()));
    row("with words not read", judged.captions_unread(), shifted.map(|shifted| shifted.captions_unread()));
}

fn judged_json(judged: &Judged) -> serde_json::Value {
    let tally = |tally: Tally| serde_json::json!({ "claimed": tally.claimed, "right": tally.right, "share": tally.share() });
    let kinds = Kind::ALL.iter().zip(judged.kinds);
    let kinds: serde_json::Map<_, _> = kinds.map(|(kind, of)| (kind.name().to_owned(), tally(of))).collect();
    serde_json::json!({
        "captions": judged.captions,
        "claimed": judged.total.claimed,
        "right": judged.total.right,
        "share": judged.total.share(),
        "kinds": kinds,
        "all_true": judged.all_true,
        "all_true_share": judged.captions_true().share(),
        "with_unread": judged.with_unread,
        "with_unread_share": judged.captions_unread().share(),
    })
}
