//! This process's memory as Linux tells it. On other systems there is no answer, which is said as such.

/// Bytes of a field of `/proc/self/status`, such as `VmHWM` or `RssAnon`.
pub(crate) fn status_bytes(field: &str) -> Option<u64> {
    parse(&fs_err::read_to_string("/proc/self/status").ok()?, field)
}

fn parse(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nRssAnonX:\t 1 kB\nRssAnon:\t      12 kB\n";
        assert_eq!(parse(status, "VmHWM"), Some(2048 * 1024));
        assert_eq!(parse(status, "RssAnon"), Some(12 * 1024));
        assert_eq!(parse(status, "Rss"), None);
        assert_eq!(parse(status, "Name"), None);
    }
}
