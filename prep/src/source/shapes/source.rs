//! The scenes as a [`Source`]: both splits listed by class, drawn at the size that is asked for. It leaves out
//! what a scene is.

use shard::SourceInfo;

use super::{GENERATOR, Scene, ShapesSource, ShapesSplit};
use crate::source::{Listing, LoadError, Loaded, Picture, Source};

/// `shapes`, with a number of scenes in each split.
#[derive(Debug)]
pub struct Shapes {
    seed: u64,
    listings: [Listing; 2],
    numbers: [Vec<u64>; 2],
}

const SPLITS: [ShapesSplit; 2] = [ShapesSplit::Train, ShapesSplit::Val];

impl Shapes {
    /// Lists `train` and `val` scenes of the set of `seed`.
    pub fn new(seed: u64, train: usize, val: usize) -> Self {
        let list = |split, count: usize| ShapesSource::new(seed, split, count as u64).listing();
        let numbers = [list(ShapesSplit::Train, train), list(ShapesSplit::Val, val)];
        let listing = |split: usize| Listing {
            split: SPLITS[split].name().to_owned(),
            ids: numbers[split].iter().map(|&number| Scene::id_of(SPLITS[split], number)).collect(),
        };
        let listings = [listing(0), listing(1)];
        Self { seed, listings, numbers }
    }

    /// The seed of a data set whose scenes this program draws alike; none where it was made from another source, or by
    /// another version of the generator.
    pub fn seed_of(info: &SourceInfo) -> Option<u64> {
        let seed = info.revision.rsplit(' ').next()?.parse().ok()?;
        (*info == Self::info_of(seed)).then_some(seed)
    }

    fn info_of(seed: u64) -> SourceInfo {
        SourceInfo { name: "shapes".to_owned(), revision: format!("{GENERATOR} seed {seed}") }
    }
}

impl Source for Shapes {
    fn info(&self) -> SourceInfo {
        Self::info_of(self.seed)
    }

    fn listings(&self) -> &[Listing] {
        &self.listings
    }

    fn load(&self, listing: usize, row: usize, size: u32) -> Result<Loaded, LoadError> {
        let scene = Scene::new(self.seed, SPLITS[listing], self.numbers[listing][row]);
        Ok(Loaded {
            picture: Picture::Made(scene.render(size as usize)),
            captions: scene.captions(),
            url: None,
            license: None,
        })
    }
}
