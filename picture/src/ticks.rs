//! Places and labels of an axis' ticks: 1, 2, 2.5 or 5 times a power of ten, or powers of ten on a
//! logarithmic axis.

/// A tick: its value (in the axis' own units) and its label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) label: String,
}

/// About `count` ticks within [`low`, `high`] (finite, low < high; none otherwise).
pub(crate) fn linear(low: f64, high: f64, count: usize) -> Vec<Tick> {
    let span = high - low;
    if !span.is_finite() || span <= 0.0 {
        return Vec::new();
    }
    let rough = span / count.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].map(|nice| nice * power).into_iter().find(|step| *step >= rough * 0.999);
    let Some(step) = step.filter(|step| *step > 0.0 && step.is_finite()) else { return Vec::new() };
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    // `+ 0.0` turns a negative zero into zero.
    let values: Vec<f64> = (0..=64)
        .map(|number| first + f64::from(number))
        .take_while(|place| *place <= last)
        .map(|place| place * step + 0.0)
        .collect();
    let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    values.into_iter().map(|value| Tick { value, label: label(value, step, largest) }).collect()
}

/// Ticks of a logarithmic axis over [`low`, `high`] (both above zero): powers of ten, joined by
/// twice and five times them where fewer than three powers are in sight.
pub(crate) fn logarithmic(low: f64, high: f64, count: usize) -> Vec<Tick> {
    if !(low > 0.0 && high > low && high.is_finite()) {
        return Vec::new();
    }
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let decades = high.log10() - low.log10();
    if decades < 0.6 {
        return linear(low, high, count);
    }
    let factors: &[f64] = if decades < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let every = ((decades / count.max(1) as f64).ceil() as i32).max(1);
    (first..=last)
        .filter(|power| power.rem_euclid(every) == 0)
        .flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)))
        .filter(|value| *value >= low * (1.0 - 1e-9) && *value <= high * (1.0 + 1e-9))
        .map(|value| Tick { value, label: label(value, value, value) })
        .collect()
}

/// A number to the precision that `step` asks for, in the unit that `largest` asks for.
fn label(value: f64, step: f64, largest: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e12).contains(&largest) {
        return scientific(value, step);
    }
    let (unit, suffix) = match largest {
        1e9.. => (1e9, "G"),
        1e6.. => (1e6, "M"),
        1e4.. => (1e3, "k"),
        _ => (1.0, ""),
    };
    let number = format!("{:.*}", decimals(step / unit), value / unit);
    format!("{}{suffix}", with_minus(&number))
}

fn scientific(value: f64, step: f64) -> String {
    let mut power = value.abs().log10().floor();
    let mut mantissa = value / 10_f64.powf(power);
    if mantissa.abs() >= 9.999_999 {
        (mantissa, power) = (mantissa / 10.0, power + 1.0);
    }
    let number = format!("{:.*}", decimals(step / 10_f64.powf(power)), mantissa);
    format!("{}e{}", with_minus(&number), with_minus(&format!("{power:.0}")))
}

/// Digits after the point with which multiples of `step` are told apart, at most 12.
fn decimals(step: f64) -> usize {
    (0..12)
        .find(|digits| {
            let scaled = step.abs() * 10_f64.powi(*digits);
            (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1e-300) && scaled.round() >= 1.0
        })
        .map_or(12, |digits| digits as usize)
}

/// The typographic minus, which is as wide as a digit.
fn with_minus(number: &str) -> String {
    number.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn linear_ticks_are_nice_numbers() {
        assert_eq!(labels(&linear(0.0, 1.0, 5)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&linear(0.3, 7.1, 4)), ["2", "4", "6"]);
        assert_eq!(labels(&linear(0.0, 120_000.0, 6)), ["0", "20k", "40k", "60k", "80k", "100k", "120k"]);
        assert_eq!(labels(&linear(0.0, 3.2e6, 4)), ["0", "1M", "2M", "3M"]);
        assert_eq!(labels(&linear(0.0, 5e-4, 5)), ["0", "1e−4", "2e−4", "3e−4", "4e−4", "5e−4"]);
        assert_eq!(labels(&linear(-2.0, 2.0, 4)), ["−2", "−1", "0", "1", "2"]);
    }

    #[test]
    fn logarithmic_ticks_are_powers() {
        assert_eq!(labels(&logarithmic(1e-5, 1.0, 8)), ["1e−5", "1e−4", "0.001", "0.01", "0.1", "1"]);
        assert_eq!(labels(&logarithmic(0.8, 11.0, 5)), ["1", "2", "5", "10"]);
    }

    #[test]
    fn no_range_gives_no_more_ticks_than_fit() {
        let ends = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            1e-300,
            1e300,
            -1e300,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            f64::NAN,
            f64::INFINITY,
        ];
        for low in ends {
            for high in ends {
                for count in [0, 1, 6] {
                    assert!(linear(low, high, count).len() <= 65);
                    assert!(logarithmic(low, high, count).len() <= 700);
                }
            }
        }
        assert_eq!(linear(1.0, 1.0, 5), []);
    }

    #[test]
    fn labels_of_one_axis_differ() {
        for (low, high) in [(0.0, 1e-7), (1.0, 1.0001), (99_000.0, 101_000.0), (-3e8, 2e9), (2.0, 2.3)] {
            let ticks = linear(low, high, 6);
            assert!(ticks.len() >= 3, "{low} {high} {ticks:?}");
            let mut names = labels(&ticks);
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), ticks.len(), "{ticks:?}");
        }
    }
}
