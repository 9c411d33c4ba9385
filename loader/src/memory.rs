//! What fits in memory, as far as the order depends on it. Left out: measuring a disk.

use std::path::{Path, PathBuf};

use crate::{order::Order, select::Selected, store::Store};

/// The share of free memory that a data set may fill and still be called at hand: the rest is the batches' and the
/// model's.
const SHARE: f64 = 0.7;

/// A permutation of all samples where their bytes fit in memory, else blocks through a window.
pub(crate) fn order_for(store: &Store, selected: &[Selected]) -> Order {
    let bytes: f64 = (store.parts.iter().zip(selected))
        .map(|(part, selected)| part.bytes() as f64 * selected.len() as f64 / part.len as f64)
        .sum();
    choose(bytes, available_bytes())
}

fn choose(bytes: f64, available: Option<u64>) -> Order {
    match available {
        Some(available) if bytes > SHARE * available as f64 => Order::BLOCK,
        _ => Order::Global,
    }
}

/// Bytes that this process could still take: what the system calls available, or what a control group leaves; none
/// where the system does not tell.
pub fn available_bytes() -> Option<u64> {
    let available = meminfo(&fs_err::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs_err::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits =
        limit_files(&groups).into_iter().filter_map(|file| limit(&fs_err::read_to_string(file).ok()?));
    Some(limits.fold(available, u64::min))
}

/// The files that may hold a limit of this process's memory: its control group's, and those of all groups above it, in
/// the old hierarchy and in the new one.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        files.extend(path.ancestors().map(|group| Path::new(root).join(group).join(name)));
    }
    files
}

/// A limit in bytes; nothing where the file says `max`.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_for_what_does_not_fit() {
        assert_eq!(choose(6e9, Some(10_000_000_000)), Order::Global);
        assert_eq!(choose(8e9, Some(10_000_000_000)), Order::BLOCK);
        assert_eq!(choose(8e9, None), Order::Global);
    }

    #[test]
    fn available_memory_is_read_from_the_systems_words() {
        let text = "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\n";
        assert_eq!(meminfo(text), Some(20_480_000_000));
        assert_eq!(meminfo("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn limits_are_looked_for_in_the_own_group_and_all_above_it() {
        let files = limit_files("4:cpu,memory:/a/b\n1:name=systemd:/x\n0::/c\nnonsense\n");
        let expected = [
            "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/c/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files, expected.map(PathBuf::from));
        assert_eq!((limit("400000000\n"), limit("max\n")), (Some(400_000_000), None));
    }
}
