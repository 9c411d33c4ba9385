//! Captions to tokens, as pycocoevalcap's `PTBTokenizer` has them: lower case, without marks of punctuation.
//!
//! The reference is the tokenizer of Stanford CoreNLP 3.4.1 with the options `-preserveLines -lowerCase`, after
//! which pycocoevalcap takes out a list of tokens. What a rule matches was found by asking
//! the reference, down to its lists of abbreviations and of endings of names; groups and names are this crate's. Both
//! automata were walked side by side over one character of each of the reference's classes and accept the same
//! texts; every character of the basic plane was tried in eight contexts, and random captions by the hundred thousand.
//! One difference is known: letters newer than Java's tables, which survive only inside links, get a lower case here.
//!
//! Left out is what captions have no use for: offsets into the text, the original spelling, other options, other
//! languages. As in the reference, time grows with the square of the length of a text without spaces.
//!
//! Where the reference's answer depends on the caption that happens to follow in the same run (its rules see across
//! the end of a line), this one answers as if a line in lower case followed. A character that would end a line in
//! the middle of a caption counts as a space here; there it shifts all captions behind it.

mod actions;
mod automaton;
mod rules;

use std::cell::RefCell;

use regex_automata::hybrid::dfa::Cache;

use self::automaton::Automaton;

/// Tokens that pycocoevalcap takes out. Brackets are in its list in upper case, so they stay.
const REMOVED: [&str; 13] = ["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"];

/// Calls `found` with each token of a caption, lower-cased, marks of punctuation left out.
///
/// A token can hold a no-break space (telephone numbers, tags), which pycocoevalcap's BLEU and CIDEr take for the
/// border of two words.
pub(crate) fn for_each_token(caption: &str, mut found: impl FnMut(&str)) {
    thread_local! {
        static CACHE: RefCell<Option<Cache>> = const { RefCell::new(None) };
    }
    let automaton = Automaton::get();
    let line = format!("{caption}\n");
    let (mut lower, mut last) = (String::new(), String::new());
    CACHE.with_borrow_mut(|cache| {
        let cache = cache.get_or_insert_with(|| automaton.cache());
        let mut rest = line.as_str();
        while let Some(matched) = automaton.longest(cache, rest) {
            let (token, read) =
                actions::token_of(matched.rule.action, matched.rule.split, &rest[..matched.end]);
            if let Some(token) = token {
                if !is_removed(&last) {
                    found(&last);
                }
                lower_case(&token, &mut lower);
                std::mem::swap(&mut lower, &mut last);
            }
            rest = &rest[read..];
        }
    });
    // The end of a line loses its white space, which a link may have taken for its own.
    let last = last.trim_end_matches(is_python_space);
    if !is_removed(last) {
        found(last);
    }
}

/// Whether pycocoevalcap leaves out a token.
fn is_removed(token: &str) -> bool {
    token.is_empty() || REMOVED.contains(&token)
}

/// White space to Python's `str.split()`.
pub(crate) fn is_python_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1C}'..='\u{1F}')
}

fn lower_case(token: &str, lower: &mut String) {
    lower.clear();
    if token.is_ascii() {
        lower.push_str(token);
        lower.make_ascii_lowercase();
    } else {
        lower.push_str(&token.to_lowercase());
    }
}

/// The tokens of a caption: lower case, marks of punctuation left out.
///
/// Never fails: what is no token of any kind vanishes.
///
/// ```
/// assert_eq!(cocoeval::tokenize("Two dogs can't swim, can they?"), ["two", "dogs", "ca", "n't", "swim", "can", "they"]);
/// ```
pub fn tokenize(caption: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    for_each_token(caption, |token| tokens.push(token.to_owned()));
    tokens
}

/// The tokens of a caption with one space between them: the string that pycocoevalcap hands to its metrics.
pub fn tokenize_joined(caption: &str) -> String {
    let mut joined = String::with_capacity(caption.len());
    for_each_token(caption, |token| {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(token);
    });
    joined
}
