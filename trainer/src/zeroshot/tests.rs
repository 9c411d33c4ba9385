//! Lists and templates as people write them, folders in every relation to classes, counts beside brute force.

use super::*;

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs_err::write(file.path(), text).unwrap();
    file
}

fn classes(names: &[&str]) -> Vec<Class> {
    names.iter().map(|name| Class { name: (*name).to_owned(), directory: None }).collect()
}

#[test]
fn lists_and_templates_skip_comments_and_refuse_what_they_cannot_use() {
    let list = file("# of whom\n\nred circle\n  blue square \n");
    assert_eq!(read_classes(list.path()).unwrap(), classes(&["red circle", "blue square"]));
    let list = file("tench\tn01440764\ngoldfish\tn01443537\n");
    assert_eq!(read_classes(list.path()).unwrap()[1].directory.as_deref(), Some("n01443537"));
    for (text, words) in [("one\n", "at least 2"), ("a\tb\nc\n", "all must"), ("a\tb\n#\nc\t \t\n", "line 3")]
    {
        let text = read_classes(file(text).path()).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
    let templates = file("# 2\na photo of a {}.\n{} drawn, a {}\n");
    assert_eq!(read_templates(templates.path()).unwrap(), ["a photo of a {}.", "{} drawn, a {}"]);
    assert!(read_templates(file("a photo\n").path()).unwrap_err().to_string().contains("line 1 has no {}"));
    assert!(read_templates(file("#\n").path()).unwrap_err().to_string().contains("no template"));
}

#[test]
fn folders_are_matched_by_name_by_the_list_or_by_order() {
    let directories = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let list = Path::new("classes.txt");
    let found =
        match_directories(list, &classes(&["red circle", "b", "c"]), &directories(&["C", "red_circle"]));
    assert_eq!(found.unwrap(), (vec![2, 0], Matched::Name));
    let found = match_directories(list, &classes(&["tench", "goldfish"]), &directories(&["n1", "n2"]));
    assert_eq!(found.unwrap(), (vec![0, 1], Matched::Order));
    let given: Vec<Class> = [("x", "n2"), ("y", "n1")]
        .iter()
        .map(|(name, directory)| Class { name: (*name).into(), directory: Some((*directory).into()) })
        .collect();
    let found = match_directories(list, &given, &directories(&["n1", "n2"]));
    assert_eq!(found.unwrap(), (vec![1, 0], Matched::Name));
    // Some names fit, so the order is not trusted; a given list is never taken by order.
    let error = match_directories(list, &classes(&["a", "b"]), &directories(&["a", "z"])).unwrap_err();
    assert!(error.to_string().contains("\"z\""), "{error}");
    assert!(match_directories(list, &given, &directories(&["m1", "m2"])).is_err());
    assert!(match_directories(list, &classes(&["a", "b"]), &directories(&["n1", "n2", "n3"])).is_err());
}

/// Noise on few levels, so that ties are common.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) % 5
    };
    (0..count).map(|_| next() as f32 - 2.0).collect()
}

#[test]
fn counts_are_those_of_sorting_every_list() {
    let names: Vec<String> = (0..12).map(|i| format!("class {i}")).collect();
    let classes: Vec<Class> =
        names.iter().map(|name| Class { name: name.clone(), directory: None }).collect();
    let images = Features { values: noise(1, 300 * 9), width: 9 };
    let rows = Features { values: noise(2, 12 * 9), width: 9 };
    // No picture of the last class.
    let labels: Vec<usize> = (0..300).map(|i| i * 7 % 11).collect();
    let outcome = score(&images, &labels, &rows, &classes).unwrap();
    let sorted = |i: usize| {
        let score = |c: usize| -> f64 {
            images.row(i).iter().zip(rows.row(c)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let mut order: Vec<usize> = (0..12).collect();
        order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
        order
    };
    let hits = |k: usize, class: Option<usize>| {
        let mine = |i: &usize| class.is_none_or(|c| labels[*i] == c);
        let (all, hit): (Vec<usize>, Vec<usize>) = (
            (0..300).filter(mine).collect(),
            (0..300).filter(mine).filter(|i| sorted(*i)[..k].contains(&labels[*i])).collect(),
        );
        hit.len() as f64 / all.len() as f64
    };
    assert_eq!((outcome.top1, outcome.top5), (hits(1, None), hits(5, None)));
    assert!(outcome.top1 > 0.0 && outcome.top1 < outcome.top5 && outcome.top5 < 1.0);
    assert_eq!(outcome.per_class.len(), 11);
    for (class, result) in outcome.per_class.iter().enumerate() {
        assert_eq!((result.top1, result.top5), (hits(1, Some(class)), hits(5, Some(class))));
    }
    let worst = &outcome.confusions[0];
    let place = |name: &str| names.iter().position(|n| n == name).unwrap();
    let (truth, taken) = (place(&worst.class), place(&worst.taken_for));
    assert_eq!(worst.images, (0..300).filter(|i| labels[*i] == truth && sorted(*i)[0] == taken).count());
    assert!(outcome.confusions.windows(2).all(|pair| pair[0].images >= pair[1].images));
}

#[test]
fn what_is_no_number_or_does_not_fit_is_an_error() {
    let classes = classes(&["a", "b"]);
    let rows = Features { values: vec![1.0, 0.0], width: 1 };
    let images = Features { values: vec![f32::NAN], width: 1 };
    assert!(score(&images, &[0], &rows, &classes).unwrap_err().to_string().contains("classify"));
    let images = Features { values: vec![1.0], width: 1 };
    assert!(score(&images, &[2], &rows, &classes).is_err());
    assert!(score(&images, &[0, 1], &rows, &classes).is_err());
    assert_eq!(score(&images, &[0], &rows, &classes).unwrap().top1, 1.0);
}
