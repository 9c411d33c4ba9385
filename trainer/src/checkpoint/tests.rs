//! Checkpoints come back as they were, old ones go, half ones are never seen.

use super::*;

static NOTHING: BTreeMap<String, String> = BTreeMap::new();

fn identity(config: &Config) -> Identity<'_> {
    Identity { config, loader: loader("aa"), tokenizer: "bb", frozen: &NOTHING }
}

/// The state of a loader over data with this fingerprint; leaked, a test being short.
fn loader(fingerprint: &str) -> &'static LoaderState {
    Box::leak(Box::new(LoaderState {
        seed: 0,
        epoch: 0,
        position: 0,
        fingerprint: fingerprint.to_owned(),
        order: "global".to_owned(),
        selection: "all".to_owned(),
        history: loader::History::since(0, 0),
    }))
}

fn state(step: u64) -> State {
    let mut state = State::begin(identity(&Config::default())).unwrap();
    state.step = step;
    state
}

fn tensors(value: f32) -> Tensors {
    let tensor = Tensor::from_vec(vec![value, f32::MIN_POSITIVE, -0.0], 3, &Device::Cpu).unwrap();
    let scalar = Tensor::new(value, &Device::Cpu).unwrap();
    [("a.weight".to_owned(), tensor), ("logit_scale".to_owned(), scalar)].into()
}

/// A checkpoint's weights; leaked, a test being short.
fn weights(model: f32, optimizer: f32) -> Weights<'static> {
    let leak = |value| -> &'static Tensors { Box::leak(Box::new(tensors(value))) };
    Weights { model: leak(model), optimizer: leak(optimizer), averaged: None, samples: None }
}

fn bits(tensors: &Tensors) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let row = |(name, t): (&String, &Tensor)| {
        let values = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (name.clone(), t.dims().to_vec(), values.into_iter().map(f32::to_bits).collect())
    };
    tensors.iter().map(row).collect()
}

#[test]
fn what_is_saved_comes_back_bit_for_bit() {
    let run = tempfile::tempdir().unwrap();
    let path = Checkpoints::of_run(run.path()).save(state(7), &weights(0.1, 0.2), 2).unwrap();
    let found = read_state(&path).unwrap();
    assert_eq!(found.step, 7);
    assert_eq!(bits(&read_model(&path, &found, &Device::Cpu).unwrap()), bits(&tensors(0.1)));
    assert_eq!(bits(&read_optimizer(&path, &found, &Device::Cpu).unwrap()), bits(&tensors(0.2)));
}

#[test]
fn the_newest_are_kept_and_half_ones_are_not_seen() {
    let run = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::of_run(run.path());
    assert_eq!(checkpoints.latest().unwrap(), None);
    for step in [5, 10, 100, 20] {
        checkpoints.save(state(step), &weights(1.0, 1.0), 3).unwrap();
    }
    let steps: Vec<u64> = checkpoints.list().unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [10, 20, 100]);
    let folder = run.path().join("checkpoints");
    fs::create_dir(folder.join("step-00000900")).unwrap();
    fs::create_dir(folder.join(".step-00000950.tmp")).unwrap();
    assert!(checkpoints.latest().unwrap().unwrap().ends_with("step-00000100"));
    checkpoints.save(state(100), &weights(2.0, 1.0), 3).unwrap();
    assert!(!folder.join(".step-00000950.tmp").exists());
    let found = read_state(&checkpoints.latest().unwrap().unwrap()).unwrap();
    let model = read_model(&checkpoints.latest().unwrap().unwrap(), &found, &Device::Cpu).unwrap();
    assert_eq!(bits(&model), bits(&tensors(2.0)));
}

#[test]
fn averaged_weights_have_a_file_of_their_own_and_are_what_is_evaluated() {
    let run = tempfile::tempdir().unwrap();
    let checkpoints = Checkpoints::of_run(run.path());
    let averaged = tensors(0.3);
    let with = Weights { averaged: Some(&averaged), ..weights(0.1, 0.2) };
    let path = checkpoints.save(state(7), &with, 2).unwrap();
    let found = read_state(&path).unwrap();
    let averaged = read_averaged(&path, &found, &Device::Cpu).unwrap().unwrap();
    assert_eq!(bits(&averaged), bits(&tensors(0.3)));
    assert_eq!(bits(&read_evaluated(&path, &found, &Device::Cpu).unwrap()), bits(&tensors(0.3)));
    let path = checkpoints.save(state(8), &weights(0.1, 0.2), 2).unwrap();
    let found = read_state(&path).unwrap();
    assert!(read_averaged(&path, &found, &Device::Cpu).unwrap().is_none());
    assert_eq!(bits(&read_evaluated(&path, &found, &Device::Cpu).unwrap()), bits(&tensors(0.1)));
}

#[test]
fn a_state_of_another_version_or_of_something_else_is_named() {
    let run = tempfile::tempdir().unwrap();
    let path = Checkpoints::of_run(run.path()).save(state(7), &weights(0.1, 0.2), 2).unwrap();
    for (json, expected) in [
        ("{\"version\": 2, \"step\": 7}", "it has version 2, and this program reads version 3"),
        ("{\"version\": 3, \"step\": 7}", "missing field"),
        ("[]", "it has version null"),
        ("{", "state.json is damaged"),
    ] {
        fs::write(path.join(STATE), json).unwrap();
        let text = read_state(&path).unwrap_err().to_string();
        assert!(text.contains(expected) && text.contains("state.json"), "{text}");
    }
}

#[test]
fn a_changed_byte_is_found() {
    let run = tempfile::tempdir().unwrap();
    let path = Checkpoints::of_run(run.path()).save(state(7), &weights(0.1, 0.2), 2).unwrap();
    let found = read_state(&path).unwrap();
    for file in [MODEL, OPTIMIZER] {
        let mut bytes = fs::read(path.join(file)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path.join(file), bytes).unwrap();
        let error = read_tensors(&path, file, &found, &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains("damaged"), "{error}");
    }
}

#[test]
fn another_data_set_tokenizer_model_or_seed_is_refused_with_both_values() {
    let config = Config::default();
    let state = state(3);
    let path = Path::new("runs/x/checkpoints/step-00000003");
    state.check(path, identity(&config)).unwrap();
    let complaint = |identity: Identity<'_>| state.check(path, identity).unwrap_err().to_string();
    let text = complaint(Identity { loader: loader("cc"), ..identity(&config) });
    assert!(text.contains("fingerprint aa") && text.contains("cc"), "{text}");
    let text = complaint(Identity { tokenizer: "dd", ..identity(&config) });
    assert!(text.contains("tokenizer of digest bb") && text.contains("dd"), "{text}");
    type Change = fn(&mut Config);
    let table: [(&str, Change, &str, &str); 14] = [
        ("loss.kind", |c| c.loss.kind = crate::config::LossKind::Siglip, "\"infonce\"", "\"siglip\""),
        ("loss.label_smoothing", |c| c.loss.label_smoothing = 0.1, "0.0", "0.1"),
        ("model.learn_temperature", |c| c.model.learn_temperature = false, "true", "false"),
        ("optim.kind", |c| c.optim.kind = crate::config::OptimizerKind::Adam, "adamw", "adam"),
        ("optim.accum_steps", |c| c.optim.accum_steps = 2, "1", "2"),
        ("train.ema_decay", |c| c.train.ema_decay = 0.5, "0", "0.5"),
        ("train.freeze", |c| c.train.freeze = vec!["visual".into()], "[]", "[\"visual\"]"),
        ("model.vision.layers", |c| c.model.vision.layers = 9, "6", "9"),
        ("model.embed_dim", |c| c.model.embed_dim = 7, "128", "7"),
        ("data.batch_size", |c| c.data.batch_size = 9, "64", "9"),
        ("model.vision.pool", |c| c.model.vision.pool = crate::model::Pool::Mean, "its default", "\"mean\""),
        ("model.vision.depths", |c| c.model.vision.depths = [1; 4], "its default", "[1,1,1,1]"),
        ("data.augment.flip", |c| c.data.augment.flip = 0.5, "0.0", "0.5"),
        ("train.seed", |c| c.train.seed = 9, "0", "9"),
    ];
    for (key, change, then, now) in table {
        let mut config = Config::default();
        change(&mut config);
        let text = complaint(identity(&config));
        assert!(text.contains(&format!("{key} {then}, but this run has {now}")), "{text}");
    }
    let mut free = Config::default();
    free.train.threads = 7;
    free.data.val_fraction = 0.5;
    free.optim.lr = 1.0;
    free.train.chunk_size = 8;
    free.train.recompute = true;
    free.train.patience = 3;
    state.check(path, identity(&free)).unwrap();
}

#[test]
fn what_is_read_and_never_learned_belongs_to_a_run() {
    let config = Config::default();
    let with = |digest: &str| BTreeMap::from([("the image tower of digest".to_owned(), digest.to_owned())]);
    let (one, other) = (with("aa"), with("bb"));
    let state = State::begin(Identity { frozen: &one, ..identity(&config) }).unwrap();
    assert!(state.check(Path::new("here"), Identity { frozen: &one, ..identity(&config) }).is_ok());
    let error = state.check(Path::new("here"), Identity { frozen: &other, ..identity(&config) }).unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("the image tower of digest") && told.contains("aa") && told.contains("bb"),
        "{told}"
    );
    let told = state.check(Path::new("here"), identity(&config)).unwrap_err().to_string();
    assert!(told.contains("the image tower of digest aa, but this run has none"), "{told}");
    assert!(state.check_frozen(Path::new("here"), &one).is_ok());
    let told = state.check_frozen(Path::new("here"), &other).unwrap_err().to_string();
    assert!(told.contains("its run has bb now"), "{told}");
    // What an earlier program did not record is not held against its checkpoints.
    let state = State::begin(identity(&config)).unwrap();
    assert!(state.check_frozen(Path::new("here"), &one).is_ok());
    assert!(state.check(Path::new("here"), Identity { frozen: &one, ..identity(&config) }).is_ok());
}

#[test]
fn weights_are_read_as_what_was_trained() {
    let tokenizer = Tokenizer::train(["a cat"], 300).unwrap();
    let of = |set: &[&str]| {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        Config::from_toml(
            "[caption]\nfamily = \"lora\"\ntower = \"t\"\nlm = { source = \"a\" }",
            "t.toml",
            &set,
        )
        .unwrap()
    };
    let (clip, lora, digest) = (Config::default(), of(&[]), tokenizer.digest());
    let begun = |config| State::begin(Identity { tokenizer: &digest, ..identity(config) }).unwrap();
    let told = |state: &State, config: &Config, tokenizer: &Tokenizer| {
        state.check_read(Path::new("here"), config, tokenizer).map_err(|error| error.to_string())
    };
    for same in [of(&[]), of(&["caption.lm.source=b", "caption.tower=u", "optim.lr=1"])] {
        assert_eq!(told(&begun(&lora), &same, &tokenizer), Ok(()));
    }
    let alpha = told(&begun(&lora), &of(&["caption.lm.alpha=3"]), &tokenizer).unwrap_err();
    assert!(alpha.contains("caption.lm.alpha") && alpha.ends_with("put back what was there"), "{alpha}");
    let half = Config::from_toml("", "t.toml", &["data.normalize=half".to_owned()]).unwrap();
    assert!(told(&begun(&clip), &half, &tokenizer).unwrap_err().contains("data.normalize"));
    let heads = Config::from_toml("", "t.toml", &["model.text.heads=2".to_owned()]).unwrap();
    assert!(told(&begun(&clip), &heads, &tokenizer).unwrap_err().contains("model.text.heads"));
    let other = Tokenizer::train(["a dog", "a dog"], 300).unwrap();
    assert!(told(&begun(&clip), &clip, &other).unwrap_err().contains("the tokenizer of digest"));
}
