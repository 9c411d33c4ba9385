//! A distribution as an inline SVG. Colours come from the page's style. It leaves out what is counted.

use std::{collections::BTreeMap, fmt::Write as _};

use super::text::{escaped, grouped};

const BINS_MAX: u64 = 36;
const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 150.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 20.0;

/// A bar: from this value to below that, how many.
#[derive(Debug, PartialEq, Eq)]
struct Bin {
    from: u64,
    below: u64,
    count: u64,
}

/// Bins of one width. The last holds the highest 0.5 % too, so that one caption of 100,000 characters does not press
/// all others into one bar.
fn bins(counts: &BTreeMap<u64, u64>) -> Vec<Bin> {
    let total: u64 = counts.values().sum();
    let Some((&least, _)) = counts.first_key_value() else { return Vec::new() };
    let mut within = 0;
    let most = counts.iter().find(|(_, count)| {
        within += **count;
        within.saturating_mul(200) >= total.saturating_mul(199)
    });
    let most = most.map_or(least, |(&value, _)| value);
    let step = (most - least + 1).div_ceil(BINS_MAX).max(1);
    let len = (most - least) / step + 1;
    let mut bins: Vec<Bin> = (0..len)
        .map(|bin| Bin { from: least + bin * step, below: least + (bin + 1) * step, count: 0 })
        .collect();
    for (&value, &count) in counts {
        bins[((value - least) / step).min(len - 1) as usize].count += count;
    }
    if let (Some(last), Some((&highest, _))) = (bins.last_mut(), counts.last_key_value()) {
        last.below = last.below.max(highest.saturating_add(1));
    }
    bins
}

/// The SVG of a histogram; `show` writes a value on the axis. Each bar says what it counts when pointed at.
pub(super) fn svg(title: &str, counts: &BTreeMap<u64, u64>, show: impl Fn(u64) -> String) -> String {
    let bins = bins(counts);
    let mut svg = format!(
        "<figure class=\"card\"><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escaped(title),
        escaped(title)
    );
    let highest = bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    let (floor, wide) = (HEIGHT - BOTTOM, WIDTH / bins.len().max(1) as f64);
    for (at, bin) in bins.iter().enumerate() {
        let high = (floor - TOP) * bin.count as f64 / highest as f64;
        // Few are not none: what is counted is seen.
        let high = if bin.count > 0 { high.max(1.0) } else { 0.0 };
        let (left, top) = (wide * at as f64, floor - high);
        let values = if bin.below - bin.from == 1 {
            show(bin.from)
        } else {
            format!("{} to {}", show(bin.from), show(bin.below - 1))
        };
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{left:.2}\" y=\"{top:.2}\" width=\"{:.2}\" height=\"{high:.2}\"><title>{}: {}</title></rect>",
            (wide - 1.0).max(0.5),
            escaped(&values),
            grouped(bin.count)
        );
    }
    let _ = write!(svg, "<line x1=\"0\" y1=\"{floor}\" x2=\"{WIDTH}\" y2=\"{floor}\"/>");
    let mut label = |x: f64, y: f64, anchor: &str, text: &str| {
        let _ = write!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>", escaped(text));
    };
    label(0.0, TOP - 4.0, "start", &format!("{} at most", grouped(highest)));
    if let (Some(first), Some(last)) = (bins.first(), bins.last()) {
        label(0.0, HEIGHT - 6.0, "start", &show(first.from));
        if bins.len() > 1 {
            let open = if last.below - last.from > first.below - first.from { "≥ " } else { "" };
            label(WIDTH, HEIGHT - 6.0, "end", &format!("{open}{}", show(last.from)));
        }
    }
    svg.push_str("</svg></figure>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_values_are_in_some_bin() {
        let counts: BTreeMap<u64, u64> = (3..5_000).map(|value| (value, value % 7)).collect();
        let bins = bins(&counts);
        assert!(bins.len() as u64 <= BINS_MAX);
        assert_eq!(bins.iter().map(|bin| bin.count).sum::<u64>(), counts.values().sum::<u64>());
        assert!(bins[0].from == 3 && bins[bins.len() - 1].below >= 5_000);
        assert!(bins.windows(2).all(|pair| pair[0].below == pair[1].from));
    }

    #[test]
    fn few_extreme_values_do_not_press_the_others_together() {
        let counts = BTreeMap::from([(5, 500), (6, 700), (9, 300), (100_000, 2)]);
        let bins = bins(&counts);
        assert_eq!(bins.len(), 5);
        assert_eq!(bins[4], Bin { from: 9, below: 100_001, count: 302 });
    }

    #[test]
    fn none_and_the_largest_numbers_are_met() {
        assert!(bins(&BTreeMap::new()).is_empty());
        assert_eq!(bins(&BTreeMap::from([(7, 1)])).len(), 1);
        assert!(bins(&BTreeMap::from([(0, 1), (u64::from(u32::MAX), 5)])).len() as u64 <= BINS_MAX);
        let svg = svg("a <title>", &BTreeMap::from([(7, 1), (8, 3)]), |value| value.to_string());
        assert!(svg.contains("a &lt;title&gt;") && svg.matches("<rect").count() == 2);
    }
}
