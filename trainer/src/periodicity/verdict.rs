//! The answer in words, and what to do about it.
//!
//! Left out: tables and exit codes, which are the command's.

use super::Report;

/// From which p-value on the sawtooth is spoken of.
const SAWTOOTH_P: f64 = 0.01;

/// Whether there is a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The combined p-value is below the bound.
    Period,
    /// It is above the bound and below five times the bound: more seeds or epochs would tell.
    Unclear,
    /// Nothing that chance does not explain.
    None,
}

impl Verdict {
    /// Of a combined p-value.
    pub fn of(p: f64, alpha: f64) -> Self {
        match p {
            p if p < alpha => Self::Period,
            p if p < 5.0 * alpha => Self::Unclear,
            _ => Self::None,
        }
    }

    /// One word for a table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Period => "period",
            Self::Unclear => "unclear",
            Self::None => "none",
        }
    }
}

/// A report's sentences.
pub fn words(report: &Report) -> String {
    let (percent, p) = (100.0 * report.excess, p_text(report.p));
    let first = match report.verdict {
        Verdict::Period => format!(
            "The loss has the period of an epoch (p {p}): the position in the epoch explains {percent:.1} % of its \
             variance above chance. The same samples meet at the same place of each epoch, or the data is sorted: train \
             with data.order = \"global\", and prepare with prep's default --order shuffled."
        ),
        Verdict::Unclear => format!(
            "It is not clear whether the loss has the period of an epoch (p {p}, {percent:.1} % of the variance above \
             chance); more epochs or more seeds would tell."
        ),
        Verdict::None => {
            format!("No period of an epoch (p {p}, {percent:.1} % of the variance above chance).")
        }
    };
    let Some((drop, p)) = sawtooth(report) else { return first };
    let drop = format!("the loss drops by {drop:.3} at each epoch's start (p {})", p_text(p));
    match report.verdict {
        Verdict::Period => format!("{first} With it {drop}; the period alone may do that."),
        _ => format!("{first} Apart from that {drop}: a model that memorises, which no order removes."),
    }
}

/// The mean drop of a sawtooth that is there, and its p-value.
fn sawtooth(report: &Report) -> Option<(f64, f64)> {
    let p = report.sawtooth_p.filter(|p| *p < SAWTOOTH_P)?;
    Some((report.drop()?, p))
}

/// A p-value to two digits: `= 0.034`, `< 1e-12`.
pub fn p_text(p: f64) -> String {
    match p {
        p if p < 1e-12 => "< 1e-12".to_owned(),
        p if p < 1e-3 => format!("= {p:.1e}"),
        p => format!("= {p:.3}"),
    }
}
