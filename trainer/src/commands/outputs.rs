//! The files that a command is to write: told before minutes of work that they could not be, or that they would stand
//! over one another or over what the command reads. Leaves out writing them (`trainer::fsync`).

use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// Names that a run, a data set or a checkpoint lives by.
const KEPT: [&str; 5] = ["dataset.json", "config.toml", "tokenizer.json", "metrics.jsonl", "state.json"];
/// Endings of pictures and weights.
const KEPT_ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "safetensors"];

/// Refuses an output, each with its option, that has no folder, is a folder, is another output too, or is one of the
/// files that stand for `inputs` (files, or folders of pictures, data sets and runs).
pub(super) fn check(outputs: &[(&str, Option<&Path>)], inputs: &[&Path]) -> Result<()> {
    let mut seen: Vec<(&str, PathBuf)> = Vec::new();
    for (option, path) in outputs.iter().filter_map(|(option, path)| path.map(|path| (*option, path))) {
        let Some(place) = place(path)? else { continue };
        if let Some((other, _)) = seen.iter().find(|(_, seen)| *seen == place) {
            bail!("{other} and {option} are one file, {}: give each its own", path.display());
        }
        for input in inputs {
            let Ok(of) = fs_err::canonicalize(input) else { continue };
            if place == of || (place.is_file() && place.starts_with(&of) && is_kept(&place)) {
                bail!("{option} {} would be written over what this command reads", path.display());
            }
        }
        seen.push((option, place));
    }
    Ok(())
}

/// Where a file is, or would be; none of a device or a pipe.
fn place(path: &Path) -> Result<Option<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(found) = fs_err::canonicalize(folder).ok().filter(|folder| folder.is_dir()) else {
        bail!("{} cannot be written: there is no folder {}", path.display(), folder.display());
    };
    match fs_err::metadata(path) {
        Ok(there) if there.is_dir() => bail!("{} cannot be written: it is a folder", path.display()),
        Ok(there) if there.is_file() => Ok(Some(fs_err::canonicalize(path)?)),
        Ok(_) => Ok(None),
        Err(_) => Ok(Some(found.join(path.file_name().unwrap_or_default()))),
    }
}

fn is_kept(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let ending = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    KEPT.contains(&&*name) || name.starts_with("shard-") || KEPT_ENDINGS.contains(&&*ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_what_is_written_stay_apart() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.json", "photo.jpg", "dataset.json", "page.html"] {
            fs_err::write(at(name), "kept").unwrap();
        }
        let one = |name: &str, inputs: &[&Path]| {
            check(&[("--results", Some(&at(name)))], inputs).map_err(|error| error.to_string())
        };
        assert_eq!(one("new.json", &[folder.path()]), Ok(()));
        assert_eq!(one("page.html", &[folder.path()]), Ok(()), "a page of before may be written again");
        for name in ["photo.jpg", "dataset.json"] {
            let error = one(name, &[folder.path()]).unwrap_err();
            assert!(
                error.contains("--results") && error.contains(name) && error.contains("reads"),
                "{error}"
            );
        }
        assert!(one("a.json", &[&at("./a.json")]).unwrap_err().contains("reads"));
        assert!(one("none/new.json", &[]).unwrap_err().contains("there is no folder"));
        assert!(one("", &[]).unwrap_err().contains("it is a folder"));
        let (page, again) = (at("new.html"), at("./new.html"));
        let error = check(&[("--html", Some(&page)), ("--results", Some(&again))], &[]).unwrap_err();
        assert!(error.to_string().starts_with("--html and --results are one file"), "{error}");
    }
}
