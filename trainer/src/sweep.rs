//! The runs of a sweep: their names, and where each stands.
//!
//! A name is a function of the combination alone, so that the same command finds its runs again. Leaves out
//! training them.

use crate::checkpoint::Checkpoints;
use crate::config::{Config, Point};
use crate::error::{Error, Result};
use crate::ledger::{Experiment, differences, in_words};
use crate::run;
use std::collections::BTreeSet;
use std::path::Path;
use toml::Value;

/// The longest name; file systems take 255 bytes.
const NAME_MAX: usize = 150;

/// Where a run of a sweep stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was never begun.
    New,
    /// It was begun and has steps left.
    Unfinished,
    /// It is finished.
    Finished,
}

impl Standing {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Unfinished => "unfinished",
            Self::Finished => "finished",
        }
    }
}

/// The names of all runs: `PREFIX-lr1e-4-seed0`, with as much of a key as tells it from the others.
///
/// Where names are too long or would be the same, each ends with a hash of what is tried.
pub fn names(prefix: &str, points: &[Point]) -> Vec<String> {
    let labels: Vec<String> = points.first().map_or_else(Vec::new, |point| {
        let keys: Vec<&str> = point.tried.iter().map(|(key, _)| key.as_str()).collect();
        keys.iter().map(|key| label(key, &keys)).collect()
    });
    let plain = |point: &Point| {
        let parts =
            labels.iter().zip(&point.tried).map(|(label, (_, value))| format!("-{label}{}", short(value)));
        format!("{prefix}{}", parts.collect::<String>())
    };
    let names: Vec<String> = points.iter().map(plain).collect();
    let different: BTreeSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
    if different.len() == names.len() && names.iter().all(|name| name.len() <= NAME_MAX) {
        return names;
    }
    let with_hash = |(mut name, point): (String, &Point)| {
        name.truncate(NAME_MAX - 20);
        let hash = blake3::hash(format!("{:?}", point.tried).as_bytes()).to_hex();
        format!("{name}-{}", &hash[..10])
    };
    names.into_iter().zip(points).map(with_hash).collect()
}

/// The shortest end of a dotted key that no other key has.
fn label(key: &str, keys: &[&str]) -> String {
    let parts: Vec<&str> = key.split('.').collect();
    let end = |key: &str, count: usize| {
        let parts: Vec<&str> = key.split('.').collect();
        parts[parts.len().saturating_sub(count)..].join(".")
    };
    let is_alone =
        |count: &usize| keys.iter().filter(|other| end(other, *count) == end(key, *count)).count() == 1;
    end(key, (1..parts.len()).find(is_alone).unwrap_or(parts.len()))
}

/// A value as part of a name: letters, digits, `.`, `-` and `_`.
fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Float(x) => {
            let (plain, scientific) = (x.to_string(), format!("{x:e}"));
            if scientific.len() < plain.len() { scientific } else { plain }
        }
        Value::Array(items) => items.iter().map(short).collect::<Vec<_>>().join("_"),
        value => value.to_string(),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}

/// Where the run in `folder` stands, by its folder and the ledger's rows.
///
/// # Errors
/// [`Error::Sweep`] when it was begun with another configuration; [`Error::Io`] and those of
/// [`run::read_config`].
pub fn standing(folder: &Path, config: &Config, rows: &[Experiment]) -> Result<Standing> {
    if let Some(taken) = [folder].into_iter().chain(folder.parent()).find(|at| at.exists() && !at.is_dir()) {
        let reason =
            "it is no folder, and the sweep's runs would be there; give another --run name or --runs-dir";
        return Err(Error::Sweep { path: taken.display().to_string(), reason: reason.to_owned() });
    }
    if !folder.join("config.toml").is_file() {
        return Ok(Standing::New);
    }
    let mut found = differences(&run::read_config(folder)?, config)?;
    found.retain(|difference| difference.key != "train.threads");
    if !found.is_empty() {
        let reason = format!(
            "it was begun with another configuration than the sweep's ({}); remove it or give another --run name",
            in_words(&found)
        );
        return Err(Error::Sweep { path: folder.display().to_string(), reason });
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let row = rows.iter().rev().find(|row| row.get("name") == name);
    let is_finished = row.is_some_and(|row| row.get("status") == "finished");
    let has_checkpoint = Checkpoints::of_run(folder).latest()?.is_some();
    // Without a row it is asked to go on, which ends at once where nothing is left to do.
    Ok(if is_finished && has_checkpoint { Standing::Finished } else { Standing::Unfinished })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(section: &str) -> Vec<Point> {
        let text = format!("model.preset = \"nano\"\n[sweep]\n{section}");
        Config::sweep_from_toml(&text, "s.toml", &[]).unwrap()
    }

    #[test]
    fn names_say_what_is_tried() {
        let found = names("demo", &sweep("optim.lr = [1e-4, 0.5]\ntrain.seed = [0]"));
        assert_eq!(found, ["demo-lr1e-4-seed0", "demo-lr0.5-seed0"]);
        let found = names("d", &sweep("model.text.width = [64]\nmodel.vision.width = [64]"));
        assert_eq!(found, ["d-text.width64-vision.width64"]);
        let found = names("d", &sweep("data.order = [\"none\", \"block:16x2048\"]"));
        assert_eq!(found, ["d-ordernone", "d-orderblock_16x2048"]);
    }

    #[test]
    fn names_that_would_be_the_same_or_too_long_end_with_a_hash() {
        let same = sweep("tokenizer.source = [\"a/b\", \"a_b\"]");
        let found = names("d", &same);
        assert!(found[0] != found[1] && found[0].starts_with("d-sourcea_b-"), "{found:?}");
        assert_eq!(found, names("d", &same));
        let long = "x".repeat(300);
        let found = names("d", &sweep(&format!("tokenizer.source = [\"{long}\", \"{long}y\"]")));
        assert!(found[0] != found[1] && found.iter().all(|name| name.len() <= NAME_MAX), "{found:?}");
    }

    #[test]
    fn a_run_of_another_configuration_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = &sweep("train.seed = [3]")[0].config;
        assert_eq!(standing(folder.path(), config, &[]).unwrap(), Standing::New);
        let file = folder.path().join("file");
        fs_err::write(&file, "taken").unwrap();
        assert!(standing(&file, config, &[]).unwrap_err().to_string().contains("it is no folder"));
        fs_err::write(folder.path().join("config.toml"), config.to_toml().unwrap()).unwrap();
        assert_eq!(standing(folder.path(), config, &[]).unwrap(), Standing::Unfinished);
        let mut other = config.clone();
        other.train.threads = 7;
        assert_eq!(standing(folder.path(), &other, &[]).unwrap(), Standing::Unfinished);
        other.optim.lr = 0.25;
        let error = standing(folder.path(), &other, &[]).unwrap_err().to_string();
        assert!(error.contains("optim.lr=0.25") && !error.contains("threads"), "{error}");
    }
}
