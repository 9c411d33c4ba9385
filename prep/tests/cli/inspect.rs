//! `prep inspect --html`: one page that holds everything, loads nothing, and shows texts as texts.

use std::path::Path;

use serde_json::json;

use crate::{near, prep};

const HOSTILE: &str = "<script>alert('x')</script> \"quoted\" & <b>bold</b> \u{1} עברית 赤い丸 🦀";

/// A data set with near-duplicates, hostile captions and left-out samples.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs_err::create_dir(dir.join("source")).unwrap();
    let mut lines = String::new();
    for (name, bytes) in near::pictures() {
        fs_err::write(dir.join("source").join(&name), bytes).unwrap();
        let captions = [HOSTILE.to_owned(), format!("a boat and {name}"), "boat ".repeat(400)];
        lines.push_str(&format!("{}\n", json!({ "image": name, "captions": captions })));
    }
    lines.push_str(&format!("{}\n", json!({ "image": "<img src=x onerror=y>.jpg", "caption": "lost" })));
    fs_err::write(dir.join("source/page.jpg"), "<html>no picture</html>").unwrap();
    lines.push_str(&format!("{}\n", json!({ "image": "page.jpg", "caption": "a page" })));
    fs_err::write(dir.join("source/captions.jsonl"), lines).unwrap();
    let job = ["--dataset", "folder", "--from", "source", "--out", "out", "--shards", "3", "--val", "8"];
    prep(&[&job[..], &["--size", "48"]].concat(), dir).expect(0);
    folder
}

/// A tag: its name, whether it closes, its attributes.
type Tag = (String, bool, Vec<(String, String)>);

/// The tags of a page, if it is strict in its quotes and brackets.
fn tags(html: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "a bracket in text: {}", &rest[..start]);
        rest = &rest[start + 1..];
        let name_end = rest.find(|c: char| " >".contains(c)).unwrap();
        let closes = rest.starts_with('/');
        let name = rest[..name_end].trim_start_matches('/').to_owned();
        rest = &rest[name_end..];
        let mut attributes = Vec::new();
        while !rest.starts_with('>') {
            rest = rest.trim_start();
            let end = rest.find(|c: char| "= >".contains(c)).unwrap();
            let attribute = rest[..end].to_owned();
            rest = &rest[end..];
            let mut value = String::new();
            if let Some(quoted) = rest.strip_prefix("=\"") {
                let end = quoted.find('"').unwrap();
                value = quoted[..end].to_owned();
                rest = &quoted[end + 1..];
            }
            attributes.push((attribute, value));
        }
        rest = &rest[1..];
        if name == "style" && !closes {
            rest = &rest[rest.find("</style>").unwrap()..];
        }
        tags.push((name, closes, attributes));
    }
    tags
}

fn page(dir: &Path, name: &str, more: &[&str]) -> String {
    let told = prep(&[&["inspect", "out", "--html", name], more].concat(), dir).expect(0).out;
    assert!(told.contains(&format!("drew {name}")), "{told}");
    fs_err::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn the_page_is_well_formed_loads_nothing_and_shows_texts_as_texts() {
    let folder = prepared();
    let html = page(folder.path(), "report.html", &["--samples", "6"]);
    let tags = tags(&html);
    let void = ["!DOCTYPE", "meta", "img"];
    let mut open: Vec<&str> = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    for (name, closes, attributes) in &tags {
        if *closes {
            assert_eq!(open.pop(), Some(name.as_str()));
        } else if !void.contains(&name.as_str()) && attributes.last().is_none_or(|(last, _)| last != "/") {
            open.push(name);
        }
        for (attribute, value) in attributes {
            assert!(!attribute.starts_with("on"), "{name} has {attribute}");
            match attribute.as_str() {
                "src" => assert!(value.starts_with("data:image/jpeg;base64,/9j/"), "{:.60}", value),
                "href" => assert!(value.starts_with('#'), "{value}"),
                "id" => assert!(ids.insert(value.clone()), "{value} twice"),
                _ => assert!(!value.contains("://"), "{attribute}={value}"),
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
    for (_, _, attributes) in &tags {
        let hrefs = attributes.iter().filter(|(attribute, _)| attribute == "href");
        hrefs.for_each(|(_, value)| assert!(ids.contains(&value[1..]), "{value} leads nowhere"));
    }
    for name in ["script", "b", "link", "iframe", "object"] {
        assert!(tags.iter().all(|(found, ..)| found != name), "a tag {name}");
    }
    assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &quot;quoted&quot; &amp; "));
    assert!(html.contains("עברית 赤い丸 🦀") && !html.contains('\u{1}'));
    assert!(html.contains("&lt;img src=x onerror=y&gt;.jpg"));
}

#[test]
fn the_page_has_every_part() {
    let folder = prepared();
    let html = page(folder.path(), "report.html", &["--samples", "6"]);
    let images = html.matches("<img ").count();
    // Six of each split; each pair is two; the cluster of four.
    let across = html.matches("<div class=\"side\">").count();
    assert_eq!(images, 6 + 6 + 2 * across + 4, "{across} pairs");
    assert_eq!(across, 9);
    for part in [
        "prefers-color-scheme: dark",
        "Leaks: across train and val: ",
        "Within train: ",
        "2 flat pictures",
        "words a caption: median",
        "width over height: median 1.00",
        "samples a shard",
        "missing file",
        "not an image",
        "<bdi>boat</bdi><span>",
        "default-src 'none'",
    ] {
        assert!(html.contains(part), "no {part:?}");
    }
    let leaks = html.find("Leaks: across").unwrap();
    assert!(leaks < html.find("Within train").unwrap() && leaks < html.find("id=\"split-0\"").unwrap());
    assert!(html.matches("<svg").count() == 2 * 8);
}

#[test]
fn the_same_data_give_the_same_page() {
    let folder = prepared();
    let dir = folder.path();
    assert_eq!(page(dir, "one.html", &["--threads", "1"]), page(dir, "four.html", &["--threads", "4"]));
    let complaint = prep(&["inspect", "out", "--html", "no/such/folder/x.html"], dir).complaint();
    assert!(complaint.contains("x.html"), "{complaint}");
    // The sheet is drawn as before, beside the page.
    prep(&["inspect", "out", "--grid", "grid.png", "--html", "more.html"], dir).expect(0);
    assert!(fs_err::read(dir.join("grid.png")).unwrap().starts_with(b"\x89PNG"));
}

/// What the example for GitHub Actions types is what prep takes.
#[test]
fn the_workflow_for_users_runs() {
    let folder = prepared();
    let workflow = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/github-actions/validate-shards.yml");
    let workflow = fs_err::read_to_string(workflow).unwrap();
    let lines: Vec<&str> =
        workflow.lines().filter_map(|line| line.trim().strip_prefix("run: prep ")).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in lines {
        let (typed, into) = line.split_once(" > ").unwrap_or((line, ""));
        let words: Vec<&str> = typed
            .split(' ')
            .map(|word| word.replace("\"$DATASET\"", "out"))
            .map(|word| &*word.leak())
            .collect();
        let told = prep(&words, folder.path()).expect(0).out;
        if into.ends_with(".json") {
            let verdict: serde_json::Value = serde_json::from_str(&told).unwrap();
            assert!(verdict["report"]["damages"].is_array(), "the path that the workflow's jq reads");
        }
    }
}
