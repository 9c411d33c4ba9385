//! CLIP's models and the captioners' networks: their sizes, parameters and forward passes.
//!
//! A CLIP's parameters are named as in open_clip, so weights go both ways. Left out: training (`optim`, `loss`).

pub mod caption;
mod clip;
mod config;
mod params;
mod resnet;
mod text;
mod transformer;
mod vit;

pub use clip::{Clip, ClipOutput};
pub use config::{ClipConfig, Pool, RESNET50_DEPTHS, TextConfig, VisionConfig, VisionKind};
pub use params::{Param, ParamSpec, Params, ParamsError};
pub(crate) use params::{fitting, is_finite};
pub(crate) use resnet::resnet_pixels;
pub use resnet::{ResNetTower, resnet_convolutions};
pub use text::TextTower;
pub use vit::VitTower;
