//! Which commit a folder's files belong to, read from `.git` without running git.
//!
//! Leaves out whether files were changed since, and repositories with another storage of references.

use std::path::{Path, PathBuf};

/// The commit that is checked out where `folder` lies; none outside of a repository.
pub(super) fn commit(folder: &Path) -> Option<String> {
    let folder = fs_err::canonicalize(folder).ok()?;
    let git = folder.ancestors().find_map(git_folder)?;
    let head = read(&git.join("HEAD"))?;
    let Some(reference) = head.strip_prefix("ref: ") else { return is_commit(&head).then_some(head) };
    // A further working tree has its own HEAD and shares the rest.
    let common = read(&git.join("commondir")).map_or_else(|| git.clone(), |common| git.join(common));
    let loose = [&git, &common].into_iter().find_map(|at| read(&at.join(reference)));
    let packed = || {
        let packed = read(&common.join("packed-refs"))?;
        let line = packed.lines().find(|line| line.split(' ').nth(1) == Some(reference))?;
        Some(line.split(' ').next()?.to_owned())
    };
    loose.or_else(packed).filter(|commit| is_commit(commit))
}

/// The folder of git's own files for a working tree at `at`.
fn git_folder(at: &Path) -> Option<PathBuf> {
    let git = at.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    // A further working tree or a submodule: a file that names the folder.
    Some(at.join(read(&git)?.strip_prefix("gitdir: ")?))
}

fn read(path: &Path) -> Option<String> {
    fs_err::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// SHA-1 or SHA-256 in hex.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_packed_and_detached_heads_and_further_working_trees() {
        let folder = tempfile::tempdir().unwrap();
        let (top, git) = (folder.path().join("repo"), folder.path().join("repo/.git"));
        let put = |path: PathBuf, text: &str| {
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        };
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(40));
        put(top.join("deep/er/file"), "");
        assert_eq!(commit(&top.join("deep")), None);
        put(git.join("HEAD"), "ref: refs/heads/main\n");
        assert_eq!(commit(&top), None);
        put(git.join("packed-refs"), &format!("# pack-refs\n{c} refs/heads/other\n{a} refs/heads/main\n"));
        assert_eq!(commit(&top.join("deep/er")), Some(a));
        put(git.join("refs/heads/main"), &format!("{b}\n"));
        assert_eq!(commit(&top), Some(b.clone()));
        let tree = folder.path().join("tree");
        put(tree.join(".git"), &format!("gitdir: {}\n", git.join("worktrees/tree").display()));
        put(git.join("worktrees/tree/HEAD"), "ref: refs/heads/main\n");
        put(git.join("worktrees/tree/commondir"), "../..\n");
        assert_eq!(commit(&tree), Some(b));
        put(git.join("HEAD"), &format!("{c}\n"));
        assert_eq!(commit(&top), Some(c));
        put(git.join("HEAD"), "ref: refs/heads/gone\n");
        assert_eq!(commit(&top), None);
    }
}
