//! [`LoaderBuilder`]: a [`LoaderConfig`] filled in by name. It decides nothing.

use std::{path::PathBuf, sync::Arc};

use crate::{
    augment::Augment,
    collate::Hook,
    config::{Captions, Check, LoaderConfig, Output},
    error::Result,
    loader::Loader,
    order::Order,
    plan::Remainder,
    world::World,
};

/// Settings for a [`Loader`]; see [`LoaderConfig`] for what each means and its default.
#[derive(Clone)]
pub struct LoaderBuilder {
    dir: PathBuf,
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
        LoaderBuilder { dir, config: LoaderConfig::default(), hook: None }
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
        /// The share of the split that takes part, in (0, 1].
        fraction: f64 => fraction;
        /// Which captions come with a sample.
        captions: Captions => captions;
        /// What the pixels are.
        output: Output => output;
        /// How pictures are changed at random.
        augment: Augment => Some(augment);
        /// When checksums are compared.
        check: Check => check;
        /// Worker threads; 0 means the consumer's own.
        threads: usize => threads;
        /// Batches made or in the making ahead of the consumer.
        queue_depth: usize => Some(queue_depth);
        /// This process among those that share the epoch.
        world: World => world;
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
        Loader::open_with(&self.dir, self.config, self.hook)
    }
}
