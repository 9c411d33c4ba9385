//! PNG pictures that people look at: contact sheets of samples with their captions, line charts of a
//! training run, densities of points.
//!
//! Nothing here knows of shards, samples or models: a caller hands over pixels, words and numbers.
//! Left out: interactive plots, SVG, right-to-left and shaped scripts (a character that no embedded
//! face has is drawn as a box).
//!
//! ```
//! use picture::{Chart, Panel, Series};
//!
//! let loss = Series::new("train", (0..100).map(|step| (step as f64, 7.0 / (1.0 + step as f64))).collect());
//! let chart = Chart { title: "a run".into(), panels: vec![Panel::new("Loss", vec![loss])], ..Chart::default() };
//! let png: Vec<u8> = chart.draw()?.to_png()?;
//! assert!(png.starts_with(b"\x89PNG"));
//! # Ok::<(), picture::PictureError>(())
//! ```

mod canvas;
mod chart;
mod density;
mod error;
mod png;
mod sheet;
mod text;
mod ticks;

pub use canvas::{Colour, Picture};
pub use chart::{Chart, PANELS_MAX, Panel, Series};
pub use density::{DENSITIES_MAX, Density, DensitySheet};
pub use error::PictureError;
pub use sheet::{Sheet, TILES_MAX, Tile};
