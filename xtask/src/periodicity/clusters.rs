//! A list of captioned pictures sorted by cluster of their captions: spherical k-means over tf-idf (Dhillon and Modha,
//! 2001), the same for the same list. It stands for a source that is ordered by what its pictures show.
//!
//! It leaves out everything that would make the clusters good; sorted is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

const CLUSTERS: usize = 20;
const ROUNDS: usize = 50;

/// Words with their weights, of length 1.
type Vector = BTreeMap<usize, f64>;

/// Writes the records of a JSON-lines list to `to`, cluster after cluster.
///
/// # Errors
/// Where a file cannot be read or written, or a record has no captions.
pub(super) fn sort_list(from: &Path, to: &Path) -> Result<()> {
    let text = std::fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    let records: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let captions = records.iter().map(|record| words_of(record)).collect::<Result<Vec<_>>>();
    let captions = captions.with_context(|| format!("{} is no list of captions", from.display()))?;
    let clusters = cluster(&vectors(&captions), CLUSTERS);
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_by_key(|&record| clusters[record]);
    let sorted: String = order.iter().map(|&record| format!("{}\n", records[record])).collect();
    std::fs::write(to, sorted).with_context(|| format!("cannot write {}", to.display()))
}

/// The words of all captions of a record, in lower case.
fn words_of(record: &str) -> Result<Vec<String>> {
    let record: Value = serde_json::from_str(record)?;
    let captions = record["captions"].as_array().context("a record has no captions")?;
    let words = captions.iter().filter_map(Value::as_str).flat_map(|caption| {
        caption.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
    });
    let words: Vec<String> = words.collect();
    ensure!(!words.is_empty(), "a record has no word in its captions");
    Ok(words)
}

/// Term frequency by inverse document frequency, each brought to length 1.
fn vectors(documents: &[Vec<String>]) -> Vec<Vector> {
    let mut with_word: BTreeMap<&str, usize> = BTreeMap::new();
    for document in documents {
        for word in document.iter().map(String::as_str).collect::<BTreeSet<_>>() {
            *with_word.entry(word).or_default() += 1;
        }
    }
    let numbers: BTreeMap<&str, (usize, f64)> = with_word
        .iter()
        .enumerate()
        .map(|(number, (word, count))| (*word, (number, (documents.len() as f64 / *count as f64).ln())))
        .collect();
    let vector = |document: &Vec<String>| {
        let mut vector = Vector::new();
        for word in document {
            let (number, weight) = numbers[word.as_str()];
            *vector.entry(number).or_default() += weight;
        }
        unit(vector)
    };
    documents.iter().map(vector).collect()
}

fn unit(mut vector: Vector) -> Vector {
    let length = vector.values().map(|value| value * value).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.values_mut().for_each(|value| *value /= length);
    }
    vector
}

fn cosine(a: &Vector, b: &Vector) -> f64 {
    a.iter().filter_map(|(word, value)| Some(value * b.get(word)?)).sum()
}

/// The cluster of each vector. The first centre is the first vector, each further one the vector that is least like the
/// centres so far.
fn cluster(vectors: &[Vector], count: usize) -> Vec<usize> {
    let mut centres: Vec<Vector> = vectors.first().cloned().into_iter().collect();
    while centres.len() < count.min(vectors.len()) {
        let likeness = |vector: &Vector| centres.iter().map(|c| cosine(vector, c)).fold(f64::MIN, f64::max);
        let farthest = vectors.iter().map(|v| (likeness(v), v)).min_by(|a, b| a.0.total_cmp(&b.0));
        centres.extend(farthest.map(|(_, vector)| vector.clone()));
    }
    let nearest = |vector: &Vector, centres: &[Vector]| {
        let mut best = (0, f64::MIN);
        for (number, centre) in centres.iter().enumerate() {
            let likeness = cosine(vector, centre);
            if likeness > best.1 {
                best = (number, likeness);
            }
        }
        best.0
    };
    let mut clusters = Vec::new();
    for _ in 0..ROUNDS {
        let found: Vec<usize> = vectors.iter().map(|vector| nearest(vector, &centres)).collect();
        if found == clusters {
            break;
        }
        let mut sums = vec![Vector::new(); centres.len()];
        for (vector, &cluster) in vectors.iter().zip(&found) {
            vector.iter().for_each(|(word, value)| *sums[cluster].entry(*word).or_default() += value);
        }
        for (centre, sum) in centres.iter_mut().zip(sums) {
            // A cluster that lost all its members keeps its centre.
            if !sum.is_empty() {
                *centre = unit(sum);
            }
        }
        clusters = found;
    }
    clusters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_lies_together_and_every_record_once() {
        let folder = std::env::temp_dir().join(format!("clusters-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("in.jsonl"), folder.join("out.jsonl"));
        let kinds = ["a dog runs over grass", "two boats on a lake", "a man rides his bicycle"];
        let record =
            |n: usize| format!("{{\"image\":\"{n}.jpg\",\"captions\":[\"{} {n}\"]}}\n", kinds[n % 3]);
        std::fs::write(&from, (0..60).map(record).collect::<String>()).unwrap();
        let documents: Vec<Vec<String>> = (0..60).map(|n| words_of(&record(n)).unwrap()).collect();
        let clusters = cluster(&vectors(&documents), 3);
        assert!((0..60).all(|n| clusters[n] == clusters[n % 3]), "{clusters:?}");
        sort_list(&from, &to).unwrap();
        let sorted = std::fs::read_to_string(&to).unwrap();
        let mut lines: Vec<String> = sorted.lines().map(|line| format!("{line}\n")).collect();
        assert_eq!(lines.len(), 60);
        lines.sort();
        let mut all: Vec<String> = (0..60).map(record).collect();
        all.sort();
        assert_eq!(lines, all);
        std::fs::write(&from, "{\"image\":\"a.jpg\"}\n").unwrap();
        assert!(sort_list(&from, &to).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
