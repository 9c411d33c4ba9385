//! What becomes of a matched text: the token that it stands for and where reading goes on.
//!
//! The reference's options are those of its command line: quotes as LaTeX has them, round brackets and others by
//! name, ellipses of three dots, dashes of two hyphens, and signs of money as far as ASCII has them; slashes and
//! asterisks are not escaped.

use std::borrow::Cow;

use super::rules::{Action, Split};

/// The token of a text, if it has one, and how many of its bytes are read.
pub(super) fn token_of(action: Action, split: Split, text: &str) -> (Option<Cow<'_, str>>, usize) {
    let text = &text[..token_end(split, text)];
    let token = match action {
        Action::Keep => Cow::Borrowed(text),
        Action::GiveBack(count) => {
            let kept = before_last(text, count);
            return (Some(Cow::Borrowed(&text[..kept])), kept);
        }
        Action::SentenceEnd => {
            let read = text.len() - 1; // the dot
            return (Some(Cow::Borrowed(if text.len() == 2 { &text[..read] } else { text })), read);
        }
        Action::Replace(token) => Cow::Borrowed(token),
        Action::Word => without_soft_hyphens(text),
        Action::Ampersand => Cow::Owned(ampersands(text)),
        Action::Currency => Cow::Owned(text.chars().map(currency).collect()),
        Action::Fraction => Cow::Borrowed(fraction(text)),
        Action::Spaced => Cow::Owned(text.replace(' ', "\u{A0}")),
        Action::Joined => Cow::Owned(bracketed(&text.replace(' ', "\u{A0}"))),
        Action::Brackets => Cow::Owned(bracketed(text)),
        Action::Hyphens => Cow::Borrowed(if matches!(text.len(), 3 | 4) { "--" } else { text }),
        Action::Quotes(opens) => Cow::Owned(quotes(text, opens)),
        Action::Skip => return (None, text.len()),
    };
    (Some(token), text.len())
}

/// Where the context begins, in bytes.
fn token_end(split: Split, text: &str) -> usize {
    let found = match split {
        Split::None => None,
        Split::Last(count) => Some(before_last(text, count)),
        Split::Space => text.find(char::is_whitespace),
        Split::Dot => text.find('.').map(|at| at + 1),
        Split::Apostrophe => apostrophe(text),
        Split::Not => apostrophe(text).map(|at| before_last(&text[..at], 1)),
    };
    found.unwrap_or(text.len())
}

/// Where the last `count` characters begin. Those beyond the basic plane are two to the reference, and an entity is
/// not one; no context that is counted in characters has either.
fn before_last(text: &str, count: usize) -> usize {
    text.char_indices().rev().take(count).last().map_or(text.len(), |(at, _)| at)
}

/// Where the last apostrophe begins, one that was typed as an entity too.
fn apostrophe(text: &str) -> Option<usize> {
    if text.ends_with(|last: char| last.is_ascii_alphabetic()) {
        // An entity would be the last thing before the letters.
        let letters = text.trim_end_matches(|letter: char| letter.is_alphabetic());
        if letters.ends_with(';') {
            return letters.rfind('&');
        }
    }
    text.rfind(['\'', '`', '\u{91}', '\u{92}', '\u{2018}', '\u{2019}', '\u{201B}'])
}

fn without_soft_hyphens(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{AD}') {
        return Cow::Borrowed(text);
    }
    let rest = text.replace('\u{AD}', "");
    Cow::Owned(if rest.is_empty() { String::from("-") } else { rest })
}

/// `text` with `&` for its entity, in any case.
fn ampersands(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, found) = rest.split_at(at + 1);
        plain.push_str(before);
        let is_entity = found.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("amp;"));
        rest = &found[if is_entity { 4 } else { 0 }..];
    }
    plain.push_str(rest);
    plain
}

fn currency(sign: char) -> &'static str {
    match sign {
        '\u{A2}' => "cents",
        '\u{A3}' => "#",
        '\u{80}' | '\u{A4}' | '\u{20A0}' | '\u{20AC}' => "$",
        '\u{A5}' => "\u{A5}",
        '\u{60B}' => "\u{60B}",
        '\u{E3F}' => "\u{E3F}",
        '\u{20A4}' => "\u{20A4}",
        '\u{FFE0}' => "\u{FFE0}",
        '\u{FFE1}' => "\u{FFE1}",
        '\u{FFE5}' => "\u{FFE5}",
        _ => "\u{FFE6}",
    }
}

fn fraction(sign: &str) -> &str {
    match sign {
        "\u{BC}" => "1/4",
        "\u{BD}" => "1/2",
        "\u{BE}" => "3/4",
        "\u{2153}" => "1/3",
        "\u{2154}" => "2/3",
        other => other,
    }
}

fn bracketed(text: &str) -> String {
    text.replace('(', "-LRB-").replace(')', "-RRB-")
}

/// Quotes as LaTeX writes them. A straight one says nothing of its side, so the rule does.
fn quotes(text: &str, opens: bool) -> String {
    let (single, double) = if opens { ("`", "``") } else { ("'", "''") };
    // In lower case only, though the rules take these entities in any.
    let text = text.replace("&apos;", "'").replace("&quot;", "\"");
    let mut latex = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        match character {
            '\'' => latex.push_str(single),
            '"' => latex.push_str(double),
            '\u{91}' | '\u{2018}' | '\u{201B}' | '\u{2039}' => latex.push('`'),
            '\u{92}' | '\u{2019}' | '\u{203A}' => latex.push('\''),
            '\u{93}' | '\u{201C}' | '\u{AB}' => latex.push_str("``"),
            '\u{94}' | '\u{201D}' | '\u{BB}' => latex.push_str("''"),
            other => latex.push(other),
        }
    }
    latex
}
