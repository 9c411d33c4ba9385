//! The token rules: what may be one token, in the order in which ties are decided.
//!
//! At each place the longest match wins, context included; of equally long ones the earlier rule. One file holds the
//! rules of one kind of text. What becomes of a match is the business of [`Action`] and `actions.rs`; how the rules are
//! run is that of `automaton.rs`.

mod abbreviations;
mod chars;
mod marks;
mod numbers;
mod sentence;
mod words;

/// What is done with the text of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tokenizer) enum Action {
    /// The text is the token.
    Keep,
    /// The token is the text without its last characters (so many), which are read again.
    GiveBack(usize),
    /// The token is this, whatever the text.
    Replace(&'static str),
    /// Soft hyphens are taken out of a word.
    Word,
    /// `&amp;` becomes `&`.
    Ampersand,
    /// Signs of money become those that ASCII has.
    Currency,
    /// One character for a fraction becomes digits.
    Fraction,
    /// Spaces within the token become no-break spaces.
    Spaced,
    /// The same, and brackets become `-LRB-` and `-RRB-`.
    Joined,
    /// Brackets within the token become `-LRB-` and `-RRB-`.
    Brackets,
    /// An abbreviation at the end of a sentence: its dot is read again.
    SentenceEnd,
    /// Dashes of three or four hyphens become two.
    Hyphens,
    /// Quotes become those of LaTeX; `true` where they open.
    Quotes(bool),
    /// No token.
    Skip,
}

/// Where the context that must follow a token begins in the text of a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tokenizer) enum Split {
    /// There is no context.
    None,
    /// The last characters, so many, are context.
    Last(usize),
    /// The context begins behind the first dot.
    Dot,
    /// The first white space begins the context.
    Space,
    /// The last apostrophe begins it.
    Apostrophe,
    /// The `n` before the last apostrophe begins it.
    Not,
}

/// One rule: the text of a token and the context that must follow, as one expression.
#[derive(Debug)]
pub(in crate::tokenizer) struct Rule {
    pub(in crate::tokenizer) action: Action,
    pub(in crate::tokenizer) pattern: String,
    pub(in crate::tokenizer) split: Split,
}

/// A token whatever follows.
fn rule(action: Action, pattern: impl Into<String>) -> Rule {
    Rule { action, pattern: pattern.into(), split: Split::None }
}

/// A token where a context follows, which is read again.
fn before(action: Action, pattern: impl AsRef<str>, context: impl AsRef<str>, split: Split) -> Rule {
    Rule { action, pattern: format!("(?:{})(?:{})", pattern.as_ref(), context.as_ref()), split }
}

/// All rules, first the ones that win ties.
pub(in crate::tokenizer) fn rules() -> Vec<Rule> {
    [words::rules(), numbers::rules(), sentence::rules(), marks::rules()].into_iter().flatten().collect()
}
