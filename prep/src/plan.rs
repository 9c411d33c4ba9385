//! Which sample goes where: splits, shards, order, keys. Decided from the source's ids alone, before any picture is
//! read. Two million samples take some 50 bytes each while it is made and 8 after. It leaves out reading and writing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use rayon::prelude::*;
use shard::{Key, LeftOut, SampleOrder, SourceInfo, place};

use crate::{
    Error, Result,
    source::{Listing, Reason},
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
        if text == "default" {
            return Ok(Self::Default);
        }
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

impl PlanSettings {
    /// How many samples a source of many inputs need list at most, so that `limit` of them are left for train.
    pub fn rows_needed(&self) -> Option<usize> {
        let limit = self.limit?;
        Some(match self.validation {
            Validation::Default => limit.saturating_add(limit / 99 + 1),
            Validation::Fraction(fraction) => (limit as f64 / (1.0 - fraction)).ceil() as usize,
            Validation::Count(count) => limit.saturating_add(count),
        })
    }

    /// # Errors
    /// `Config` where a number does not fit.
    pub fn check(&self) -> Result<()> {
        if !(1..=SHARDS_MAX).contains(&self.shards) {
            return Err(Error::Config(format!("--shards {}: 1 to {SHARDS_MAX}", self.shards)));
        }
        if self.limit == Some(0) {
            return Err(Error::Config("--limit 0 leaves no samples".to_owned()));
        }
        Ok(())
    }
}

/// One sample: its listing and its row there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The source's listing.
    pub listing: u32,
    /// Its row there.
    pub row: u32,
}

/// A split to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitPlan {
    /// `train` or `val`.
    pub name: String,
    /// Its samples, shard by shard in their order.
    pub places: Vec<Place>,
    /// Where each shard's samples end in `places`.
    ends: Vec<usize>,
    /// Samples that the list alone rules out.
    pub left_out: Vec<LeftOut>,
}

impl SplitPlan {
    /// How many shards.
    pub fn shards(&self) -> u32 {
        self.ends.len() as u32
    }

    /// The positions in `places` of shard number `shard`.
    pub fn positions(&self, shard: u32) -> Range<usize> {
        let shard = shard as usize;
        shard.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[shard]
    }
}

/// Everything to write.
#[derive(Debug)]
pub struct Plan {
    /// Splits in order, train first.
    pub splits: Vec<SplitPlan>,
    /// Keys that are not simply made from their id, by id: those of ids that would share a key.
    suffixed: HashMap<String, Key>,
}

impl Plan {
    /// Plans samples that are `listed`.
    ///
    /// # Errors
    /// `Config` where a number does not fit, `NoSamples` where none is listed for train.
    pub fn of(info: &SourceInfo, listed: &[Listing], settings: &PlanSettings) -> Result<Self> {
        settings.check()?;
        if listed.iter().any(|listing| u32::try_from(listing.ids.len()).is_err()) {
            return Err(Error::Config("more than 4,294,967,295 samples in one listing".to_owned()));
        }
        let (rows, duplicates) = hashed(listed, settings.seed);
        let mut splits = split(rows, duplicates, listed, settings)?;
        if splits.first().is_none_or(|split| split.name != "train" || split.rows.is_empty()) {
            let reasons = "it lists none for train".to_owned();
            return Err(Error::NoSamples { source_name: info.name.clone(), reasons });
        }
        let train = splits[0].rows.len();
        let suffixed = suffixed_keys(&splits, listed);
        let plan = |split: &mut Rows| {
            let rows = std::mem::take(&mut split.rows);
            let shards = if split.name == "train" {
                settings.shards
            } else {
                share(settings.shards, rows.len(), train)
            };
            let (places, ends) = arrange(rows, shards, settings.order);
            let left_out = split.duplicates.iter().map(|&row| duplicate(row, listed)).collect();
            SplitPlan { name: std::mem::take(&mut split.name), places, ends, left_out }
        };
        Ok(Self { splits: splits.iter_mut().map(plan).collect(), suffixed })
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

/// A row with the hash that places it, in two halves: a `u128` would be padded to 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hashed {
    high: u64,
    low: u64,
    place: Place,
}

impl Hashed {
    fn hash(&self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }
}

/// A split on its way: its rows in the order of their hashes.
struct Rows {
    name: String,
    rows: Vec<Hashed>,
    duplicates: Vec<Place>,
}

fn id_of(listed: &[Listing], place: Place) -> &str {
    listed[place.listing as usize].ids.get(place.row as usize)
}

/// Every row in the order of its hash, and rows whose id was listed before: an id is a sample's identity. Train's
/// listings come first, then the others in their order.
fn hashed(listed: &[Listing], seed: u64) -> (Vec<Hashed>, Vec<Place>) {
    let mut rows: Vec<Hashed> = Vec::with_capacity(listed.iter().map(|listing| listing.ids.len()).sum());
    for (listing, list) in (0u32..).zip(listed) {
        rows.par_extend((0..list.ids.len() as u32).into_par_iter().map(|row| {
            let hash = place::hash128(seed, list.ids.get(row as usize));
            Hashed { high: (hash >> 64) as u64, low: hash as u64, place: Place { listing, row } }
        }));
    }
    let is_other = |row: &Hashed| listed[row.place.listing as usize].split != "train";
    rows.par_sort_unstable_by_key(|row| (row.high, row.low, is_other(row), row.place));
    let mut duplicates = Vec::new();
    rows.dedup_by(|row, before| {
        let repeats = row.hash() == before.hash() && id_of(listed, row.place) == id_of(listed, before.place);
        if repeats {
            duplicates.push(row.place);
        }
        repeats
    });
    duplicates.sort_unstable();
    (rows, duplicates)
}

fn duplicate(place: Place, listed: &[Listing]) -> LeftOut {
    LeftOut {
        source_id: id_of(listed, place).to_owned(),
        reason: Reason::DuplicateId.name().to_owned(),
        detail: format!("row {} repeats the id of an earlier one", place.row),
    }
}

/// `whole·part/of`, rounded, at least one.
fn share(whole: u32, part: usize, of: usize) -> u32 {
    let shards = (u128::from(whole) * part as u128 + of as u128 / 2) / (of as u128).max(1);
    u32::try_from(shards).unwrap_or(SHARDS_MAX).clamp(1, SHARDS_MAX)
}

/// The rows of each split: the source's own, or train with some held out.
fn split(
    rows: Vec<Hashed>,
    duplicates: Vec<Place>,
    listed: &[Listing],
    settings: &PlanSettings,
) -> Result<Vec<Rows>> {
    let own_validation = listed.iter().any(|listing| listing.split == "val");
    let mut splits = if own_validation {
        own_splits(&rows, &duplicates, listed)
    } else {
        let cutoff = holdout_cutoff(&rows, listed, settings)?;
        let is_held = |place: Place| {
            cutoff.is_some_and(|most| place::holdout_hash128(settings.seed, id_of(listed, place)) <= most)
        };
        let (val, train) = rows.into_iter().partition(|row| is_held(row.place));
        let (val_duplicates, train_duplicates) = duplicates.into_iter().partition(|&place| is_held(place));
        vec![
            Rows { name: "train".to_owned(), rows: train, duplicates: train_duplicates },
            Rows { name: "val".to_owned(), rows: val, duplicates: val_duplicates },
        ]
    };
    let whole_train = splits.first().map_or(0, |train| train.rows.len());
    for split in &mut splits {
        let mut most = split.rows.len();
        let is_train = split.name == "train";
        if own_validation && !is_train {
            most = match settings.validation {
                Validation::Default => most,
                Validation::Count(count) => most.min(count),
                Validation::Fraction(fraction) => ((most as f64 * fraction).round() as usize).max(1),
            };
        }
        if let Some(limit) = settings.limit.filter(|&limit| limit < whole_train) {
            let in_proportion = (most as u128 * limit as u128).div_ceil(whole_train as u128) as usize;
            let asked = matches!(settings.validation, Validation::Count(_)) && !is_train;
            most = most.min(if asked { most } else { in_proportion });
        }
        if most < split.rows.len() {
            // The lowest hold-out hashes: a fair and nested draw.
            let cutoff = lowest(&split.rows, listed, settings.seed, most);
            split.rows.retain(|row| {
                let hash = place::holdout_hash128(settings.seed, id_of(listed, row.place));
                cutoff.is_some_and(|cutoff| hash <= cutoff)
            });
        }
    }
    splits.retain(|split| split.name == "train" || !split.rows.is_empty());
    Ok(splits)
}

/// The source's own splits, train first, the others in the order of their listings.
fn own_splits(rows: &[Hashed], duplicates: &[Place], listed: &[Listing]) -> Vec<Rows> {
    let mut splits: Vec<Rows> = Vec::new();
    let names = std::iter::once("train").chain(listed.iter().map(|listing| listing.split.as_str()));
    for name in names {
        if !splits.iter().any(|split| split.name == name) {
            splits.push(Rows { name: name.to_owned(), rows: Vec::new(), duplicates: Vec::new() });
        }
    }
    let belongs = |place: Place, name: &str| listed[place.listing as usize].split == name;
    for split in &mut splits {
        split.rows.extend(rows.iter().filter(|row| belongs(row.place, &split.name)));
        split.duplicates.extend(duplicates.iter().filter(|&&place| belongs(place, &split.name)));
    }
    splits
}

/// The `count`-th lowest hold-out hash; none where `count` is 0.
fn lowest(rows: &[Hashed], listed: &[Listing], seed: u64, count: usize) -> Option<u128> {
    let last = count.checked_sub(1)?;
    let mut hashes: Vec<u128> =
        rows.par_iter().map(|row| place::holdout_hash128(seed, id_of(listed, row.place))).collect();
    Some(*hashes.select_nth_unstable(last).1)
}

/// The largest hold-out hash that is held out. A share is a threshold on the hash, so it needs no complete list; a
/// number is the lowest hashes.
fn holdout_cutoff(rows: &[Hashed], listed: &[Listing], settings: &PlanSettings) -> Result<Option<u128>> {
    let below = |fraction: f64| {
        let threshold = (fraction * 2f64.powi(128)) as u128;
        let hash = |row: &Hashed| place::holdout_hash128(settings.seed, id_of(listed, row.place));
        rows.par_iter().filter(|row| hash(row) < threshold).count()
    };
    // A set of one has nothing to hold out; any other holds out one at least.
    let least = usize::from(rows.len() > 1);
    let count = match settings.validation {
        Validation::Default => below(0.01).clamp(least, HOLDOUT_DEFAULT_MAX),
        Validation::Fraction(fraction) => below(fraction).max(least),
        Validation::Count(count) if count > 0 && count >= rows.len() => {
            let samples = rows.len();
            let message = format!("--val {count}: the source has {samples} samples, and train needs some");
            return Err(Error::Config(message));
        }
        Validation::Count(count) => count,
    };
    Ok(lowest(rows, listed, settings.seed, count))
}

/// Rows in the order of the shards, and where each shard ends.
fn arrange(mut rows: Vec<Hashed>, shards: u32, order: SampleOrder) -> (Vec<Place>, Vec<usize>) {
    let ends = match order {
        SampleOrder::Shuffled => (0..shards)
            .map(|shard| rows.partition_point(|row| place::shard_of(row.hash(), shards) <= shard))
            .collect(),
        SampleOrder::Source => {
            rows.sort_unstable_by_key(|row| row.place);
            // Position p belongs to shard ⌊p·shards/rows⌋.
            let end = |shard: u32| {
                ((u128::from(shard) + 1) * rows.len() as u128).div_ceil(u128::from(shards)) as usize
            };
            (0..shards).map(end).collect()
        }
    };
    (rows.into_iter().map(|row| row.place).collect(), ends)
}

/// The keys of ids whose plain keys are the same but for case: each of them gets its hash.
fn suffixed_keys(splits: &[Rows], listed: &[Listing]) -> HashMap<String, Key> {
    let places = || splits.iter().flat_map(|split| &split.rows).map(|row| row.place);
    let folded = |place: Place| Key::from_source_id(id_of(listed, place)).as_str().to_ascii_lowercase();
    let short = |place: Place| {
        let hash = blake3::hash(folded(place).as_bytes());
        u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
    };
    let all: Vec<Place> = places().collect();
    let mut hashes: Vec<u64> = all.par_iter().map(|&place| short(place)).collect();
    hashes.par_sort_unstable();
    let repeated: HashSet<u64> =
        hashes.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    if repeated.is_empty() {
        return HashMap::new();
    }
    let mut of_key: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for place in all.into_iter().filter(|&place| repeated.contains(&short(place))) {
        of_key.entry(folded(place)).or_default().push(place);
    }
    let collide = of_key.into_values().filter(|places| places.len() > 1).flatten();
    collide.map(|place| id_of(listed, place).to_owned()).map(|id| (id.clone(), Key::with_hash(&id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(listed: &[Listing], settings: &PlanSettings) -> Result<Plan> {
        let info = SourceInfo { name: "ids".to_owned(), revision: String::new() };
        Plan::of(&info, listed, settings)
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

    fn sizes(source: &[Listing], settings: PlanSettings) -> Vec<(String, usize, u32)> {
        let plan = plan_of(source, &settings).unwrap();
        plan.splits.iter().map(|split| (split.name.clone(), split.places.len(), split.shards())).collect()
    }

    #[test]
    fn every_sample_is_placed_once_by_its_hash() {
        let source = vec![listing("train", 1_000)];
        let plan = plan_of(&source, &SETTINGS).unwrap();
        let mut rows: Vec<u32> = plan.splits.iter().flat_map(|s| &s.places).map(|place| place.row).collect();
        rows.sort_unstable();
        assert_eq!(rows, (0..1_000).collect::<Vec<_>>());
        let train = &plan.splits[0];
        let hash = |place: &Place| place::hash128(3, source[0].ids.get(place.row as usize));
        for shard in 0..8 {
            let places = &train.places[train.positions(shard)];
            assert!(places.iter().all(|place| place::shard_of(hash(place), 8) == shard));
            assert!(places.is_sorted_by_key(hash));
        }
        assert_eq!(train.positions(7).end, train.places.len());
    }

    #[test]
    fn validation_is_held_out_as_asked() {
        let source = vec![listing("train", 2_000)];
        let of = |validation| sizes(&source, PlanSettings { validation, ..SETTINGS })[1].1;
        assert!((5..=40).contains(&of(Validation::Default)));
        assert!((150..=250).contains(&of(Validation::Fraction(0.1))));
        assert_eq!(of(Validation::Count(123)), 123);
        let none = PlanSettings { validation: Validation::Count(0), ..SETTINGS };
        assert_eq!(sizes(&source, none), [("train".to_owned(), 2_000, 8)]);
        let all = PlanSettings { validation: Validation::Count(2_000), ..SETTINGS };
        assert!(plan_of(&source, &all).is_err());
        let two = vec![listing("train", 2)];
        assert_eq!(sizes(&two, SETTINGS)[1].1, 1);
    }

    #[test]
    fn a_share_held_out_is_decided_by_the_id_alone() {
        let settings = PlanSettings { validation: Validation::Fraction(0.2), ..SETTINGS };
        let held = |count| {
            let source = vec![listing("train", count)];
            let plan = plan_of(&source, &settings).unwrap();
            plan.splits[1].places.iter().map(|place| place.row).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(held(500).is_subset(&held(1_000)));
    }

    #[test]
    fn own_validation_and_limits_keep_proportion() {
        let source = vec![listing("val", 100), listing("train", 1_000)];
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
        let source = vec![listing("train", 1_000)];
        let settings =
            PlanSettings { order: SampleOrder::Source, validation: Validation::Count(0), ..SETTINGS };
        let plan = plan_of(&source, &settings).unwrap();
        let train = &plan.splits[0];
        let rows: Vec<u32> = train.places.iter().map(|place| place.row).collect();
        assert_eq!(rows, (0..1_000).collect::<Vec<_>>());
        assert_eq!((train.positions(0), train.positions(7)), (0..125, 875..1_000));
        let uneven = PlanSettings { shards: 3, ..settings };
        let train = &plan_of(&source, &uneven).unwrap().splits[0];
        assert_eq!([0, 1, 2].map(|shard| train.positions(shard).end), [334, 667, 1_000]);
    }

    #[test]
    fn ids_that_collide_once_cleaned_get_their_hash() {
        let ids = ["Cat", "cat", "dog", "a/b.jpg", "dog"].into_iter().collect();
        let source = vec![Listing { split: "train".to_owned(), ids }];
        let settings = PlanSettings { validation: Validation::Count(0), ..SETTINGS };
        let plan = plan_of(&source, &settings).unwrap();
        assert_eq!(plan.splits[0].places.len(), 4);
        assert_eq!(plan.splits[0].left_out.len(), 1);
        assert_eq!(plan.key("dog").as_str(), "dog");
        let (upper, lower) = (plan.key("Cat"), plan.key("cat"));
        assert!(upper.as_str().starts_with("Cat-") && lower.as_str().starts_with("cat-"));
        assert_ne!(upper.as_str().to_ascii_lowercase(), lower.as_str().to_ascii_lowercase());
    }
}
