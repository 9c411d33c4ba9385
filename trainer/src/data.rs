//! A data set's batches as tensors: pixels at the model's size, captions as token ids.
//!
//! Opens the loaders that a configuration asks for. Leaves out order and prefetching, which are the
//! loader's, and devices' names.

use crate::config::{CaptionChoice, Config};
use crate::device::DeviceChoice;
use crate::error::{Error, Result};
use crate::resize::Downscale;
use crate::tokenizer::{Encoded, Tokenizer};
use candle_core::{DType, Device, Tensor};
use loader::{Batch, Captions, Loader, LoaderConfig, Normalize, Order, Output, Pixels, Remainder, Selection};
use std::path::Path;

/// One batch on the device.
#[derive(Clone, Debug)]
pub struct TensorBatch {
    /// f32, shape (samples, 3, size, size), normalised.
    pub pixel_values: Tensor,
    /// u32, shape (captions, length): cut behind the longest caption.
    pub input_ids: Tensor,
    /// The place of each end marker.
    pub eot_positions: Vec<u32>,
}

/// Opens the training split: the configured order, whole batches only.
///
/// # Errors
/// [`Error::Loader`], and [`Error::Data`] when the view has not one batch or the pictures are too small.
pub fn open_train(config: &Config, data: &Path) -> Result<Loader> {
    let view = &config.data;
    let loader = open(
        config,
        data,
        LoaderConfig {
            split: view.split.clone(),
            batch_size: view.batch_size,
            remainder: Some(Remainder::DropLast),
            seed: config.train.seed,
            order: view.order,
            selection: Selection::fraction(view.fraction),
            captions: match view.captions {
                CaptionChoice::Random => Captions::Random,
                CaptionChoice::First => Captions::First,
            },
            threads: config.train.threads,
            augment: view.augment.of_loader(),
            ..LoaderConfig::default()
        },
    )?;
    if loader.batch_count() == 0 {
        let reason = format!(
            "the view has {} samples, which is not one batch of data.batch_size = {}",
            loader.len(),
            view.batch_size
        );
        return Err(Error::Data { data: data.to_path_buf(), reason });
    }
    Ok(loader)
}

/// Opens a split for evaluation: every sample once, with all captions.
///
/// # Errors
/// As [`open_train`].
pub fn open_eval(config: &Config, data: &Path, split: &str, fraction: f64) -> Result<Loader> {
    let settings = LoaderConfig {
        split: split.to_owned(),
        batch_size: config.data.batch_size.min(256),
        remainder: Some(Remainder::PadLast),
        order: Order::None,
        selection: Selection::fraction(fraction),
        captions: Captions::All,
        threads: config.train.threads,
        ..LoaderConfig::default()
    };
    open(config, data, settings)
}

fn open(config: &Config, data: &Path, mut settings: LoaderConfig) -> Result<Loader> {
    let doing = || format!("open the split {:?} of {}", settings.split, data.display());
    let dataset = loader::open_dataset(data, &settings.cache).map_err(Error::loader(doing()))?;
    let image = &dataset.manifest().image;
    let size = config.model.vision.image_size;
    // Pixels of the right size are normalised by the loader's threads, or, a quarter of the bytes, on the device
    // that they go to; others are averaged down here.
    let is_cpu = config.train.device == DeviceChoice::Cpu;
    settings.output = if is_cpu && (image.height as usize, image.width as usize) == (size, size) {
        let (mean, std) = config.data.normalize.mean_std();
        Output::F32(Normalize { mean, std })
    } else {
        Output::U8
    };
    let doing = doing();
    let loader = Loader::open(data, settings).map_err(Error::loader(doing))?;
    if size > loader.height() || size > loader.width() {
        let reason = format!(
            "its pictures are {} × {} pixels, and model.vision.image_size = {size} is larger",
            loader.height(),
            loader.width()
        );
        return Err(Error::Data { data: data.to_path_buf(), reason });
    }
    Ok(loader)
}

/// What a loader's pixels go through.
#[derive(Debug)]
enum Preparation {
    /// The loader has normalised them.
    Done,
    /// Bytes of the model's size are normalised on the device: `x·scale + shift`, both (3, 1, 1).
    OnDevice { scale: Tensor, shift: Tensor },
    /// Larger bytes are averaged down and normalised on the CPU.
    Downscale(Downscale),
}

impl Preparation {
    fn new(config: &Config, loader: &Loader, device: &Device) -> Result<Self> {
        let (size, mean_std) = (config.model.vision.image_size, config.data.normalize.mean_std());
        if matches!(loader.config().output, Output::F32(_)) {
            return Ok(Self::Done);
        }
        if (loader.height(), loader.width()) == (size, size) {
            let (mean, std) = mean_std;
            let of = |values: [f32; 3]| Tensor::from_slice(&values, (3, 1, 1), device);
            let scale = of(std.map(|std| 1.0 / (255.0 * std)));
            let shift = of(std::array::from_fn(|channel| -mean[channel] / std[channel]));
            let both = scale.and_then(|scale| Ok(Self::OnDevice { scale, shift: shift? }));
            return both.map_err(Error::tensor("bring the normalisation to the device"));
        }
        let downscale = Downscale::new(loader.height(), loader.width(), size, mean_std);
        downscale.map(Self::Downscale).ok_or_else(|| Error::Data {
            data: loader.dataset().dir().to_path_buf(),
            reason: format!("its pictures are smaller than model.vision.image_size = {size}"),
        })
    }
}

/// What turns a loader's batches into tensors.
#[derive(Debug)]
pub struct Tensors<'a> {
    tokenizer: &'a Tokenizer,
    context_length: usize,
    preparation: Preparation,
    size: usize,
    device: Device,
    shuffle_captions: bool,
}

impl<'a> Tensors<'a> {
    /// For the batches of `loader` under `config`.
    ///
    /// # Errors
    /// [`Error::Data`] when the pictures are smaller than the model's.
    pub fn new(config: &Config, loader: &Loader, tokenizer: &'a Tokenizer, device: &Device) -> Result<Self> {
        Ok(Self {
            tokenizer,
            context_length: config.model.text.context_length,
            preparation: Preparation::new(config, loader, device)?,
            size: config.model.vision.image_size,
            device: device.clone(),
            shuffle_captions: config.data.shuffle_captions,
        })
    }

    /// A training batch: each sample's drawn caption beside its picture.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] and [`Error::Tensor`].
    pub fn train(&self, batch: &Batch) -> Result<TensorBatch> {
        let (input_ids, eot_positions) = self.captions(&self.drawn(batch))?;
        Ok(TensorBatch { pixel_values: self.pixels(batch, batch.len())?, input_ids, eot_positions })
    }

    /// The caption that each sample is learned with: its drawn one, or another's for the control.
    pub(crate) fn drawn<'b>(&self, batch: &'b Batch) -> Vec<&'b str> {
        let count = batch.len();
        // The control: every caption goes to the next picture but a few, the same shift for the whole batch.
        let shift = if self.shuffle_captions && count > 1 {
            1 + (batch.epoch() + batch.number()) as usize % (count - 1)
        } else {
            0
        };
        (0..count).map(|i| batch.caption((i + shift) % count)).collect()
    }

    /// The pictures of the first `count` samples: f32, shape (count, 3, size, size).
    ///
    /// # Errors
    /// [`Error::Tensor`].
    pub fn pixels(&self, batch: &Batch, count: usize) -> Result<Tensor> {
        let sample = 3 * batch.height() * batch.width();
        let shape = (count, 3, self.size, self.size);
        let tensor = match (batch.pixels(), &self.preparation) {
            (Pixels::U8(pixels), Preparation::Downscale(downscale)) => {
                let small = downscale.apply(&pixels[..count * sample], batch.height());
                Tensor::from_vec(small, shape, &self.device)
            }
            (Pixels::F32(pixels), _) => Tensor::from_slice(&pixels[..count * sample], shape, &self.device),
            (Pixels::U8(pixels), Preparation::OnDevice { scale, shift }) => {
                Tensor::from_slice(&pixels[..count * sample], shape, &self.device)
                    .and_then(|bytes| bytes.to_dtype(DType::F32)?.broadcast_mul(scale)?.broadcast_add(shift))
            }
            (Pixels::U8(_), Preparation::Done) => {
                Err(candle_core::Error::Msg("bytes without a size to bring them to".into()))
            }
        };
        tensor.map_err(Error::tensor("bring a batch's pictures to the device"))
    }

    /// Captions as ids, u32 of shape (captions, length), and the places of their end markers.
    ///
    /// The rows are cut behind the longest caption: a causal tower sees nothing behind an end marker.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] and [`Error::Tensor`].
    pub fn captions(&self, captions: &[&str]) -> Result<(Tensor, Vec<u32>)> {
        caption_ids(self.tokenizer, self.context_length, &self.device, captions)
    }
}

/// As [`Tensors::captions`], without a loader.
///
/// # Errors
/// [`Error::Tokenizer`] and [`Error::Tensor`].
pub fn caption_ids<S: AsRef<str>>(
    tokenizer: &Tokenizer,
    context_length: usize,
    device: &Device,
    captions: &[S],
) -> Result<(Tensor, Vec<u32>)> {
    let Encoded { input_ids, eot_positions, length, .. } = tokenizer.encode(captions, context_length)?;
    let longest = eot_positions.iter().max().map_or(length, |last| *last as usize + 1);
    let cut = input_ids.chunks_exact(length).flat_map(|row| &row[..longest]).copied().collect();
    let input_ids = Tensor::from_vec::<_, u32>(cut, (captions.len(), longest), device)
        .map_err(Error::tensor("bring a batch's captions to the device"))?;
    Ok((input_ids, eot_positions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Spec;

    fn config(set: &[&str]) -> Config {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        Config::from_toml("model.preset = \"nano\"\ndata.batch_size = 4", "test.toml", &set).unwrap()
    }

    fn tokenizer() -> Tokenizer {
        Tokenizer::train(testkit::captions("train", 4), 300).unwrap()
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn pictures_of_the_models_size_are_normalised_alike_by_the_loader_and_here() {
        let data = Spec::small().size(32).temporary();
        let (config, tokenizer) = (config(&[]), tokenizer());
        let loader = open_train(&config, data.path()).unwrap();
        assert!(matches!(loader.config().output, Output::F32(_)));
        let tensors = Tensors::new(&config, &loader, &tokenizer, &Device::Cpu).unwrap();
        let batch = loader.epoch(0).unwrap().next().unwrap().unwrap();
        let by_loader = values(&tensors.train(&batch).unwrap().pixel_values);
        let raw = Loader::builder(data.path()).batch_size(4).remainder(Remainder::DropLast).build().unwrap();
        let raw = raw.epoch(0).unwrap().next().unwrap().unwrap();
        assert_eq!(raw.key(0), batch.key(0));
        let here = Downscale::new(32, 32, 32, config.data.normalize.mean_std()).unwrap().apply(raw.u8(), 32);
        assert_eq!(by_loader.len(), here.len());
        assert!(by_loader.iter().zip(&here).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn bytes_are_normalised_on_the_device_as_by_the_loader() {
        let data = Spec::small().size(32).temporary();
        let tokenizer = tokenizer();
        let pixels = |config: &Config| {
            let loader = open_train(config, data.path()).unwrap();
            let tensors = Tensors::new(config, &loader, &tokenizer, &Device::Cpu).unwrap();
            let batch = loader.epoch(0).unwrap().next().unwrap().unwrap();
            (loader.config().output, values(&tensors.train(&batch).unwrap().pixel_values))
        };
        let (floats, by_loader) = pixels(&config(&[]));
        let (bytes, on_device) = pixels(&config(&["train.device=cuda"]));
        assert!(matches!((floats, bytes), (Output::F32(_), Output::U8)));
        assert_eq!(by_loader.len(), on_device.len());
        assert!(by_loader.iter().zip(&on_device).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn larger_pictures_are_brought_down_and_smaller_ones_refused() {
        let data = Spec::small().size(48).temporary();
        let (config, tokenizer) = (config(&[]), tokenizer());
        let loader = open_train(&config, data.path()).unwrap();
        let tensors = Tensors::new(&config, &loader, &tokenizer, &Device::Cpu).unwrap();
        let batch = loader.epoch(0).unwrap().next().unwrap().unwrap();
        let inputs = tensors.train(&batch).unwrap();
        assert_eq!(inputs.pixel_values.dims(), [4, 3, 32, 32]);
        let longest = *inputs.eot_positions.iter().max().unwrap() as usize + 1;
        assert_eq!(inputs.input_ids.dims(), [4, longest]);
        let small = Spec::small().size(16).temporary();
        assert!(
            open_train(&config, small.path()).unwrap_err().to_string().contains("image_size = 32 is larger")
        );
    }

    #[test]
    fn shuffled_captions_all_go_to_other_pictures() {
        let data = Spec::small().size(32).temporary();
        let (plain, dealt) = (config(&[]), config(&["data.shuffle_captions=true"]));
        let tokenizer = tokenizer();
        let loader = open_train(&plain, data.path()).unwrap();
        let ids = |config: &Config, batch: &Batch| {
            let tensors = Tensors::new(config, &loader, &tokenizer, &Device::Cpu).unwrap();
            let inputs = tensors.train(batch).unwrap();
            inputs.input_ids.to_vec2::<u32>().unwrap()
        };
        for batch in loader.epoch(0).unwrap() {
            let batch = batch.unwrap();
            let (right, wrong) = (ids(&plain, &batch), ids(&dealt, &batch));
            assert!(right.iter().zip(&wrong).all(|(a, b)| a != b));
            let sorted = |mut rows: Vec<Vec<u32>>| {
                rows.sort();
                rows
            };
            assert_eq!(sorted(right), sorted(wrong));
        }
    }

    #[test]
    fn evaluation_reads_every_sample_with_all_captions() {
        let data = Spec::small().size(32).temporary();
        let loader = open_eval(&config(&[]), data.path(), "val", 1.0).unwrap();
        let mut seen = 0;
        for batch in loader.epoch(0).unwrap() {
            let batch = batch.unwrap();
            for i in 0..batch.valid_count() {
                let row: usize = batch.key(i)["val-".len()..].parse().unwrap();
                assert_eq!(batch.captions(i).len(), testkit::captions("val", row).len());
                seen += 1;
            }
        }
        assert_eq!(seen, 13);
    }
}
