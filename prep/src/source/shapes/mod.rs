//! `shapes`: the embedded image-text data set, drawn instead of downloaded, so that every command of
//! the project can be tried, tested and measured offline.
//!
//! A scene has one to four objects (shape, colour, texture, size, place, relations) on a coloured
//! and often patterned ground, and five differently worded captions. It is a pure function of
//! (seed, split, number): any scene can be made alone, in any order, on any machine, to the same
//! bytes. Scenes are *listed in order of class* (the main object's shape and colour), as real
//! sources are, so that a pipeline that forgets to shuffle shows it.
//!
//! `val` holds out combinations: in `train` no object has a (shape, colour, texture) of
//! [`held_out`], in `val` each scene's main object has one. All their parts, and all pairs of them,
//! are seen in training.
//!
//! As a caption is written from facts, it can be read back into them ([`parse()`]), whoever wrote it, and they can be
//! compared with the scene ([`judge()`]): of a captioner's captions it is known how much is true.
//!
//! Left out on purpose: anything that would make the set a benchmark of perception. It is there to
//! be learnable in minutes.

mod caption;
mod draw;
mod fact;
mod judge;
mod lexicon;
mod outline;
mod parse;
mod render;
mod scene;
mod source;
mod words;

#[cfg(test)]
mod read_back;
#[cfg(test)]
mod tests;

pub use caption::Caption;
pub use fact::{Fact, ObjectFact};
pub use judge::{Judged, Kind, Tally, Verdict, judge};
pub use parse::{Parsed, parse};
pub use scene::{Object, Scene};
pub use source::Shapes;
pub use words::{Colour, Ground, Pattern, Place, Relation, Shape, Size, Texture, held_out};

/// The generator's version: it changes whenever any scene's pixels or captions do, and a data set's
/// manifest records it as the source's revision.
pub const GENERATOR: &str = "shapes-1";

/// How many captions each scene has.
pub const CAPTIONS_PER_SCENE: usize = 5;

/// A split of the data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum ShapesSplit {
    /// No object has a held-out combination.
    Train = 0,
    /// Each main object has a held-out combination.
    Val = 1,
}

impl ShapesSplit {
    /// The split's name: `train` or `val`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }
}

/// The first `count` scenes of one split.
///
/// ```
/// use prep::source::shapes::{ShapesSource, ShapesSplit};
///
/// let source = ShapesSource::new(0, ShapesSplit::Train, 1_000);
/// let scene = source.scene(source.listing()[0]);
/// assert_eq!(scene.class_name(), "red circle");
/// assert_eq!(scene.render(64).len(), 64 * 64 * 3);
/// assert_eq!(scene.captions().len(), 5);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ShapesSource {
    seed: u64,
    split: ShapesSplit,
    count: u64,
}

impl ShapesSource {
    /// Names a set; draws nothing yet.
    pub const fn new(seed: u64, split: ShapesSplit, count: u64) -> Self {
        Self { seed, split, count }
    }

    /// The numbers of all scenes, sorted by class and then by number: `count` of them, each below
    /// `count`, so that a smaller set's scenes are among a larger one's. Takes eight bytes and a few
    /// nanoseconds a scene.
    pub fn listing(&self) -> Vec<u64> {
        let class = |number: &u64| {
            let draws = draw::Draws::new(self.seed, self.split as u64, *number);
            scene::class_number(scene::class_of(&draws))
        };
        let mut numbers: Vec<u64> = (0..self.count).collect();
        numbers.sort_by_cached_key(class);
        numbers
    }

    /// A scene by its number. Numbers from `count` on are scenes too, of a larger set.
    pub fn scene(&self, number: u64) -> Scene {
        Scene::new(self.seed, self.split, number)
    }
}
