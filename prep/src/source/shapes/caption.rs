//! Captions: five a scene, each in another form (a phrase, a relation, a count, sentences, tags).
//! A plan decides what is told, adding hashed details until the caption is specific; the same plan
//! gives the words and the [`Fact`]s, so that the two cannot disagree.

use super::{
    CAPTIONS_PER_SCENE,
    draw::{Draws, Field},
    fact::{Fact, ObjectFact},
    scene::Scene,
    words::{Pattern, Place, Relation, Size, Texture},
};

/// A caption and what it claims.
#[derive(Clone, Debug, PartialEq)]
pub struct Caption {
    /// The words.
    pub text: String,
    /// What they claim of the scene.
    pub facts: Vec<Fact>,
}

/// The forms of a caption; each scene has one caption of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Phrase,
    Relation,
    Count,
    Sentences,
    Tags,
}

const FORMS: [Form; CAPTIONS_PER_SCENE] =
    [Form::Phrase, Form::Relation, Form::Count, Form::Sentences, Form::Tags];

/// A detail that a plan may add. Its bits are about those by which it narrows a scene down: the log of
/// its number of values, less for what is unevenly spread or may be true of any of several objects.
#[derive(Clone, Copy, Debug)]
enum Detail {
    Texture(usize),
    Size(usize),
    Place(usize),
    Ground,
    Pattern,
    Count,
}

impl Detail {
    const OBJECT_BITS: f32 = 5.1;
    const RELATION_BITS: f32 = 2.4;

    const fn bits(self) -> f32 {
        match self {
            Self::Texture(_) => 1.2,
            Self::Size(_) => 1.1,
            Self::Place(_) => 2.7,
            Self::Ground => 2.8,
            Self::Pattern => 2.3,
            Self::Count => 1.7,
        }
    }
}

/// What a caption tells.
struct Plan {
    /// Objects by their place in the scene, in order of mention, with what is told of each.
    objects: Vec<(usize, ObjectFact)>,
    /// Where the second object mentioned is, seen from the first.
    relation: Option<Relation>,
    ground: bool,
    pattern: bool,
    count: bool,
}

impl Scene {
    /// The scene's captions: five, all different.
    pub fn captions(&self) -> Vec<String> {
        self.described().into_iter().map(|caption| caption.text).collect()
    }

    /// The scene's captions with what each of them claims.
    pub fn described(&self) -> Vec<Caption> {
        let draws = Draws::new(self.seed, self.split as u64, self.number);
        let mut forms = FORMS;
        forms.sort_by_key(|form| draws.bits(Field::CaptionForm, *form as u64));
        forms
            .into_iter()
            .map(|form| {
                let plan = Plan::new(self, &draws, form);
                let writer = Writer { scene: self, plan: &plan, draws, key: form as u64 * 256 };
                Caption { text: writer.write(form), facts: plan.facts(self) }
            })
            .collect()
    }
}

impl Plan {
    fn new(scene: &Scene, draws: &Draws, form: Form) -> Self {
        let key = form as u64;
        let mut plan =
            Self { objects: Vec::new(), relation: None, ground: false, pattern: false, count: false };
        let second = 1 + draws.below(Field::CaptionSecond, key, scene.objects.len().saturating_sub(1));
        let mentioned: Vec<usize> = match form {
            Form::Count => (0..scene.objects.len()).collect(),
            _ if scene.objects.len() == 1 => vec![0],
            // Either of the two may come first where only their relation is told.
            Form::Relation if draws.below(Field::CaptionSecond, key + 64, 2) == 0 => vec![second, 0],
            _ => vec![0, second],
        };
        for place in mentioned {
            let object = &scene.objects[place];
            let (shape, colour) = (object.shape, object.colour);
            plan.objects.push((place, ObjectFact { shape, colour, texture: None, size: None, place: None }));
        }
        if let ([(first, _), (second, _), ..], Form::Relation | Form::Sentences) = (&plan.objects[..], form) {
            plan.relation = Some(scene.relation(*second, *first));
        }
        plan.count = form == Form::Count;

        let goal = draws.between(Field::CaptionDetail, key, 15.0, 18.5);
        let mut bits = plan.objects.len() as f32 * Detail::OBJECT_BITS
            + if plan.relation.is_some() { Detail::RELATION_BITS } else { 0.0 }
            + if plan.count { Detail::Count.bits() } else { 0.0 };
        let mut details = plan.details(form, scene);
        details.sort_by_key(|(number, _)| draws.bits(Field::CaptionOrder, key * 64 + number));
        for (_, detail) in details {
            if bits >= goal {
                break;
            }
            plan.add(detail, scene);
            bits += detail.bits();
        }
        plan
    }

    /// The details that a form can tell, numbered.
    fn details(&self, form: Form, scene: &Scene) -> Vec<(u64, Detail)> {
        let mut details = vec![Detail::Ground, Detail::Pattern];
        let alone = scene.objects.len() == 1;
        if alone || form == Form::Tags {
            details.push(Detail::Count);
        }
        for mention in 0..self.objects.len() {
            details.extend([Detail::Texture(mention), Detail::Size(mention)]);
            // A list of many objects with their places reads badly, and "it" has its place told.
            if self.objects.len() <= 2 && (mention == 0 || self.relation.is_none()) {
                details.push(Detail::Place(mention));
            }
        }
        (0..).zip(details).collect()
    }

    fn add(&mut self, detail: Detail, scene: &Scene) {
        match detail {
            Detail::Ground => self.ground = true,
            Detail::Pattern => self.pattern = true,
            Detail::Count => self.count = true,
            Detail::Texture(mention) | Detail::Size(mention) | Detail::Place(mention) => {
                let Some((place, fact)) = self.objects.get_mut(mention) else { return };
                let object = &scene.objects[*place];
                match detail {
                    Detail::Texture(_) => fact.texture = Some(object.texture),
                    Detail::Size(_) => fact.size = Some(object.size),
                    _ => fact.place = Some(object.place),
                }
            }
        }
    }

    fn facts(&self, scene: &Scene) -> Vec<Fact> {
        let mut facts = Vec::new();
        match (&self.objects[..], self.relation) {
            ([(_, first), (_, second), ..], Some(relation)) => {
                facts.push(Fact::Relation(*second, relation, *first));
            }
            (objects, _) => facts.extend(objects.iter().map(|(_, fact)| Fact::Object(*fact))),
        }
        facts.extend(self.ground.then_some(Fact::Ground(scene.ground)));
        facts.extend(self.pattern.then_some(Fact::Pattern(scene.pattern)));
        facts.extend(self.count.then_some(Fact::Count(scene.objects.len())));
        facts
    }
}

/// Puts a plan into words. `key` and a slot select each choice among synonyms.
struct Writer<'a> {
    scene: &'a Scene,
    plan: &'a Plan,
    draws: Draws,
    key: u64,
}

impl Writer<'_> {
    fn say(&self, slot: u64, choices: &[&'static str]) -> &'static str {
        self.draws.pick(Field::CaptionWord, self.key + slot, choices).unwrap_or_default()
    }

    fn write(&self, form: Form) -> String {
        let text = match form {
            Form::Phrase => self.phrase(),
            Form::Relation => self.related(),
            Form::Count => self.counted(),
            Form::Sentences => self.sentences(),
            Form::Tags => return self.tags(),
        };
        let mut letters = text.chars();
        letters
            .next()
            .map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
    }

    /// "A large red circle in the top left corner and a dotted blue star, on a gray background."
    fn phrase(&self) -> String {
        let objects = self.joined();
        let told = if self.plan.count && self.plan.objects.len() == 1 {
            let single = self.say(0, &["a single", "only one", "just one"]);
            format!("{single} {}", self.noun(0) + &self.place_after(0))
        } else {
            objects
        };
        self.with_ground(told)
    }

    /// "A blue star above a large red circle on a gray background."
    fn related(&self) -> String {
        let Some(relation) = self.plan.relation else { return self.ground_first() };
        let (first, second) = (self.article(0) + &self.place_after(0), self.article(1));
        let relation = relation.word();
        let told = match self.say(0, &["plain", "verb", "turned"]) {
            "verb" => format!("{second} is {relation} {first}"),
            "turned" if self.plan.objects[0].1.place.is_none() => format!("{relation} {first} is {second}"),
            _ => format!("{second} {relation} {first}"),
        };
        self.with_ground(told)
    }

    /// For a scene of one object: "A gray background with a red circle in the middle."
    fn ground_first(&self) -> String {
        let alone = if self.plan.count { self.say(1, &["only ", "just "]) } else { "" };
        let object = format!("{alone}{}{}", self.article(0), self.place_after(0));
        match self.ground_noun() {
            Some(ground) => format!("{} with {object}", with_article(&ground)),
            None => format!("a picture of {object}"),
        }
    }

    /// "Three shapes on a gray background: a red circle, a blue star and a white ring."
    fn counted(&self) -> String {
        let count = match self.scene.objects.len() {
            1 => self.say(0, &["one shape", "a single shape", "one object"]),
            2 => self.say(0, &["two shapes", "two objects", "a pair of shapes"]),
            3 => self.say(0, &["three shapes", "three objects"]),
            _ => self.say(0, &["four shapes", "four objects"]),
        };
        format!("{}: {}", self.with_ground(count.into()), self.joined())
    }

    /// "There is a red circle at the top, and a blue star below it. The background is gray."
    fn sentences(&self) -> String {
        let alone = self.plan.count && self.plan.objects.len() == 1;
        let open = match alone {
            true => self.say(0, &["there is only", "this is just", "the only thing here is"]),
            false => self.say(0, &["there is", "here is", "this picture shows", "we see"]),
        };
        let mut text = format!("{open} {}{}", self.article(0), self.place_after(0));
        if let Some(relation) = self.plan.relation {
            let and = self.say(1, &[", and", ", with"]);
            text = format!("{text}{and} {} {} it", self.article(1), relation.word());
        }
        let ground = self.plan.ground.then(|| self.scene.ground.word());
        let tail = match (ground, self.plan.pattern.then_some(self.scene.pattern)) {
            (None, None) => return text,
            (Some(ground), None) => ground.to_owned(),
            (Some(ground), Some(Pattern::Plain)) => format!("plain {ground}"),
            (Some(ground), Some(Pattern::Gradient)) => format!("a {ground} gradient"),
            (Some(ground), Some(pattern)) => format!("{ground} with {}", pattern_plural(pattern)),
            (None, Some(Pattern::Gradient)) => "a gradient".to_owned(),
            (None, Some(pattern)) => pattern.word().to_owned(),
        };
        format!("{text}. The background is {tail}")
    }

    /// "large red circle top left, dotted blue star, gray background, two shapes"
    fn tags(&self) -> String {
        let mut tags: Vec<String> = Vec::new();
        for (mention, (_, fact)) in self.plan.objects.iter().enumerate() {
            let place = fact.place.map(|place| format!(" {}", place.word())).unwrap_or_default();
            tags.push(self.noun(mention) + &place);
        }
        tags.extend(self.ground_noun());
        if self.plan.count {
            let count = ["one shape", "two shapes", "three shapes", "four shapes"];
            tags.extend(count.get(self.scene.objects.len() - 1).map(ToString::to_string));
        }
        tags.join(", ")
    }

    /// All mentioned objects: "a, b and c".
    fn joined(&self) -> String {
        let count = self.plan.objects.len();
        (0..count).fold(String::new(), |text, mention| {
            let link = if mention == 0 {
                ""
            } else if mention + 1 == count {
                " and "
            } else {
                ", "
            };
            format!("{text}{link}{}{}", self.article(mention), self.place_after(mention))
        })
    }

    /// "large striped red circle", or "large red circle with stripes".
    fn noun(&self, mention: usize) -> String {
        let (_, fact) = &self.plan.objects[mention];
        let slot = 16 + mention as u64 * 8;
        let size = match fact.size {
            None => "",
            Some(Size::Small) => self.say(slot, &["small ", "little "]),
            Some(Size::Medium) => self.say(slot, &["medium-sized ", "mid-sized "]),
            Some(Size::Large) => self.say(slot, &["large ", "big "]),
        };
        let (before, after) = match fact.texture {
            None => ("", ""),
            Some(Texture::Solid) => (self.say(slot + 1, &["plain ", "solid "]), ""),
            Some(Texture::Striped) => self.either(slot + 1, ("striped ", ""), ("", " with stripes")),
            Some(Texture::Dotted) => self.either(slot + 1, ("dotted ", ""), ("", " with dots")),
            Some(Texture::Checkered) => {
                self.either(slot + 1, ("checkered ", ""), ("", " with a checkered pattern"))
            }
        };
        format!("{size}{before}{} {}{after}", fact.colour.word(), fact.shape.word())
    }

    fn either<T>(&self, slot: u64, usual: T, other: T) -> T {
        if self.draws.below(Field::CaptionWord, self.key + slot, 3) == 0 { other } else { usual }
    }

    fn article(&self, mention: usize) -> String {
        with_article(&self.noun(mention))
    }

    /// " in the top left corner", or nothing where the place is not told.
    fn place_after(&self, mention: usize) -> String {
        let slot = 18 + mention as u64 * 8;
        let Some(place) = self.plan.objects[mention].1.place else { return String::new() };
        let phrase = match place {
            Place::TopLeft => {
                self.say(slot, &["in the top left corner", "at the top left", "in the upper left"])
            }
            Place::Top => self.say(slot, &["at the top", "near the top"]),
            Place::TopRight => {
                self.say(slot, &["in the top right corner", "at the top right", "in the upper right"])
            }
            Place::Left => self.say(slot, &["on the left", "on the left side"]),
            Place::Middle => self.say(slot, &["in the middle", "in the center"]),
            Place::Right => self.say(slot, &["on the right", "on the right side"]),
            Place::BottomLeft => {
                self.say(slot, &["in the bottom left corner", "at the bottom left", "in the lower left"])
            }
            Place::Bottom => self.say(slot, &["at the bottom", "near the bottom"]),
            Place::BottomRight => {
                self.say(slot, &["in the bottom right corner", "at the bottom right", "in the lower right"])
            }
        };
        format!(" {phrase}")
    }

    /// "striped gray background"; none where nothing of the ground is told.
    fn ground_noun(&self) -> Option<String> {
        let colour = if self.plan.ground { self.scene.ground.word() } else { "" };
        let pattern = if self.plan.pattern { Some(self.scene.pattern) } else { None };
        let words = match pattern {
            None if colour.is_empty() => return None,
            None => colour.to_owned(),
            Some(Pattern::Gradient) => format!("{colour} gradient"),
            Some(pattern) => format!("{} {colour}", pattern.word()),
        };
        Some(format!("{} background", words.trim()))
    }

    /// Adds " on a striped gray background", set off by a comma after a place.
    fn with_ground(&self, told: String) -> String {
        let Some(ground) = self.ground_noun() else { return told };
        let placed = self.plan.objects.iter().any(|(_, fact)| fact.place.is_some());
        let on = self.say(2, &["on", "on", "against"]);
        format!("{told}{} {on} {}", if placed && told.len() > 24 { "," } else { "" }, with_article(&ground))
    }
}

fn pattern_plural(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Striped => "stripes",
        Pattern::Dotted => "dots",
        Pattern::Checkered => "checks",
        Pattern::Plain | Pattern::Gradient => pattern.word(),
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {noun}")
}
