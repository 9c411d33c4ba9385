//! The list of all keys: which there are, what each may be, and `--set` overrides.
//!
//! It is the one place that says what a value may be; the structs say what it means.

use super::caption::{
    Condition, DiffusionLoss, Embeddings, NoiseSchedule, Predicts, Reduction, Rounding, Sampler,
};
use crate::error::{Error, Result};
use toml::{Table, Value};

/// What a key takes.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A string that is not empty.
    Text,
    /// A string, also an empty one.
    AnyText,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An order of samples, as the loader reads it.
    SampleOrder,
    /// true or false.
    Bool,
    /// A list of strings, none of them empty.
    Texts,
    /// Four whole numbers, a ResNet's bottlenecks by stage.
    Depths,
    /// A whole number in these bounds.
    Whole(i64, i64),
    /// A number in these bounds, both included.
    Number(f64, f64),
    /// A number in these bounds, the lower one left out.
    Above(f64, f64),
    /// A number in these bounds, the upper one left out.
    Below(f64, f64),
}
use Kind::{Above, AnyText, Below, Bool, Depths, Number, SampleOrder, Text, Texts, Whole, Word};

const WIDTH: Kind = Whole(1, 16_384);
const STEPS: Kind = Whole(0, 1_000_000_000);

/// Every key with what it takes.
const KEYS: &[(&str, Kind)] = &[
    ("model.preset", Word(&super::preset::PRESETS)),
    ("model.weights", AnyText),
    ("model.embed_dim", WIDTH),
    ("model.temperature", Number(0.01, 1.0)),
    ("model.learn_temperature", Bool),
    ("model.activation", Word(&["gelu", "quick_gelu"])),
    ("model.vision.kind", Word(&["vit", "resnet50"])),
    ("model.vision.pool", Word(&["cls", "mean"])),
    ("model.vision.image_size", Whole(8, 4096)),
    ("model.vision.patch_size", Whole(1, 1024)),
    ("model.vision.width", WIDTH),
    ("model.vision.layers", Whole(1, 256)),
    ("model.vision.heads", Whole(1, 256)),
    ("model.vision.depths", Depths),
    ("model.text.context_length", Whole(3, 4096)),
    ("model.text.width", WIDTH),
    ("model.text.layers", Whole(1, 256)),
    ("model.text.heads", Whole(1, 256)),
    ("data.split", Text),
    ("data.val_split", Text),
    ("data.fraction", Above(0.0, 1.0)),
    ("data.val_fraction", Above(0.0, 1.0)),
    ("data.batch_size", Whole(2, 65_536)),
    ("data.captions", Word(&["random", "first"])),
    ("data.order", SampleOrder),
    ("data.normalize", Word(&["clip", "imagenet", "half"])),
    ("data.shuffle_captions", Bool),
    ("data.augment.least_area", Above(0.0, 1.0)),
    ("data.augment.flip", Number(0.0, 1.0)),
    ("data.augment.brightness", Number(0.0, 10.0)),
    ("data.augment.contrast", Number(0.0, 10.0)),
    ("data.augment.saturation", Number(0.0, 10.0)),
    ("data.augment.hue", Number(0.0, 0.5)),
    ("data.augment.grayscale", Number(0.0, 1.0)),
    ("caption.family", Word(&["none", "prefix", "prefix_lm", "lora", "diffusion"])),
    ("caption.tower", AnyText),
    ("caption.tower_tokenizer", AnyText),
    ("caption.features", Word(&["vector", "patches"])),
    ("caption.skip_blocks", Whole(0, 255)),
    ("caption.context_length", Whole(3, 4096)),
    ("caption.mapper.kind", Word(&["linear", "mlp", "transformer"])),
    ("caption.mapper.tokens", Whole(1, 1024)),
    ("caption.mapper.layers", Whole(1, 256)),
    ("caption.mapper.heads", Whole(1, 256)),
    ("caption.decoder.width", WIDTH),
    ("caption.decoder.layers", Whole(1, 256)),
    ("caption.decoder.heads", Whole(1, 256)),
    ("caption.decoder.tied", Bool),
    ("caption.lm.source", AnyText),
    ("caption.lm.tokenizer", AnyText),
    ("caption.lm.rank", Whole(1, 4096)),
    ("caption.lm.alpha", Above(0.0, 1e6)),
    ("caption.lm.dropout", Below(0.0, 1.0)),
    ("caption.lm.targets", Word(&["attention", "ffn", "all"])),
    ("caption.diffusion.width", WIDTH),
    ("caption.diffusion.layers", Whole(1, 256)),
    ("caption.diffusion.heads", Whole(1, 256)),
    ("caption.diffusion.embed_dim", Whole(0, 16_384)),
    ("caption.diffusion.embeddings", Word(Embeddings::WORDS)),
    ("caption.diffusion.steps", Whole(1, 100_000)),
    ("caption.diffusion.schedule", Word(NoiseSchedule::WORDS)),
    ("caption.diffusion.noise_factor", Number(0.1, 100.0)),
    ("caption.diffusion.predicts", Word(Predicts::WORDS)),
    ("caption.diffusion.stride", Whole(1, 100_000)),
    ("caption.diffusion.condition", Word(Condition::WORDS)),
    ("caption.diffusion.mask_probability", Below(0.0, 1.0)),
    ("caption.diffusion.text_condition", Bool),
    ("caption.diffusion.text_mask_probability", Number(0.0, 1.0)),
    ("caption.diffusion.loss", Word(DiffusionLoss::WORDS)),
    ("caption.diffusion.first_weight", Number(0.0, 1e6)),
    ("caption.diffusion.draws", Whole(1, 64)),
    ("caption.diffusion.reduction", Word(Reduction::WORDS)),
    ("caption.diffusion.rounding_weight", Number(0.0, 1e6)),
    ("caption.diffusion.rounding_ratio", Number(0.0, 1e6)),
    ("caption.diffusion.rounding_of", Word(Rounding::WORDS)),
    ("caption.diffusion.time_embedding", Bool),
    ("caption.diffusion.self_conditioning", Bool),
    ("decode.method", Word(&["greedy", "sample", "beam"])),
    ("decode.temperature", Above(0.0, 100.0)),
    ("decode.top_k", Whole(0, 1_000_000)),
    ("decode.top_p", Above(0.0, 1.0)),
    ("decode.beams", Whole(1, 64)),
    ("decode.length_penalty", Number(0.0, 10.0)),
    ("decode.repetition_penalty", Number(0.1, 10.0)),
    ("decode.no_repeat_ngram", Whole(0, 64)),
    ("decode.min_length", Whole(0, 4096)),
    ("decode.max_length", Whole(0, 4096)),
    ("decode.candidates", Whole(1, 64)),
    ("decode.sampler", Word(Sampler::WORDS)),
    ("decode.diffusion_steps", Whole(1, 100_000)),
    ("decode.guidance", Number(-100.0, 100.0)),
    ("decode.seed", Whole(0, i64::MAX)),
    ("tokenizer.source", AnyText),
    ("tokenizer.vocab_size", Whole(259, 1_000_000)),
    ("loss.kind", Word(&["infonce", "siglip"])),
    ("loss.label_smoothing", Below(0.0, 1.0)),
    ("loss.logit_bias", Number(-100.0, 100.0)),
    ("optim.kind", Word(&["adamw", "adam"])),
    ("optim.lr", Above(0.0, 10.0)),
    ("optim.schedule", Word(&["cosine", "linear", "exponential", "constant"])),
    ("optim.weight_decay", Number(0.0, 10.0)),
    ("optim.beta1", Below(0.0, 1.0)),
    ("optim.beta2", Below(0.0, 1.0)),
    ("optim.eps", Above(0.0, 1.0)),
    ("optim.clip", Number(0.0, 1e9)),
    ("optim.warmup", Word(&["linear", "exponential"])),
    ("optim.warmup_steps", STEPS),
    ("optim.warmup_fraction", Number(0.0, 1.0)),
    ("optim.accum_steps", Whole(1, 65_536)),
    ("optim.epochs", Number(0.0, 1e6)),
    ("optim.steps", STEPS),
    ("optim.final_lr_fraction", Number(0.0, 1.0)),
    ("train.seed", Whole(0, i64::MAX)),
    ("train.log_every", Whole(1, 1_000_000_000)),
    ("train.grad_norms_every", STEPS),
    ("train.eval_every", STEPS),
    ("train.eval_limit", STEPS),
    ("train.checkpoint_every", STEPS),
    ("train.keep_checkpoints", Whole(1, 1_000_000)),
    ("train.keep_best", Bool),
    ("train.monitor", Word(&super::train::MONITORS)),
    ("train.patience", STEPS),
    ("train.chunk_size", Whole(0, 65_536)),
    ("train.recompute", Bool),
    ("train.ema_decay", Below(0.0, 1.0)),
    ("train.freeze", Texts),
    ("train.sample_ledger", Bool),
    ("train.threads", Whole(1, 1024)),
    ("train.device", Word(&["cpu", "cuda"])),
    ("train.precision", Word(&["f32", "bf16"])),
];

impl Kind {
    fn allows(self, value: &Value) -> bool {
        let number = match value {
            Value::Float(x) => Some(*x),
            // Bounds are small; an integer too large for f64 is out of them all the same.
            Value::Integer(n) => Some(*n as f64),
            _ => None,
        };
        let within = |test: &dyn Fn(f64) -> bool| number.is_some_and(test);
        match self {
            Text => value.as_str().is_some_and(|s| !s.is_empty()),
            AnyText => value.is_str(),
            Word(words) => value.as_str().is_some_and(|s| words.contains(&s)),
            SampleOrder => value.as_str().is_some_and(|s| s.parse::<loader::Order>().is_ok()),
            Bool => value.is_bool(),
            Texts => value.as_array().is_some_and(|list| list.iter().all(|item| Text.allows(item))),
            Depths => value
                .as_array()
                .is_some_and(|list| list.len() == 4 && list.iter().all(|item| Whole(1, 256).allows(item))),
            Whole(low, high) => value.as_integer().is_some_and(|n| low <= n && n <= high),
            Number(low, high) => within(&|x| low <= x && x <= high),
            Above(low, high) => within(&|x| low < x && x <= high),
            Below(low, high) => within(&|x| low <= x && x < high),
        }
    }

    fn describe(self) -> String {
        match self {
            Text => "a string that is not empty".into(),
            AnyText => "a string".into(),
            Word(words) => format!("one of \"{}\"", words.join("\", \"")),
            SampleOrder => {
                "\"global\", \"none\", \"auto\", \"block:SAMPLESxBLOCKS\" or \"shard-buffer:SAMPLES\"".into()
            }
            Bool => "true or false".into(),
            Texts => "a list of strings that are not empty".into(),
            Depths => "a list of four whole numbers from 1 to 256".into(),
            Whole(low, i64::MAX) => format!("a whole number from {low} on"),
            Whole(low, high) => format!("a whole number from {low} to {high}"),
            Number(low, high) => format!("a number from {low} to {high}"),
            Above(low, high) => format!("a number above {low}, at most {high}"),
            Below(low, high) => format!("a number from {low} to below {high}"),
        }
    }
}

/// `tokenizer = "…"` at the top level means `tokenizer.source = "…"`.
pub(super) fn sugar(mut table: Table) -> Table {
    if let Some(Value::String(source)) = table.get("tokenizer").cloned() {
        let mut inner = Table::new();
        inner.insert("source".into(), Value::String(source));
        table.insert("tokenizer".into(), Value::Table(inner));
    }
    table
}

/// Refuses keys that do not exist and values that are not allowed.
pub(super) fn check(table: &Table) -> Result<()> {
    check_below("", table)
}

fn check_below(prefix: &str, table: &Table) -> Result<()> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if let Some((_, kind)) = KEYS.iter().find(|(known, _)| *known == key) {
            if !kind.allows(value) {
                let value = show(value);
                return Err(Error::Config { key, value, allowed: kind.describe() });
            }
            continue;
        }
        let is_section =
            KEYS.iter().any(|(known, _)| known.strip_prefix(&key).is_some_and(|r| r.starts_with('.')));
        match value {
            Value::Table(inner) if is_section => check_below(&key, inner)?,
            _ if is_section => {
                let allowed = format!("a section [{key}] with its keys");
                return Err(Error::Config { key, value: show(value), allowed });
            }
            _ => {
                let nearest = nearest(&key).to_owned();
                return Err(Error::UnknownKey { key, nearest });
            }
        }
    }
    Ok(())
}

/// Refuses a value that is tried in a sweep and may not stand at `key`.
pub(super) fn check_tried(key: &str, value: &Value) -> Result<()> {
    let Some((_, kind)) = KEYS.iter().find(|(known, _)| *known == key) else {
        let nearest = format!("sweep.{}", nearest(key));
        return Err(Error::UnknownKey { key: format!("sweep.{key}"), nearest });
    };
    if kind.allows(value) {
        return Ok(());
    }
    let allowed = format!("a list in which each item is {}", kind.describe());
    Err(Error::Config { key: format!("sweep.{key}"), value: format!("[… {} …]", show(value)), allowed })
}

pub(super) fn show(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 80 { text.chars().take(77).chain("...".chars()).collect() } else { text }
}

/// Lays one `key.path=value` over the table; a value that is no TOML is taken as a string.
pub(super) fn apply_override(table: &mut Table, given: &str) -> Result<()> {
    let bad = || Error::BadOverride { given: given.to_owned() };
    let (key, text) = given.split_once('=').ok_or_else(bad)?;
    let (key, text) = (key.trim(), text.trim());
    if key.is_empty() || key.split('.').any(str::is_empty) {
        return Err(bad());
    }
    let value = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut t| if t.len() == 1 { t.remove("value") } else { None })
        .unwrap_or_else(|| Value::String(text.to_owned()));
    // A key of the list, or the short form of the tokenizer; else the whole path is named as unknown.
    let key = if key == "tokenizer" { "tokenizer.source" } else { key };
    if !KEYS.iter().any(|(known, _)| *known == key) {
        return Err(Error::UnknownKey { key: key.to_owned(), nearest: nearest(key).to_owned() });
    }
    if key.starts_with("tokenizer.") {
        *table = sugar(std::mem::take(table));
    }
    insert(table, key, value);
    Ok(())
}

pub(super) fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = table.entry(section.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// The known key nearest to `key`: one of its section that has the given word in it, else by its whole path, or by its
/// last part where that is nearer.
fn nearest(key: &str) -> &'static str {
    let last = |k: &str| k.rsplit('.').next().unwrap_or(k).to_owned();
    let section = |k: &str| k.split('.').next().unwrap_or(k).to_owned();
    let distance_to = |known: &str| {
        let whole = distance(key, known);
        let part = distance(&last(key), &last(known));
        let word = last(key);
        let holds_it = section(known) == section(key) && word.len() > 3 && last(known).contains(&word);
        (!holds_it, whole.min(2 * part + 1), whole)
    };
    KEYS.iter().map(|(known, _)| *known).min_by_key(|known| distance_to(known)).unwrap_or("optim.lr")
}

/// Levenshtein's distance, in characters.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// All keys with what they take, one a line, for `--help`.
pub fn listing() -> String {
    let width = KEYS.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    KEYS.iter().map(|(key, kind)| format!("  {key:width$}  {}\n", kind.describe())).collect()
}
