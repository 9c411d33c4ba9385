//! A shard's files, opened for a check: are they there, how long are they, whose bytes do they hold? It leaves out
//! what the bytes mean.

use std::path::PathBuf;

use super::{Damage, Plan, ShardReport};
use crate::{
    Result, checksum,
    mmap::{Advice, Mapping},
};

/// Both files of a shard under check.
pub(super) struct Files {
    pub(super) tar: Opened,
    pub(super) table: Opened,
}

/// What the manifest says of a file.
pub(super) struct Listed<'a> {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) blake3: &'a str,
}

/// A file of a shard under check.
pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) file: String,
    pub(super) map: Mapping,
    /// Its digest, unless only its length was looked at.
    digest: Option<String>,
    /// Whether its digest, or else its length, is the manifest's.
    pub(super) sound: bool,
    /// Whether its digest is that of another file of the manifest.
    pub(super) exchanged: bool,
}

impl Opened {
    /// The damage that its digest shows, where it was taken.
    pub(super) fn digest_damage(&self, expected: &str) -> Option<Damage> {
        let found = self.digest.clone()?;
        Some(Damage {
            file: self.file.clone(),
            key: None,
            offset: Some(0),
            problem: "BLAKE3 of the file".to_owned(),
            expected: expected.to_owned(),
            found,
        })
    }
}

impl Plan {
    /// A shard's file, mapped, its length and, if it is read `whole`, its digest checked; `None` where it is missing.
    pub(super) fn open(
        &self,
        split: &str,
        listed: &Listed<'_>,
        whole: bool,
        report: &mut ShardReport,
    ) -> Result<Option<Opened>> {
        let path = self.dir.join(split).join(&listed.name);
        let file = format!("{split}/{}", listed.name);
        let bytes = listed.bytes;
        if !path.is_file() {
            report.add(Damage {
                file,
                key: None,
                offset: None,
                problem: "the file is missing".to_owned(),
                expected: format!("{bytes} bytes"),
                found: "no file".to_owned(),
            });
            return Ok(None);
        }
        let map = Mapping::open(&path)?;
        map.advise(if whole { Advice::Sequential } else { Advice::Random }, 0, usize::MAX);
        let found = map.bytes().len() as u64;
        let digest = whole.then(|| {
            report.bytes += found;
            checksum::blake3_hex(map.bytes())
        });
        let sound = digest.as_ref().map_or(found == bytes, |digest| digest == listed.blake3);
        let other = digest.as_ref().and_then(|digest| {
            let other = self.file_of_digest.get(digest).filter(|other| !sound && **other != file);
            other.map(|other| format!("{digest}, which is {other}"))
        });
        let exchanged = other.is_some();
        if let Some(found) = other {
            report.add(Damage {
                file: file.clone(),
                key: None,
                offset: Some(0),
                problem: "the file holds another's bytes".to_owned(),
                expected: format!("BLAKE3 {}", listed.blake3),
                found,
            });
        } else if found != bytes {
            report.add(Damage {
                file: file.clone(),
                key: None,
                offset: Some(found.min(bytes)),
                problem: "length of the file".to_owned(),
                expected: format!("{bytes} bytes"),
                found: format!("{found} bytes"),
            });
        }
        Ok(Some(Opened { path, file, map, digest, sound, exchanged }))
    }
}
