//! What is in a scene: objects, ground and light, laid out from hashed draws. Lengths are parts of
//! the picture's side; x grows to the right and y downwards.

use super::{
    ShapesSplit,
    draw::{Draws, Field},
    words::{Colour, Ground, Pattern, Place, Relation, Rgb, Shape, Size, Texture, held_out},
};

/// How often another place is tried for an object before it is left out.
const ATTEMPTS: u64 = 32;

/// One scene of the data set: all that its picture and its captions are made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// The split that it belongs to.
    pub split: ShapesSplit,
    /// Its number in the split.
    pub number: u64,
    /// One to four; the first is the main object and none is of a larger size word.
    pub objects: Vec<Object>,
    /// The colour behind them.
    pub ground: Ground,
    /// The pattern behind them.
    pub pattern: Pattern,
    pub(super) seed: u64,
    pub(super) backdrop: Backdrop,
}

/// One object of a scene.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its outline.
    pub shape: Shape,
    /// Its colour's word.
    pub colour: Colour,
    /// How it is filled.
    pub texture: Texture,
    /// Its size's word.
    pub size: Size,
    /// The third of the picture, across and down, that it stands in.
    pub place: Place,
    /// The place in the list of the object that it lies inside of.
    pub inside: Option<usize>,
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) radius: f32,
    pub(super) look: Look,
}

/// What is drawn of an object and not told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Look {
    /// Tangent of half the angle by which it is turned.
    pub(super) turn: f32,
    pub(super) rgb: Rgb,
    /// Stripes run across (0), along (1) or on the two diagonals.
    pub(super) texture_angle: usize,
    pub(super) texture_phase: f32,
    pub(super) texture_period: f32,
}

/// What is drawn of the ground and not told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Backdrop {
    pub(super) rgb: Rgb,
    pub(super) angle: usize,
    pub(super) phase: f32,
    pub(super) period: f32,
    pub(super) strength: f32,
    /// Brightness of everything.
    pub(super) light: f32,
    /// Direction in which it fades: a corner.
    pub(super) light_angle: usize,
    pub(super) noise_seed: u64,
    pub(super) noise_strength: f32,
}

/// The main object's shape and colour, which cost two draws: a listing needs no more.
pub(super) fn class_of(draws: &Draws) -> (Shape, Colour) {
    let shape = draws.pick(Field::Shape, 0, Shape::ALL).unwrap_or(Shape::Circle);
    let colour = draws.pick(Field::Colour, 0, Colour::ALL).unwrap_or(Colour::Red);
    (shape, colour)
}

/// The class's number: by shape, then by colour.
pub(super) fn class_number((shape, colour): (Shape, Colour)) -> u32 {
    shape as u32 * Colour::ALL.len() as u32 + colour as u32
}

impl Scene {
    /// Scene `number` of a split: a pure function of its arguments, on every machine.
    pub fn new(seed: u64, split: ShapesSplit, number: u64) -> Self {
        let draws = Draws::new(seed, split as u64, number);
        let (_, main_colour) = class_of(&draws);
        let grounds: Vec<Ground> =
            Ground::ALL.iter().copied().filter(|ground| main_colour.shows_on(*ground)).collect();
        let ground = draws.pick(Field::BackgroundColour, 0, &grounds).unwrap_or(Ground::Gray);
        let pattern = draws.pick(Field::BackgroundKind, 0, Pattern::ALL).unwrap_or(Pattern::Plain);
        let mut scene = Self {
            split,
            number,
            objects: Vec::with_capacity(4),
            ground,
            pattern,
            seed,
            backdrop: backdrop(&draws, ground),
        };
        let count = match draws.below(Field::Count, 0, 100) {
            0..20 => 1,
            20..54 => 2,
            54..82 => 3,
            _ => 4,
        };
        for part in 0..count {
            scene.place_object(&draws, part);
        }
        scene
    }

    /// The class that real sources would be sorted by: the main object's shape and colour.
    pub fn class(&self) -> u32 {
        let main = &self.objects[0];
        class_number((main.shape, main.colour))
    }

    /// The class in words, as "red circle".
    pub fn class_name(&self) -> String {
        let main = &self.objects[0];
        format!("{} {}", main.colour.word(), main.shape.word())
    }

    /// The source's own id of the scene, as "train-00001234".
    pub fn id(&self) -> String {
        Self::id_of(self.split, self.number)
    }

    /// The scene of an id, as [`id`](Self::id) gives it; none where it is no id.
    pub fn of_id(seed: u64, id: &str) -> Option<Self> {
        let (name, number) = id.split_once('-')?;
        let split = [ShapesSplit::Train, ShapesSplit::Val].into_iter().find(|split| split.name() == name)?;
        let number = number.parse().ok()?;
        (Self::id_of(split, number) == id).then(|| Self::new(seed, split, number))
    }

    /// The id of a scene that need not be made.
    pub(super) fn id_of(split: ShapesSplit, number: u64) -> String {
        format!("{}-{number:08}", split.name())
    }

    /// Where object `one` is as seen from object `other` (places in the list, both within it).
    pub(super) fn relation(&self, one: usize, other: usize) -> Relation {
        let (a, b) = (&self.objects[one], &self.objects[other]);
        if a.inside == Some(other) {
            return Relation::Inside;
        }
        if b.inside == Some(one) {
            return Relation::Around;
        }
        let (dx, dy) = (a.x - b.x, a.y - b.y);
        match (dx > 0.0, dy > 0.0) {
            (right, _) if dx.abs() >= 1.6 * dy.abs() => {
                if right {
                    Relation::RightOf
                } else {
                    Relation::LeftOf
                }
            }
            (_, below) if dy.abs() >= 1.6 * dx.abs() => {
                if below {
                    Relation::Below
                } else {
                    Relation::Above
                }
            }
            (false, false) => Relation::AboveLeft,
            (true, false) => Relation::AboveRight,
            (false, true) => Relation::BelowLeft,
            (true, true) => Relation::BelowRight,
        }
    }

    /// Draws object `part`. The main object always finds room, as it comes first; another one is
    /// left out where none of its attempts does.
    fn place_object(&mut self, draws: &Draws, part: u64) {
        for attempt in 0..ATTEMPTS {
            let key = part * ATTEMPTS + attempt;
            let object = match self.objects.first() {
                None => Some(main_object(draws, self.split)),
                Some(main) if part == 1 && attempt == 0 && draws.below(Field::Nested, 0, 100) < 45 => {
                    nested_object(draws, key, self.split, main)
                }
                Some(main) => Some(other_object(draws, key, self.split, main.size)),
            };
            if let Some(object) = object.filter(|object| self.has_room(object)) {
                self.objects.push(object);
                return;
            }
        }
    }

    /// Whether an object is told apart from the ground, differs from all others in shape or colour,
    /// and touches none (but the one that it lies inside of).
    fn has_room(&self, object: &Object) -> bool {
        object.colour.shows_on(self.ground)
            && self.objects.iter().enumerate().all(|(place, other)| {
                let (dx, dy) = (object.x - other.x, object.y - other.y);
                let apart = object.radius + other.radius + 0.012;
                let alike = (object.shape, object.colour) == (other.shape, other.colour);
                !alike && (object.inside == Some(place) || dx * dx + dy * dy > apart * apart)
            })
    }
}

fn main_object(draws: &Draws, split: ShapesSplit) -> Object {
    let (shape, colour) = class_of(draws);
    let textures: Vec<Texture> = Texture::ALL
        .iter()
        .copied()
        .filter(|texture| held_out(shape, colour, *texture) == (split == ShapesSplit::Val))
        .collect();
    let texture = draws.pick(Field::Texture, 0, &textures).unwrap_or(Texture::Solid);
    let size = match draws.below(Field::Size, 0, 100) {
        0..18 => Size::Small,
        18..58 => Size::Medium,
        _ => Size::Large,
    };
    object(draws, 0, (shape, colour, texture), size)
}

/// An object of any kind, no larger than the main one, anywhere.
fn other_object(draws: &Draws, key: u64, split: ShapesSplit, main: Size) -> Object {
    let size = draws.pick(Field::Size, key, &Size::ALL[..=main as usize]).unwrap_or(Size::Small);
    object(draws, key, other_kind(draws, key, split), size)
}

/// Shape, colour and texture of an object that is not the main one. Held-out combinations stay out
/// of training here too: where one is drawn the next texture takes its place.
fn other_kind(draws: &Draws, key: u64, split: ShapesSplit) -> (Shape, Colour, Texture) {
    let shape = draws.pick(Field::Shape, key, Shape::ALL).unwrap_or(Shape::Circle);
    let colour = draws.pick(Field::Colour, key, Colour::ALL).unwrap_or(Colour::Red);
    let texture = draws.below(Field::Texture, key, Texture::ALL.len());
    let refused = split == ShapesSplit::Train && held_out(shape, colour, Texture::ALL[texture]);
    (shape, colour, Texture::ALL[(texture + usize::from(refused)) % Texture::ALL.len()])
}

/// A small object inside the main one, where that is large and has a calm middle.
fn nested_object(draws: &Draws, key: u64, split: ShapesSplit, main: &Object) -> Option<Object> {
    let kind = other_kind(draws, key, split);
    let calm = match main.shape {
        Shape::Ring => kind.0 != Shape::Ring,
        Shape::Circle | Shape::Square => main.texture == Texture::Solid && kind.1.shows_over(main.colour),
        _ => false,
    };
    if !calm || main.size != Size::Large {
        return None;
    }
    let mut inner = object(draws, key, kind, Size::Small);
    inner.radius = main.radius * if main.shape == Shape::Ring { 0.46 } else { 0.49 };
    (inner.x, inner.y, inner.place, inner.inside) = (main.x, main.y, main.place, Some(0));
    Some(inner)
}

fn object(draws: &Draws, key: u64, (shape, colour, texture): (Shape, Colour, Texture), size: Size) -> Object {
    let place = draws.pick(Field::Place, key, Place::ALL).unwrap_or(Place::Middle);
    let (low, high) = match size {
        Size::Small => (0.112, 0.128),
        Size::Medium => (0.16, 0.18),
        Size::Large => (0.22, 0.245),
    };
    let radius = draws.between(Field::Radius, key, low, high);
    // At the edges a margin is kept; in the middle the offset may go either way.
    let along = |side: f32, field: Field| {
        let offset = draws.unit(field, key);
        0.5 + if side == 0.0 { (offset - 0.5) * 0.06 } else { side * (0.5 - radius - 0.025 - 0.04 * offset) }
    };
    let (column, row) = place.column_row();
    Object {
        shape,
        colour,
        texture,
        size,
        place,
        inside: None,
        x: along(column, Field::OffsetX),
        y: along(row, Field::OffsetY),
        radius,
        look: look(draws, key, colour, radius),
    }
}

fn look(draws: &Draws, key: u64, colour: Colour, radius: f32) -> Look {
    Look {
        turn: draws.between(Field::Turn, key, -0.1, 0.1),
        rgb: toned(draws, key, colour.rgb()),
        texture_angle: draws.below(Field::TextureAngle, key, 4),
        texture_phase: draws.unit(Field::TexturePhase, key),
        texture_period: (0.05 + 0.36 * radius) * draws.between(Field::TexturePeriod, key, 0.92, 1.08),
    }
}

fn backdrop(draws: &Draws, ground: Ground) -> Backdrop {
    Backdrop {
        rgb: toned(draws, u64::MAX, ground.rgb()),
        angle: draws.below(Field::BackgroundAngle, 0, 4),
        phase: draws.unit(Field::BackgroundPhase, 0),
        period: draws.between(Field::BackgroundPeriod, 0, 0.13, 0.2),
        strength: draws.between(Field::BackgroundStrength, 0, 0.75, 1.0),
        light: draws.between(Field::Light, 0, 0.88, 1.05),
        light_angle: draws.below(Field::LightAngle, 0, 4),
        noise_seed: draws.bits(Field::NoiseSeed, 0),
        noise_strength: draws.between(Field::NoiseStrength, 0, 3.0, 12.0),
    }
}

/// A colour made lighter or darker, and a little off in hue: less so than would give gray a name.
fn toned(draws: &Draws, key: u64, rgb: Rgb) -> Rgb {
    let lightness = draws.between(Field::Tone, key, -16.0, 16.0);
    let hues = [Field::ToneRed, Field::ToneGreen, Field::ToneBlue];
    [0, 1, 2].map(|channel| {
        (rgb[channel] + lightness + draws.between(hues[channel], key, -7.0, 7.0)).clamp(0.0, 255.0)
    })
}
