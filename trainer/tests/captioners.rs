//! Every family of captioners in the loop and through the real program: it learns, resumes bit for bit, writes captions.

#![allow(clippy::unwrap_used, reason = "a test whose helper fails has failed")]

mod common;

use common::program::{done, run};
use common::{Keep, config, data, train};
use serde_json::Value;
use std::path::{Path, PathBuf};
use trainer::captioner::Captioner;
use trainer::checkpoint::{Checkpoints, read_model, read_state};
use trainer::config::Config;
use trainer::fit::Outcome;

const FAMILIES: [&str; 4] = ["prefix", "prefix_lm", "lora", "diffusion"];

/// The path of a fixture, with its ending.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A small captioner of a family on the tower in `tower`.
fn captioner(family: &str, tower: &Path, set: &[&str]) -> Config {
    let lm = match family {
        "prefix_lm" => format!("lm = {{ source = {:?} }}", fixture("lm/gpt2.gguf")),
        "lora" => format!("lm = {{ source = {:?}, rank = 4, dropout = 0.2 }}", fixture("lm/llama")),
        _ => String::new(),
    };
    let decode = if family == "diffusion" { "diffusion_steps = 3" } else { "" };
    let text = format!(
        "data = {{ batch_size = 7 }}
        tokenizer = {{ vocab_size = 300 }}
        optim = {{ epochs = 0, steps = 6, lr = 1e-2, warmup_steps = 2 }}
        train = {{ log_every = 1, eval_every = 2, checkpoint_every = 0, seed = 3 }}
        [caption]
        family = {family:?}
        tower = {:?}
        features = \"patches\"
        context_length = 32
        mapper = {{ tokens = 3 }}
        decoder = {{ width = 32, layers = 2, heads = 2 }}
        diffusion = {{ width = 32, layers = 2, heads = 2, self_conditioning = true, text_condition = true }}
        {lm}
        [decode]
        {decode}",
        tower.display().to_string()
    );
    let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
    Config::from_toml(&text, "caption.toml", &set).unwrap()
}

/// A data set and a CLIP's run of two steps beside it.
fn tower(runs: &Path) -> (tempfile::TempDir, PathBuf) {
    let (data, tower) = (data(), runs.join("tower"));
    train(&config(&["optim.steps=2"]), data.path(), &tower, false, &mut Keep::default()).unwrap();
    (data, tower)
}

/// The weights of a run's newest checkpoint, in bits.
fn weights(run: &Path) -> Vec<(String, Vec<u32>)> {
    let latest = Checkpoints::of_run(run).latest().unwrap().unwrap();
    let model = read_model(&latest, &read_state(&latest).unwrap(), &candle_core::Device::Cpu).unwrap();
    let bits = |t: &candle_core::Tensor| {
        t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits)
    };
    model.iter().map(|(name, t)| (name.clone(), bits(t).collect())).collect()
}

/// The captions of the validation split.
fn captions(run: &Path, data: &Path, set: &[&str]) -> Vec<String> {
    let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
    let captioner = Captioner::open(run, &set).unwrap();
    let (_, loader) = captioner.open_data(data, None).unwrap();
    let mut found = Vec::new();
    captioner
        .caption(&loader, None, &mut |picture| {
            found.extend(picture.captions.into_iter().map(|caption| caption.text));
            Ok(())
        })
        .unwrap();
    found
}

#[test]
fn every_family_stopped_and_resumed_is_the_same_run() {
    let runs = tempfile::tempdir().unwrap();
    let (data, tower) = tower(runs.path());
    for family in FAMILIES {
        let config = captioner(family, &tower, &["train.ema_decay=0.5"]);
        let straight = runs.path().join(format!("{family}-straight"));
        let mut whole = Keep::default();
        train(&config, data.path(), &straight, false, &mut whole).unwrap();
        assert_eq!(whole.evaluated.iter().map(|r| r.step).collect::<Vec<_>>(), [2, 4, 6]);
        let last = whole.evaluated.last().unwrap();
        let scores = last.caption.as_ref().unwrap();
        assert!(last.averaged && last.loss.unwrap().is_finite() && last.images == 13);
        assert!(
            scores.image_proximity.is_some() && scores.text_proximity.is_some() && scores.cider.is_finite()
        );
        let run = runs.path().join(format!("{family}-stopped"));
        let mut first = Keep::until(3);
        let outcome = train(&config, data.path(), &run, false, &mut first).unwrap();
        assert!(matches!(outcome, Outcome::Stopped { step: 3, .. }), "{outcome:?}");
        let mut second = Keep::default();
        train(&config, data.path(), &run, true, &mut second).unwrap();
        assert_eq!([first.bits(), second.bits()].concat(), whole.bits(), "{family}");
        assert_eq!(weights(&run), weights(&straight), "{family}");
        assert_eq!(captions(&run, data.path(), &[]), captions(&straight, data.path(), &[]));
        let samples = |run: &Path| fs_err::read_to_string(run.join("samples/step-00000006.jsonl")).unwrap();
        assert_eq!(samples(&run), samples(&straight));
        assert_eq!(samples(&run).lines().count(), 13);
    }
}

#[test]
fn every_family_learns_a_few_pictures() {
    let runs = tempfile::tempdir().unwrap();
    let (data, tower) = tower(runs.path());
    for (family, steps, share) in
        [("prefix", 100, 0.3), ("prefix_lm", 100, 0.5), ("lora", 100, 0.5), ("diffusion", 100, 0.7)]
    {
        let steps = format!("optim.steps={steps}");
        let set = [steps.as_str(), "train.eval_every=0", "data.captions=first", "optim.lr=3e-3"];
        let config = captioner(family, &tower, &set);
        let mut keep = Keep::default();
        train(&config, data.path(), &runs.path().join(family), false, &mut keep).unwrap();
        let mean = |rows: &[trainer::metrics::TrainRow]| {
            rows.iter().map(|row| row.loss).sum::<f32>() / rows.len() as f32
        };
        let (first, last) = (mean(&keep.rows[..3]), mean(&keep.rows[keep.rows.len() - 3..]));
        assert!(last < share * first, "{family}: from {first} to {last}");
    }
}

#[test]
fn the_tower_stays_with_the_run_and_another_one_is_refused() {
    let runs = tempfile::tempdir().unwrap();
    let (data, tower) = tower(runs.path());
    let run = runs.path().join("prefix");
    let config = captioner("prefix", &tower, &[]);
    train(&config, data.path(), &run, false, &mut Keep::until(2)).unwrap();
    let before = captions(&run, data.path(), &[]);
    // What a run is read by is what it was trained by.
    let edited = |file: &str, from: &str, to: &str| {
        let (path, text) = (run.join(file), fs_err::read_to_string(run.join(file)).unwrap());
        assert!(text.contains(from), "{text}");
        fs_err::write(&path, text.replace(from, to)).unwrap();
        let told = Captioner::open(&run, &[]).unwrap_err().to_string();
        fs_err::write(&path, text).unwrap();
        told
    };
    let told = edited("config.toml", "heads = 2", "heads = 4");
    assert!(told.contains("caption.decoder.heads 2, and its run has 4 now"), "{told}");
    let told = edited("tower/tokenizer.json", "\"version\"", " \"version\"");
    assert!(told.contains("the tower's tokenizer of digest"), "{told}");
    let width = trainer::run::read_config(&run.join("tower")).unwrap().model.vision.width;
    let told = edited("tower/config.toml", &format!("width = {width}"), "width = 16384");
    assert!(told.contains("model.safetensors") && told.contains("of another shape"), "{told}");
    fs_err::remove_dir_all(&tower).unwrap();
    assert_eq!(captions(&run, data.path(), &[]), before);
    train(&config, data.path(), &run, true, &mut Keep::until(3)).unwrap();
    // A byte of the kept tower changes.
    let kept = run.join("tower/model.safetensors");
    let mut bytes = fs_err::read(&kept).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs_err::write(&kept, bytes).unwrap();
    let told = train(&config, data.path(), &run, true, &mut Keep::default()).unwrap_err().to_string();
    assert!(told.contains("the image tower of digest"), "{told}");
    let told = Captioner::open(&run, &[]).unwrap_err().to_string();
    assert!(told.contains("the image tower of digest"), "{told}");
}

#[test]
fn the_pixels_of_a_residual_network_are_captioned() {
    let runs = tempfile::tempdir().unwrap();
    let (data, tower) = (data(), runs.path().join("tower"));
    let sizes = ["model.preset=nano-rn", "model.vision.image_size=40", "optim.steps=2"];
    train(&config(&sizes), data.path(), &tower, false, &mut Keep::default()).unwrap();
    for skip in 0..=4 {
        let skip = format!("caption.skip_blocks={skip}");
        let config = captioner("prefix", &tower, &["optim.steps=2", &skip]);
        let (run, mut keep) = (runs.path().join(&skip), Keep::default());
        train(&config, data.path(), &run, false, &mut keep).unwrap();
        assert_eq!(captions(&run, data.path(), &[]).len(), 13, "{skip}");
    }
}

#[test]
fn drawn_captions_are_ranked_by_the_tower_on_demand() {
    let runs = tempfile::tempdir().unwrap();
    let (data, tower) = tower(runs.path());
    let run = runs.path().join("prefix");
    train(&captioner("prefix", &tower, &["optim.steps=20"]), data.path(), &run, false, &mut Keep::default())
        .unwrap();
    let program = |words: &[&str]| -> Vec<Value> {
        let (run, data) = (run.to_str().unwrap(), data.path().to_str().unwrap());
        let words = [&["caption", "--run", run, data, "--n", "4", "--limit", "5"], words].concat();
        done(&words, runs.path()).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let near = |picture: &Value| -> Vec<f64> {
        let captions = picture["captions"].as_array().unwrap();
        captions.iter().map(|caption| caption["image_proximity"].as_f64().unwrap()).collect()
    };
    let ranked = program(&["--rerank"]);
    assert_eq!(ranked.len(), 5);
    for picture in &ranked {
        let near = near(picture);
        assert!(near.len() == 4 && near.windows(2).all(|pair| pair[0] >= pair[1]), "{near:?}");
    }
    // Without --rerank they come as they were written, and are the same.
    let as_written = program(&[]);
    let number = |picture: &Value, place: usize| picture["captions"][place]["number"].as_u64().unwrap();
    for (one, other) in as_written.iter().zip(&ranked) {
        assert!((0..4).all(|place| number(one, place as usize) == place));
        let first = (0..4).find(|place| number(other, *place) == 0).unwrap();
        assert_eq!(one["captions"][0], other["captions"][first]);
    }
    assert!(as_written.iter().zip(&ranked).any(|(one, other)| one["captions"] != other["captions"]));
    // The same captions in another run of the program, in another batch, and with the order of writing.
    assert_eq!(ranked, program(&["--rerank", "--set", "decode.seed=0"]));
    assert_ne!(ranked, program(&["--rerank", "--set", "decode.seed=1"]));
    let html = runs.path().join("page.html");
    let results = runs.path().join("results.json");
    program(&["--html", html.to_str().unwrap(), "--results", results.to_str().unwrap()]);
    assert_eq!(fs_err::read_to_string(html).unwrap().matches("data:image/png").count(), 5);
    let results: Value = serde_json::from_slice(&fs_err::read(results).unwrap()).unwrap();
    assert_eq!(results.as_array().unwrap().len(), 5);
    assert_eq!(results[0]["image_id"], ranked[0]["key"]);
}

#[test]
fn files_of_pictures_are_captioned() {
    let runs = tempfile::tempdir().unwrap();
    let (data, tower) = tower(runs.path());
    let run_folder = runs.path().join("prefix");
    train(&captioner("prefix", &tower, &[]), data.path(), &run_folder, false, &mut Keep::default()).unwrap();
    let picture = fixture("picture_wide.png");
    let name = run_folder.to_str().unwrap();
    let out = done(&["caption", "--run", name, picture.to_str().unwrap()], runs.path());
    let line: Value = serde_json::from_str(out.trim()).unwrap();
    assert_eq!(line["captions"].as_array().unwrap().len(), 1);
    // Several are written as one would be, and each name has its line.
    let [one, page] = [picture.to_str().unwrap(), "page.html"];
    let many = done(&["caption", "--run", name, one, one, "--html", page], runs.path());
    assert_eq!(many.lines().count(), 2);
    assert_eq!(fs_err::read_to_string(runs.path().join(page)).unwrap().matches("data:image/png").count(), 2);
    let (code, _, err) = run(&["caption", "--run", name, one, "--rerank"], runs.path());
    assert!(code == 2 && err.contains("--n"), "{err}");
    for (more, word) in [
        (&["--results", "r.json", one][..], "given again"),
        (&["-n", "2", "--set", "decode.candidates=4"], "the same thing"),
        (&["--set", "decode.steps=4"], "decode.diffusion_steps"),
    ] {
        let (code, _, err) = run(&[&["caption", "--run", name, one][..], more].concat(), runs.path());
        assert!(code == 2 && err.contains(word), "{err}");
    }
    fs_err::write(runs.path().join("moving.gif"), b"GIF89a\x01\0\x01\0\0\0\0;").unwrap();
    let (code, _, err) = run(&["caption", "--run", name, "moving.gif"], runs.path());
    assert!(code == 2 && err.contains("JPEG and PNG are read") && !err.contains("damaged"), "{err}");
    let (code, _, err) = run(&["caption", "--run", name, "nowhere.png"], runs.path());
    assert!(code == 2 && err.contains("nowhere.png"), "{err}");
    fs_err::write(runs.path().join("no.png"), b"no picture").unwrap();
    let (code, _, err) = run(&["caption", "--run", name, "no.png"], runs.path());
    assert!(code == 2 && err.contains("no.png"), "{err}");
    let (code, _, err) = run(&["caption", "--run", "tower", "--runs-dir", ".", "no.png"], runs.path());
    assert!(code == 2 && err.contains("a captioner"), "{err}");
    let set = ["caption", "--run", name, "no.png", "--set", "optim.lr=1"];
    let (code, _, err) = run(&set, runs.path());
    assert!(code == 2 && err.contains("[decode]"), "{err}");
}

#[test]
fn what_does_not_fit_is_told_before_a_run_begins() {
    let runs = tempfile::tempdir().unwrap();
    let (data, tower) = tower(runs.path());
    let told = |config: Config| {
        let run = runs.path().join("refused");
        let told = train(&config, data.path(), &run, false, &mut Keep::default()).unwrap_err().to_string();
        assert!(!run.exists(), "a refused start leaves no folder");
        told
    };
    let nowhere = told(captioner("prefix", Path::new("nowhere"), &[]));
    assert!(nowhere.contains("caption.tower") && nowhere.contains("nowhere"), "{nowhere}");
    let foreign = runs.path().join("foreign.safetensors");
    fs_err::copy(fixture("ops.safetensors"), &foreign).unwrap();
    let foreign = told(captioner("prefix", &foreign, &[]));
    assert!(foreign.contains("neither open_clip's names"), "{foreign}");
    let deep = told(captioner("prefix", &tower, &["caption.skip_blocks=99"]));
    assert!(deep.contains("`caption.skip_blocks = 99`") && deep.contains("at most"), "{deep}");
    let gone = told(captioner("lora", &tower, &["caption.lm.source=gone.gguf"]));
    assert!(gone.contains("gone.gguf"), "{gone}");
    let refused = |set: &[&str]| {
        let text = "[caption]\nfamily = \"prefix\"\ntower = \"t\"";
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        Config::from_toml(text, "t.toml", &set).unwrap_err().to_string()
    };
    for (set, key) in [
        ("caption.lm.source=x", "caption.lm.source"),
        ("caption.decoder.heads=3", "caption.decoder.heads"),
        ("train.monitor=recall_at_1", "train.monitor"),
        ("train.chunk_size=2", "train.chunk_size"),
        ("train.sample_ledger=true", "train.sample_ledger"),
        ("decode.candidates=3", "decode.candidates"),
        ("decode.max_length=99", "decode.max_length"),
        ("decode.min_length=99", "decode.min_length"),
        ("caption.family=lora", "caption.lm.source"),
        ("caption.diffusion.stride=2000", "caption.diffusion.stride"),
        ("decode.guidance=2.0", "decode.guidance"),
        ("loss.label_smoothing=0.1", "loss.label_smoothing"),
    ] {
        let told = refused(&[set]);
        assert!(told.contains(&format!("`{key} =")), "{set}: {told}");
    }
    let told = refused(&["decode.guidance=2.0"]);
    assert!(
        told.ends_with("give 1.0; another value has no use in a family that writes token by token"),
        "{told}"
    );
    for (family, set, key) in [
        ("diffusion", "decode.no_repeat_ngram=3", "decode.no_repeat_ngram"),
        ("diffusion", "decode.method=beam", "decode.method"),
        ("diffusion", "decode.diffusion_steps=3000", "decode.diffusion_steps"),
        ("prefix_lm", "caption.lm.rank=4", "caption.lm.rank"),
        ("prefix", "caption.lm.dropout=0.9", "caption.lm.dropout"),
    ] {
        let source = if family == "prefix_lm" { "x" } else { "" };
        let told =
            refused(&[&format!("caption.family={family}"), &format!("caption.lm.source={source}"), set]);
        assert!(told.contains(&format!("`{key} =")), "{set}: {told}");
    }
    let fine =
        ["caption.family=diffusion", "caption.diffusion.predicts=previous", "caption.diffusion.stride=1"];
    let told = refused(&[&fine[..], &["caption.diffusion.steps=100000"]].concat());
    assert!(told.contains("`caption.diffusion.stride ="), "{told}");
}

#[test]
fn what_the_tower_saw_is_read_from_side_tables() {
    let runs = tempfile::tempdir().unwrap();
    let (data, tower) = tower(runs.path());
    let config = captioner("prefix", &tower, &[]);
    let (mut computed, mut stored) = (Keep::default(), Keep::default());
    train(&config, data.path(), &runs.path().join("computed"), false, &mut computed).unwrap();
    assert!(computed.notes.is_empty(), "{:?}", computed.notes);
    let stopped = runs.path().join("stopped");
    train(&config, data.path(), &stopped, false, &mut Keep::until(2)).unwrap();
    let (tower_name, data_name) = (tower.to_str().unwrap(), data.path().to_str().unwrap());
    let words = ["embed", "--run", tower_name, "--data", data_name, "--side-table", "--json"];
    let written: Value = serde_json::from_str(&done(&words, runs.path())).unwrap();
    let images: Vec<u64> =
        written.as_array().unwrap().iter().map(|t| t["images"].as_u64().unwrap()).collect();
    assert_eq!(images.iter().sum::<u64>(), 43);
    // 2 × 2 patches of 32 numbers.
    assert_eq!(written[0]["numbers"], 128);
    let run = runs.path().join("stored");
    train(&config, data.path(), &run, false, &mut stored).unwrap();
    assert_eq!(stored.notes.len(), 2, "{:?}", stored.notes);
    for (a, b) in computed.rows.iter().zip(&stored.rows) {
        assert!((a.loss - b.loss).abs() < 1e-4, "{} against {}", a.loss, b.loss);
    }
    assert_eq!(captions(&run, data.path(), &[]), captions(&runs.path().join("computed"), data.path(), &[]));
    // A run that began without the table goes on without, to the same bits; one that began with it needs it.
    train(&config, data.path(), &stopped, true, &mut Keep::default()).unwrap();
    assert_eq!(weights(&stopped), weights(&runs.path().join("computed")));
    let bare = self::data();
    train(&config, data.path(), &runs.path().join("begun"), false, &mut Keep::until(2)).unwrap();
    let told = train(&config, bare.path(), &runs.path().join("begun"), true, &mut Keep::default());
    assert!(told.unwrap_err().to_string().contains("picture features read from a side table"));
    // Pictures that are changed are looked at.
    let changed = captioner("prefix", &tower, &["data.augment.flip=1.0"]);
    let mut keep = Keep::default();
    train(&changed, data.path(), &runs.path().join("changed"), false, &mut keep).unwrap();
    assert_eq!(keep.notes.len(), 1, "{:?}", keep.notes);
    assert!(keep.rows.iter().zip(&stored.rows).any(|(a, b)| (a.loss - b.loss).abs() > 1e-3));
    // Another tower has another table.
    let other = captioner("prefix", &tower, &["caption.features=vector"]);
    let mut keep = Keep::default();
    train(&other, data.path(), &runs.path().join("other"), false, &mut keep).unwrap();
    assert!(keep.notes.is_empty(), "{:?}", keep.notes);
    // A damaged table is told.
    let table = written[0]["table"].as_str().unwrap();
    let split = written[0]["split"].as_str().unwrap();
    let file = data.path().join(split).join(format!("shard-000000.{table}.arrow"));
    let mut bytes = fs_err::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&file, bytes).unwrap();
    let told = train(&config, data.path(), &runs.path().join("damaged"), false, &mut Keep::default());
    let told = told.unwrap_err().to_string();
    assert!(told.contains("BLAKE3") && told.contains(table), "{told}");
}

#[test]
fn captions_are_scored_as_they_are_evaluated() {
    let runs = tempfile::tempdir().unwrap();
    let (data, tower) = tower(runs.path());
    let run_folder = runs.path().join("prefix");
    train(&captioner("prefix", &tower, &[]), data.path(), &run_folder, false, &mut Keep::default()).unwrap();
    let (name, data_name) = (run_folder.to_str().unwrap(), data.path().to_str().unwrap());
    let files = ["--results", "results.json", "--references", "references.json"];
    done(&[&["caption", "--run", name, data_name], files.as_slice()].concat(), runs.path());
    let words = ["score", "--hypotheses", "results.json", "--references", "references.json", "--json"];
    let clip = ["--tower", tower.to_str().unwrap(), "--data", data_name];
    let scored: Value =
        serde_json::from_str(&done(&[words.as_slice(), &clip].concat(), runs.path())).unwrap();
    let kept = ["--results", "evaluated.json", "--html", "evaluated.html"];
    let words = [&["eval", "--run", name, "--data", data_name, "--json"], kept.as_slice()].concat();
    let found: Value = serde_json::from_str(&done(&words, runs.path())).unwrap();
    let read = |name: &str| fs_err::read_to_string(runs.path().join(name)).unwrap();
    assert_eq!(read("evaluated.json"), read("results.json"), "one greedy captioner, the same captions");
    assert_eq!(read("evaluated.html").matches("<img").count(), 13);
    let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-6;
    assert!(close(&scored["CIDEr"], &found["captions"]["cider"]), "{scored} {found}");
    assert!(close(&scored["Bleu_4"], &found["captions"]["bleu_4"]));
    assert!(close(&scored["clip"]["image_proximity"]["mean"], &found["captions"]["image_proximity"]));
    assert!(close(&scored["clip"]["text_proximity"]["mean"], &found["captions"]["text_proximity"]));
    assert_eq!(scored["clip"]["images"], 13);
    fs_err::write(runs.path().join("none.json"), "[]").unwrap();
    let words = ["score", "--hypotheses", "none.json", "--references", "references.json"];
    let (code, _, err) = run(&words, runs.path());
    assert!(code == 2 && err.contains("13 of 13 images") && err.contains("(--skip-missing)"), "{err}");
    let words = ["eval", "--run", name, "--data", data_name, "--n", "3", "--json"];
    let found: Value = serde_json::from_str(&done(&words, runs.path())).unwrap();
    assert_eq!(found["trained_on_this_data_set"], true);
    let near = |row: &str| found["reranking"][row]["image_proximity"].as_f64().unwrap();
    assert!(near("CLIP's favourite") >= near("the mean"), "{found}");
    let table = done(&["eval", "--run", name, "--data", data_name, "--n", "3"], runs.path());
    assert!(table.contains("CIDEr") && table.contains("CLIP's favourite"), "{table}");
    // Commands for the other kind of model say so.
    let (code, _, err) = run(&["search", "--run", name, "--data", data_name, "a dog"], runs.path());
    assert!(code == 2 && err.contains("captioner"), "{err}");
    let (code, _, err) =
        run(&["eval", "--run", tower.to_str().unwrap(), "--data", data_name, "--n", "2"], runs.path());
    assert!(code == 2 && err.contains("captioners"), "{err}");
    // A file that cannot be written is told before pictures are described.
    for command in [&["caption", "--run", name, data_name][..], &["eval", "--run", name, "--data", data_name]]
    {
        for option in ["--results", "--html"] {
            let (code, out, err) = run(&[command, &[option, "none/there"]].concat(), runs.path());
            assert!(
                code == 2 && err.contains("none") && err.contains("folder") && out.is_empty(),
                "{out} {err}"
            );
        }
    }
}

#[test]
fn corrections_are_exported_alone_and_merged() {
    let runs = tempfile::tempdir().unwrap();
    let (data, tower) = tower(runs.path());
    let run_folder = runs.path().join("lora");
    train(
        &captioner("lora", &tower, &["optim.steps=4"]),
        data.path(),
        &run_folder,
        false,
        &mut Keep::default(),
    )
    .unwrap();
    let name = run_folder.to_str().unwrap();
    // The language model moves, and the run is told where it is.
    let config = run_folder.join("config.toml");
    let text = fs_err::read_to_string(&config).unwrap();
    let (there, moved) = (fixture("lm/llama"), runs.path().join("moved"));
    fs_err::create_dir(&moved).unwrap();
    for file in fs_err::read_dir(&there).unwrap() {
        let file = file.unwrap();
        fs_err::copy(file.path(), moved.join(file.file_name())).unwrap();
    }
    fs_err::write(&config, text.replace(there.to_str().unwrap(), moved.to_str().unwrap())).unwrap();
    assert_eq!(captions(&run_folder, data.path(), &[]).len(), 13);
    let out = done(&["export", "--run", name, "--layout", "peft", "--out", "adapter", "--json"], runs.path());
    let exported: Value = serde_json::from_str(&out).unwrap();
    // Two blocks of seven layers, A and B each.
    assert_eq!(exported["tensors"], 28);
    let adapter = runs.path().join("adapter");
    let tensors =
        candle_core::safetensors::load(adapter.join("adapter_model.safetensors"), &candle_core::Device::Cpu)
            .unwrap();
    assert_eq!(tensors["base_model.model.model.layers.1.mlp.down_proj.lora_A.weight"].dims(), [4, 64]);
    let config: Value =
        serde_json::from_slice(&fs_err::read(adapter.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&config["r"], config["target_modules"].as_array().unwrap().len()), (&Value::from(4), 7));
    done(&["export", "--run", name, "--layout", "merged", "--out", "merged"], runs.path());
    let merged = runs.path().join("merged");
    trainer::lm::LanguageModel::open(merged.to_str().unwrap(), "", &candle_core::Device::Cpu).unwrap();
    assert!(merged.join("mapper.safetensors").is_file());
    let prefix = runs.path().join("prefix");
    train(
        &captioner("prefix", &tower, &["optim.steps=2"]),
        data.path(),
        &prefix,
        false,
        &mut Keep::default(),
    )
    .unwrap();
    let words = ["export", "--run", prefix.to_str().unwrap(), "--layout", "peft", "--out", "none"];
    let (code, _, err) = run(&words, runs.path());
    assert!(code == 2 && err.contains("no corrections"), "{err}");
}

#[test]
fn a_tower_that_is_a_file_serves_without_its_text_side() {
    let runs = tempfile::tempdir().unwrap();
    let (data, tower) = tower(runs.path());
    let file = runs.path().join("clip.safetensors");
    let words = [
        "export",
        "--run",
        tower.to_str().unwrap(),
        "--layout",
        "open_clip",
        "--out",
        file.to_str().unwrap(),
    ];
    done(&words, runs.path());
    let sizes = ["model.preset=nano", "optim.steps=2"];
    let config = captioner("prefix", &file, &sizes);
    let mut keep = Keep::default();
    let from_file = runs.path().join("from_file");
    train(&config, data.path(), &from_file, false, &mut keep).unwrap();
    let scores = keep.evaluated.last().unwrap().caption.clone().unwrap();
    assert!(scores.image_proximity.is_none() && scores.text_proximity.is_none());
    // A run over a file is used again, also one that a captioner's score chose the checkpoint of.
    Captioner::open(&from_file, &[]).unwrap();
    let chosen = runs.path().join("chosen");
    let config = captioner("prefix", &file, &["model.preset=nano", "optim.steps=2", "train.monitor=cider"]);
    train(&config, data.path(), &chosen, false, &mut Keep::default()).unwrap();
    Captioner::open(&chosen, &[]).unwrap();
    // Another tokenizer would read its numbers as other words.
    let kept = chosen.join("tokenizer.json");
    let text = fs_err::read_to_string(&kept).unwrap();
    fs_err::write(&kept, format!("{text}\n")).unwrap();
    let told = Captioner::open(&chosen, &[]).unwrap_err().to_string();
    assert!(told.contains("the tokenizer of digest"), "{told}");
    // The same weights see the same, with a text side or without.
    let mut of_run = Keep::default();
    let config = captioner("prefix", &tower, &["optim.steps=2"]);
    train(&config, data.path(), &runs.path().join("of_run"), false, &mut of_run).unwrap();
    assert_eq!(keep.bits(), of_run.bits());
    for set in ["train.monitor=image_proximity", "caption.tower_tokenizer=gone.json"] {
        let config = captioner("prefix", &file, &[sizes[0], set]);
        let run = runs.path().join("refused");
        let told = train(&config, data.path(), &run, false, &mut Keep::default()).unwrap_err().to_string();
        assert!(told.contains("tower_tokenizer") || told.contains("gone.json"), "{told}");
    }
    let tokenizer =
        format!("caption.tower_tokenizer={:?}", runs.path().join("tokenizer.json").display().to_string());
    let config = captioner("prefix", &file, &[sizes[0], sizes[1], &tokenizer]);
    let mut with = Keep::default();
    train(&config, data.path(), &runs.path().join("with"), false, &mut with).unwrap();
    assert!(with.evaluated.last().unwrap().caption.clone().unwrap().image_proximity.is_some());
}
