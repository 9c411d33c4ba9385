//! Which sample goes where: splits, shards, order, keys. Decided from the source's ids alone, before any picture is
//! read. It leaves out reading and writing.

use std::collections::{BTreeMap, HashMap};

use shard::{Key, LeftOut, SampleOrder, place};

use crate::{
    Error, Result,
    source::{Listing, Reason, Source},
};

/// Most samples that are held out where the user does not say.
const HOLDOUT_DEFAULT_MAX: usize = 10_000;

/// Largest number of shards in a split: their names have six digits.
pub const SHARDS_MAX: u32 = 999_999;

/// How much of the data is for validation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Validation {
    /// 1 %, at most 10,000; all of a source's own validation split.
    Default,
    /// This share, above 0 and below 1.
    Fraction(f64),
    /// This many.
    Count(usize),
}

impl std::str::FromStr for Validation {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(count) = text.parse() {
            return Ok(Self::Count(count));
        }
        match text.parse::<f64>() {
            Ok(fraction) if fraction > 0.0 && fraction < 1.0 => Ok(Self::Fraction(fraction)),
            _ => Err("a number of samples (500) or a share above 0 and below 1 (0.05)".to_owned()),
        }
    }
}

impl std::fmt::Display for Validation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Fraction(fraction) => fraction.fmt(f),
            Self::Count(count) => count.fmt(f),
        }
    }
}

/// What decides the plan beside the source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanSettings {
    /// Seed of placement and held-out samples.
    pub seed: u64,
    /// Shards of train.
    pub shards: u32,
    /// Shuffled, or as the source has it.
    pub order: SampleOrder,
    /// Samples for validation.
    pub validation: Validation,
    /// At most this many samples of train; other splits keep their proportion.
    pub limit: Option<usize>,
}

/// One sample's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its shard.
    pub shard: u32,
    /// The source's listing.
    pub listing: usize,
    /// Its row there.
    pub row: usize,
}

/// A split to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitPlan {
    /// `train` or `val`.
    pub name: String,
    /// How many shards.
    pub shards: u32,
    /// Its samples, shard by shard in their order.
    pub places: Vec<Place>,
    /// Samples that the list alone rules out.
    pub left_out: Vec<LeftOut>,
}

/// Everything to write.
#[derive(Debug)]
pub struct Plan {
    /// Splits in order.
    pub splits: Vec<SplitPlan>,
    /// Keys that are not simply made from their id, by id: those of ids that would share a key.
    suffixed: HashMap<String, Key>,
}

impl Plan {
    /// Plans what `source` lists.
    ///
    /// # Errors
    /// `Config` where a number does not fit, `NoSamples` where the source lists none.
    pub fn of(source: &dyn Source, settings: &PlanSettings) -> Result<Self> {
        if !(1..=SHARDS_MAX).contains(&settings.shards) {
            return Err(Error::Config(format!("--shards {}: 1 to {SHARDS_MAX}", settings.shards)));
        }
        if settings.limit == Some(0) {
            return Err(Error::Config("--limit 0 leaves no samples".to_owned()));
        }
        let listings = source.listings();
        let mut splits = split(source, settings)?;
        if splits.first().is_none_or(|(_, places)| places.is_empty()) {
            let source_name = source.info().name;
            return Err(Error::NoSamples { source_name, reasons: "it lists none for train".to_owned() });
        }
        let train = splits[0].1.len();
        let mut seen = HashMap::new();
        let mut plans = Vec::new();
        for (name, rows) in &mut splits {
            let left_out = drop_duplicates(rows, listings, &mut seen);
            let shards =
                if plans.is_empty() { settings.shards } else { share(settings.shards, rows.len(), train) };
            let places = place_all(rows, listings, shards, settings);
            plans.push(SplitPlan { name: name.clone(), shards, places, left_out });
        }
        let suffixed = suffixed_keys(seen.keys().copied());
        Ok(Self { splits: plans, suffixed })
    }

    /// The key of the sample with this id.
    pub fn key(&self, id: &str) -> Key {
        self.suffixed.get(id).cloned().unwrap_or_else(|| Key::from_source_id(id))
    }

    /// Samples of all splits.
    pub fn len(&self) -> usize {
        self.splits.iter().map(|split| split.places.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A row of a listing.
type Row = (usize, usize);

/// `whole·part/of`, rounded, at least one.
fn share(whole: u32, part: usize, of: usize) -> u32 {
    let shards = (u128::from(whole) * part as u128 + of as u128 / 2) / (of as u128).max(1);
    u32::try_from(shards).unwrap_or(SHARDS_MAX).clamp(1, SHARDS_MAX)
}

/// The rows of each split: the source's own, or train with some held out.
fn split(source: &dyn Source, settings: &PlanSettings) -> Result<Vec<(String, Vec<Row>)>> {
    let listings = source.listings();
    let rows =
        |listing: usize| (0..listings[listing].ids.len()).map(|row| (listing, row)).collect::<Vec<Row>>();
    let own_validation = listings.iter().any(|listing| listing.split == "val");
    let mut splits: Vec<(String, Vec<Row>)> = if own_validation {
        listings.iter().enumerate().map(|(number, listing)| (listing.split.clone(), rows(number))).collect()
    } else {
        let all: Vec<Row> = (0..listings.len()).flat_map(rows).collect();
        let held = held_out(&all, listings, settings)?;
        let (val, train) = all.into_iter().partition(|row| held.contains(row));
        vec![("train".to_owned(), train), ("val".to_owned(), val)]
    };
    splits.sort_by_key(|(name, _)| name != "train");
    let whole_train = splits.first().map_or(0, |(_, rows)| rows.len());
    for (name, rows) in &mut splits {
        let mut most = rows.len();
        if own_validation && name != "train" {
            most = match settings.validation {
                Validation::Default => most,
                Validation::Count(count) => most.min(count),
                Validation::Fraction(fraction) => ((most as f64 * fraction).round() as usize).max(1),
            };
        }
        if let Some(limit) = settings.limit.filter(|&limit| limit < whole_train) {
            let in_proportion = (most as u128 * limit as u128).div_ceil(whole_train as u128) as usize;
            let asked = matches!(settings.validation, Validation::Count(_)) && name != "train";
            most = most.min(if asked { most } else { in_proportion });
        }
        keep_lowest(rows, most, listings, settings.seed);
    }
    splits.retain(|(name, rows)| name == "train" || !rows.is_empty());
    Ok(splits)
}

/// Keeps the `most` rows with the lowest hold-out hash, in the order they stand in: a fair and nested draw.
fn keep_lowest(rows: &mut Vec<Row>, most: usize, listings: &[Listing], seed: u64) {
    if most >= rows.len() {
        return;
    }
    let hash = |&(listing, row): &Row| place::holdout_hash128(seed, &listings[listing].ids[row]);
    let mut hashes: Vec<(u128, usize)> = rows.iter().map(hash).zip(0..).collect();
    hashes.sort_unstable();
    let mut kept: Vec<usize> = hashes[..most].iter().map(|&(_, place)| place).collect();
    kept.sort_unstable();
    *rows = kept.into_iter().map(|place| rows[place]).collect();
}

/// The held-out rows. A share is a threshold on the hash, so it needs no complete list; a number is the lowest hashes.
fn held_out(
    all: &[Row],
    listings: &[Listing],
    settings: &PlanSettings,
) -> Result<std::collections::HashSet<Row>> {
    let mut hashes: Vec<(u128, Row)> = all
        .iter()
        .map(|&(listing, row)| {
            (place::holdout_hash128(settings.seed, &listings[listing].ids[row]), (listing, row))
        })
        .collect();
    hashes.sort_unstable();
    let below = |fraction: f64| {
        let threshold = (fraction * 2f64.powi(128)) as u128;
        hashes.partition_point(|&(hash, _)| hash < threshold)
    };
    let count = match settings.validation {
        // A set of one has nothing to hold out; any other holds out one at least.
        Validation::Default => below(0.01).clamp(usize::from(all.len() > 1), HOLDOUT_DEFAULT_MAX),
        Validation::Fraction(fraction) => below(fraction).max(usize::from(all.len() > 1)),
        Validation::Count(count) if count > 0 && count >= all.len() => {
            let message =
                format!("--val {count}: the source has {} samples, and train needs some", all.len());
            return Err(Error::Config(message));
        }
        Validation::Count(count) => count,
    };
    Ok(hashes[..count].iter().map(|&(_, row)| row).collect())
}

/// Takes out rows whose id was seen before: an id is a sample's identity.
fn drop_duplicates<'a>(
    rows: &mut Vec<Row>,
    listings: &'a [Listing],
    seen: &mut HashMap<&'a str, ()>,
) -> Vec<LeftOut> {
    let mut left_out = Vec::new();
    rows.retain(|&(listing, row)| {
        let id = listings[listing].ids[row].as_str();
        let new = seen.insert(id, ()).is_none();
        if !new {
            left_out.push(LeftOut {
                source_id: id.to_owned(),
                reason: Reason::DuplicateId.name().to_owned(),
                detail: format!("row {row} repeats the id of an earlier one"),
            });
        }
        new
    });
    left_out
}

fn place_all(rows: &[Row], listings: &[Listing], shards: u32, settings: &PlanSettings) -> Vec<Place> {
    match settings.order {
        SampleOrder::Shuffled => {
            let mut placed: Vec<(u128, Row)> = rows
                .iter()
                .map(|&(listing, row)| {
                    (place::hash128(settings.seed, &listings[listing].ids[row]), (listing, row))
                })
                .collect();
            placed.sort_unstable();
            let place = |(h, (listing, row))| Place { shard: place::shard_of(h, shards), listing, row };
            placed.into_iter().map(place).collect()
        }
        SampleOrder::Source => {
            let shard = |position: usize| (position as u128 * u128::from(shards) / rows.len() as u128) as u32;
            let place =
                |(position, &(listing, row)): (usize, &Row)| Place { shard: shard(position), listing, row };
            rows.iter().enumerate().map(place).collect()
        }
    }
}

/// The keys of ids whose plain keys are the same but for case: each of them gets its hash.
fn suffixed_keys<'a>(ids: impl Iterator<Item = &'a str> + Clone) -> HashMap<String, Key> {
    let folded = |key: &Key| key.as_str().to_ascii_lowercase();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for id in ids.clone() {
        *counts.entry(folded(&Key::from_source_id(id))).or_default() += 1;
    }
    counts.retain(|_, count| *count > 1);
    if counts.is_empty() {
        return HashMap::new();
    }
    ids.filter(|id| counts.contains_key(&folded(&Key::from_source_id(id))))
        .map(|id| (id.to_owned(), Key::with_hash(id)))
        .collect()
}

#[cfg(test)]
mod tests {
    use shard::SourceInfo;

    use super::*;
    use crate::source::{Loaded, Rejection};

    struct Ids(Vec<Listing>);

    impl Source for Ids {
        fn info(&self) -> SourceInfo {
            SourceInfo { name: "ids".to_owned(), revision: String::new() }
        }
        fn listings(&self) -> &[Listing] {
            &self.0
        }
        fn load(&self, _: usize, _: usize, _: u32) -> Result<Loaded, Rejection> {
            Err(Rejection::new(Reason::MissingFile, ""))
        }
    }

    fn listing(split: &str, count: usize) -> Listing {
        Listing { split: split.to_owned(), ids: (0..count).map(|row| format!("{split}-{row}")).collect() }
    }

    const SETTINGS: PlanSettings = PlanSettings {
        seed: 3,
        shards: 8,
        order: SampleOrder::Shuffled,
        validation: Validation::Default,
        limit: None,
    };

    fn sizes(source: &Ids, settings: PlanSettings) -> Vec<(String, usize, u32)> {
        let plan = Plan::of(source, &settings).unwrap();
        plan.splits.iter().map(|split| (split.name.clone(), split.places.len(), split.shards)).collect()
    }

    #[test]
    fn every_sample_is_placed_once_by_its_hash() {
        let source = Ids(vec![listing("train", 1_000)]);
        let plan = Plan::of(&source, &SETTINGS).unwrap();
        let mut rows: Vec<usize> =
            plan.splits.iter().flat_map(|s| &s.places).map(|place| place.row).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..1_000).collect::<Vec<_>>());
        for place in &plan.splits[0].places {
            let h = place::hash128(3, &source.0[0].ids[place.row]);
            assert_eq!(place.shard, place::shard_of(h, 8));
        }
        assert!(plan.splits[0].places.is_sorted_by_key(|place| place.shard));
    }

    #[test]
    fn validation_is_held_out_as_asked() {
        let source = Ids(vec![listing("train", 2_000)]);
        let of = |validation| sizes(&source, PlanSettings { validation, ..SETTINGS })[1].1;
        assert!((5..=40).contains(&of(Validation::Default)));
        assert!((150..=250).contains(&of(Validation::Fraction(0.1))));
        assert_eq!(of(Validation::Count(123)), 123);
        let none = PlanSettings { validation: Validation::Count(0), ..SETTINGS };
        assert_eq!(sizes(&source, none), [("train".to_owned(), 2_000, 8)]);
        let all = PlanSettings { validation: Validation::Count(2_000), ..SETTINGS };
        assert!(Plan::of(&source, &all).is_err());
        let two = Ids(vec![listing("train", 2)]);
        assert_eq!(sizes(&two, SETTINGS)[1].1, 1);
    }

    #[test]
    fn a_share_held_out_is_decided_by_the_id_alone() {
        let settings = PlanSettings { validation: Validation::Fraction(0.2), ..SETTINGS };
        let held = |count| {
            let source = Ids(vec![listing("train", count)]);
            let plan = Plan::of(&source, &settings).unwrap();
            plan.splits[1].places.iter().map(|place| place.row).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(held(500).is_subset(&held(1_000)));
    }

    #[test]
    fn own_validation_and_limits_keep_proportion() {
        let source = Ids(vec![listing("val", 100), listing("train", 1_000)]);
        let of = |validation, limit| sizes(&source, PlanSettings { validation, limit, ..SETTINGS });
        let expect =
            |train, val, shards| vec![("train".to_owned(), train, 8), ("val".to_owned(), val, shards)];
        assert_eq!(of(Validation::Default, None), expect(1_000, 100, 1));
        assert_eq!(of(Validation::Fraction(0.05), None), expect(1_000, 5, 1));
        assert_eq!(of(Validation::Default, Some(100)), expect(100, 10, 1));
        assert_eq!(of(Validation::Count(70), Some(100)), expect(100, 70, 6));
    }

    #[test]
    fn source_order_stays() {
        let source = Ids(vec![listing("train", 1_000)]);
        let settings =
            PlanSettings { order: SampleOrder::Source, validation: Validation::Count(0), ..SETTINGS };
        let plan = Plan::of(&source, &settings).unwrap();
        let rows: Vec<usize> = plan.splits[0].places.iter().map(|place| place.row).collect();
        assert_eq!(rows, (0..1_000).collect::<Vec<_>>());
        assert_eq!(plan.splits[0].places.last().unwrap().shard, 7);
    }

    #[test]
    fn ids_that_collide_once_cleaned_get_their_hash() {
        let ids = ["Cat", "cat", "dog", "a/b.jpg", "dog"].map(str::to_owned).to_vec();
        let source = Ids(vec![Listing { split: "train".to_owned(), ids }]);
        let settings = PlanSettings { validation: Validation::Count(0), ..SETTINGS };
        let plan = Plan::of(&source, &settings).unwrap();
        assert_eq!(plan.splits[0].places.len(), 4);
        assert_eq!(plan.splits[0].left_out.len(), 1);
        assert_eq!(plan.key("dog").as_str(), "dog");
        let (upper, lower) = (plan.key("Cat"), plan.key("cat"));
        assert!(upper.as_str().starts_with("Cat-") && lower.as_str().starts_with("cat-"));
        assert_ne!(upper.as_str().to_ascii_lowercase(), lower.as_str().to_ascii_lowercase());
    }
}
