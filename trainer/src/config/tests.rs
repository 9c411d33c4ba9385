//! What the configuration refuses, in which words, and that it survives a round trip.

use super::*;

fn resolve(text: &str, overrides: &[&str]) -> Result<Config> {
    let overrides: Vec<String> = overrides.iter().map(|s| (*s).to_owned()).collect();
    Config::from_toml(text, "test.toml", &overrides)
}

fn complaint(text: &str, overrides: &[&str]) -> String {
    resolve(text, overrides).unwrap_err().to_string()
}

#[test]
fn defaults_survive_a_round_trip() {
    let config = resolve("", &[]).unwrap();
    assert_eq!(config, Config::default());
    let again = resolve(&config.to_toml().unwrap(), &[]).unwrap();
    assert_eq!(again, config);
}

#[test]
fn a_preset_is_the_base_and_single_sizes_lie_over_it() {
    let config =
        resolve("[model]\npreset = \"nano\"\n[model.text]\nlayers = 3\n", &["model.embed_dim=24"]).unwrap();
    assert_eq!((config.model.vision.image_size, config.model.vision.width), (32, 32));
    assert_eq!(config.model.text.layers, 3);
    assert_eq!(config.model.embed_dim, 24);
    assert_eq!(resolve(&config.to_toml().unwrap(), &[]).unwrap(), config);
}

#[test]
fn overrides_win_over_the_file() {
    let config = resolve("[optim]\nlr = 0.1\n", &["optim.lr=3e-4", "data.order=none"]).unwrap();
    assert_eq!(config.optim.lr, 3e-4);
    assert_eq!(config.data.order, loader::Order::None);
}

#[test]
fn every_order_of_the_loader_may_be_given() {
    for name in ["global", "none", "auto", "block:4x8", "shard-buffer:1000"] {
        let config = resolve("", &[&format!("data.order={name}")]).unwrap();
        assert_eq!(config.data.order.to_string(), name);
        assert_eq!(resolve(&config.to_toml().unwrap(), &[]).unwrap(), config);
    }
}

#[test]
fn the_tokenizer_may_be_given_as_one_string() {
    let config = resolve("tokenizer = \"a/b\"\n", &[]).unwrap();
    assert_eq!(config.tokenizer.source, "a/b");
    let config = resolve("tokenizer = \"a/b\"\n", &["tokenizer=c/d"]).unwrap();
    assert_eq!(config.tokenizer.source, "c/d");
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let text = complaint("[optim]\nlearning_rte = 1\n", &[]);
    assert!(text.starts_with("`optim.learning_rte` is not a key"), "{text}");
    assert!(complaint("[optim]\nwieght_decay = 1\n", &[]).contains("`optim.weight_decay`"));
    assert!(complaint("", &["batch_size=3"]).contains("`data.batch_size`"));
    assert!(complaint("", &["train.sed=3"]).contains("`train.seed`"));
    assert!(complaint("[trian]\nseed = 1\n", &[]).contains("`trian`"));
}

#[test]
fn a_bad_value_names_key_value_and_what_is_allowed() {
    let table = [
        ("optim.lr=-1", "`optim.lr = -1` is not allowed: give a number above 0, at most 10"),
        ("optim.lr=fast", "`optim.lr = \"fast\"` is not allowed"),
        ("optim.lr=nan", "`optim.lr = nan` is not allowed"),
        ("data.fraction=0", "a number above 0, at most 1"),
        ("data.batch_size=1", "a whole number from 2 to 65536"),
        ("data.batch_size=2.5", "`data.batch_size = 2.5`"),
        ("data.order=sorted", "\"block:SAMPLESxBLOCKS\" or \"shard-buffer:SAMPLES\""),
        ("data.order=shard-buffer:0", "`data.order = \"shard-buffer:0\"` is not allowed"),
        ("data.captions=some", "one of \"random\", \"first\""),
        ("data.shuffle_captions=1", "true or false"),
        ("model.preset=huge", "\"vit-b-32\""),
        ("model.vision.patch_size=7", "a divisor of model.vision.image_size, which is 64"),
        ("model.text.heads=3", "a divisor of model.text.width, which is 128"),
        ("optim.beta2=1.0", "a number from 0 to below 1"),
        ("optim.epochs=0", "a number of epochs above 0, or a number of optim.steps"),
        ("optim.epochs=-0.5", "`optim.epochs = -0.5` is not allowed: give a number from 0 to 1000000"),
        ("optim.kind=sgd", "one of \"adamw\", \"adam\""),
        ("optim.schedule=step", "one of \"cosine\", \"linear\", \"exponential\", \"constant\""),
        ("optim.accum_steps=0", "a whole number from 1 to 65536"),
        ("loss.kind=triplet", "one of \"infonce\", \"siglip\""),
        ("loss.label_smoothing=1.0", "a number from 0 to below 1"),
        ("loss.logit_bias=-1000", "a number from -100 to 100"),
        ("model.learn_temperature=yes", "true or false"),
        ("model.temperature=2", "a number from 0.01 to 1"),
        ("train.chunk_size=-1", "a whole number from 0 to 65536"),
        (
            "train.chunk_size=65",
            "`train.chunk_size = 65` is not allowed: give at most data.batch_size, which is 64",
        ),
        ("train.ema_decay=1", "a number from 0 to below 1"),
        ("train.recompute=1", "true or false"),
        ("train.keep_best=1", "true or false"),
        ("train.monitor=loss_of_hair", "one of \"recall_at_1\""),
        ("train.patience=-1", "a whole number from 0"),
        ("train.patience=3", "a number of train.eval_every too"),
        ("train.grad_norms_every=0.5", "a whole number from 0"),
        ("train.freeze=visual", "a list of strings that are not empty"),
        ("train.freeze=[\"\"]", "a list of strings that are not empty"),
    ];
    for (given, expected) in table {
        let text = complaint("", &[given]);
        assert!(text.contains(expected), "{given}: {text}");
        assert!(!text.contains('\n'), "{text}");
    }
}

#[test]
fn what_is_no_override_or_no_toml_is_said_so() {
    assert!(complaint("", &["optim.lr"]).contains("key=value"));
    assert!(complaint("", &["=3"]).contains("key=value"));
    assert_eq!(complaint("= 3", &[]), "test.toml is not valid TOML");
    assert!(complaint("optim = 3", &[]).contains("a section [optim]"));
}

#[test]
fn a_value_cannot_smuggle_in_a_second_key() {
    assert!(complaint("", &["data.order=\"none\"\nvalue2 = 3"]).contains("is not allowed"));
}

#[test]
fn settings_that_exclude_one_another_are_refused() {
    let text = complaint("", &["loss.kind=siglip", "loss.label_smoothing=0.1"]);
    assert!(text.contains("`loss.label_smoothing = 0.1`") && text.contains("siglip"), "{text}");
    let text = complaint("", &["optim.schedule=exponential", "optim.final_lr_fraction=0"]);
    assert!(text.contains("`optim.final_lr_fraction = 0`") && text.contains("above 0"), "{text}");
}

#[test]
fn frozen_names_must_exist_and_leave_something_to_learn() {
    let text = complaint("", &["train.freeze=[\"visual.transfomer.resblocks.0\"]"]);
    assert!(text.contains("`visual.transformer.resblocks.0`") && !text.contains('\n'), "{text}");
    // A beginning ends where a part of the name does.
    assert!(complaint("", &["train.freeze=[\"vis\"]"]).contains("`visual`"));
    let everything = "train.freeze=[\"visual\", \"transformer\", \"token_embedding\", \"ln_final\", \
        \"positional_embedding\", \"text_projection\", \"logit_scale\"]";
    assert!(complaint("", &[everything]).contains("leaves a parameter to learn"));
    let config = resolve("", &["train.freeze=[\"visual.transformer.resblocks.1\", \"ln_final\"]"]).unwrap();
    assert!(config.train.freezes("visual.transformer.resblocks.1.ln_1.bias"));
    assert!(config.train.freezes("ln_final.weight"));
    assert!(!config.train.freezes("visual.transformer.resblocks.10.ln_1.bias"));
    assert_eq!(resolve(&config.to_toml().unwrap(), &[]).unwrap(), config);
}

#[test]
fn siglip_brings_its_bias_and_temperature_unless_one_is_given() {
    let config = resolve("", &["loss.kind=siglip"]).unwrap();
    let clip = config.clip(300);
    assert_eq!((clip.init_logit_bias, clip.init_temperature), (Some(-10.0), 0.1));
    assert_eq!(resolve(&config.to_toml().unwrap(), &[]).unwrap(), config);
    let config = resolve("", &["loss.kind=siglip", "model.temperature=0.05", "loss.logit_bias=-5"]).unwrap();
    let clip = config.clip(300);
    assert_eq!((clip.init_logit_bias, clip.init_temperature), (Some(-5.0), 0.05));
    let clip = resolve("", &["model.learn_temperature=false"]).unwrap().clip(300);
    assert_eq!((clip.init_logit_bias, clip.init_temperature, clip.learn_temperature), (None, 0.07, false));
}

#[test]
fn fractions_of_epochs_and_groups_of_batches_make_whole_steps() {
    let mut config = resolve("", &["optim.epochs=0.5"]).unwrap();
    assert_eq!([3, 30, 31].map(|batches| config.total_steps(batches)), [2, 15, 16]);
    assert_eq!(config.total_steps(0), 1);
    config.optim.accum_steps = 4;
    assert_eq!([8, 30, 1].map(|batches| config.total_steps(batches)), [1, 3, 1]);
    config.optim.steps = 7;
    assert_eq!(config.total_steps(30), 7);
}

#[test]
fn warm_up_is_a_share_of_the_steps_unless_given() {
    let mut config = Config::default();
    assert_eq!(config.total_steps(30), 300);
    config.optim.steps = 20;
    assert_eq!(config.total_steps(30), 20);
    assert_eq!(config.warmup_steps(300), 15);
    config.optim.warmup_steps = 7;
    assert_eq!(config.warmup_steps(300), 7);
}
