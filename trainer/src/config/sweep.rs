//! A configuration of many runs: its section `[sweep]` has a list for each key that is tried.
//!
//! Every combination is resolved, and refused where it is wrong, before any is run. Leaves out the runs' names.

use super::{Config, keys, parse};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use toml::{Table, Value};

/// The section's name.
pub(super) const SECTION: &str = "sweep";

/// The most runs of one sweep: far more than anybody waits for, few enough to be listed.
const RUNS_MAX: usize = 10_000;

/// One combination.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The keys that are tried with their values here, in alphabetical order.
    pub tried: Vec<(String, Value)>,
    /// The run's configuration.
    pub config: Config,
}

impl Config {
    /// Reads the configuration of a sweep: all combinations of its lists, the last key changing fastest.
    ///
    /// # Errors
    /// Those of [`load`](Self::load) for each combination, and [`Error::Sweep`] where there are none, two of them
    /// are the same, or an override sets a key that is tried.
    pub fn load_sweep(path: &Path, overrides: &[String]) -> Result<Vec<Point>> {
        let text = fs_err::read_to_string(path).map_err(Error::io("read the configuration"))?;
        Self::sweep_from_toml(&text, &path.display().to_string(), overrides)
    }

    /// As [`load_sweep`](Self::load_sweep), from a text; `name` stands in the errors.
    ///
    /// # Errors
    /// Those of [`load_sweep`](Self::load_sweep).
    pub fn sweep_from_toml(text: &str, name: &str, overrides: &[String]) -> Result<Vec<Point>> {
        let refuse = |reason: String| Error::Sweep { path: name.to_owned(), reason };
        let mut table = parse(text, name)?;
        let axes = match table.remove(SECTION) {
            Some(Value::Table(section)) => axes(&section)?,
            Some(value) => {
                let allowed = "a section [sweep] with a list for each key that is tried".to_owned();
                return Err(Error::Config { key: SECTION.to_owned(), value: keys::show(&value), allowed });
            }
            None => Vec::new(),
        };
        if axes.is_empty() {
            let example = "it has no section [sweep] with a list for each key that is tried, as optim.lr = [1e-4, 3e-4]";
            return Err(refuse(example.to_owned()));
        }
        for given in overrides {
            let key = match given.split('=').next().unwrap_or_default().trim() {
                "tokenizer" => "tokenizer.source",
                key => key,
            };
            if axes.iter().any(|(tried, _)| tried == key) {
                return Err(refuse(format!("`--set {given}` sets a key that its section [sweep] tries")));
            }
            keys::apply_override(&mut table, given)?;
        }
        let count = axes.iter().try_fold(1usize, |count, (_, values)| count.checked_mul(values.len()));
        let Some(count) = count.filter(|count| *count <= RUNS_MAX) else {
            return Err(refuse(format!("its section [sweep] makes more than {RUNS_MAX} runs")));
        };
        let table = keys::sugar(table);
        let points: Vec<Point> =
            (0..count).map(|number| point(&table, &axes, number, name)).collect::<Result<_>>()?;
        let mut seen = BTreeMap::new();
        for point in &points {
            let words = || {
                point.tried.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
            };
            if let Some(earlier) = seen.insert(point.config.to_toml()?, words()) {
                let reason =
                    format!("two runs of its section [sweep] are the same: {earlier} and {}", words());
                return Err(refuse(reason));
            }
        }
        Ok(points)
    }
}

/// The keys that are tried, with their values.
fn axes(section: &Table) -> Result<Vec<(String, Vec<Value>)>> {
    fn walk(prefix: &str, table: &Table, out: &mut BTreeMap<String, Vec<Value>>) -> Result<()> {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                Value::Table(inner) => walk(&key, inner, out)?,
                Value::Array(values) if !values.is_empty() => {
                    let key = if key == "tokenizer" { "tokenizer.source".to_owned() } else { key };
                    values.iter().try_for_each(|value| keys::check_tried(&key, value))?;
                    out.insert(key, values.clone());
                }
                value => {
                    let allowed = "a list of the values that are tried".to_owned();
                    let key = format!("{SECTION}.{key}");
                    return Err(Error::Config { key, value: keys::show(value), allowed });
                }
            }
        }
        Ok(())
    }
    let mut out = BTreeMap::new();
    walk("", section, &mut out)?;
    Ok(out.into_iter().collect())
}

/// The combination of a number, in mixed radix.
fn point(table: &Table, axes: &[(String, Vec<Value>)], number: usize, name: &str) -> Result<Point> {
    let (mut table, mut rest, mut tried) = (table.clone(), number, Vec::new());
    for (key, values) in axes.iter().rev() {
        let value = values[rest % values.len()].clone();
        rest /= values.len();
        keys::insert(&mut table, key, value.clone());
        tried.push((key.clone(), value));
    }
    tried.reverse();
    Ok(Point { tried, config: Config::from_table(table, name)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(section: &str, overrides: &[&str]) -> Result<Vec<Point>> {
        let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
        Config::sweep_from_toml(&format!("model.preset = \"nano\"\n{section}"), "s.toml", &overrides)
    }

    #[test]
    fn every_combination_comes_once_and_the_last_key_changes_fastest() {
        let points =
            sweep("[sweep]\n\"train.seed\" = [0, 1]\noptim.lr = [1e-3, 1e-4, 1]", &["data.batch_size=8"])
                .unwrap();
        let found: Vec<(f64, u64, usize)> = points
            .iter()
            .map(|p| (p.config.optim.lr, p.config.train.seed, p.config.data.batch_size))
            .collect();
        let expected = [(1e-3, 0), (1e-3, 1), (1e-4, 0), (1e-4, 1), (1.0, 0), (1.0, 1)];
        assert_eq!(found, expected.map(|(lr, seed)| (lr, seed, 8)));
        assert_eq!(points[3].tried[0], ("optim.lr".to_owned(), Value::Float(1e-4)));
        let points = sweep("[sweep.train]\nfreeze = [[], [\"visual\"]]", &[]).unwrap();
        assert_eq!(points[1].config.train.freeze, ["visual"]);
        assert!(points[0].config.train.freeze.is_empty());
    }

    #[test]
    fn mistakes_are_named_before_anything_runs() {
        let table: [(&str, &[&str], &str); 11] = [
            (
                "[sweep]\ntokenizer = [\"a/b\"]",
                &["tokenizer=c/d"],
                "sets a key that its section [sweep] tries",
            ),
            ("", &[], "has no section [sweep]"),
            ("[sweep]", &[], "has no section [sweep] with a list"),
            ("[sweep]\noptim.lrr = [1]", &[], "the nearest one is `sweep.optim.lr`"),
            ("[sweep]\noptim.lr = 1e-4", &[], "give a list of the values that are tried"),
            ("[sweep]\noptim.lr = []", &[], "give a list of the values that are tried"),
            ("[sweep]\noptim.lr = [1e-4, \"x\"]", &[], "`sweep.optim.lr = [… \"x\" …]`"),
            ("[sweep]\nmodel.text.heads = [2, 7]", &[], "7"),
            ("[sweep]\noptim.lr = [1e-4, 0.0001]", &[], "are the same"),
            ("[sweep]\noptim.lr = [1e-4]", &["optim.lr=1"], "sets a key that its section [sweep] tries"),
            ("[sweep]\noptim.lr = [1e-4]", &["optim.lrr=1"], "the nearest one is `optim.lr`"),
        ];
        for (section, overrides, expected) in table {
            let error = sweep(section, overrides).unwrap_err().to_string();
            assert!(error.contains(expected), "{section}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let long: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        let long = long.join(",");
        let error =
            sweep(&format!("[sweep]\ntrain.seed = [{long}]\noptim.steps = [{long}]"), &[]).unwrap_err();
        assert!(error.to_string().contains("more than 10000 runs"), "{error}");
        let error = Config::from_toml("[sweep]\noptim.lr = [1]", "s.toml", &[]).unwrap_err().to_string();
        assert!(error.contains("`trainer sweep`"), "{error}");
    }
}
