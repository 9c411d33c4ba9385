//! Keys and captions of a batch's samples, in memory that is used again. Left out: pixels ([`crate::draft`]), and what is
//! written ([`crate::collate`]).

use crate::history::Added;

/// A piece of the text.
type Span = std::ops::Range<usize>;

/// What a batch says of one sample beside its pixels.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) sample: u64,
    /// The damaged sample whose place it takes.
    pub(crate) instead_of: Option<u64>,
    key: Span,
    /// Numbers of its captions in `Text::captions`.
    captions: Span,
}

/// Keys and captions of some samples of a batch, one after the other in one string.
#[derive(Debug, Default)]
pub(crate) struct Text {
    pub(crate) entries: Vec<Entry>,
    text: String,
    captions: Vec<Span>,
    /// What they add to the history.
    pub(crate) added: Added,
}

impl Text {
    /// Forgets the samples and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
        self.captions.clear();
        self.added = Added::default();
    }

    pub(crate) fn push<'a>(&mut self, sample: u64, key: &str, captions: impl Iterator<Item = &'a str>) {
        let key = self.write(key);
        let first = self.captions.len();
        for caption in captions {
            let span = self.write(caption);
            self.captions.push(span);
        }
        self.entries.push(Entry { sample, instead_of: None, key, captions: first..self.captions.len() });
    }

    /// Forgets all samples but the first `entries`.
    pub(crate) fn truncate(&mut self, entries: usize) {
        // The characters of what is forgotten stay until all is cleared.
        self.entries.truncate(entries);
    }

    pub(crate) fn key(&self, entry: usize) -> &str {
        &self.text[self.entries[entry].key.clone()]
    }

    pub(crate) fn captions(&self, entry: usize) -> impl ExactSizeIterator<Item = &str> {
        self.captions[self.entries[entry].captions.clone()].iter().map(|span| &self.text[span.clone()])
    }

    fn write(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_and_what_is_cleared_keeps_its_memory() {
        let mut text = Text::default();
        text.push(4, "a", ["one", "", "drei"].into_iter());
        text.push(9, "b", std::iter::empty());
        assert_eq!((text.key(0), text.key(1)), ("a", "b"));
        assert_eq!(text.captions(0).collect::<Vec<_>>(), ["one", "", "drei"]);
        assert_eq!((text.captions(1).len(), text.entries[1].sample), (0, 9));
        let capacity = text.text.capacity();
        text.clear();
        text.push(1, "c", ["two"].into_iter());
        assert_eq!((text.key(0), text.text.capacity()), ("c", capacity));
    }
}
