//! How many of a caption's claims are true of its scene, one by one: an object that is described as a large red circle
//! claims a shape, a colour and a size. It leaves out reading captions (`parse`) and what a caption does not tell.

use super::{
    fact::{Fact, ObjectFact},
    parse::Parsed,
    scene::{Object, Scene},
    words::Relation,
};

/// What a claim is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A mentioned object's outline.
    Shape,
    /// A mentioned object's colour.
    Colour,
    /// How a mentioned object is filled.
    Texture,
    /// How large a mentioned object is.
    Size,
    /// Where a mentioned object is.
    Place,
    /// Where one mentioned object is, as seen from another.
    Relation,
    /// The ground's colour.
    Ground,
    /// The ground's pattern.
    Pattern,
    /// How many objects there are.
    Count,
}

impl Kind {
    /// All of them, in order.
    pub const ALL: [Self; 9] = [
        Self::Shape,
        Self::Colour,
        Self::Texture,
        Self::Size,
        Self::Place,
        Self::Relation,
        Self::Ground,
        Self::Pattern,
        Self::Count,
    ];

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shape => "shape",
            Self::Colour => "colour",
            Self::Texture => "texture",
            Self::Size => "size",
            Self::Place => "place",
            Self::Relation => "relation",
            Self::Ground => "ground",
            Self::Pattern => "pattern",
            Self::Count => "count",
        }
    }
}

/// How many claims there are, and how many of them are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Claims that are true of the scene.
    pub right: u64,
    /// All claims.
    pub claimed: u64,
}

impl Tally {
    /// The part that is right, 0 to 1; none where nothing is claimed.
    pub fn share(self) -> Option<f64> {
        (self.claimed > 0).then(|| self.right as f64 / self.claimed as f64)
    }

    fn add(&mut self, right: bool) {
        self.right += u64::from(right);
        self.claimed += 1;
    }

    fn merge(&mut self, other: Self) {
        self.right += other.right;
        self.claimed += other.claimed;
    }
}

/// What a caption comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Its claims.
    pub total: Tally,
    /// The same by kind, in the order of [`Kind::ALL`].
    pub kinds: [Tally; Kind::ALL.len()],
    /// Whether it claims something, all of that is right, and no word is unread.
    pub all_true: bool,
    /// Words that could not be read.
    pub unread: usize,
}

/// Verdicts of many captions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Captions.
    pub captions: u64,
    /// Those of which all is true.
    pub all_true: u64,
    /// Those with words that could not be read.
    pub with_unread: u64,
    /// Claims of all captions.
    pub total: Tally,
    /// The same by kind, in the order of [`Kind::ALL`].
    pub kinds: [Tally; Kind::ALL.len()],
}

impl Judged {
    /// Takes in another caption.
    pub fn add(&mut self, verdict: &Verdict) {
        self.captions += 1;
        self.all_true += u64::from(verdict.all_true);
        self.with_unread += u64::from(verdict.unread > 0);
        self.total.merge(verdict.total);
        for (kind, other) in self.kinds.iter_mut().zip(verdict.kinds) {
            kind.merge(other);
        }
    }

    /// Captions of which all is true, of all.
    pub fn captions_true(&self) -> Tally {
        Tally { right: self.all_true, claimed: self.captions }
    }

    /// Captions with words that could not be read, of all.
    pub fn captions_unread(&self) -> Tally {
        Tally { right: self.with_unread, claimed: self.captions }
    }
}

/// Mentioned objects that an assignment is tried for: three times as many as a scene has. A caption that mentions more
/// repeats itself, and what is beyond counts as wrong.
const MENTIONS_MAX: usize = 12;

/// Compares a caption's claims with a scene. Mentioned objects stand for objects of the scene, no two for the same one,
/// in the way that makes the most claims right, relations included; those left over have nothing right.
pub fn judge(scene: &Scene, caption: &Parsed) -> Verdict {
    let claims = Claims::of(&caption.facts);
    let mut best = Best::default();
    claims.head().assign(scene, &mut Vec::new(), &mut best);
    let mut verdict = Verdict { unread: caption.unread.len(), ..Default::default() };
    claims.about_objects(scene, &best.objects, |kind, right| verdict.add(kind, right));
    for fact in &caption.facts {
        match fact {
            Fact::Count(_) => verdict.add(Kind::Count, fact.holds(scene)),
            Fact::Ground(_) => verdict.add(Kind::Ground, fact.holds(scene)),
            Fact::Pattern(_) => verdict.add(Kind::Pattern, fact.holds(scene)),
            Fact::Object(_) | Fact::Relation(..) => {}
        }
    }
    let Tally { right, claimed } = verdict.total;
    verdict.all_true = claimed > 0 && right == claimed && verdict.unread == 0;
    verdict
}

impl Verdict {
    fn add(&mut self, kind: Kind, right: bool) {
        self.total.add(right);
        self.kinds[kind as usize].add(right);
    }
}

/// What is claimed of objects.
#[derive(Debug, Default)]
struct Claims {
    mentions: Vec<ObjectFact>,
    /// Places in `mentions`: one is there as seen from the other.
    relations: Vec<(usize, Relation, usize)>,
}

/// The best assignment so far: for each mention the object that it stands for.
#[derive(Debug, Default)]
struct Best {
    right: Option<usize>,
    objects: Vec<Option<usize>>,
}

impl Claims {
    fn of(facts: &[Fact]) -> Self {
        let mut claims = Self::default();
        // Relations first: an object that two of them describe alike is the same one.
        for fact in facts {
            let Fact::Relation(one, relation, other) = fact else { continue };
            let one = claims.related(one, None);
            let other = claims.related(other, Some(one));
            // Said again, also from the other side, it is the same claim.
            let (said, turned) = ((one, *relation, other), (other, relation.turned(), one));
            if !claims.relations.contains(&said) && !claims.relations.contains(&turned) {
                claims.relations.push(said);
            }
        }
        let alone = |fact: &Fact| if let Fact::Object(object) = fact { Some(*object) } else { None };
        claims.mentions.extend(facts.iter().filter_map(alone));
        claims
    }

    /// What is claimed of the first [`MENTIONS_MAX`] objects.
    fn head(&self) -> Self {
        let is_within = |(one, _, other): &&(usize, Relation, usize)| *one.max(other) < MENTIONS_MAX;
        Self {
            mentions: self.mentions.iter().copied().take(MENTIONS_MAX).collect(),
            relations: self.relations.iter().filter(is_within).copied().collect(),
        }
    }

    /// The place of an object of a relation in the mentions, other than `taken`.
    fn related(&mut self, object: &ObjectFact, taken: Option<usize>) -> usize {
        let mut known = (0..self.mentions.len()).filter(|place| Some(*place) != taken);
        known.find(|place| self.mentions[*place] == *object).unwrap_or_else(|| {
            self.mentions.push(*object);
            self.mentions.len() - 1
        })
    }

    /// Tries every object for the next mention, and none, and keeps the first of the best.
    fn assign(&self, scene: &Scene, objects: &mut Vec<Option<usize>>, best: &mut Best) {
        if objects.len() == self.mentions.len() {
            let mut right = 0;
            self.about_objects(scene, objects, |_, is| right += usize::from(is));
            if best.right.is_none_or(|most| right > most) {
                *best = Best { right: Some(right), objects: objects.clone() };
            }
            return;
        }
        for object in (0..scene.objects.len()).map(Some).chain([None]) {
            if object.is_none() || !objects.contains(&object) {
                objects.push(object);
                self.assign(scene, objects, best);
                objects.pop();
            }
        }
    }

    /// Each claim about objects, and whether it is right where mentions stand for `objects`.
    fn about_objects(&self, scene: &Scene, objects: &[Option<usize>], mut each: impl FnMut(Kind, bool)) {
        let object = |mention: usize| objects.get(mention).copied().flatten();
        for (mention, fact) in self.mentions.iter().enumerate() {
            let found = object(mention).map(|object| &scene.objects[object]);
            let is = |right: &dyn Fn(&Object) -> bool| found.is_some_and(right);
            each(Kind::Shape, is(&|found| found.shape == fact.shape));
            each(Kind::Colour, is(&|found| found.colour == fact.colour));
            if let Some(texture) = fact.texture {
                each(Kind::Texture, is(&|found| found.texture == texture));
            }
            if let Some(size) = fact.size {
                each(Kind::Size, is(&|found| found.size == size));
            }
            if let Some(place) = fact.place {
                each(Kind::Place, is(&|found| found.place == place));
            }
        }
        for (one, relation, other) in &self.relations {
            // Of an object that has neither the mention's shape nor its colour nothing was said.
            let is_like = |mention: usize| {
                object(mention).filter(|object| {
                    let (found, told) = (&scene.objects[*object], &self.mentions[mention]);
                    found.shape == told.shape || found.colour == told.colour
                })
            };
            let found = is_like(*one).zip(is_like(*other));
            each(Kind::Relation, found.is_some_and(|(one, other)| scene.relation(one, other) == *relation));
        }
    }
}
