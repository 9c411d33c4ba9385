//! [`LoaderBuilder`]: a [`LoaderConfig`] filled in by name. It decides nothing.

use std::{path::PathBuf, sync::Arc};

use crate::{
    augment::Augment,
    cache::CacheConfig,
    collate::Hook,
    config::{Captions, Check, LoaderConfig, OnCorrupt, Output},
    error::Result,
    groups::Distinct,
    loader::Loader,
    order::Order,
    parts::Part,
    plan::Remainder,
    select::Selection,
    world::World,
};

/// Settings for a [`Loader`]; see [`LoaderConfig`] for what each means and its default.
#[derive(Clone)]
pub struct LoaderBuilder {
    dir: PathBuf,
    weight: Option<f64>,
    others: Vec<Part>,
    config: LoaderConfig,
    hook: Option<Hook>,
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty => $value:expr;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.config.$name = $value;
            self
        })*
    };
}

impl LoaderBuilder {
    pub(crate) fn new(dir: PathBuf) -> LoaderBuilder {
        LoaderBuilder { dir, weight: None, others: Vec::new(), config: LoaderConfig::default(), hook: None }
    }

    settings! {
        /// Which split.
        split: impl Into<String> => split.into();
        /// Samples in a batch over all ranks.
        batch_size: usize => batch_size;
        /// What becomes of the samples that fill no batch.
        remainder: Remainder => Some(remainder);
        /// Decides the order and every draw.
        seed: u64 => seed;
        /// How an epoch goes through the samples.
        order: Order => order;
        /// Which samples of the split take part.
        selection: Selection => selection;
        /// Which samples must not meet in a batch.
        distinct: Distinct => Some(distinct);
        /// Samples of an epoch, where they are not just those that take part.
        epoch_samples: u64 => Some(epoch_samples);
        /// Which captions come with a sample.
        captions: Captions => captions;
        /// What the pixels are.
        output: Output => output;
        /// How pictures are changed at random.
        augment: Augment => Some(augment);
        /// When checksums are compared.
        check: Check => check;
        /// What becomes of damaged samples.
        on_corrupt: OnCorrupt => on_corrupt;
        /// Whether to measure where the workers' time goes.
        profile: bool => profile;
        /// Worker threads; 0 means the consumer's own.
        threads: usize => threads;
        /// Batches made or in the making ahead of the consumer.
        queue_depth: usize => Some(queue_depth);
        /// How data sets in object stores are read.
        cache: CacheConfig => cache;
        /// This process among those that share the epoch.
        world: World => world;
    }

    /// The share of the split that takes part, in (0, 1].
    #[must_use]
    pub fn fraction(mut self, fraction: f64) -> Self {
        self.config.selection.fraction = fraction;
        self
    }

    /// The first data set's share of an epoch, where others are mixed in.
    #[must_use]
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Mixes another data set in, with pictures of the same size. With weights, one for each, an epoch draws from each
    /// its share; without, every sample once.
    ///
    /// ```
    /// use loader::{Loader, Part, Remainder};
    /// # let (first, second) = (testkit::Spec::train(60).temporary(), testkit::Spec::train(20).temporary());
    /// # let (coco, more) = (first.path(), second.path());
    /// let loader = Loader::builder(coco)
    ///     .weight(0.25)
    ///     .mix(Part::new(more).weight(0.75))
    ///     .epoch_samples(40)
    ///     .batch_size(8)
    ///     .remainder(Remainder::DropLast)
    ///     .build()?;
    /// assert_eq!(loader.draws().iter().map(|draws| draws.draws).collect::<Vec<_>>(), [10, 30]);
    /// # Ok::<(), loader::Error>(())
    /// ```
    #[must_use]
    pub fn mix(mut self, part: Part) -> Self {
        self.others.push(part);
        self
    }

    /// Takes all settings at once.
    #[must_use]
    pub fn config(mut self, config: LoaderConfig) -> Self {
        self.config = config;
        self
    }

    /// Calls `hook` with each sample's number before it is read, in the worker that reads it: for tests that make
    /// a worker panic or dawdle.
    #[doc(hidden)]
    #[must_use]
    pub fn before_sample(mut self, hook: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Opens the data set.
    ///
    /// # Errors
    /// As [`Loader::open`].
    pub fn build(self) -> Result<Loader> {
        let LoaderBuilder { dir, weight, others, config, hook } = self;
        let first = Part { dir, split: config.split.clone(), selection: config.selection.clone(), weight };
        let parts = std::iter::once(first).chain(others).collect();
        Loader::open_with(parts, config, hook)
    }
}
