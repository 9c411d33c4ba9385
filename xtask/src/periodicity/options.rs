//! The arguments of `cargo xtask periodicity`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

const USAGE: &str = "\
usage: cargo xtask periodicity [--dir DIR] [--quick] [--flickr DIR] [--programs DIR] [--record]
  --dir DIR       where data, runs, the table and the picture go [default: runs/periodicity]
  --quick         a fifth of the scenes, half the epochs, two seeds: to see that it runs, in DIR/quick
  --flickr DIR    photos with captions.jsonl, once more sorted by cluster of their captions
  --programs DIR  where prep and trainer lie [default: built anew]
  --record        copy the table to benches/results/ and the picture to docs/";

/// What is to be done.
pub(super) struct Options {
    pub(super) dir: PathBuf,
    pub(super) quick: bool,
    pub(super) record: bool,
    pub(super) flickr: Option<PathBuf>,
    pub(super) programs: Option<String>,
    /// As they were typed.
    pub(super) typed: String,
}

impl Options {
    /// Of the words behind the task's name.
    ///
    /// # Errors
    /// For a word that is none of them.
    pub(super) fn parse(words: impl Iterator<Item = String>) -> Result<Self> {
        let words: Vec<String> = words.collect();
        let (mut dir, mut flickr, mut programs) = (None, None, None);
        let (mut quick, mut record) = (false, false);
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let mut folder = || {
                let folder = rest.next().with_context(|| format!("{word} wants a folder\n{USAGE}"))?;
                std::path::absolute(folder).with_context(|| format!("{word} {folder}"))
            };
            match word.as_str() {
                "--dir" => dir = Some(folder()?),
                "--flickr" => flickr = Some(folder()?),
                "--programs" => programs = Some(folder()?.to_string_lossy().into_owned()),
                "--quick" => quick = true,
                "--record" => record = true,
                _ => bail!("{word} is no option\n{USAGE}"),
            }
        }
        if quick && record {
            bail!("--record is for the whole experiment, not for --quick");
        }
        let dir = match dir {
            Some(dir) => dir,
            None => crate::command::root()?.join("runs/periodicity"),
        };
        let dir = if quick { dir.join("quick") } else { dir };
        // Folders of one machine are nobody else's: only what shapes the result is told.
        let told =
            words.iter().filter(|word| word.starts_with("--") && *word != "--dir" && *word != "--programs");
        let typed =
            told.map(|word| if word == "--flickr" { " --flickr DIR".into() } else { format!(" {word}") });
        let typed = format!("cargo xtask periodicity{}", typed.collect::<String>());
        Ok(Self { dir, quick, record, flickr, programs, typed })
    }

    /// Seeds of each condition.
    pub(super) fn seeds(&self) -> u64 {
        if self.quick { 2 } else { 3 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options> {
        Options::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_and_folders_are_not_told() {
        let options = parse("--quick --dir a/b --flickr c").unwrap();
        assert!(options.quick && options.dir.ends_with("a/b/quick") && options.flickr.is_some());
        assert_eq!(options.typed, "cargo xtask periodicity --quick --flickr DIR");
        assert!(parse("").unwrap().dir.ends_with("runs/periodicity"));
        for bad in ["--dir", "--slow", "--quick --record", "x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
