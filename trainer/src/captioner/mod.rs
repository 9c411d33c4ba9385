//! Captioners: images → captions with scores.
//!
//! [`Tower`] is the frozen image side, `batch` makes a training batch of what it gives, `write` writes captions,
//! [`Captioned`] is a picture with what was written, and [`page`] shows such. [`Captioner`] opens a run. The networks are in
//! [`model::caption`](crate::model::caption). Leaves out the training loop.

mod adapters;
pub(crate) mod batch;
mod captions;
mod clip_score;
mod diffusion;
mod lm;
mod model;
mod opened;
mod page;
mod prefix;
mod scores;
mod stored;
mod tower;
pub(crate) mod write;

pub use adapters::{ExportedAdapters, export_merged, export_peft};
pub use batch::CaptionBatch;
pub(crate) use captions::{Author, tower_view};
pub use captions::{Caption, Captioned, ReferenceLoss, Thumbnail};
pub use clip_score::{ClipScores, Told, clip_scores};
pub use model::CaptionModel;
pub(crate) use opened::frozen;
pub use opened::{Captioner, open_lm};
pub use page::page;
pub use scores::{Proximity, scores, scores_of};
pub(crate) use stored::Stored;
pub use stored::{StoredTable, store};
pub use tower::{SeenShape, Tower};
pub use write::Written;
