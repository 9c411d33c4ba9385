//! The words of captions, read: what each stands for, synonyms included. It leaves out what words mean together, which
//! is `parse`'s.

use super::words::{Colour, Pattern, Place, Relation, Shape, Size, Texture};

/// Words that carry a sentence and claim nothing by themselves.
const FILLERS: [&str; 27] = [
    "a", "an", "the", "and", "with", "is", "are", "there", "here", "this", "it", "we", "see", "shows",
    "picture", "image", "thing", "of", "on", "in", "at", "near", "against", "to", "one", "has", "also",
];

/// How many objects a number says.
const NUMBERS: [(&str, usize); 16] = [
    ("one", 1),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("1", 1),
    ("2", 2),
    ("3", 3),
    ("4", 4),
    ("5", 5),
    ("6", 6),
    ("7", 7),
    ("8", 8),
];

pub(super) fn is_filler(word: &str) -> bool {
    FILLERS.contains(&word) || is_mark(word)
}

/// Whether it is a mark that ends a clause.
pub(super) fn is_mark(word: &str) -> bool {
    matches!(word, "." | "," | ":" | ";" | "!" | "?")
}

/// Whether it counts objects without saying what they are, as in "three shapes".
pub(super) fn is_any_object(word: &str) -> bool {
    matches!(word, "shape" | "shapes" | "object" | "objects")
}

pub(super) fn number(word: &str) -> Option<usize> {
    NUMBERS.iter().find(|(name, _)| *name == word).map(|(_, number)| *number)
}

pub(super) fn shape(word: &str) -> Option<Shape> {
    Shape::ALL.iter().copied().find(|shape| shape.word() == word)
}

pub(super) fn colour(word: &str) -> Option<Colour> {
    Colour::ALL.iter().copied().find(|colour| colour.word() == word)
}

pub(super) fn size(word: &str) -> Option<Size> {
    match word {
        "small" | "little" => Some(Size::Small),
        "medium" | "mid" => Some(Size::Medium),
        "large" | "big" => Some(Size::Large),
        _ => None,
    }
}

/// A texture as it stands before its noun.
pub(super) fn texture(word: &str) -> Option<Texture> {
    match word {
        "plain" | "solid" => Some(Texture::Solid),
        "striped" => Some(Texture::Striped),
        "dotted" => Some(Texture::Dotted),
        "checkered" => Some(Texture::Checkered),
        _ => None,
    }
}

/// A texture as it stands after "with".
pub(super) fn texture_noun(word: &str) -> Option<Texture> {
    match word {
        "stripes" => Some(Texture::Striped),
        "dots" => Some(Texture::Dotted),
        "checks" => Some(Texture::Checkered),
        _ => None,
    }
}

/// The ground's pattern that goes by the same word as an object's texture.
pub(super) const fn pattern(texture: Texture) -> Pattern {
    match texture {
        Texture::Solid => Pattern::Plain,
        Texture::Striped => Pattern::Striped,
        Texture::Dotted => Pattern::Dotted,
        Texture::Checkered => Pattern::Checkered,
    }
}

/// Whether it says how a noun behind it looks.
pub(super) fn is_adjective(word: &str) -> bool {
    size(word).is_some()
        || texture(word).is_some()
        || colour(word).is_some()
        || matches!(word, "sized" | "gradient" | "light" | "dark" | "gray" | "grey" | "beige" | "lavender")
}

/// The place that `words` begin with, and how many of them say it. "in the" before it are fillers.
pub(super) fn place(words: &[&str]) -> Option<(Place, usize)> {
    let side = |at: usize| words.get(at).copied().filter(|word| matches!(*word, "left" | "right"));
    let (place, said) = match (*words.first()?, side(1)) {
        ("top" | "upper", Some("left")) => (Place::TopLeft, 2),
        ("top" | "upper", Some(_)) => (Place::TopRight, 2),
        ("top" | "upper", None) => (Place::Top, 1),
        ("bottom" | "lower", Some("left")) => (Place::BottomLeft, 2),
        ("bottom" | "lower", Some(_)) => (Place::BottomRight, 2),
        ("bottom" | "lower", None) => (Place::Bottom, 1),
        ("left", _) => (Place::Left, 1),
        ("right", _) => (Place::Right, 1),
        ("middle" | "center" | "centre", _) => (Place::Middle, 1),
        _ => return None,
    };
    let ended = words.get(said).is_some_and(|word| matches!(*word, "corner" | "side"));
    Some((place, said + usize::from(ended)))
}

/// The relation that `words` begin with, and how many of them say it. "to the" before a side are fillers.
pub(super) fn relation(words: &[&str]) -> Option<(Relation, usize)> {
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let upright = match word(0) {
        "inside" => return Some((Relation::Inside, 1)),
        "around" => return Some((Relation::Around, 1)),
        "left" if word(1) == "of" => return Some((Relation::LeftOf, 2)),
        "right" if word(1) == "of" => return Some((Relation::RightOf, 2)),
        "above" => Relation::Above,
        "below" => Relation::Below,
        _ => return None,
    };
    // "and to the left of": at least "and" and the side are there.
    let side = (1..5).find(|&at| !matches!(word(at), "and" | "to" | "the")).unwrap_or(5);
    let both = match (upright, word(side)) {
        _ if word(1) != "and" => None,
        (Relation::Above, "left") => Some(Relation::AboveLeft),
        (Relation::Above, "right") => Some(Relation::AboveRight),
        (_, "left") => Some(Relation::BelowLeft),
        (_, "right") => Some(Relation::BelowRight),
        _ => None,
    };
    Some(both.map_or((upright, 1), |both| (both, side + 1)))
}
