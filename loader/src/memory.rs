//! What fits in memory, as far as the order depends on it. Left out: measuring a disk.

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

/// Bytes that the page cache could take: what the system calls available, or what a control group leaves.
fn available_bytes() -> Option<u64> {
    let available = meminfo(&fs_err::read_to_string("/proc/meminfo").ok()?)?;
    let group = fs_err::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(limit.map_or(available, |limit| limit.min(available)))
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
}
