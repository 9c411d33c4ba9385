//! What a download tells about itself while it runs. It leaves out how that is shown (`progress`).

use std::{fmt::Debug, sync::Arc};

/// Is told of downloads.
pub trait Watch: Debug + Send + Sync {
    /// A file begins; `name` is for people.
    fn begin(&self, name: &str) -> Arc<dyn Meter>;

    /// Something that a person may want to know: a file starts over, another process is waited for.
    fn notice(&self, text: &str);
}

/// Is told of one download. It ends when dropped.
pub trait Meter: Debug + Send + Sync {
    /// How long the file is, once that is known.
    fn total(&self, bytes: u64);

    /// How much of it is there; less than before where it starts over.
    fn at(&self, bytes: u64);
}

/// Keeps it all to itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet;

impl Watch for Quiet {
    fn begin(&self, _name: &str) -> Arc<dyn Meter> {
        Arc::new(Quiet)
    }
    fn notice(&self, _text: &str) {}
}

impl Meter for Quiet {
    fn total(&self, _bytes: u64) {}
    fn at(&self, _bytes: u64) {}
}
