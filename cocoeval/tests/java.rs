//! The Java programs: METEOR where a jar is named, and stand-ins that speak as the programs do or fail as they can.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may unwrap as tests do")]

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cocoeval::{
    CocoevalError, TokenizedImage,
    java::{JavaProgram, meteor, spice},
    tokenize_joined,
};
use serde_json::Value;

/// Names `meteor-1.5.jar`, with its data beside it, such as the one that pycocoevalcap carries.
const METEOR_JAR: &str = "COCOEVAL_METEOR_JAR";

fn images(count: i64) -> Vec<TokenizedImage> {
    (0..count)
        .map(|id| TokenizedImage {
            image_id: id.into(),
            hypothesis: format!("a dog ||| number  {id}"),
            references: vec!["a dog".into(), "two dogs".into()],
        })
        .collect()
}

/// A program in shell that is started in place of `java`.
fn stand_in(folder: &Path, script: &str) -> JavaProgram {
    let java = folder.join("java");
    fs_err::write(&java, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&java, std::fs::Permissions::from_mode(0o755)).unwrap();
    let timeout = Duration::from_secs(10);
    JavaProgram { timeout, ..JavaProgram::meteor(&java, &folder.join("program.jar")) }
}

/// One test, since a script that was just written must not be open in a child that another test forks.
#[test]
fn stand_ins() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    meteor_speaks_its_lines(folder);
    meteor_fails(folder);
    spice_exchanges_files(folder);
    spice_fails(folder);
    let none = JavaProgram::meteor(Path::new("/no/such/java"), Path::new("x.jar"));
    let error = meteor(&none, &images(1)).unwrap_err();
    assert!(matches!(error, CocoevalError::JavaStart { metric: "METEOR", .. }), "{error}");
}

fn meteor_speaks_its_lines(folder: &Path) {
    let script = r#"
        echo "$@" > arguments
        while read -r line; do
            echo "$line" >> heard
            case "$line" in
                SCORE*) echo "1.0 2.0" ;;
                EVAL*) i=0; while [ $i -lt 300 ]; do echo 0.25; i=$((i+1)); done; echo 0.5 ;;
            esac
        done"#;
    let scores = meteor(&stand_in(folder, script), &images(300)).unwrap();
    assert_eq!((scores.images, scores.corpus), (vec![0.25; 300], 0.5));
    let arguments = fs_err::read_to_string(folder.join("arguments")).unwrap();
    let jar = folder.join("program.jar");
    assert_eq!(arguments.trim(), format!("-jar -Xmx2G {} - - -stdio -l en -norm", jar.display()));
    let heard = fs_err::read_to_string(folder.join("heard")).unwrap();
    let lines: Vec<&str> = heard.lines().collect();
    assert_eq!(lines[7], "SCORE ||| a dog ||| two dogs ||| a dog number 7");
    assert!(lines[300].starts_with("EVAL ||| 1.0 2.0 ||| 1.0 2.0") && lines.len() == 301);
}

fn meteor_fails(folder: &Path) {
    let said = |script: &str| meteor(&stand_in(folder, script), &images(2)).unwrap_err().to_string();
    let error = said("echo no heap >&2; exit 1");
    assert!(error.contains("ended before it had answered") && error.ends_with("no heap"), "{error}");
    let error = said("while read -r line; do echo Error: x; done");
    assert!(error.contains(r#"answered "Error: x""#), "{error}");

    let slow = stand_in(folder, "echo $$ > pid; echo waiting >&2; exec sleep 60");
    let start = Instant::now();
    let slow = JavaProgram { timeout: Duration::from_millis(500), ..slow };
    let error = meteor(&slow, &images(1)).unwrap_err();
    assert!(matches!(&error, CocoevalError::JavaTimeout { stderr, .. } if stderr == "waiting"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
    let pid = fs_err::read_to_string(folder.join("pid")).unwrap();
    let process = PathBuf::from("/proc").join(pid.trim());
    assert!(!Path::new("/proc/self").exists() || !process.exists(), "process {pid} still runs");
}

fn spice_exchanges_files(folder: &Path) {
    let script = r#"
        cp "$4" asked.json
        echo "$5 $7 $9 ${10}" > arguments
        echo '[{"image_id": 1, "scores": {"All": {"pr": 0.5, "re": 0.25, "f": 0.3}, "Color": {"pr": null, "f": null}}},
               {"image_id": 0, "scores": {"All": {"pr": 0.5, "re": 0.25, "f": 0.1}}}]' > "$8""#;
    let scores = spice(&stand_in(folder, script), &images(2)).unwrap();
    assert!((scores.corpus.unwrap() - 0.2).abs() < 1e-15);
    assert_eq!((scores.images[0]["All"].f, scores.images[1]["All"].f), (Some(0.1), Some(0.3)));
    assert_eq!((scores.images[1]["Color"].f, scores.images[1]["All"].re), (None, Some(0.25)));
    let asked: Value =
        serde_json::from_str(&fs_err::read_to_string(folder.join("asked.json")).unwrap()).unwrap();
    assert_eq!(asked[1]["image_id"], 1);
    assert_eq!(asked[1]["test"], "a dog ||| number  1");
    assert_eq!(asked[1]["refs"].as_array().unwrap().len(), 2);
    let arguments = fs_err::read_to_string(folder.join("arguments")).unwrap();
    assert_eq!(arguments.trim(), "-cache -out -subset -silent");
}

fn spice_fails(folder: &Path) {
    let said = |script: &str| spice(&stand_in(folder, script), &images(2)).unwrap_err().to_string();
    let error = said("echo no models >&2; exit 3");
    assert!(error.contains("failed (exit status: 3)") && error.ends_with("no models"), "{error}");
    let error = said(r#"echo '{"a": 1}' > "$8""#);
    assert!(error.contains("something else than scores"), "{error}");
    let error = said(r#"echo '[]' > "$8""#);
    assert!(error.contains("gave no score for image 0"), "{error}");
    let error = said("exit 0");
    assert!(error.contains("exchange files"), "{error}");
}

#[test]
fn meteor_equals_pycocoevalcap() {
    let Some(jar) = std::env::var_os(METEOR_JAR) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {METEOR_JAR} does not name METEOR's jar");
        return;
    };
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens");
    let text = fs_err::read_to_string(goldens.join("hard.txt")).unwrap();
    let golden: Value =
        serde_json::from_str(&fs_err::read_to_string(goldens.join("hard.json")).unwrap()).unwrap();
    let lines: Vec<String> = text.strip_suffix('\n').unwrap().split('\n').map(tokenize_joined).collect();
    let images: Vec<TokenizedImage> = (0_i64..)
        .zip(lines.chunks_exact(5))
        .map(|(id, of)| TokenizedImage {
            image_id: id.into(),
            hypothesis: of[0].clone(),
            references: of[1..].to_vec(),
        })
        .collect();
    let found = meteor(&JavaProgram::meteor(Path::new("java"), Path::new(&jar)), &images).unwrap();
    let golden = &golden["scores"]["first"];
    assert_eq!(found.corpus, golden["corpus"]["METEOR"].as_f64().unwrap());
    let by_image: Vec<f64> = serde_json::from_value(golden["images"]["METEOR"].clone()).unwrap();
    assert_eq!(found.images, by_image);
}
