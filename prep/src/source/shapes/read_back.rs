//! Every caption can be read back into its facts, as it was written and as models write it; what cannot be read is
//! said; verdicts count what is true, one by one.

use proptest::prelude::*;

use super::*;

fn scenes(count: u64) -> impl Iterator<Item = Scene> {
    let sets = (0..3).flat_map(|seed| [ShapesSplit::Train, ShapesSplit::Val].map(|split| (seed, split)));
    sets.flat_map(move |(seed, split)| (0..count).map(move |number| Scene::new(seed, split, number)))
}

fn same(one: &[Fact], other: &[Fact]) -> bool {
    one.len() == other.len() && one.iter().all(|fact| other.contains(fact))
}

/// Marks by themselves, as tokenizers leave them: "square , on a gray background ."
fn set_apart(text: &str) -> String {
    let marks = ['.', ',', ':', '-'];
    text.chars().map(|c| if marks.contains(&c) { format!(" {c} ") } else { c.to_string() }).collect()
}

/// Two objects of their own colours, and where one is as seen from the other.
fn red_circle() -> ObjectFact {
    ObjectFact { shape: Shape::Circle, colour: Colour::Red, texture: None, size: None, place: None }
}

fn blue_star() -> ObjectFact {
    ObjectFact { shape: Shape::Star, colour: Colour::Blue, ..red_circle() }
}

#[test]
fn every_caption_is_read_back_into_its_facts() {
    for scene in scenes(700) {
        for Caption { text, facts } in scene.described() {
            let lower = text.to_lowercase();
            let bare = lower.trim_end_matches('.').to_owned();
            for written in [set_apart(&text), set_apart(&lower), set_apart(&bare), bare, lower, text] {
                let parsed = parse(&written);
                assert!(same(&parsed.facts, &facts), "{written}\nfound    {parsed:?}\nexpected {facts:?}");
                assert!(parsed.unread.is_empty(), "{written}: {:?}", parsed.unread);
            }
        }
    }
}

#[test]
fn every_caption_is_true_of_its_scene_in_all_it_claims() {
    let mut judged = Judged::default();
    for scene in scenes(300) {
        for caption in scene.described() {
            let verdict = judge(&scene, &parse(&caption.text));
            assert!(verdict.all_true && verdict.total.claimed >= 3, "{}: {verdict:?}", caption.text);
            judged.add(&verdict);
        }
    }
    assert_eq!((judged.captions, judged.all_true, judged.with_unread), (9_000, 9_000, 0));
    assert_eq!(judged.total.share(), Some(1.0));
    assert_eq!(judged.kinds.iter().map(|kind| kind.claimed).sum::<u64>(), judged.total.claimed);
    assert!(judged.kinds.iter().all(|kind| kind.claimed > 500), "{judged:?}");
}

/// Forms that are near those that are written: each says the same.
#[test]
fn small_slips_are_read_as_what_they_say() {
    let star_above = Fact::Relation(blue_star(), Relation::Above, red_circle());
    let left = Fact::Relation(blue_star(), Relation::LeftOf, red_circle());
    let table: [(&str, &[Fact]); 12] = [
        ("above a red circle a blue star", &[star_above]),
        ("above a red circle , is a blue star", &[star_above]),
        ("a blue star , above a red circle", &[star_above]),
        ("there is a red circle and above it is a blue star", &[star_above]),
        ("there is red circle with blue star above it", &[star_above]),
        ("a blue star on the left of a red circle", &[left]),
        ("a blue star is left of a red circle on grey background", &[left, Fact::Ground(Ground::Gray)]),
        ("one red circle and one blue star", &[Fact::Object(red_circle()), Fact::Object(blue_star())]),
        ("a red red circle", &[Fact::Object(red_circle())]),
        ("a red circle and a red circle", &[Fact::Object(red_circle()), Fact::Object(red_circle())]),
        (
            "the background is gray with stripes and the background is gray",
            &[Fact::Ground(Ground::Gray), Fact::Pattern(Pattern::Striped)],
        ),
        ("2 shapes", &[Fact::Count(2)]),
    ];
    for (text, facts) in table {
        let parsed = parse(text);
        assert!(same(&parsed.facts, facts) && parsed.unread.is_empty(), "{text}: {parsed:?}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let table: [(&str, usize, &[&str]); 12] = [
        ("", 0, &[]),
        ("a photo of a dog.", 0, &["photo", "dog"]),
        ("a circle at the top", 0, &["circle", "top"]),
        ("a red circle above", 1, &["above"]),
        ("above a red circle", 1, &["above"]),
        ("a red circle above it", 1, &["above"]),
        ("a red blue circle", 1, &["blue"]),
        ("a red circle at the top at the bottom", 1, &["bottom"]),
        ("a striped red circle with dots", 1, &["dots"]),
        ("a blue background, a large red", 0, &["blue", "large", "red"]),
        ("in the middle: stripes, a checkered pattern", 0, &["middle", "stripes", "checkered", "pattern"]),
        ("two red circles", 0, &["two", "red", "circles"]),
    ];
    for (text, facts, unread) in table {
        let parsed = parse(text);
        let words: Vec<&str> = parsed.unread.iter().map(String::as_str).collect();
        assert_eq!((parsed.facts.len(), &words[..]), (facts, unread), "{text}");
    }
}

/// A large red circle, and a small object of another shape and colour.
fn scene_of_two() -> Scene {
    scenes(20_000)
        .find(|scene| {
            scene.objects.len() == 2
                && red_circle().fits(&scene.objects[0])
                && scene.objects[0].size == Size::Large
                && scene.objects[1].shape != Shape::Circle
                && scene.objects[1].colour != Colour::Red
                && scene.objects[1].size == Size::Small
        })
        .unwrap()
}

#[test]
fn claims_are_counted_one_by_one() {
    let scene = scene_of_two();
    let (second, ground) = (&scene.objects[1], scene.ground.word());
    let small = format!("small {} {}", second.colour.word(), second.shape.word());
    let other = if second.shape == Shape::Heart { "cross" } else { "heart" };
    let relation = scene.relation(1, 0).word();
    let wrong = scene.relation(0, 1).word();
    let table: [(String, u64, u64); 10] = [
        (format!("a large red circle and a {small} on a {ground} background"), 7, 7),
        // The order of mention decides nothing.
        (format!("a {small}, a large red circle"), 6, 6),
        (format!("a {small} {relation} a red circle"), 6, 6),
        (format!("a {small} {wrong} a red circle"), 5, 6),
        // A wrong shape, a wrong size.
        (format!("a large red {other}"), 2, 3),
        ("a small red circle".to_owned(), 2, 3),
        // One circle is there once.
        ("a red circle and a red circle".to_owned(), 2, 4),
        (format!("two shapes: a {small}, a red circle and a red circle"), 6, 8),
        ("three shapes, one shape".to_owned(), 0, 2),
        ("".to_owned(), 0, 0),
    ];
    for (text, right, claimed) in table {
        let verdict = judge(&scene, &parse(&text));
        let all_true = right == claimed && claimed > 0;
        assert_eq!(verdict.total, Tally { right, claimed }, "{text}: {scene:?}");
        assert_eq!((verdict.all_true, verdict.unread), (all_true, 0), "{text}");
    }
    let unread = judge(&scene, &parse("a shiny red circle"));
    assert_eq!((unread.total, unread.all_true, unread.unread), (Tally { right: 2, claimed: 2 }, false, 1));
}

/// A relation of two objects that the scene does not have is not true, wherever two others stand.
#[test]
fn relations_of_other_objects_are_not_true() {
    let scene = scenes(1_000).find(|scene| scene.objects.len() == 2).unwrap();
    let is_absent = |word: &str| {
        !scene.objects.iter().any(|object| object.shape.word() == word || object.colour.word() == word)
    };
    let shapes: Vec<_> = Shape::ALL.iter().map(|shape| shape.word()).filter(|word| is_absent(word)).collect();
    let colours: Vec<_> =
        Colour::ALL.iter().map(|colour| colour.word()).filter(|word| is_absent(word)).collect();
    let relation = scene.relation(0, 1).word();
    let text = format!("a {} {} {relation} a {} {}", colours[0], shapes[0], colours[1], shapes[1]);
    assert_eq!(judge(&scene, &parse(&text)).total, Tally { right: 0, claimed: 5 }, "{text}");
    // One word of each object that is right is enough to know which are meant.
    let [one, other] = [0, 1].map(|place| scene.objects[place].colour.word());
    if one != other {
        let text = format!("a {one} {} {relation} a {other} {}", shapes[0], shapes[1]);
        assert_eq!(judge(&scene, &parse(&text)).total, Tally { right: 3, claimed: 5 }, "{text}");
    }
}

/// An object of two relations is one object, and a caption that says the same again and again is judged in no time.
#[test]
fn relations_share_objects_and_repetition_gains_nothing() {
    let scene = scenes(1_000).find(|scene| scene.objects.len() == 4).unwrap();
    let name = |place: usize| {
        let object: &Object = &scene.objects[place];
        format!("a {} {}", object.colour.word(), object.shape.word())
    };
    let above = scene.relation(0, 1).word();
    let below = scene.relation(2, 0).word();
    let chain = format!("{} {above} {} and {} {below} it", name(0), name(1), name(2));
    let verdict = judge(&scene, &parse(&chain));
    assert_eq!(verdict.total, Tally { right: 8, claimed: 8 }, "{chain}");
    let turned = scene.relation(1, 0).word();
    let twice = format!("{} {above} {}. {} {turned} {}. ", name(0), name(1), name(1), name(0));
    let verdict = judge(&scene, &parse(&twice.repeat(50)));
    assert_eq!(verdict.total, Tally { right: 5, claimed: 5 }, "{twice}");
    let again = judge(&scene, &parse(&format!("{}, ", name(0)).repeat(3_000)));
    assert_eq!(again.total.claimed, 6_000);
    assert!(again.total.right <= 4 + 4, "{again:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn any_text_is_read_and_judged(text in any::<String>(), words in prop::collection::vec(0usize..WORDS.len(), 0..40)) {
        let scene = Scene::new(0, ShapesSplit::Val, 5);
        judge(&scene, &parse(&text));
        // Words that mean something, in any order.
        let words: Vec<&str> = words.into_iter().map(|word| WORDS[word]).collect();
        let parsed = parse(&words.join(" "));
        let verdict = judge(&scene, &parsed);
        prop_assert!(parsed.unread.len() <= words.len() + 2);
        prop_assert!(verdict.total.right <= verdict.total.claimed);
    }
}

const WORDS: [&str; 44] = [
    "a",
    "red",
    "blue",
    "circle",
    "star",
    "above",
    "below",
    "and",
    "to",
    "the",
    "left",
    "of",
    "right",
    "inside",
    "around",
    "is",
    "it",
    ",",
    ".",
    "background",
    "striped",
    "plain",
    "stripes",
    "checkered",
    "pattern",
    "light",
    "gradient",
    "gray",
    "only",
    "one",
    "two",
    "shapes",
    "pair",
    "single",
    "top",
    "bottom",
    "corner",
    "middle",
    "large",
    "medium-sized",
    "sized",
    "with",
    "dog",
    ":",
];
