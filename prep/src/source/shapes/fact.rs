//! What a caption claims, in a form that can be checked against any scene: from these a caption's
//! words are made, and by these it is measured how many scenes a caption fits.

use super::{
    scene::{Object, Scene},
    words::{Colour, Ground, Pattern, Place, Relation, Shape, Size, Texture},
};

/// An object as a caption describes it; what is none is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectFact {
    /// Its outline.
    pub shape: Shape,
    /// Its colour.
    pub colour: Colour,
    /// How it is filled.
    pub texture: Option<Texture>,
    /// How large it is.
    pub size: Option<Size>,
    /// Where it is.
    pub place: Option<Place>,
}

/// One claim of a caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The scene has just so many objects.
    Count(usize),
    /// The ground has this colour.
    Ground(Ground),
    /// The ground has this pattern.
    Pattern(Pattern),
    /// There is such an object.
    Object(ObjectFact),
    /// There are two such objects, and the first is there as seen from the second.
    Relation(ObjectFact, Relation, ObjectFact),
}

impl ObjectFact {
    /// Whether an object is as described.
    pub fn fits(&self, object: &Object) -> bool {
        self.shape == object.shape
            && self.colour == object.colour
            && self.texture.is_none_or(|texture| texture == object.texture)
            && self.size.is_none_or(|size| size == object.size)
            && self.place.is_none_or(|place| place == object.place)
    }
}

impl Fact {
    /// Whether the claim is true of a scene.
    pub fn holds(&self, scene: &Scene) -> bool {
        let places = || 0..scene.objects.len();
        match self {
            Self::Count(count) => scene.objects.len() == *count,
            Self::Ground(ground) => scene.ground == *ground,
            Self::Pattern(pattern) => scene.pattern == *pattern,
            Self::Object(fact) => scene.objects.iter().any(|object| fact.fits(object)),
            Self::Relation(first, relation, second) => places().any(|one| {
                first.fits(&scene.objects[one])
                    && places().any(|other| {
                        other != one
                            && second.fits(&scene.objects[other])
                            && scene.relation(one, other) == *relation
                    })
            }),
        }
    }
}
