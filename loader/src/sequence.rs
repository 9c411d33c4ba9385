//! What stands at each position of an epoch: the order of one selection, or of several dealt together. Left out: how
//! positions become batches ([`crate::plan`]).

use crate::{
    error::{Error, Result},
    groups::Groups,
    order::{EpochOrder, Order, distinct, mixture},
    rng::Stream,
    select::Selected,
    store::Store,
};

const DOMAIN: &str = "loader v1 part seed";

/// Passes over one part within one epoch that are kept made; those of a part that is drawn from more often are made as
/// they are needed.
const PASSES_MAX: u64 = 64;

/// How a loader draws from its parts.
#[derive(Debug)]
pub(crate) struct Sequence {
    order: Order,
    seed: u64,
    parts: Vec<Selected>,
    /// Samples of each part in an epoch; its length where there is one part alone.
    draws: Vec<u64>,
    /// Which samples must not meet in a batch, and its length.
    apart: Option<(Groups, usize)>,
}

impl Sequence {
    /// Draws from `parts` in an epoch of `len` samples, or of as many as there are; `weights`, where given, are one for
    /// each part.
    pub(crate) fn new(
        order: Order,
        seed: u64,
        parts: Vec<Selected>,
        weights: Option<&[f64]>,
        len: Option<u64>,
    ) -> Result<Sequence> {
        let lens: Vec<u64> = parts.iter().map(Selected::len).collect();
        let total = lens.iter().sum();
        let draws = match (weights, len) {
            (None, None) => lens,
            (weights, len) => {
                let by_size: Vec<f64> = lens.iter().map(|&len| len as f64).collect();
                mixture::shares(len.unwrap_or(total), weights.unwrap_or(&by_size))
            }
        };
        if draws.iter().all(|&draws| draws == 0) {
            return Err(Error::config("an epoch needs at least 1 sample"));
        }
        Ok(Sequence { order, seed, parts, draws, apart: None })
    }

    /// The same with no two samples of one group in a batch.
    pub(crate) fn apart(self, groups: Groups, batch_size: usize) -> Sequence {
        Sequence { apart: Some((groups, batch_size)), ..self }
    }

    /// Samples of an epoch.
    pub(crate) fn len(&self) -> u64 {
        self.draws.iter().sum()
    }

    pub(crate) fn parts(&self) -> &[Selected] {
        &self.parts
    }

    /// How many samples of each part an epoch draws.
    pub(crate) fn draws(&self) -> &[u64] {
        &self.draws
    }

    /// Whether an epoch is every sample of one part once.
    fn is_plain(&self) -> bool {
        self.parts.len() == 1 && self.draws[0] == self.parts[0].len()
    }

    /// The samples of `epoch`.
    pub(crate) fn epoch(&self, epoch: u64) -> Result<EpochSamples> {
        let way = if self.is_plain() {
            Way::Plain(Box::new(self.order.epoch_over(self.seed, epoch, self.parts[0].shards())?))
        } else {
            let deal = mixture::Deal::new(self.seed, epoch, &self.draws)?;
            let passes = (0..self.parts.len()).map(|part| self.passes(part, epoch)).collect::<Result<_>>()?;
            Way::Dealt(Box::new(deal), passes)
        };
        let Some((groups, batch_size)) = &self.apart else { return Ok(EpochSamples { way }) };
        let drawn = EpochSamples { way };
        let samples: Result<Vec<u64>> =
            (0..self.len()).map(|position| self.sample(&drawn, position)).collect();
        let mut samples = samples?;
        let group = |sample| groups.group(sample);
        distinct::arrange(&mut samples, *batch_size, groups.count(), group).map_err(|too_large| {
            let distinct::TooLarge { sample, samples, batches } = too_large;
            Error::TooLargeGroup { sample, samples, batches }
        })?;
        Ok(EpochSamples { way: Way::Listed(samples) })
    }

    /// The store's number of the sample at `position` of `epoch`, which is below the epoch's length.
    pub(crate) fn sample(&self, epoch: &EpochSamples, position: u64) -> Result<u64> {
        let (deal, passes) = match &epoch.way {
            Way::Plain(order) => return Ok(self.parts[0].sample(order.sample(position))),
            Way::Listed(samples) => return Ok(samples[position as usize]),
            Way::Dealt(deal, passes) => (deal, passes),
        };
        let (part, draw) = deal.at(position);
        let (passes, len) = (&passes[part], self.parts[part].len());
        let draw = passes.begin + draw;
        let (pass, place) = (draw / len, draw % len);
        let place = match passes.orders.get((pass - passes.first) as usize) {
            Some(order) => order.sample(place),
            None => self.pass(part, pass)?.sample(place),
        };
        Ok(self.parts[part].sample(place))
    }

    /// Some sample that takes part of the data set that `sample` is of.
    pub(crate) fn neighbour(&self, store: &Store, sample: u64, draws: &mut Stream) -> u64 {
        let part = &self.parts[store.part_number(sample)];
        part.sample(draws.below(part.len()))
    }

    /// The passes over `part` that `epoch` takes part in: draws go on from epoch to epoch, so that each sample of the
    /// part is drawn as often as any other, to one.
    fn passes(&self, part: usize, epoch: u64) -> Result<Passes> {
        let (draws, len) = (self.draws[part], self.parts[part].len());
        let begin = epoch.checked_mul(draws).filter(|begin| begin.checked_add(draws).is_some());
        let begin = begin.ok_or_else(|| Error::config(format!("epoch {epoch} is past all counting")))?;
        let first = begin / len;
        let last = (begin + draws.saturating_sub(1)) / len;
        let kept = first..=last.min(first.saturating_add(PASSES_MAX - 1));
        let orders = if draws == 0 {
            Vec::new()
        } else {
            kept.map(|pass| self.pass(part, pass)).collect::<Result<_>>()?
        };
        Ok(Passes { begin, first, orders })
    }

    fn pass(&self, part: usize, pass: u64) -> Result<EpochOrder> {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        hasher.update(&self.seed.to_le_bytes()).update(&(part as u64).to_le_bytes());
        let mut seed = [0; 8];
        hasher.finalize_xof().fill(&mut seed);
        self.order.epoch_over(u64::from_le_bytes(seed), pass, self.parts[part].shards())
    }
}

/// Orders of a part, one a pass.
#[derive(Debug)]
struct Passes {
    /// Draws from the part before the epoch.
    begin: u64,
    /// The number of the first pass that is kept.
    first: u64,
    orders: Vec<EpochOrder>,
}

#[derive(Debug)]
enum Way {
    Plain(Box<EpochOrder>),
    Dealt(Box<mixture::Deal>, Vec<Passes>),
    Listed(Vec<u64>),
}

/// The samples of one epoch, as [`Sequence::sample`] reads them.
#[derive(Debug)]
pub(crate) struct EpochSamples {
    way: Way,
}
