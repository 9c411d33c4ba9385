//! What a loader is asked to do: [`LoaderConfig`], checked as a whole. It opens nothing.

use crate::{
    augment::Augment,
    cache::CacheConfig,
    error::{Error, Result},
    groups::Distinct,
    order::Order,
    plan::Remainder,
    select::Selection,
    world::World,
};

/// The mean and standard deviation that CLIP's pictures are normalised with, channel by channel (R, G, B).
pub const CLIP_NORMALIZE: Normalize = Normalize {
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
};

/// Those of ImageNet's training pictures, as torchvision's models take them.
pub const IMAGENET_NORMALIZE: Normalize =
    Normalize { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/// No normalisation: `value / 255`.
pub const NO_NORMALIZE: Normalize = Normalize { mean: [0.0; 3], std: [1.0; 3] };

/// Mean and standard deviation of each channel (R, G, B), in units of full white.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalize {
    /// Taken away from value / 255.
    pub mean: [f32; 3],
    /// Divided by; not zero.
    pub std: [f32; 3],
}

impl Normalize {
    /// `(value / 255 - mean) / std` as `value · scale + shift`, a channel's `(scale, shift)`.
    pub(crate) fn affine(&self) -> [(f32, f32); 3] {
        std::array::from_fn(|c| {
            let (mean, std) = (f64::from(self.mean[c]), f64::from(self.std[c]));
            ((1.0 / (255.0 * std)) as f32, (-mean / std) as f32)
        })
    }
}

/// What a batch's pixels are; always samples × 3 × height × width (R, G, B).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Output {
    /// The stored bytes, 0 to 255.
    #[default]
    U8,
    /// `(value / 255 - mean) / std`.
    F32(Normalize),
}

/// When a payload's CRC-32 is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Each time a sample is read, in the pass that copies it.
    #[default]
    Always,
    /// The first time that this loader reads a sample.
    First,
    /// Never: for measuring what the check costs. Index rows are still checked.
    Never,
}

/// What becomes of a sample whose bytes are damaged, or that trips its decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnCorrupt {
    /// It ends the epoch with an error that names it.
    #[default]
    Error,
    /// Another sample of its data set, drawn by hash(seed, epoch, sample), takes its place;
    /// [`Loader::substitutions`](crate::Loader::substitutions) tells which.
    Substitute,
}

/// Which of a sample's captions come with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Captions {
    /// One, drawn by hash(seed, epoch, sample): another in each epoch.
    #[default]
    Random,
    /// The first, in every epoch.
    First,
    /// All, in the source's order.
    All,
}

/// Everything that a loader is told, with the defaults of [`LoaderConfig::default`].
#[derive(Clone, Debug)]
pub struct LoaderConfig {
    /// Which split; default `train`.
    pub split: String,
    /// Samples in a batch over all ranks; no default, at least 1.
    pub batch_size: usize,
    /// What becomes of the samples that fill no batch; no default, always chosen.
    pub remainder: Option<Remainder>,
    /// Decides the order and every draw; default 0.
    pub seed: u64,
    /// How an epoch goes through the samples; default [`Order::Global`].
    pub order: Order,
    /// Which samples of the split take part; default all.
    pub selection: Selection,
    /// Which samples must not meet in a batch, of all ranks; default none. The epoch is then drawn as a whole and held.
    pub distinct: Option<Distinct>,
    /// Samples of an epoch; default as many as take part. With another number draws go on from epoch to epoch, each
    /// sample as often as any other of its data set.
    pub epoch_samples: Option<u64>,
    /// Which captions come with a sample; default [`Captions::Random`].
    pub captions: Captions,
    /// What the pixels are; default [`Output::U8`].
    pub output: Output,
    /// How pictures are changed at random; default not at all.
    pub augment: Option<Augment>,
    /// When checksums are compared; default [`Check::Always`].
    pub check: Check,
    /// What becomes of damaged samples; default [`OnCorrupt::Error`].
    pub on_corrupt: OnCorrupt,
    /// Whether to measure where the workers' time goes ([`Loader::stages`](crate::Loader::stages)); slower, for what is
    /// one pass otherwise is done one after the other. Default no.
    pub profile: bool,
    /// Worker threads; 0 means the consumer's own; default one per core.
    pub threads: usize,
    /// Batches made ahead of a consumer that is busy; one more is begun while it waits. Default 1, for workers make a batch
    /// together and it is made while the one before it is used.
    pub queue_depth: Option<usize>,
    /// How data sets in object stores are read, and where they are kept meanwhile; of no meaning to local ones.
    pub cache: CacheConfig,
    /// This process among those that share the epoch; default alone.
    pub world: World,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        LoaderConfig {
            split: "train".to_owned(),
            batch_size: 0,
            remainder: None,
            seed: 0,
            order: Order::default(),
            selection: Selection::default(),
            distinct: None,
            epoch_samples: None,
            captions: Captions::default(),
            output: Output::default(),
            augment: None,
            check: Check::default(),
            on_corrupt: OnCorrupt::default(),
            profile: false,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            queue_depth: None,
            cache: CacheConfig::default(),
            world: World::SINGLE,
        }
    }
}

/// More worker threads than this are taken for a slip of the keyboard.
const THREADS_MAX: usize = 1024;

impl LoaderConfig {
    /// Checks every setting by itself; what depends on the data is checked when it is opened.
    ///
    /// # Errors
    /// [`Error::Config`] with all problems, not only the first.
    pub fn validate(&self) -> Result<()> {
        let mut problems = Vec::new();
        if self.batch_size == 0 {
            problems.push("the batch size must be at least 1".to_owned());
        }
        if self.remainder.is_none() {
            problems.push("the remainder policy must be chosen: drop_last or pad_last".to_owned());
        }
        problems.extend(self.selection.problem());
        problems.extend(self.order.problem().map(str::to_owned));
        if self.epoch_samples == Some(0) {
            problems.push("an epoch needs at least 1 sample".to_owned());
        }
        if self.threads > THREADS_MAX {
            problems.push(format!("at most {THREADS_MAX} threads, not {}", self.threads));
        }
        if self.on_corrupt == OnCorrupt::Substitute && self.check != Check::Always {
            problems.push(
                "substitution needs every checksum compared: damage must be found each time".to_owned(),
            );
        }
        if self.queue_depth == Some(0) {
            problems.push("the queue depth must be at least 1".to_owned());
        }
        if let Output::F32(normalize) = self.output {
            if normalize.std.iter().any(|std| !(std.is_normal() && *std > 0.0)) {
                problems.push(format!("the standard deviations must be above 0, not {:?}", normalize.std));
            }
            if normalize.mean.iter().any(|mean| !mean.is_finite()) {
                problems.push(format!("the means must be numbers, not {:?}", normalize.mean));
            }
        }
        problems.extend(self.cache.problem().map(str::to_owned));
        if let Some(augment) = &self.augment {
            problems.extend(augment.problems());
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::config(problems.join("; "))) }
    }

    /// Batches ahead of the consumer.
    pub(crate) fn depth(&self) -> usize {
        self.queue_depth.unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named_at_once() {
        let config = LoaderConfig {
            selection: Selection::fraction(f64::NAN),
            order: Order::Block { block: 0, window: 1 },
            epoch_samples: Some(0),
            threads: 5000,
            queue_depth: Some(0),
            output: Output::F32(Normalize { mean: [f32::NAN; 3], std: [0.0; 3] }),
            ..LoaderConfig::default()
        };
        let text = config.validate().unwrap_err().to_string();
        for word in [
            "batch size",
            "remainder",
            "fraction",
            "a block",
            "an epoch",
            "threads",
            "queue depth",
            "deviations",
            "means",
        ] {
            assert!(text.contains(word), "{word} is missing in: {text}");
        }
    }

    #[test]
    fn the_affine_form_is_the_normalisation() {
        for (c, (scale, shift)) in CLIP_NORMALIZE.affine().into_iter().enumerate() {
            for value in 0..=255u8 {
                let exact = (f32::from(value) / 255.0 - CLIP_NORMALIZE.mean[c]) / CLIP_NORMALIZE.std[c];
                assert!((f32::from(value) * scale + shift - exact).abs() < 2e-6);
            }
        }
    }
}
