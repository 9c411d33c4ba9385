//! What the project's numbers stand on: the same bytes for ever, captions that are true and that
//! pick out their scene, held-out combinations that are held out.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::source::Source as _;

const SPLITS: [ShapesSplit; 2] = [ShapesSplit::Train, ShapesSplit::Val];

fn scenes(split: ShapesSplit, count: u64) -> Vec<Scene> {
    (0..count).map(|number| Scene::new(7, split, number)).collect()
}

fn kind(object: &Object) -> (Shape, Colour, Texture) {
    (object.shape, object.colour, object.texture)
}

fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// A change here is a change of every data set: `GENERATOR` must change with it.
#[test]
fn the_same_seed_gives_the_same_bytes_for_ever() {
    assert_eq!(GENERATOR, "shapes-1");
    let found: Vec<String> =
        [(0, ShapesSplit::Train, 0), (0, ShapesSplit::Val, 1), (u64::MAX, ShapesSplit::Train, 1 << 40)]
            .into_iter()
            .flat_map(|(seed, split, number)| {
                let scene = Scene::new(seed, split, number);
                let captions = scene.captions().join("\n");
                [digest(&scene.render(64)), digest(&scene.render(224)), digest(captions.as_bytes())]
            })
            .collect();
    assert_eq!(found, GOLDEN);
    // And many at once, so that rarer shapes and textures are in it too.
    let mut all = blake3::Hasher::new();
    for scene in SPLITS.iter().flat_map(|split| scenes(*split, 300)) {
        all.update(&scene.render(33));
        all.update(scene.captions().join("\n").as_bytes());
    }
    assert_eq!(&all.finalize().to_hex()[..16], GOLDEN_OF_600);
}

const GOLDEN: [&str; 9] = [
    "660b4b41b8e7d5eb",
    "bac75184e8dc0147",
    "1b8b35fb762018d7",
    "068ad25c5a74736d",
    "0f3de1079e791f40",
    "1d3c0699ccb5173d",
    "385caae0eb0867ad",
    "c8a4c87c4fc9c4f3",
    "a6c454fbd464b068",
];
const GOLDEN_OF_600: &str = "3c95832c6af1ef85";

#[test]
fn captions_are_five_and_all_different() {
    for scene in SPLITS.iter().flat_map(|split| scenes(*split, 2_000)) {
        let captions: BTreeSet<String> = scene.captions().into_iter().collect();
        assert_eq!(captions.len(), CAPTIONS_PER_SCENE, "{}: {captions:?}", scene.id());
    }
}

#[test]
fn every_claim_of_a_caption_is_true() {
    for scene in SPLITS.iter().flat_map(|split| scenes(*split, 2_000)) {
        for caption in scene.described() {
            assert!(caption.facts.iter().all(|fact| fact.holds(&scene)), "{}: {caption:?}", scene.id());
        }
    }
}

/// The words say what the facts say: each kind of fact can be read off the words, and no word for a
/// thing that no fact claims is in them.
#[test]
fn words_and_facts_agree() {
    for scene in scenes(ShapesSplit::Val, 1_000) {
        for Caption { text, facts } in scene.described() {
            let has = |word: &str| text.to_lowercase().contains(word);
            let mut shapes = BTreeSet::new();
            for fact in &facts {
                match fact {
                    Fact::Ground(ground) => assert!(has(ground.word()), "{text}"),
                    Fact::Count(1) => {
                        assert!(["one", "single", "only", "just"].iter().any(|one| has(one)), "{text}")
                    }
                    Fact::Count(2) => assert!(has("two") || has("pair"), "{text}"),
                    Fact::Count(count) => assert!(has(["three", "four"][count - 3]), "{text}"),
                    Fact::Object(object) => drop(shapes.insert(object.shape)),
                    Fact::Relation(one, relation, other) => {
                        assert!(has(relation.word()), "{text}");
                        shapes.extend([one.shape, other.shape]);
                    }
                    Fact::Pattern(_) => assert!(has("background"), "{text}"),
                }
            }
            for shape in Shape::ALL {
                let told = text.split(|c: char| !c.is_alphabetic()).any(|word| word == shape.word());
                assert_eq!(told, shapes.contains(shape), "{text} {facts:?}");
            }
        }
    }
}

#[test]
fn a_caption_usually_picks_out_one_scene_of_a_thousand() {
    let scenes = scenes(ShapesSplit::Val, 1_000);
    let mut unique = 0;
    for scene in &scenes {
        for caption in scene.described() {
            let fitting =
                scenes.iter().filter(|other| caption.facts.iter().all(|fact| fact.holds(other))).count();
            assert!(fitting >= 1);
            unique += usize::from(fitting == 1);
        }
    }
    let share = unique as f64 / (scenes.len() * CAPTIONS_PER_SCENE) as f64;
    assert!(share > 0.9, "{share} of the captions fit one scene alone");
}

#[test]
fn captions_are_short_and_of_few_words() {
    let mut words = BTreeSet::new();
    for scene in SPLITS.iter().flat_map(|split| scenes(*split, 5_000)) {
        for caption in scene.captions() {
            let count = caption.split_whitespace().count();
            assert!((5..=34).contains(&count), "{count} words: {caption}");
            assert!(
                caption.is_ascii() && !caption.contains("  ") && caption.trim() == caption,
                "{caption:?}"
            );
            let lower = caption.to_lowercase();
            words.extend(lower.split(|c: char| !c.is_alphanumeric()).map(ToOwned::to_owned));
        }
    }
    assert!((80..300).contains(&words.len()), "{} words", words.len());
}

#[test]
fn articles_are_right() {
    for scene in scenes(ShapesSplit::Train, 3_000) {
        for caption in scene.captions() {
            let words: Vec<&str> = caption.split_whitespace().collect();
            for pair in words.windows(2) {
                let vowel = pair[1].starts_with(['a', 'e', 'i', 'o', 'u']);
                match pair[0].to_lowercase().as_str() {
                    "a" => assert!(!vowel, "{caption}"),
                    "an" => assert!(vowel, "{caption}"),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn held_out_combinations_are_seen_in_val_alone() {
    for scene in scenes(ShapesSplit::Train, 4_000) {
        for object in &scene.objects {
            let (shape, colour, texture) = kind(object);
            assert!(!held_out(shape, colour, texture), "{}: {object:?}", scene.id());
        }
    }
    for scene in scenes(ShapesSplit::Val, 4_000) {
        let (shape, colour, texture) = kind(&scene.objects[0]);
        assert!(held_out(shape, colour, texture), "{}", scene.id());
    }
}

#[test]
fn everything_occurs_in_both_splits() {
    for split in SPLITS {
        let scenes = scenes(split, 4_000);
        let main: BTreeSet<_> = scenes.iter().map(|scene| kind(&scene.objects[0])).collect();
        assert_eq!(main.len(), if split == ShapesSplit::Train { 240 } else { 80 });
        let objects = || scenes.iter().flat_map(|scene| &scene.objects);
        assert_eq!(objects().map(|object| object.place).collect::<BTreeSet<_>>().len(), Place::ALL.len());
        assert_eq!(objects().map(|object| object.size).collect::<BTreeSet<_>>().len(), Size::ALL.len());
        assert_eq!(scenes.iter().map(|scene| scene.ground).collect::<BTreeSet<_>>().len(), Ground::ALL.len());
        assert_eq!(
            scenes.iter().map(|scene| scene.pattern).collect::<BTreeSet<_>>().len(),
            Pattern::ALL.len()
        );
        let relations: BTreeSet<_> = scenes
            .iter()
            .filter(|scene| scene.objects.len() > 1)
            .flat_map(|scene| [scene.relation(0, 1), scene.relation(1, 0)])
            .collect();
        assert_eq!(relations.len(), Relation::ALL.len());
        let mut counts = BTreeMap::new();
        scenes.iter().for_each(|scene| *counts.entry(scene.objects.len()).or_insert(0) += 1);
        // Each count of objects at least in one scene of ten.
        assert!(counts.len() == 4 && counts.values().all(|count| *count > 400), "{counts:?}");
    }
}

#[test]
fn objects_lie_within_the_picture_where_their_place_says_and_apart() {
    for scene in scenes(ShapesSplit::Train, 4_000) {
        for (number, object) in scene.objects.iter().enumerate() {
            let third = |place: f32| (place * 3.0).floor() - 1.0;
            assert_eq!((third(object.x), third(object.y)), object.place.column_row(), "{object:?}");
            for middle in [object.x, object.y] {
                assert!(middle - object.radius > 0.0 && middle + object.radius < 1.0, "{object:?}");
            }
            for (other_number, other) in scene.objects.iter().enumerate().take(number) {
                let away = ((object.x - other.x).powi(2) + (object.y - other.y).powi(2)).sqrt();
                assert!(object.inside == Some(other_number) || away > object.radius + other.radius);
                assert_ne!((object.shape, object.colour), (other.shape, other.colour));
                assert!(object.size <= scene.objects[0].size);
            }
        }
    }
}

#[test]
fn a_listing_is_in_order_of_class_and_nested() {
    for split in SPLITS {
        let (small, large) = (ShapesSource::new(3, split, 500), ShapesSource::new(3, split, 2_000));
        let listing = large.listing();
        let keys: Vec<(u32, u64)> =
            listing.iter().map(|number| (large.scene(*number).class(), *number)).collect();
        assert!(keys.is_sorted());
        assert_eq!(keys.iter().map(|(class, _)| class).collect::<BTreeSet<_>>().len(), 80);
        let nested: Vec<u64> = listing.into_iter().filter(|number| *number < 500).collect();
        assert_eq!(nested, small.listing());
        assert_eq!(small.listing().len(), 500);
    }
    assert!(ShapesSource::new(3, ShapesSplit::Val, 0).listing().is_empty());
}

#[test]
fn seeds_and_splits_differ() {
    let picture = |seed, split, number| Scene::new(seed, split, number).render(16);
    let pictures = BTreeSet::from([
        picture(0, ShapesSplit::Train, 0),
        picture(1, ShapesSplit::Train, 0),
        picture(0, ShapesSplit::Val, 0),
        picture(0, ShapesSplit::Train, 1),
    ]);
    assert_eq!(pictures.len(), 4);
    assert_eq!(Scene::new(0, ShapesSplit::Train, 1_234).id(), "train-00001234");
    assert_eq!(Scene::of_id(1, "val-123456789"), Some(Scene::new(1, ShapesSplit::Val, 123_456_789)));
    for id in ["", "val", "val-1", "val-+0000001", "test-00000001", "val-000000001", "VAL-00000001"] {
        assert_eq!(Scene::of_id(0, id), None, "{id}");
    }
}

#[test]
fn a_data_set_names_its_seed() {
    let info = Shapes::new(u64::MAX, 1, 1).info();
    assert_eq!(Shapes::seed_of(&info), Some(u64::MAX));
    for revision in ["", "shapes-0 seed 1", "shapes-1 seed", "shapes-1 seed 01", "shapes-1"] {
        let other = shard::SourceInfo { revision: revision.to_owned(), ..info.clone() };
        assert_eq!(Shapes::seed_of(&other), None, "{revision}");
    }
    assert_eq!(Shapes::seed_of(&shard::SourceInfo { name: "coco".to_owned(), ..info }), None);
}

#[test]
fn any_size_is_drawn() {
    let scene = Scene::new(0, ShapesSplit::Train, 5);
    for (asked, given) in [(0, 16), (16, 16), (17, 17), (225, 225)] {
        assert_eq!(scene.render(asked).len(), given * given * 3);
    }
}

/// The same scene at two sizes is the same picture: the larger one, averaged over 4×4 pixels, is
/// close to the smaller.
#[test]
fn pictures_do_not_depend_on_the_size() {
    for scene in scenes(ShapesSplit::Val, 50) {
        let (small, large) = (scene.render(56), scene.render(224));
        let mean = |row: usize, column: usize, channel: usize| {
            let at =
                |y: usize, x: usize| f64::from(large[((row * 4 + y) * 224 + column * 4 + x) * 3 + channel]);
            (0..16).map(|cell| at(cell / 4, cell % 4)).sum::<f64>() / 16.0
        };
        let error: f64 = (0..56 * 56 * 3)
            .map(|place| (f64::from(small[place]) - mean(place / 168, place / 3 % 56, place % 3)).abs())
            .sum::<f64>()
            / f64::from(56 * 56 * 3);
        assert!(error < 4.0, "{}: mean difference {error}", scene.id());
    }
}
