//! What a trained model is asked through the program: zero-shot, probe, search, embed, export. What it
//! says is recomputed here from single features.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod common;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use candle_core::Tensor;
use image::{Rgb, RgbImage};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::path::Path;
use std::sync::OnceLock;
use testkit::Spec;
use trainer::trained::Trained;

/// A data set of the model's size, so that pictures pass through unresized.
fn spec() -> Spec {
    Spec { splits: vec![("train".to_owned(), 30), ("val".to_owned(), 13)], ..Spec::small() }.size(32)
}

/// A folder with a data set `data` and a run `small`, made once for all tests.
fn place() -> &'static Path {
    static PLACE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = PLACE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs_err::create_dir(&data).unwrap();
        spec().write(&data).unwrap();
        let run = folder.path().join("runs/small");
        let config = common::config(&["optim.steps=3"]);
        common::train(&config, &data, &run, false, &mut common::Keep::default()).unwrap();
        folder
    });
    made.path()
}

/// Runs to the end: exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    common::program::run(arguments, place())
}

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let (code, out, err) = run(&[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

fn trained() -> Trained {
    Trained::open(&place().join("runs/small")).unwrap()
}

/// Length 1, in f64.
fn unit(values: &[f32]) -> Vec<f64> {
    let values: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    values.into_iter().map(|v| v / norm).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The features of one text, by the model alone.
fn text_feature(trained: &Trained, text: &str) -> Vec<f64> {
    let encoded = trained.tokenizer.encode(&[text], 16).unwrap();
    let ids = Tensor::from_vec(encoded.input_ids, (1, 16), &trained.device).unwrap();
    let row = trained.clip.encode_text(&ids, &encoded.eot_positions).unwrap();
    unit(&row.to_vec2::<f32>().unwrap()[0])
}

/// The features of one picture of 32×32, by the model alone.
fn image_feature(trained: &Trained, picture: &RgbImage) -> Vec<f64> {
    let (mean, std) = trained.config.data.normalize.mean_std();
    let value = |c: usize, x: u32, y: u32| {
        ((f64::from(picture.get_pixel(x, y).0[c]) / 255.0 - f64::from(mean[c])) / f64::from(std[c])) as f32
    };
    let places = (0..3).flat_map(|c| (0..32 * 32).map(move |p| (c, p % 32, p / 32)));
    let pixels: Vec<f32> = places.map(|(c, x, y)| value(c, x, y)).collect();
    let pixels = Tensor::from_vec(pixels, (1, 3, 32, 32), &trained.device).unwrap();
    unit(&trained.clip.encode_image(&pixels).unwrap().to_vec2::<f32>().unwrap()[0])
}

/// A picture of one colour with noise.
fn noisy(colour: [u8; 3], seed: u32) -> RgbImage {
    let mut state = seed.wrapping_mul(747_796_405) + 1;
    RgbImage::from_fn(32, 32, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Rgb(colour.map(|v| v.saturating_add((state >> 24) as u8 / 4)))
    })
}

const COLOURS: [(&str, [u8; 3]); 3] =
    [("red", [180, 10, 10]), ("green", [10, 170, 20]), ("blue", [20, 10, 190])];

/// One folder a colour with `each` pictures.
fn pictures(root: &Path, each: u32, seed: u32) {
    for (number, (name, colour)) in COLOURS.iter().enumerate() {
        fs_err::create_dir_all(root.join(name)).unwrap();
        for i in 0..each {
            let picture = noisy(*colour, seed + 100 * number as u32 + i);
            picture.save(root.join(name).join(format!("{i:03}.png"))).unwrap();
        }
    }
}

#[test]
fn zeroshot_is_what_single_features_say() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 5, 1);
    fs_err::write(folder.path().join("red/read.me"), "").unwrap();
    let classes = folder.path().join("classes.txt");
    let templates = folder.path().join("templates.txt");
    let names = ["blue", "caption of train", "red", "green", "naïve"];
    fs_err::write(&classes, names.join("\n")).unwrap();
    let prompts = ["a {} caption", "{}", "caption 0 of {} val"];
    fs_err::write(&templates, prompts.join("\n")).unwrap();
    let [images, classes, templates] = [folder.path(), &classes, &templates].map(|p| p.to_str().unwrap());
    let arguments = ["zeroshot", "--run", "small", "--images", images, "--classes", classes];
    let arguments = [&arguments[..], &["--templates", templates]].concat();
    let value = json(&arguments);

    let trained = trained();
    let class = |name: &str| {
        let rows: Vec<Vec<f64>> =
            prompts.iter().map(|p| text_feature(&trained, &p.replace("{}", name))).collect();
        (0..16).map(|i| rows.iter().map(|row| row[i]).sum::<f64>()).collect::<Vec<f64>>()
    };
    let rows: Vec<Vec<f64>> = names.iter().map(|name| class(name)).collect();
    let rows: Vec<Vec<f64>> =
        rows.iter().map(|row| unit(&row.iter().map(|v| *v as f32).collect::<Vec<_>>())).collect();
    let mut hits = 0;
    for (number, (name, colour)) in COLOURS.iter().enumerate() {
        let mut of_class = 0;
        for i in 0..5 {
            let image = image_feature(&trained, &noisy(*colour, 1 + 100 * number as u32 + i));
            let score = |c: &usize| dot(&image, &rows[*c]);
            let best = (0..5).max_by(|a, b| score(a).total_cmp(&score(b))).unwrap();
            of_class += u32::from(names[best] == *name);
        }
        let told = value["per_class"].as_array().unwrap().iter().find(|row| row["class"] == *name).unwrap();
        assert_eq!(
            (told["images"].as_u64(), told["top1"].as_f64()),
            (Some(5), Some(f64::from(of_class) / 5.0))
        );
        hits += of_class;
    }
    assert_eq!(value["top1"].as_f64().unwrap(), f64::from(hits) / 15.0);
    assert_eq!(value["top5"].as_f64().unwrap(), 1.0);
    assert_eq!(value["folders_matched_by"], "name");
    assert_eq!((&value["files_left_out"], &value["images"]), (&1.into(), &15.into()));
    let wrong: u64 =
        value["confusions"].as_array().unwrap().iter().map(|c| c["images"].as_u64().unwrap()).sum();
    assert_eq!(wrong, u64::from(15 - hits));
    let (code, out, _) = run(&[&arguments[..], &["--per-class"]].concat());
    assert_eq!(code, 0);
    assert!(out.contains("top-1") && out.contains("neither JPEG nor PNG"), "{out}");
}

#[test]
fn a_probe_tells_colours_apart_and_not_where_labels_are_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    pictures(&folder.path().join("train"), 10, 1);
    pictures(&folder.path().join("test"), 4, 7000);
    let arguments = ["probe", "--run", "small", "--train", &at("train"), "--test", &at("test")];
    let value = json(&arguments);
    assert_eq!((&value["test"]["top1"], &value["test"]["images"]), (&1.0.into(), &12.into()));
    assert_eq!((&value["train_images"], &value["l2_chosen"]), (&30.into(), &true.into()));
    assert_eq!(value, json(&arguments), "the same again");
    let (code, out, _) = run(&[&arguments[..], &["--l2", "0.5"]].concat());
    assert_eq!(code, 0);
    assert!(out.contains("penalty 0.5 (given)") && out.contains("100.00%"), "{out}");
    // Every class of the test folder is another one's pictures.
    for (from, to) in [("red", "x"), ("green", "red"), ("blue", "green"), ("x", "blue")] {
        fs_err::rename(folder.path().join("test").join(from), folder.path().join("test").join(to)).unwrap();
    }
    assert_eq!(json(&arguments)["test"]["top1"], 0.0);
}

/// Keys, features and captions with their features, as a Parquet reader gives them.
type Rows = Vec<(String, Vec<f32>, Vec<(String, Vec<f32>)>)>;

fn read_parquet(path: &Path) -> (Rows, Vec<(String, String)>) {
    let (file, _) = fs_err::File::open(path).unwrap().into_parts();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let about = pairs.iter().map(|kv| (kv.key.clone(), kv.value.clone().unwrap_or_default())).collect();
    let mut rows = Rows::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let (keys, images) =
            (column("key").as_string::<i32>(), column("image_embedding").as_fixed_size_list());
        let (captions, embeddings) =
            (column("captions").as_list::<i32>(), column("caption_embeddings").as_list::<i32>());
        for row in 0..batch.num_rows() {
            let floats = |values: &dyn Array| values.as_primitive::<Float32Type>().values().to_vec();
            let (texts, features) = (captions.value(row), embeddings.value(row));
            let (texts, features) = (texts.as_string::<i32>(), features.as_fixed_size_list());
            let pairs = (0..texts.len()).map(|i| (texts.value(i).to_owned(), floats(&features.value(i))));
            rows.push((keys.value(row).to_owned(), floats(&images.value(row)), pairs.collect()));
        }
    }
    (rows, about)
}

/// Recall at 1, 5 and 10 and the median rank, by sorting.
fn recall(lists: Vec<Vec<(f64, bool)>>) -> ([f64; 3], f64) {
    let mut places: Vec<usize> = lists
        .into_iter()
        .map(|mut list| {
            list.sort_by(|a, b| b.0.total_cmp(&a.0));
            1 + list.iter().position(|(_, positive)| *positive).unwrap()
        })
        .collect();
    places.sort_unstable();
    let share = |k: usize| places.iter().filter(|p| **p <= k).count() as f64 / places.len() as f64;
    let half = places.len() / 2;
    let low = if places.len().is_multiple_of(2) { places[half - 1] } else { places[half] };
    ([share(1), share(5), share(10)], (low + places[half]) as f64 / 2.0)
}

#[test]
fn embed_writes_what_eval_counts_on() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("val.parquet");
    let value = json(&["embed", "--run", "small", "--data", "data", "--out", out.to_str().unwrap()]);
    let (rows, about) = read_parquet(&out);
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    assert!(about.contains(&("trainer.split".into(), "val".into())), "{about:?}");
    assert!(about.contains(&("trainer.step".into(), "3".into())), "{about:?}");
    let count: usize = rows.iter().map(|row| row.2.len()).sum();
    assert_eq!((&value["images"], &value["captions"]), (&13.into(), &count.into()));

    let trained = trained();
    for (key, image, captions) in &rows {
        let row: usize = key["val-".len()..].parse().unwrap();
        let planar = spec().pixels("val", row);
        let pixel = |x: u32, y: u32| Rgb(std::array::from_fn(|c| planar[c * 1024 + (y * 32 + x) as usize]));
        let expected = image_feature(&trained, &RgbImage::from_fn(32, 32, pixel));
        let near = |a: &[f32], b: &[f64]| {
            a.len() == 16 && a.iter().zip(b).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5)
        };
        assert!(near(image, &expected), "{key}");
        let texts: Vec<&String> = captions.iter().map(|(text, _)| text).collect();
        assert_eq!(texts, testkit::captions("val", row).iter().collect::<Vec<_>>());
        assert!(captions.iter().all(|(text, row)| near(row, &text_feature(&trained, text))));
    }

    // Recall from the file, by sorting in f64, is what `eval` says.
    let told = json(&["eval", "--run", "small", "--data", "data"]);
    let captions: Vec<(usize, Vec<f64>)> = rows
        .iter()
        .enumerate()
        .flat_map(|(i, row)| row.2.iter().map(move |(_, values)| (i, unit(values))))
        .collect();
    let images: Vec<Vec<f64>> = rows.iter().map(|row| unit(&row.1)).collect();
    let of_image = |i: usize| captions.iter().map(|(o, c)| (dot(&images[i], c), *o == i)).collect();
    let of_caption = |(o, c): &(usize, Vec<f64>)| {
        images.iter().enumerate().map(|(i, image)| (dot(image, c), i == *o)).collect()
    };
    let to_text = recall((0..images.len()).map(of_image).collect());
    let to_image = recall(captions.iter().map(of_caption).collect());
    for (way, (shares, median)) in [("image_to_text", to_text), ("text_to_image", to_image)] {
        for (k, share) in ["r1", "r5", "r10"].into_iter().zip(shares) {
            assert!((told[way][k].as_f64().unwrap() - share).abs() < 1e-12, "{way} {k}");
        }
        assert_eq!(told["median_rank"][way].as_f64().unwrap(), median, "{way}");
    }
    let limited = json(&[
        "embed",
        "--run",
        "small",
        "--data",
        "data",
        "--split",
        "train",
        "--limit",
        "9",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert_eq!((&limited["images"], read_parquet(&out).0.len()), (&9.into(), 9));
}

#[test]
fn search_finds_a_picture_by_itself_and_texts_by_their_scores() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let planar = spec().pixels("val", 4);
    let pixel = |x: u32, y: u32| Rgb(std::array::from_fn(|c| planar[c * 1024 + (y * 32 + x) as usize]));
    let picture = RgbImage::from_fn(32, 32, pixel);
    picture.save(at("four.png")).unwrap();
    let base = ["search", "--run", "small", "--data", "data"];
    let value =
        json(&[&base[..], &["--image", &at("four.png"), "-k", "3", "--out", &at("grid.png")]].concat());
    let hits = value["queries"][0]["hits"].as_array().unwrap();
    assert_eq!((hits.len(), &hits[0]["key"]), (3, &"val-00004".into()));
    assert!(hits[0]["score"].as_f64().unwrap() > 0.99999);
    // The picture is drawn at five times its size, pixel by pixel.
    let grid = image::open(at("grid.png")).unwrap().to_rgb8();
    let is_at = |left: u32, top: u32| {
        let is_drawn = |x: u32, y: u32| grid.get_pixel(left + x, top + y) == picture.get_pixel(x / 5, y / 5);
        (0..160).all(|y| (0..160).all(|x| is_drawn(x, y)))
    };
    let places =
        (0..grid.height() - 160).flat_map(|top| (0..grid.width() - 160).map(move |left| (left, top)));
    assert_eq!(places.filter(|(left, top)| is_at(*left, *top)).count(), 1);

    let queries = ["caption 0 of val 7, naïve ☂", "train"];
    let value = json(&[&base[..], &queries, &["--count", "5", "--out", &at("two.png")]].concat());
    assert_eq!(value["images"], 13);
    let trained = trained();
    for (query, told) in queries.iter().zip(value["queries"].as_array().unwrap()) {
        let text = text_feature(&trained, query);
        let mut expected: Vec<(f64, String)> = (0..13)
            .map(|row| {
                let planar = spec().pixels("val", row);
                let pixel =
                    |x: u32, y: u32| Rgb(std::array::from_fn(|c| planar[c * 1024 + (y * 32 + x) as usize]));
                let image = image_feature(&trained, &RgbImage::from_fn(32, 32, pixel));
                (dot(&image, &text), format!("val-{row:05}"))
            })
            .collect();
        expected.sort_by(|a, b| b.0.total_cmp(&a.0));
        assert_eq!(told["query"], *query);
        for (hit, (score, key)) in told["hits"].as_array().unwrap().iter().zip(&expected) {
            assert_eq!(hit["key"], *key);
            assert!((hit["score"].as_f64().unwrap() - score).abs() < 1e-5);
        }
    }
    assert!(image::open(at("two.png")).unwrap().width() > grid.width());
    let (code, out, _) = run(&[&base[..], &["train", "-k", "2"]].concat());
    assert_eq!((code, out.lines().count()), (0, 4), "{out}");
}

#[test]
fn export_begins_another_run() {
    let folder = tempfile::tempdir().unwrap();
    for (layout, description) in [("open_clip", "open_clip_config.json"), ("hf", "config.json")] {
        let out = folder.path().join(layout).join("model.safetensors");
        fs_err::create_dir(out.parent().unwrap()).unwrap();
        let out = out.to_str().unwrap().to_owned();
        let value = json(&["export", "--run", "small", "--layout", layout, "--out", &out]);
        assert!(value["description"].as_str().unwrap().ends_with(description), "{value}");
        let config = common::config(&["optim.steps=1"]).to_toml().unwrap();
        let file = folder.path().join("next.toml");
        fs_err::write(&file, config).unwrap();
        let weights = format!("model.weights={out}");
        let train = ["train", "--config", file.to_str().unwrap(), "--data", "data", "--set", &weights];
        let (code, _, err) = run(&[&train[..], &["--run", &format!("from_{layout}")]].concat());
        assert_eq!(code, 0, "{err}");
        let (code, _, err) = run(&[&train[..], &["--run", "wide", "--set", "model.embed_dim=17"]].concat());
        assert_eq!(code, 2);
        assert!(err.contains("(look at model.embed_dim)") && err.trim_end().lines().count() == 1, "{err}");
    }
}

#[test]
fn a_mistake_is_one_sentence_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 1, 1);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let images = at("");
    fs_err::write(at("classes.txt"), "red\ngreen\n").unwrap();
    fs_err::write(at("all.txt"), "red\ngreen\nblue\n").unwrap();
    fs_err::write(at("plain.txt"), "a photo of a {}\na photo\n").unwrap();
    fs_err::write(at("good.txt"), "a {}\n").unwrap();
    let zeroshot = |classes: &str, templates: &str| {
        [
            "zeroshot",
            "--run",
            "small",
            "--images",
            &images,
            "--classes",
            &at(classes),
            "--templates",
            &at(templates),
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let table = [
        (zeroshot("none.txt", "good.txt"), "none.txt"),
        (zeroshot("all.txt", "plain.txt"), "line 2 has no {}"),
        (zeroshot("classes.txt", "good.txt"), "no class is for the folder \"blue\""),
        (words("search --run none --data data red"), "runs/none"),
        (words("search --run small --data data --split test red"), "test"),
        (words("search --run small --data data red --out none/x.png"), "none"),
        (words("embed --run small --data data --out none/x.parquet"), "none"),
        (words(&format!("probe --run small --train {images} --test {images} --l2 -1")), "--l2"),
        (words(&format!("probe --run small --train {images} --test {images}")), "give --l2"),
        (words(&format!("probe --run small --train {images} --test {images}/red")), "one folder a class"),
        (words("export --run small --layout hf --out none/x.safetensors"), "none"),
    ];
    for (arguments, expected) in table {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (code, out, err) = run(&arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
    fs_err::write(at("red/000.png"), b"no picture").unwrap();
    let arguments = zeroshot("all.txt", "good.txt");
    let (code, _, err) = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(code, 2);
    assert!(
        err.contains("000.png: it is no picture")
            && err.contains("JPEG and PNG are read")
            && err.trim_end().lines().count() == 1,
        "{err}"
    );
    for command in ["zeroshot", "probe", "search", "embed", "export"] {
        let (code, out, _) = run(&[command, "--help"]);
        assert!(code == 0 && out.contains("Examples:"), "{command}");
    }
}
