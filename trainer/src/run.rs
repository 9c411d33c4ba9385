//! A run's folder: who may write in it, its configuration and its tokenizer.
//!
//! `runs/NAME/{config.toml, tokenizer.json, metrics.jsonl, events…, checkpoints/, plots/}`. A lock keeps a
//! second process out for as long as the first lives. Leaves out what the other modules put there.

use crate::config::{Config, TokenizerConfig};
use crate::error::{Error, Result};
use crate::fsync;
use crate::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.toml";
const TOKENIZER: &str = "tokenizer.json";
const LOCK: &str = ".lock";

/// A run's folder, locked for writing.
///
/// One that never became a run, because its start was refused, is removed when this is dropped.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held open: the lock ends with it, also when the process is killed.
    _lock: fs_err::File,
    /// The configuration that the folder had when it was opened.
    earlier: Option<Config>,
}

impl RunFolder {
    /// Makes the folder, or opens one that exists when `resume` is given.
    ///
    /// # Errors
    /// [`Error::RunExists`] and [`Error::NoRun`] when `resume` does not fit; [`Error::RunLocked`];
    /// [`Error::Io`].
    pub fn open(path: &Path, resume: bool) -> Result<Self> {
        let exists = path.join(CONFIG).exists();
        if exists && !resume {
            return Err(Error::RunExists { run: path.to_path_buf() });
        }
        if !exists && resume {
            return Err(Error::NoRun {
                run: path.to_path_buf(),
                missing: "a config.toml; leave out --resume to begin it",
            });
        }
        let lock = lock(path)?;
        let earlier = if exists { Some(read_config(path)?) } else { None };
        Ok(Self { path: path.to_path_buf(), _lock: lock, earlier })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's tokenizer: the one kept with it while the configuration asks for the same, else a new one.
    ///
    /// `captions` are only asked for when one is trained.
    ///
    /// # Errors
    /// [`Error::Tokenizer`], [`Error::Hub`], [`Error::Io`], and what `captions` fails with.
    pub fn tokenizer(
        &self,
        wanted: &TokenizerConfig,
        captions: impl FnOnce() -> Result<Vec<String>>,
    ) -> Result<Tokenizer> {
        let kept = self.path.join(TOKENIZER);
        let is_same = self.earlier.as_ref().is_some_and(|earlier| earlier.tokenizer == *wanted);
        if is_same && kept.exists() {
            return read_tokenizer(&self.path);
        }
        if wanted.source.is_empty() {
            Tokenizer::train(captions()?, wanted.vocab_size)
        } else {
            Tokenizer::load(&wanted.source)
        }
    }

    /// Writes the resolved configuration and the tokenizer.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn keep(&self, config: &Config, tokenizer: &Tokenizer) -> Result<()> {
        // The configuration last: with it, the folder is a run.
        fsync::replace(&self.path.join(TOKENIZER), tokenizer.json())
            .map_err(Error::io("keep the tokenizer"))?;
        fsync::replace(&self.path.join(CONFIG), config.to_toml()?.as_bytes())
            .map_err(Error::io("keep the configuration"))
    }
}

/// Takes the lock of the folder `path`.
fn lock(path: &Path) -> Result<fs_err::File> {
    const DOING: &str = "lock the run's folder";
    loop {
        fs_err::create_dir_all(path).map_err(Error::io("make the run's folder"))?;
        let lock = fs_err::File::create(path.join(LOCK)).map_err(Error::io(DOING))?;
        let mut locked = lock.file().try_lock();
        if matches!(locked, Err(std::fs::TryLockError::WouldBlock)) {
            // It may have been a short look by `is_locked`.
            std::thread::sleep(std::time::Duration::from_millis(100));
            locked = lock.file().try_lock();
        }
        match locked {
            // A process whose start was refused may have removed the file in between.
            Ok(()) if is_named(&lock) => return Ok(lock),
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Error::RunLocked { run: path.to_path_buf() });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(Error::Io { doing: DOING, source }),
        }
    }
}

/// Whether the open file still has a name.
fn is_named(file: &fs_err::File) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        file.metadata().is_ok_and(|found| found.nlink() > 0)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        true
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if !self.path.join(CONFIG).exists() {
            // What cannot be removed is in nobody's way: a folder without a configuration is no run.
            let _ = fs_err::remove_file(self.path.join(LOCK));
            // Only an empty folder goes.
            let _ = fs_err::remove_dir(&self.path);
        }
    }
}

/// Whether a process has the run open for writing now.
pub fn is_locked(run: &Path) -> bool {
    let Ok(lock) = fs_err::File::open(run.join(LOCK)) else { return false };
    // Given back at once.
    matches!(lock.file().try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

/// The resolved configuration of a run.
///
/// # Errors
/// [`Error::NoRun`], and what [`Config::load`] fails with.
pub fn read_config(run: &Path) -> Result<Config> {
    read_config_with(run, &[])
}

/// The configuration of a run with overrides laid over it.
///
/// # Errors
/// As [`read_config`].
pub fn read_config_with(run: &Path, overrides: &[String]) -> Result<Config> {
    let path = run.join(CONFIG);
    if !path.is_file() {
        return Err(Error::NoRun { run: run.to_path_buf(), missing: "a config.toml" });
    }
    Config::load(&path, overrides)
}

/// The tokenizer of a run.
///
/// # Errors
/// [`Error::Io`] and [`Error::Tokenizer`].
pub fn read_tokenizer(run: &Path) -> Result<Tokenizer> {
    let path = run.join(TOKENIZER);
    let json = fs_err::read(&path).map_err(Error::io("read the run's tokenizer"))?;
    Tokenizer::from_bytes(json, &path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captions() -> Result<Vec<String>> {
        Ok(vec!["a red star".into(), "a red square".into(), "two red stars".into()])
    }

    #[test]
    fn an_existing_run_wants_resume_and_a_new_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("runs/x");
        assert!(RunFolder::open(&path, true).unwrap_err().to_string().contains("leave out --resume"));
        let run = RunFolder::open(&path, false).unwrap();
        let config = Config::default();
        let tokenizer = run.tokenizer(&config.tokenizer, captions).unwrap();
        run.keep(&config, &tokenizer).unwrap();
        assert!(RunFolder::open(&path, true).unwrap_err().to_string().contains("another process"));
        assert!(is_locked(&path) && !is_locked(folder.path()));
        drop(run);
        assert!(!is_locked(&path));
        let text = RunFolder::open(&path, false).unwrap_err().to_string();
        assert!(text.contains("--resume") && text.contains("--run"), "{text}");
        assert_eq!(read_config(&path).unwrap(), config);
        RunFolder::open(&path, true).unwrap();
    }

    #[test]
    fn a_folder_that_never_became_a_run_is_removed_with_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        drop(RunFolder::open(&path, false).unwrap());
        assert!(!path.exists());
        fs_err::create_dir(&path).unwrap();
        fs_err::write(path.join("mine.txt"), "notes").unwrap();
        drop(RunFolder::open(&path, false).unwrap());
        let left: Vec<_> = fs_err::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["mine.txt"]);
    }

    #[test]
    fn the_kept_tokenizer_is_used_while_the_configuration_asks_for_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::default();
        let run = RunFolder::open(folder.path(), false).unwrap();
        let first = run.tokenizer(&config.tokenizer, captions).unwrap();
        run.keep(&config, &first).unwrap();
        drop(run);
        let run = RunFolder::open(folder.path(), true).unwrap();
        let again = run.tokenizer(&config.tokenizer, || panic!("the captions are not needed")).unwrap();
        assert_eq!(again.digest(), first.digest());
        let other = TokenizerConfig { vocab_size: 300, ..TokenizerConfig::default() };
        let text = vec!["a quite different caption, a quite different one".to_owned()];
        assert_ne!(run.tokenizer(&other, || Ok(text)).unwrap().digest(), first.digest());
    }
}
