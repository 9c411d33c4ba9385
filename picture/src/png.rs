//! Pictures to PNG bytes and PNG files. A file is replaced whole or not at all: the bytes go to a
//! sibling temporary file, which is synced and renamed, so that a page that shows the picture while
//! a run redraws it never sees half of one.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};

use crate::{PictureError, canvas::Picture};

impl Picture {
    /// The picture as the bytes of a PNG file (8-bit RGB).
    ///
    /// # Errors
    /// [`PictureError::Encode`] where the encoder refuses.
    pub fn to_png(&self) -> Result<Vec<u8>, PictureError> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(self.pixels(), self.width(), self.height(), ExtendedColorType::Rgb8)
            .map_err(|source| PictureError::Encode { width: self.width(), height: self.height(), source })?;
        Ok(bytes)
    }

    /// Writes the picture to `path` as PNG, replacing a file that is there in one step. The folder
    /// must exist.
    ///
    /// # Errors
    /// [`PictureError::Encode`], or [`PictureError::Io`] with the path; the temporary file is
    /// taken away again, and a file that stood at `path` is untouched.
    pub fn write_png(&self, path: &Path) -> Result<(), PictureError> {
        let bytes = self.to_png()?;
        let temporary = temporary_beside(path);
        let written = write_synced(&temporary, &bytes).and_then(|()| fs_err::rename(&temporary, path));
        written.map_err(|source| {
            // The first error is the one to tell; a temporary file that cannot go either is no news.
            let _ = fs_err::remove_file(&temporary);
            PictureError::Io { path: path.to_owned(), source }
        })
    }
}

/// `DIR/.NAME.PID.tmp`: the process number keeps two programs that draw one picture apart.
fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs_err::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canvas::Colour;

    #[test]
    fn writing_replaces_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a picture.png");
        for side in [3, 5] {
            let picture = Picture::new(side, side, Colour::rgb(1, 2, 3)).unwrap();
            picture.write_png(&path).unwrap();
            let read = image::load_from_memory(&fs_err::read(&path).unwrap()).unwrap().to_rgb8();
            assert_eq!((read.width(), read.height()), (side, side));
            assert!(read.pixels().all(|pixel| pixel.0 == [1, 2, 3]));
        }
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_in_the_way_is_an_error_that_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs_err::create_dir(&path).unwrap();
        fs_err::write(path.join("inside"), "x").unwrap();
        let error = Picture::new(2, 2, Colour::rgb(0, 0, 0)).unwrap().write_png(&path).unwrap_err();
        assert!(matches!(error, PictureError::Io { .. }), "{error}");
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
        let missing = folder.path().join("no/such/folder.png");
        assert!(Picture::new(2, 2, Colour::rgb(0, 0, 0)).unwrap().write_png(&missing).is_err());
    }
}
