//! Two tails that the tests need: Student's t, and Fisher's combination of p-values.
//!
//! Left out: densities and quantiles.

/// The chance that Student's t with `freedom` degrees is above `t`.
///
/// Half of the regularised incomplete beta function at freedom / (freedom + t²), by Lentz's continued fraction
/// (Press et al., "Numerical Recipes", 3rd ed., section 6.4).
pub fn student_t_above(t: f64, freedom: f64) -> f64 {
    if t.is_nan() || freedom <= 0.0 {
        return 1.0;
    }
    let tail = 0.5 * incomplete_beta(freedom / 2.0, 0.5, freedom / (freedom + t * t));
    if t >= 0.0 { tail } else { 1.0 - tail }
}

/// Fisher's combination of independent p-values: −2 Σ ln p has a chi-squared law with two degrees of freedom a value
/// (Fisher, "Statistical Methods for Research Workers", 1932). 1 for no values.
///
/// Monte-Carlo p-values are discrete and never below 1 / (1 + draws); both make each of them no smaller in law than a
/// uniform one, so the combination errs towards no finding, never towards one.
pub fn fisher(p_values: &[f64]) -> f64 {
    let half: f64 = p_values.iter().map(|p| -p.clamp(f64::MIN_POSITIVE, 1.0).ln()).sum();
    // The tail of chi-squared with 2k degrees at 2x is exp(−x) Σ_{i<k} xⁱ / i!.
    let (mut term, mut sum) = (1.0, 0.0);
    for number in 0..p_values.len() {
        sum += term;
        term *= half / (number + 1) as f64;
    }
    if p_values.is_empty() { 1.0 } else { ((-half).exp() * sum).min(1.0) }
}

/// The regularised incomplete beta function.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return if x <= 0.0 { 0.0 } else { 1.0 };
    }
    let front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln();
    if x < (a + 1.0) / (a + b + 2.0) {
        front.exp() * fraction(a, b, x) / a
    } else {
        1.0 - front.exp() * fraction(b, a, 1.0 - x) / b
    }
}

/// The continued fraction of the incomplete beta function.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut result = d;
    for m in 1..500 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = result;
        for factor in [even, odd] {
            d = 1.0 / away(1.0 + factor * d);
            c = away(1.0 + factor / c);
            result *= c * d;
        }
        if ((result - before) / result).abs() < 1e-14 {
            break;
        }
    }
    result
}

/// ln Γ(x) for x > 0, by Stirling's series from x ≥ 10 on.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift += x.ln();
        x += 1.0;
    }
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_tail_equals_its_tables() {
        // From the tables of Student's law: one-sided 5 %, 2.5 % and 0.5 %.
        let table = [(6.313_752, 1.0, 0.05), (2.776_445, 4.0, 0.025), (3.169_273, 10.0, 0.005)];
        for (t, freedom, tail) in table {
            assert!((student_t_above(t, freedom) - tail).abs() < 1e-6, "{t} {freedom}");
            assert!((student_t_above(-t, freedom) - (1.0 - tail)).abs() < 1e-6);
        }
        assert_eq!(student_t_above(0.0, 3.0), 0.5);
        assert_eq!(student_t_above(f64::NAN, 3.0), 1.0);
        // With one degree it is Cauchy's law.
        assert!((student_t_above(1.0, 1.0) - 0.25).abs() < 1e-9);
    }

    #[test]
    fn fisher_equals_chi_squared() {
        assert!((fisher(&[0.03]) - 0.03).abs() < 1e-12);
        // Chi-squared with four degrees: 9.487729 is its 5 % point.
        let p = (-9.487_729_f64 / 4.0).exp();
        assert!((fisher(&[p, p]) - 0.05).abs() < 1e-6);
        assert_eq!(fisher(&[]), 1.0);
        assert_eq!(fisher(&[1.0, 1.0]), 1.0);
        assert!(fisher(&[0.0, 0.5]) < 1e-100);
    }
}
