//! Near-duplicates of a data set: every stored picture hashed, pairs within and across splits, clusters. What is listed
//! is bounded, what is counted is not. It leaves out printing.

use std::ops::Range;

use rayon::prelude::*;
use serde::Serialize;
use shard::{Dataset, ImageFormat, ImageSettings, Layout, ShardReader, npy};

use super::{Index, Pair, groups::Groups, hash, hash_planes};
use crate::{Error, Result, pixels};

/// Pairs that are listed of each relation; all are counted.
pub const PAIRS_LISTED_MAX: usize = 500;

/// Clusters that are listed, and members of each; all are counted.
pub const CLUSTERS_LISTED_MAX: usize = 100;

/// Pairs of distinct hashes that are searched for before it is said that there are more: 48 MB.
const HASH_PAIRS_MAX: usize = 4_000_000;

/// Rows hashed by one thread at a time.
const CHUNK: usize = 64;

/// What [`find`] found.
#[derive(Debug, Clone, Serialize)]
pub struct NearDuplicates {
    /// Pairs up to this distance, in bits of 64.
    pub max_distance: u32,
    /// Pictures that were compared.
    pub compared: u64,
    /// Pictures that were not, because they have too little structure: one colour, a plain gradient.
    pub flat: u64,
    /// Whether all pairs were searched; where not, there are more than those counted.
    pub complete: bool,
    /// Pairs by the splits they are of: across splits first, then within each.
    pub relations: Vec<Relation>,
    /// Sets of pictures linked by pairs, chains included.
    pub cluster_count: u64,
    /// The largest of them.
    pub clusters: Vec<Cluster>,
}

/// Pairs of one split, or across two.
#[derive(Debug, Clone, Serialize)]
pub struct Relation {
    /// Their splits; the same one twice within a split.
    pub splits: [String; 2],
    /// How many pairs there are.
    pub pairs: u64,
    /// The nearest of them.
    pub listed: Vec<NearPair>,
}

impl Relation {
    /// Whether the pairs are of two splits: a validation picture that was trained on.
    pub fn is_across(&self) -> bool {
        self.splits[0] != self.splits[1]
    }
}

/// Two pictures near one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NearPair {
    /// Bits in which their hashes differ.
    pub distance: u32,
    /// One, of the first split.
    pub first: Member,
    /// The other.
    pub second: Member,
}

/// A picture of a pair or a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its split.
    pub split: String,
    /// Its key.
    pub key: String,
    /// Number of its shard.
    pub shard: usize,
    /// Its row there.
    pub row: usize,
}

/// Pictures linked by pairs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// How many they are.
    pub size: u64,
    /// The first of them.
    pub members: Vec<Member>,
}

/// The hash of a stored payload: [`super::FLAT`] where it has too little structure.
///
/// # Errors
/// `Config` where the payload is not of the settings' form.
pub fn hash_stored(payload: &[u8], image: &ImageSettings) -> Result<u64> {
    let sized = &pixels::stored_settings(payload, image)?;
    let (height, width) = (sized.height, sized.width);
    if image.format == ImageFormat::Jpg {
        return Ok(hash(&pixels::stored_rgb(payload, image)?, height, width));
    }
    let pixels = payload.get(npy::HEADER_BYTES..).filter(|pixels| pixels.len() == sized.pixel_bytes());
    let pixels = pixels.ok_or_else(|| {
        let found = payload.len();
        Error::Config(format!("a stored picture of {found} bytes does not have the form of the manifest"))
    })?;
    Ok(match image.layout {
        Layout::Chw => hash_planes(pixels, height, width),
        Layout::Hwc => hash(pixels, height, width),
    })
}

/// Looks for pictures of `dataset` whose hashes differ in at most `max_distance` bits, on all of rayon's threads.
/// `hashed` is told of each batch of pictures that was read.
///
/// # Errors
/// Where a shard cannot be read or is damaged.
pub fn find(
    dataset: &Dataset,
    max_distance: u32,
    hashed: impl Fn(usize) + Send + Sync,
) -> Result<NearDuplicates> {
    let places = Places::of(dataset)?;
    let hashes = places.hashes(&dataset.manifest().image, hashed)?;
    let (groups, distinct) = Groups::of(&hashes);
    let compared = groups.positions_len();
    let (pairs, complete) = Index::new(distinct).pairs(max_distance, HASH_PAIRS_MAX);
    let clusters = groups.clusters(&pairs);
    let listed: Result<_> =
        clusters.iter().take(CLUSTERS_LISTED_MAX).map(|c| places.cluster(&groups, c)).collect();
    Ok(NearDuplicates {
        max_distance,
        compared: compared as u64,
        flat: (hashes.len() - compared) as u64,
        complete,
        relations: places.relations(&groups, &pairs)?,
        cluster_count: clusters.len() as u64,
        clusters: listed?,
    })
}

/// Which picture a position means: splits in order, their shards, their rows.
struct Places {
    splits: Vec<(String, Range<u32>)>,
    /// First position, split, number in the split.
    shards: Vec<(u32, usize, usize, ShardReader)>,
    len: u32,
}

impl Places {
    fn of(dataset: &Dataset) -> Result<Self> {
        let mut places = Self { splits: Vec::new(), shards: Vec::new(), len: 0 };
        for (number, split) in dataset.manifest().splits.iter().enumerate() {
            let start = places.len;
            for (shard, reader) in dataset.open_split(&split.name)?.into_iter().enumerate() {
                let first = places.len;
                let end = u32::try_from(reader.len()).ok().and_then(|len| first.checked_add(len));
                places.len =
                    end.ok_or_else(|| Error::Config("more than 2³² pictures to compare".to_owned()))?;
                places.shards.push((first, number, shard, reader));
            }
            places.splits.push((split.name.clone(), start..places.len));
        }
        Ok(places)
    }

    fn hashes(&self, image: &ImageSettings, hashed: impl Fn(usize) + Send + Sync) -> Result<Vec<u64>> {
        let chunks: Vec<(&ShardReader, Range<usize>)> = self
            .shards
            .iter()
            .flat_map(|(.., reader)| {
                let end = reader.len();
                (0..end).step_by(CHUNK).map(move |first| (reader, first..end.min(first + CHUNK)))
            })
            .collect();
        let hashes: Result<Vec<Vec<u64>>> = chunks
            .into_par_iter()
            .map(|(reader, rows)| {
                let count = rows.len();
                let hashes = rows.map(|row| {
                    let row = reader.row(row)?;
                    let payload = reader.payload(&row, row.image)?;
                    reader.check(&row, row.image, payload)?;
                    hash_stored(payload, image)
                });
                let hashes = hashes.collect();
                hashed(count);
                hashes
            })
            .collect();
        Ok(hashes?.concat())
    }

    fn member(&self, position: u32) -> Result<Member> {
        let at = self.shards.partition_point(|(first, ..)| *first <= position) - 1;
        let (first, split, shard, reader) = &self.shards[at];
        let row = (position - first) as usize;
        let key = reader.row(row)?.key.to_owned();
        Ok(Member { split: self.splits[*split].0.clone(), key, shard: *shard, row })
    }

    fn cluster(&self, groups: &Groups, cluster: &[u32]) -> Result<Cluster> {
        let size = cluster.iter().map(|&group| groups.members(group).len() as u64).sum();
        let members = cluster.iter().flat_map(|&group| groups.members(group));
        let members = members.take(CLUSTERS_LISTED_MAX).map(|&position| self.member(position));
        Ok(Cluster { size, members: members.collect::<Result<_>>()? })
    }

    /// Pairs across splits first, then within each.
    fn relations(&self, groups: &Groups, pairs: &[Pair]) -> Result<Vec<Relation>> {
        let splits = 0..self.splits.len();
        let across = splits.clone().flat_map(|one| (one + 1..self.splits.len()).map(move |two| (one, two)));
        let within = splits.clone().map(|split| (split, split));
        across.chain(within).map(|(one, two)| self.relation(groups, pairs, one, two)).collect()
    }

    fn relation(&self, groups: &Groups, pairs: &[Pair], one: usize, two: usize) -> Result<Relation> {
        let (ones, twos) = (&self.splits[one].1, &self.splits[two].1);
        let mut count = 0u64;
        let mut listed = Vec::new();
        // Copies of one hash, at a distance of 0, come before pairs of distinct hashes, which come by distance.
        let same = (0..groups.len() as u32).map(|group| Pair { distance: 0, first: group, second: group });
        for pair in same.chain(pairs.iter().copied()) {
            let of = |group: u32, range: &Range<u32>| groups.members_within(group, range);
            if pair.first == pair.second && one == two {
                let members = of(pair.first, ones);
                count += (members.len() as u64) * (members.len() as u64).saturating_sub(1) / 2;
                let combinations = members
                    .iter()
                    .enumerate()
                    .flat_map(|(at, a)| members[at + 1..].iter().map(move |b| (a, b)));
                self.list(&mut listed, pair.distance, combinations)?;
                continue;
            }
            let mut sides = vec![(of(pair.first, ones), of(pair.second, twos))];
            if one != two && pair.first != pair.second {
                sides.push((of(pair.second, ones), of(pair.first, twos)));
            }
            for (a, b) in sides {
                count += a.len() as u64 * b.len() as u64;
                self.list(&mut listed, pair.distance, a.iter().flat_map(|a| b.iter().map(move |b| (a, b))))?;
            }
        }
        let splits = [one, two].map(|split| self.splits[split].0.clone());
        Ok(Relation { splits, pairs: count, listed })
    }

    fn list<'a>(
        &self,
        listed: &mut Vec<NearPair>,
        distance: u32,
        pairs: impl Iterator<Item = (&'a u32, &'a u32)>,
    ) -> Result<()> {
        for (&first, &second) in pairs.take(PAIRS_LISTED_MAX - listed.len()) {
            let (first, second) = (self.member(first)?, self.member(second)?);
            listed.push(NearPair { distance, first, second });
        }
        Ok(())
    }
}
