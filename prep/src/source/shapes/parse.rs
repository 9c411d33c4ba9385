//! Captions, read back into the [`Fact`]s that they claim: the inverse of `caption`, by a small grammar over words. It
//! reads every form that is written there, in any case and with marks set apart or left out, and as much as it can of
//! what a model writes that learned from them. It leaves out whether a claim is true.

use std::ops::Range;

use super::{
    fact::{Fact, ObjectFact},
    lexicon,
    words::{Ground, Pattern, Relation, Size, Texture},
};

/// What a caption claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// Its claims. An object that is part of a relation is told there alone; one that is mentioned twice is there
    /// twice, and any other claim once.
    pub facts: Vec<Fact>,
    /// Words that say something which cannot be read, in their order: unknown ones, and those of claims that are not
    /// whole, as an object without a colour or a relation to nothing.
    pub unread: Vec<String>,
}

/// Reads a caption; any text can be read, if only into unread words.
///
/// ```
/// use prep::source::shapes::{Fact, Ground, parse};
///
/// let parsed = parse("a shiny box on a gray background");
/// assert_eq!(parsed.facts, [Fact::Ground(Ground::Gray)]);
/// assert_eq!(parsed.unread, ["shiny", "box"]);
/// ```
pub fn parse(text: &str) -> Parsed {
    let words = words(text);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut reader = Reader::new(&words);
    while reader.at < words.len() {
        reader.at += reader.step();
    }
    reader.finish()
}

/// Lower-cased words, and marks by themselves. Hyphens part words: "medium-sized" is two.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in text.to_lowercase().chars() {
        if letter.is_alphanumeric() {
            words.last_mut().expect("there is one from the start").push(letter);
        } else {
            let mark = letter.to_string();
            words.extend(lexicon::is_mark(&mark).then_some(mark));
            words.push(String::new());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A relation whose objects are not both read yet. `Relation(one, relation, other)`: one "above" the other.
#[derive(Debug)]
struct Link {
    relation: Relation,
    words: Range<usize>,
    /// The one, where it stands right before the relation: "a star above …".
    one: Option<usize>,
    /// Else the last object before it, if any: "… a star, above …" may mean that one, or one that follows.
    before: Option<usize>,
    /// The other, of a relation that nothing stands right before: "above a circle is …".
    other: Option<usize>,
    /// "is" was read after the other: the one follows.
    turned: bool,
}

/// Reads words from left to right.
#[derive(Debug)]
struct Reader<'a> {
    words: &'a [&'a str],
    at: usize,
    mentions: Vec<ObjectFact>,
    pairs: Vec<(usize, Relation, usize)>,
    /// Claims that are of no object.
    told: Vec<Fact>,
    unread: Vec<usize>,
    /// The object that a place, a texture or a relation behind it speaks of; none where it could not be read.
    object: Option<usize>,
    /// Whether a relation word would have that object for its one: no mark and no "and" came since.
    open: bool,
    /// Whether "with stripes" speaks of the ground: it was mentioned last.
    on_ground: bool,
    /// "The background is" was read: adjectives without a noun are the ground's.
    ground_is: bool,
    link: Option<Link>,
}

impl<'a> Reader<'a> {
    fn new(words: &'a [&'a str]) -> Self {
        Self {
            words,
            at: 0,
            mentions: Vec::new(),
            pairs: Vec::new(),
            told: Vec::new(),
            unread: Vec::new(),
            object: None,
            open: false,
            on_ground: false,
            ground_is: false,
            link: None,
        }
    }

    fn word(&self, at: usize) -> &'a str {
        self.words.get(at).copied().unwrap_or_default()
    }

    /// Reads what comes next and says how many words it took: at least one.
    fn step(&mut self) -> usize {
        let (at, rest) = (self.at, &self.words[self.at..]);
        let adjectives = rest.iter().take_while(|word| lexicon::is_adjective(word)).count();
        if let Some(taken) = self.noun(at..at + adjectives) {
            return taken;
        }
        if let Some(taken) = self.count(at) {
            return taken;
        }
        if let Some((relation, taken)) = lexicon::relation(rest) {
            self.relate(relation, at..at + taken);
            return taken;
        }
        if let Some((place, taken)) = lexicon::place(rest) {
            let told = self.object.is_some_and(|object| tell(&mut self.mentions[object].place, place));
            self.read_if(told, at..at + taken);
            return taken;
        }
        if let Some(texture) = lexicon::texture_noun(rest[0]) {
            let told = self.fill(texture);
            self.read_if(told, at..at + 1);
            return 1;
        }
        self.carry(rest[0]);
        1
    }

    /// Adjectives with the noun behind them, or a noun alone.
    fn noun(&mut self, adjectives: Range<usize>) -> Option<usize> {
        let head = self.word(adjectives.end);
        let taken = adjectives.len() + 1;
        if let Some(shape) = lexicon::shape(head) {
            self.mention(shape, adjectives);
        } else if head == "background" {
            self.ground_is = self.word(adjectives.end + 1) == "is";
            self.ground(adjectives);
        } else if head == "pattern" && !adjectives.is_empty() {
            let texture = lexicon::texture(self.word(adjectives.end - 1)).filter(|_| adjectives.len() == 1);
            let told = texture.is_some_and(|texture| self.fill(texture));
            self.read_if(told, adjectives.start..adjectives.end + 1);
        } else if adjectives.is_empty() {
            return None;
        } else {
            if self.ground_is {
                self.ground(adjectives)
            } else {
                self.unread.extend(adjectives)
            }
            return Some(taken - 1);
        }
        Some(taken)
    }

    /// "large striped red circle": an object, where it has a shape and a colour.
    fn mention(&mut self, shape: super::Shape, adjectives: Range<usize>) {
        let (mut colour, mut odd) = (None, Vec::new());
        let (mut texture, mut size) = (None, None);
        for at in adjectives.clone() {
            let word = self.word(at);
            let told = if let Some(value) = lexicon::colour(word) {
                tell(&mut colour, value)
            } else if let Some(value) = lexicon::texture(word) {
                tell(&mut texture, value)
            } else if let Some(value) = lexicon::size(word) {
                tell(&mut size, value)
            } else {
                word == "sized" && size == Some(Size::Medium)
            };
            odd.extend((!told).then_some(at));
        }
        (self.on_ground, self.ground_is) = (false, false);
        let Some(colour) = colour else {
            self.unread.extend(adjectives.start..adjectives.end + 1);
            (self.object, self.open) = (None, false);
            return self.drop_link();
        };
        self.unread.extend(odd);
        self.mentions.push(ObjectFact { shape, colour, texture, size, place: None });
        let object = self.mentions.len() - 1;
        (self.object, self.open) = (Some(object), true);
        self.join(object);
    }

    /// What adjectives say of the ground.
    fn ground(&mut self, adjectives: Range<usize>) {
        self.on_ground = true;
        let mut at = adjectives.start;
        while at < adjectives.end {
            let word = if self.word(at) == "grey" { "gray" } else { self.word(at) };
            let shade = format!("{word} {}", self.word(at + 1));
            let named = |name: &str| Ground::ALL.iter().copied().find(|ground| ground.word() == name);
            if let Some(ground) = named(&shade).filter(|_| at + 1 < adjectives.end) {
                self.claim(Fact::Ground(ground));
                at += 1;
            } else if let Some(ground) = named(word) {
                self.claim(Fact::Ground(ground));
            } else if let Some(texture) = lexicon::texture(word) {
                self.claim(Fact::Pattern(lexicon::pattern(texture)));
            } else if word == "gradient" {
                self.claim(Fact::Pattern(Pattern::Gradient));
            } else {
                self.unread.push(at);
            }
            at += 1;
        }
    }

    /// "with stripes": says it of what was mentioned last, and whether that could be.
    fn fill(&mut self, texture: Texture) -> bool {
        if self.on_ground {
            self.claim(Fact::Pattern(lexicon::pattern(texture)));
            return true;
        }
        self.object.is_some_and(|object| tell(&mut self.mentions[object].texture, texture))
    }

    /// "three shapes", "a pair of shapes", "a single …", "only one …", "only …".
    fn count(&mut self, at: usize) -> Option<usize> {
        let noun = |at: usize| usize::from(lexicon::is_any_object(self.word(at)));
        let (count, taken) = match (self.word(at), lexicon::number(self.word(at))) {
            ("only" | "just", _) => match lexicon::number(self.word(at + 1)) {
                Some(number) => (number, 2 + noun(at + 2)),
                None => (1, 1),
            },
            ("single", _) => (1, 1 + noun(at + 1)),
            ("pair", _) if self.word(at + 1) == "of" && noun(at + 2) == 1 => (2, 3),
            (_, Some(number)) if noun(at + 1) == 1 => (number, 2),
            _ => return None,
        };
        self.claim(Fact::Count(count));
        Some(taken)
    }

    /// Words that carry the sentence, and those that are unknown.
    fn carry(&mut self, word: &str) {
        match word {
            "." => (self.open, self.ground_is) = (false, false),
            "and" => self.open = false,
            "is" => {
                if let Some(link) = &mut self.link {
                    link.turned = link.other.is_some();
                }
            }
            // "it" is the object that the caption speaks of first.
            "it" if self.link.is_some() && !self.mentions.is_empty() => {
                (self.object, self.open, self.on_ground) = (Some(0), true, false);
                self.join(0);
            }
            mark if lexicon::is_mark(mark) => self.open = false,
            other => self.read_if(lexicon::is_filler(other), self.at..self.at + 1),
        }
    }

    /// A relation word: its one is the object right before it, or is still to be found.
    fn relate(&mut self, relation: Relation, words: Range<usize>) {
        self.drop_link();
        let (one, before) = (self.object.filter(|_| self.open), self.object);
        self.link = Some(Link { relation, words, one, before, other: None, turned: false });
    }

    /// An object was read: it may be what a relation waits for.
    fn join(&mut self, object: usize) {
        let Some(mut link) = self.link.take() else { return };
        match (link.one, link.other) {
            (Some(one), _) => self.pair(&link, one, object),
            (None, None) => {
                link.other = Some(object);
                self.link = Some(link);
            }
            (None, Some(other)) => match link.before.filter(|before| !link.turned && *before != other) {
                Some(before) => self.pair(&link, before, other),
                None => self.pair(&link, object, other),
            },
        }
    }

    fn pair(&mut self, link: &Link, one: usize, other: usize) {
        if one == other {
            self.unread.extend(link.words.clone());
        } else {
            self.pairs.push((one, link.relation, other));
        }
    }

    /// Ends a relation that will find no more objects.
    fn drop_link(&mut self) {
        let Some(link) = self.link.take() else { return };
        match (link.before, link.other) {
            (Some(before), Some(other)) => self.pair(&link, before, other),
            _ => self.unread.extend(link.words),
        }
    }

    fn claim(&mut self, fact: Fact) {
        if !self.told.contains(&fact) {
            self.told.push(fact);
        }
    }

    fn read_if(&mut self, read: bool, words: Range<usize>) {
        if !read {
            self.unread.extend(words);
        }
    }

    fn finish(mut self) -> Parsed {
        self.drop_link();
        let Self { words, mentions, pairs, told, mut unread, .. } = self;
        let alone = |object: &usize| !pairs.iter().any(|(one, _, other)| one == object || other == object);
        let related = pairs
            .iter()
            .map(|(one, relation, other)| Fact::Relation(mentions[*one], *relation, mentions[*other]));
        let objects = (0..mentions.len()).filter(alone).map(|object| Fact::Object(mentions[object]));
        let facts = related.chain(objects).chain(told).collect();
        unread.sort_unstable();
        Parsed { facts, unread: unread.into_iter().map(|at| words[at].to_owned()).collect() }
    }
}

/// Fills in what was not told yet; false where something else was.
fn tell<T: Copy + PartialEq>(slot: &mut Option<T>, value: T) -> bool {
    *slot.get_or_insert(value) == value
}
