//! `prep judge DIR --captions FILE`: how much of what captions claim is true of their scenes of `shapes`, which are drawn
//! again from the seed in the manifest; beside it the same captions judged by scenes of others, which is what chance
//! and the habits of the scenes come to. It leaves out the pictures, and how well a caption is worded.

mod captions;

use std::collections::HashSet;

use shard::Dataset;

use self::captions::Written;
use crate::{
    Error, Result,
    cli::JudgeArgs,
    report,
    source::shapes::{Judged, Parsed, Scene, Shapes, judge, parse},
};

/// What captions come to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Each judged by its own scene.
    pub judged: Judged,
    /// Each judged by the scene of the next caption of another key, the last by the first; none where all captions are
    /// of one key.
    pub shifted: Option<Judged>,
}

/// Prints how much of the captions is true.
///
/// # Errors
/// Where the data set is not of shapes, the captions cannot be read, or one is of no sample of the split.
pub fn run(args: &JudgeArgs) -> Result<()> {
    let dataset = Dataset::open(&args.dir)?;
    let seed = seed(&dataset)?;
    let keys = keys(&dataset, &args.split)?;
    let written = captions::read(&args.captions)?;
    let mut scenes = Vec::with_capacity(written.len());
    for Written { key, .. } in &written {
        if !keys.contains(key) {
            return Err(no_sample(args, &dataset, key));
        }
        let scene = Scene::of_id(seed, key).ok_or_else(|| {
            Error::Config(format!("{}: the key {key:?} does not name a scene", args.dir.display()))
        })?;
        scenes.push(scene);
    }
    let parsed: Vec<Parsed> = written.iter().map(|written| parse(&written.caption)).collect();
    let outcome = Outcome {
        judged: judged(&parsed, scenes.iter()),
        shifted: others(&written).map(|others| judged(&parsed, others.into_iter().map(|of| &scenes[of]))),
    };
    report::judged(&args.dir, &args.split, &outcome, args.json);
    Ok(())
}

fn judged<'a>(captions: &[Parsed], scenes: impl Iterator<Item = &'a Scene>) -> Judged {
    let mut judged = Judged::default();
    captions.iter().zip(scenes).for_each(|(caption, scene)| judged.add(&judge(scene, caption)));
    judged
}

/// The seed that the data set's scenes are drawn from.
fn seed(dataset: &Dataset) -> Result<u64> {
    let (dir, made_from) = (dataset.dir().display(), &dataset.manifest().source);
    Shapes::seed_of(made_from).ok_or_else(|| {
        let (name, revision) = (&made_from.name, &made_from.revision);
        Error::Config(if name == "shapes" {
            format!(
                "{dir} was drawn by {revision:?}, which this program does not draw: it would judge by other scenes; \
                 use the program that wrote it ({})",
                dataset.manifest().program
            )
        } else {
            format!("{dir} was made from {name} ({revision}): captions can be judged by scenes of shapes alone")
        })
    })
}

/// The keys of a split's samples.
fn keys(dataset: &Dataset, split: &str) -> Result<HashSet<String>> {
    let mut keys = HashSet::new();
    for shard in dataset.open_split(split)? {
        for number in 0..shard.len() {
            keys.insert(shard.row(number)?.key.to_owned());
        }
    }
    Ok(keys)
}

/// Why a key cannot be judged: it is of another split, or of none.
fn no_sample(args: &JudgeArgs, dataset: &Dataset, key: &str) -> Error {
    let (file, dir, split) = (args.captions.display(), args.dir.display(), &args.split);
    let others = dataset.manifest().splits.iter().filter(|other| other.name != *split);
    let mut holding = others.filter(|other| keys(dataset, &other.name).is_ok_and(|keys| keys.contains(key)));
    Error::Config(match holding.next() {
        Some(other) => format!(
            "{file}: {key:?} is a sample of {}, and captions of {split} are judged; --split says of which",
            other.name
        ),
        None => format!("{file}: {dir} has no sample {key:?} in {split}"),
    })
}

/// For each caption the place of the next one of another key, the first following the last.
fn others(written: &[Written]) -> Option<Vec<usize>> {
    let last = written.len().checked_sub(1)?;
    let key = |place: usize| &written[place].key;
    let mut next = (0..=last).find(|&place| key(place) != key(last))?;
    let mut others = vec![next; last + 1];
    for place in (0..last).rev() {
        if key(place) != key(place + 1) {
            next = place + 1;
        }
        others[place] = next;
    }
    Some(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_scene_is_the_next_of_another_key() {
        let of = |keys: &str| {
            let written = |key: char| Written { key: key.to_string(), caption: String::new() };
            others(&keys.chars().map(written).collect::<Vec<_>>())
        };
        assert_eq!(of("abc"), Some(vec![1, 2, 0]));
        assert_eq!(of("aabba"), Some(vec![2, 2, 4, 4, 2]));
        assert_eq!(of("ab"), Some(vec![1, 0]));
        assert_eq!((of(""), of("a"), of("aaa")), (None, None, None));
    }
}
