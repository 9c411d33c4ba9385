//! Checkpoints come back as they were, old ones go, half ones are never seen.

use super::*;

fn identity(config: &Config) -> Identity<'_> {
    Identity { config, loader: loader("aa"), tokenizer: "bb" }
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
    let path = Checkpoints::of_run(run.path()).save(state(7), &tensors(0.1), &tensors(0.2), 2).unwrap();
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
        checkpoints.save(state(step), &tensors(1.0), &tensors(1.0), 3).unwrap();
    }
    let steps: Vec<u64> = checkpoints.list().unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [10, 20, 100]);
    let folder = run.path().join("checkpoints");
    fs::create_dir(folder.join("step-00000900")).unwrap();
    fs::create_dir(folder.join(".step-00000950.tmp")).unwrap();
    assert!(checkpoints.latest().unwrap().unwrap().ends_with("step-00000100"));
    checkpoints.save(state(100), &tensors(2.0), &tensors(1.0), 3).unwrap();
    assert!(!folder.join(".step-00000950.tmp").exists());
    let found = read_state(&checkpoints.latest().unwrap().unwrap()).unwrap();
    let model = read_model(&checkpoints.latest().unwrap().unwrap(), &found, &Device::Cpu).unwrap();
    assert_eq!(bits(&model), bits(&tensors(2.0)));
}

#[test]
fn a_changed_byte_is_found() {
    let run = tempfile::tempdir().unwrap();
    let path = Checkpoints::of_run(run.path()).save(state(7), &tensors(0.1), &tensors(0.2), 2).unwrap();
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
    let table: [(&str, Change, &str, &str); 4] = [
        ("model.vision.layers", |c| c.model.vision.layers = 9, "6", "9"),
        ("model.embed_dim", |c| c.model.embed_dim = 7, "128", "7"),
        ("data.batch_size", |c| c.data.batch_size = 9, "64", "9"),
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
    state.check(path, identity(&free)).unwrap();
}
