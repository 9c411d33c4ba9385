//! Figures to verdicts: value, ideal, distance in standard deviations, words.
//!
//! A figure is a fault where it is both told from chance ([`Z_MAX`]) and far enough from the ideal to matter; told
//! from chance alone it is near. Long orders tell differences that no training feels, short ones cannot tell large
//! ones. The distances come from closed forms, so they do not depend on the simulations beside them.

use super::{
    Coverage, Metric, Spread, Verdict,
    figures::{EpochFigures, Figures, PairFigures, Scale},
    ideal,
};

/// An ideal shuffle is further off once in a million metrics, where they are normal.
const Z_MAX: f64 = 5.0;
/// Distances are cut here: where the ideal does not vary at all, any other value is infinitely far.
const Z_CUT: f64 = 1e6;

/// Correlations beyond it are a fault.
const CORRELATION_MAX: f64 = 0.1;

/// A metric's number before it is judged.
struct Value {
    name: &'static str,
    value: f64,
    ideal: f64,
    z: f64,
    /// Whether the distance matters, if it is no chance.
    matters: bool,
    words: String,
}

pub(super) fn metrics(scale: &Scale, found: &Figures, simulated: &[Figures]) -> Vec<Metric> {
    let simulated: Vec<Vec<Value>> = simulated.iter().map(|figures| values(scale, figures)).collect();
    let judged = |value: Value| {
        let same =
            |run: &Vec<Value>| run.iter().find(|other| other.name == value.name).map(|other| other.value);
        let spread = spread(&simulated.iter().filter_map(same).collect::<Vec<_>>());
        let verdict = match (value.z.abs() > Z_MAX, value.matters) {
            (false, _) => Verdict::Ideal,
            (true, false) => Verdict::Near,
            (true, true) => Verdict::Bad,
        };
        let words = if verdict == Verdict::Ideal { "as an ideal shuffle".to_owned() } else { value.words };
        let Value { name, value, ideal, z, .. } = value;
        Metric { name, value, ideal, z: z.clamp(-Z_CUT, Z_CUT), simulated: spread, verdict, words }
    };
    values(scale, found).into_iter().map(judged).collect()
}

/// The verdict with its first reason; what is lost or repeated comes before how it is ordered.
pub(super) fn overall(verdict: Verdict, coverage: &Coverage, metrics: &[Metric]) -> String {
    let coverage = (coverage.verdict == verdict).then_some(&coverage.words);
    let pairs = metrics.iter().filter(|metric| metric.name == "pair_repeat");
    let others = metrics.iter().filter(|metric| metric.name != "pair_repeat");
    let metrics = pairs.chain(others).filter(|metric| metric.verdict == verdict).map(|metric| &metric.words);
    let mut reasons = coverage.into_iter().chain(metrics);
    let first = reasons.next().map_or("", String::as_str);
    let more = match reasons.count() {
        0 => String::new(),
        1 => "; and 1 reason more".to_owned(),
        more => format!("; and {more} reasons more"),
    };
    match verdict {
        Verdict::Ideal => "as an ideal shuffle".to_owned(),
        Verdict::Near => format!("near an ideal shuffle: {first}{more}"),
        Verdict::Bad => format!("no good shuffle: {first}{more}"),
    }
}

fn spread(values: &[f64]) -> Option<Spread> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let (lowest, highest) =
        (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
    Some(Spread { mean, deviation: (squares / (n - 1.0).max(1.0)).sqrt(), lowest, highest })
}

fn values(scale: &Scale, figures: &Figures) -> Vec<Value> {
    [
        shards_per_batch(scale, &figures.epochs),
        pair_repeat(&figures.pairs),
        batch_variance(scale, &figures.epochs),
        source_correlation(&figures.epochs),
        epoch_correlation(&figures.pairs),
        tail_shards(scale, &figures.epochs),
        tail_source(scale, &figures.epochs),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// `distance` in units of `deviation`. Where nothing varies, rounding alone is no distance.
fn in_deviations(distance: f64, deviation: f64) -> f64 {
    if distance.abs() < 1e-9 { 0.0 } else { distance / deviation.max(1e-12) }
}

/// Shards summed over batches, against the law of as many independent draws.
fn shard_value(scale: &Scale, batches: usize, shards: u64) -> Option<(f64, f64, f64)> {
    let drawn = scale.batch_size.min(scale.samples) as u64;
    let (mean, variance) = ideal::distinct_shards(scale.shard_sizes()?, drawn);
    let count = batches as f64;
    let value = shards as f64 / count;
    Some((value, mean, in_deviations(value - mean, (variance / count).sqrt())))
}

fn shards_per_batch(scale: &Scale, epochs: &[EpochFigures]) -> Option<Value> {
    let batches = epochs.iter().map(|epoch| epoch.batches).sum();
    let (value, ideal, z) =
        shard_value(scale, batches, epochs.iter().map(|epoch| epoch.shards).sum::<Option<_>>()?)?;
    let more = if value < ideal { "only " } else { "" };
    let words = format!(
        "a batch draws from {more}{} shards where an ideal shuffle draws from {}",
        short(value),
        short(ideal)
    );
    Some(Value { name: "shards_per_batch", value, ideal, z, matters: value < 0.8 * ideal, words })
}

fn tail_shards(scale: &Scale, epochs: &[EpochFigures]) -> Option<Value> {
    let batches = epochs.iter().map(|epoch| Scale::tail_batches(epoch.batches)).sum();
    let shards = epochs.iter().map(|epoch| epoch.tail_shards).sum::<Option<_>>()?;
    let (value, ideal, z) = shard_value(scale, batches, shards)?;
    let more = if value < ideal { "only " } else { "" };
    let words = format!(
        "at the end of an epoch a batch draws from {more}{} shards where an ideal shuffle draws from {}",
        short(value),
        short(ideal)
    );
    Some(Value { name: "tail_shards", value, ideal, z, matters: value < 0.5 * ideal, words })
}

fn pair_repeat(pairs: &[PairFigures]) -> Option<Value> {
    let again = pairs.iter().map(|pair| pair.again).sum::<u64>() as f64;
    let expected: f64 = pairs.iter().map(|pair| pair.expected).sum();
    let value = if expected > 0.0 { again / expected } else { return None };
    let words = if value > 1.0 {
        format!(
            "batch-mates meet again {} times as often as by chance: the same negatives each epoch",
            short(value)
        )
    } else {
        format!("batch-mates meet again {} times as often as by chance", short(value))
    };
    let z = ideal::poisson_z(again, expected);
    Some(Value { name: "pair_repeat", value, ideal: 1.0, z, matters: value > 1.5, words })
}

fn batch_variance(scale: &Scale, epochs: &[EpochFigures]) -> Option<Value> {
    let ranks = scale.source.as_ref()?;
    let (drawn, samples) = (scale.batch_size as u64, scale.samples as u64);
    let one = ideal::mean_variance(ranks.variance(), drawn, samples);
    if one <= 0.0 {
        return None; // a batch of all samples has one mean
    }
    let batches = epochs.iter().map(|epoch| epoch.batches as f64).sum::<f64>();
    let value = epochs.iter().map(|epoch| epoch.squares).sum::<Option<f64>>()? / (batches * one);
    // The batches of a whole epoch share one mean: one degree of freedom less.
    let free = |epoch: &EpochFigures| (epoch.batches as f64 * (1.0 - drawn as f64 / samples as f64)).max(1.0);
    let z = ideal::chi_squared_z(value, epochs.iter().map(free).sum());
    let words = if value > 1.0 {
        format!(
            "batch means vary {} times as much as by chance: neighbours in the source share a batch",
            short(value)
        )
    } else {
        format!(
            "batch means vary only {} times as much as by chance: the source is dealt evenly",
            short(value)
        )
    };
    Some(Value { name: "batch_variance", value, ideal: 1.0, z, matters: value > 1.5, words })
}

/// The correlation that is the furthest from chance, whose deviation over m samples is 1/√(m - 1), and its z.
fn furthest(correlations: impl Iterator<Item = Option<(f64, usize)>>) -> Option<(f64, f64)> {
    let z = |(rho, samples): (f64, usize)| (rho, rho * (samples as f64 - 1.0).max(0.0).sqrt());
    let further = |a: (f64, f64), b: (f64, f64)| if b.1.abs() > a.1.abs() { b } else { a };
    correlations.flatten().map(z).reduce(further)
}

fn slightly(correlation: f64) -> &'static str {
    if correlation.abs() > CORRELATION_MAX { "" } else { "slightly " }
}

fn source_correlation(epochs: &[EpochFigures]) -> Option<Value> {
    let (value, z) = furthest(epochs.iter().map(|epoch| epoch.source))?;
    let way = if value > 0.0 { "follows" } else { "runs against" };
    let words = format!("the order {}{way} the source's (rank correlation {value:.2})", slightly(value));
    Some(Value {
        name: "source_correlation",
        value,
        ideal: 0.0,
        z,
        matters: value.abs() > CORRELATION_MAX,
        words,
    })
}

fn epoch_correlation(pairs: &[PairFigures]) -> Option<Value> {
    let (value, z) = furthest(pairs.iter().map(|pair| pair.correlation))?;
    let way = if value > 0.0 { "repeats" } else { "reverses" };
    let words = format!(
        "an epoch {}{way} the order of the one before (rank correlation {value:.2})",
        slightly(value)
    );
    Some(Value {
        name: "epoch_correlation",
        value,
        ideal: 0.0,
        z,
        matters: value.abs() > CORRELATION_MAX,
        words,
    })
}

fn tail_source(scale: &Scale, epochs: &[EpochFigures]) -> Option<Value> {
    let ranks = scale.source.as_ref()?;
    let samples = scale.samples as u64;
    let distance = |epoch: &EpochFigures| {
        let drawn = Scale::tail_batches(epoch.batches) as u64 * scale.batch_size as u64;
        let variance = ideal::mean_variance(ranks.variance(), drawn, samples);
        let tail = epoch.tail_rank.filter(|_| variance > 0.0)?;
        Some((tail / samples as f64, tail / variance.sqrt()))
    };
    let further = |a: (f64, f64), b: (f64, f64)| if b.1.abs() > a.1.abs() { b } else { a };
    let (offset, z) = epochs.iter().filter_map(distance).reduce(further)?;
    let value = 0.5 + offset;
    let part = if offset > 0.0 { "late" } else { "early" };
    let words =
        format!("the end of an epoch draws from {part} parts of the source (mean place {value:.2} of it)");
    Some(Value { name: "tail_source", value, ideal: 0.5, z, matters: offset.abs() > 0.1, words })
}

/// A number as people say it: two digits where it is small, none after the point where it is large.
fn short(value: f64) -> String {
    match value {
        v if v >= 19.95 => format!("{v:.0}"),
        v if v >= 0.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
