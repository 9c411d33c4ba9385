//! What can go wrong while captions are read or scored.

use std::{path::PathBuf, time::Duration};

use crate::ImageId;

/// The error of this library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CocoevalError {
    /// A file could not be read or written. The cause names the file.
    #[error("could not {doing}")]
    Io {
        /// "read the references" and the like.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is not JSON.
    #[error("{path} is not JSON", path = path.display())]
    NotJson {
        /// The file.
        path: PathBuf,
        /// Where reading stopped, and why.
        #[source]
        source: serde_json::Error,
    },
    /// A file is JSON of another form.
    #[error("{path}: {at} is {found}, but {expected} is needed", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// The place in the file, such as `annotations[3].caption`.
        at: String,
        /// What stands there, cut short.
        found: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// Two hypotheses are for one image.
    #[error("{path}: image {image} has more than one hypothesis; keep one of them", path = path.display())]
    DuplicateHypothesis {
        /// The file of hypotheses.
        path: PathBuf,
        /// The image.
        image: ImageId,
    },
    /// An annotation is of an image that the list of images does not have.
    #[error(
        "{path}: an annotation is of image {image}, which `images` does not list; add the image or leave \
         `images` out",
        path = path.display()
    )]
    UnlistedImage {
        /// The file of references.
        path: PathBuf,
        /// The image.
        image: ImageId,
    },
    /// A hypothesis is for an image without references.
    #[error(
        "{count} hypotheses are for images that have no reference, the first is image {image}{hint}; score them \
         against the references of their own images"
    )]
    UnknownImages {
        /// How many there are.
        count: usize,
        /// The first of them.
        image: ImageId,
        /// A guess at the reason, or nothing.
        hint: &'static str,
    },
    /// Images that have references have no hypothesis, and the caller did not allow it.
    #[error(
        "{count} of {of} images have no hypothesis, the first is image {image}; write the missing captions, or ask \
         to score only the images that have one"
    )]
    MissingHypotheses {
        /// How many there are.
        count: usize,
        /// How many images have references.
        of: usize,
        /// The first of them.
        image: ImageId,
    },
    /// There is not one image to score.
    #[error("there is no image that has references and a hypothesis")]
    NothingToScore,
    /// A Java program could not be started.
    #[error("could not start {program} for {metric}; is Java installed?", program = program.display())]
    JavaStart {
        /// "METEOR" or "SPICE".
        metric: &'static str,
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A Java program ended early, or what it said makes no sense.
    #[error("{metric}'s program {what}; its error output ends with: {stderr}")]
    Java {
        /// "METEOR" or "SPICE".
        metric: &'static str,
        /// What happened.
        what: String,
        /// The end of the program's error output.
        stderr: String,
    },
    /// A Java program took too long and was killed.
    #[error(
        "{metric}'s program said nothing for {waited:?} and was killed; its error output ends with: {stderr}"
    )]
    JavaTimeout {
        /// "METEOR" or "SPICE".
        metric: &'static str,
        /// How long it was waited for.
        waited: Duration,
        /// The end of the program's error output.
        stderr: String,
    },
}
