//! METEOR and SPICE through the Java programs of their authors, which a user names.
//!
//! Both are started as pycocoevalcap starts them and read the tokens that [`tokenized`](crate::tokenized) gives. Their
//! jars are not part of this crate and are never downloaded. Left out: other languages than English, other options of
//! the programs.

mod meteor;
mod process;
mod spice;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use meteor::{MeteorScores, meteor};
pub use spice::{SpiceScores, SpiceTuple, spice};

/// A Java program and how to run it.
#[derive(Debug, Clone)]
pub struct JavaProgram {
    /// The `java` to run; a bare name is looked up as usual.
    pub java: PathBuf,
    /// The program's jar. It runs in the jar's folder, where it looks for its data.
    pub jar: PathBuf,
    /// Most memory of the program's heap, as `-Xmx` takes it.
    pub heap: String,
    /// How long one answer may take before the program is killed: for METEOR a line, for SPICE the whole run.
    pub timeout: Duration,
}

impl JavaProgram {
    /// `meteor-1.5.jar` as pycocoevalcap runs it: 2 GB, and 2 minutes for a line, the first of which waits for the
    /// table of paraphrases.
    pub fn meteor(java: &Path, jar: &Path) -> Self {
        Self {
            java: java.to_owned(),
            jar: jar.to_owned(),
            heap: "2G".into(),
            timeout: Duration::from_secs(120),
        }
    }

    /// `spice-1.0.jar` as pycocoevalcap runs it: 8 GB, and 2 hours for all captions.
    pub fn spice(java: &Path, jar: &Path) -> Self {
        Self {
            java: java.to_owned(),
            jar: jar.to_owned(),
            heap: "8G".into(),
            timeout: Duration::from_secs(7_200),
        }
    }
}
