//! Words, contractions, entities and addresses.

use super::{
    Action, Rule, Split, before,
    chars::{
        APOSTROPHE, APOSTROPHE_LIKE, DIGIT, DOTTED, HYPHEN, caseless, letter, plain_letter,
        plain_letter_or_digit,
    },
    rule,
};

/// Capitals around `&` or `+`: `AT&T`.
pub(super) const INITIALS: &str = "[A-Z]+(?:(?:[+&]|&(?i:amp);)[A-Z]+)+";

/// Letters and digits that begin with a letter; dots and the like inside hold: `end.Start` is one word.
pub(super) fn word() -> String {
    let (letter, digit) = (letter(), DIGIT);
    format!(r"{letter}(?:{letter}|{digit})*(?:[.!?]{letter}(?:{letter}|{digit})*)*")
}

/// What follows a word in `it's`, `we're`.
pub(super) fn contraction() -> String {
    format!("{APOSTROPHE}(?:[msdMSD]|{})", caseless("re|ve|ll"))
}

/// What follows a word in `don't`.
pub(super) fn not() -> String {
    format!("(?i:n){APOSTROPHE_LIKE}(?i:t)")
}

/// Words and numbers that hyphens join, with elisions: `rock-d'or`, `10-year-old`.
pub(super) fn compound() -> String {
    let either = plain_letter_or_digit();
    let part = format!("(?:[dDoOlL]{APOSTROPHE_LIKE}{either})?{either}+");
    format!("{part}(?:{HYPHEN}{part})*")
}

/// Compounds whose parts have dots and commas: `anti-U.S.`, `1,000-foot`.
pub(super) fn hyphenated() -> String {
    let acronym = format!(r"(?:[A-Za-z](?:\.[A-Za-z])+|{})", nations());
    format!(r"[A-Za-z0-9][A-Za-z0-9.,\u{{AD}}]*(?:-(?:[A-Za-z0-9\u{{AD}}]+|{acronym}\.))+")
}

/// Single letters with dots between, the last dot left out; and a few nations.
pub(super) fn acronym() -> String {
    format!(r"(?:[A-Za-z](?:\.[A-Za-z])*|{})", nations())
}

fn nations() -> String {
    caseless(r"(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-(?:U\.K|U\.S\.S\.R)")
}

/// A tag of SGML, with attributes, or a comment.
pub(super) fn tag() -> String {
    let name = "[A-Za-z][A-Za-z0-9_:.-]*";
    let value = r#"(?:'[^']*'|"[^"]*")"#;
    format!(r"<(?:[!?][A-Za-z-][^>\r\n]*|/{name} *|{name}(?: +{name}(?: *= *{value})?)* */?) *>")
}

/// Words whose apostrophe does not part them.
fn with_apostrophe() -> String {
    let (apostrophe, like, letter, i) = (APOSTROPHE, APOSTROPHE_LIKE, plain_letter(), DOTTED);
    [
        // Parts: rock 'n' roll, l' eau, ol' man, give 'em, '60s, 'til.
        format!("{apostrophe}(?i:n){apostrophe}?|[lLdDjJ]{apostrophe}"),
        format!("(?i:dunk{i}n|someth{i}n|ol){apostrophe}"),
        format!("{apostrophe}(?:(?i:em|cause|t{i}ll?)|[2-9]0(?i:s))"),
        // Names and elisions: O'Reilly is a compound, B'nai and ma'am are not.
        format!("[A-HJ-XZn]{like}{letter}{{2}}{letter}*"),
        format!("{letter}+[aeiouyAEIOUY]{like}[aeiouA-Z]{letter}*"),
        format!("(?i:o){like}(?i:o)"),
        // Single words, with the straight apostrophe alone.
        format!(r"(?i:e'er|c'mon|s'mores|ev'ry|nat'l|nor'easter|l{i}'l|cont'd\.?)"),
    ]
    .join("|")
}

pub(super) fn rules() -> Vec<Rule> {
    let mut rules = vec![
        rule(Action::Keep, r"(?i:c)\+\+"),
        rule(Action::Keep, "(?i:[cf])#"),
        rule(Action::GiveBack(3), caseless("cannot")),
        rule(Action::GiveBack(2), caseless("gonna|gotta|lemme|gimme|wanna")),
        rule(Action::GiveBack(2), format!("'{}", caseless("tis"))),
        rule(Action::GiveBack(3), format!("'{}", caseless("twas"))),
        rule(Action::Spaced, tag()),
        rule(Action::Replace("--"), r"&(?i:MD|mdash|ndash);|[\u{96}\u{97}\u{2013}-\u{2015}]"),
        rule(Action::Ampersand, "&(?i:amp);"),
        rule(Action::Keep, "&(?i:HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);"),
        before(Action::Word, word(), contraction(), Split::Apostrophe),
        // The last letter is not the `n` of the contraction.
        before(Action::Word, r"[A-Za-z\u{AD}]*[A-MO-Za-mo-z]\u{AD}*", not(), Split::Not),
        rule(Action::Word, word()),
        rule(Action::Keep, with_apostrophe()),
        before(Action::Keep, format!("(?i:y){APOSTROPHE}"), plain_letter(), Split::Last(1)),
    ];
    rules.extend(addresses());
    rules
}

/// Links, mail, names and tags of social networks.
fn addresses() -> [Rule; 5] {
    let inner = r#"[^ \t\n\f\r"<>|(){}]"#;
    let last = r#"[^ \t\n\f\r"<>|.!?(){},-]"#;
    let path = format!(r#"(?:/[^ \t\n\f\r"<>|()]+{last})?"#);
    let of_www = r#"(?i:www)\.(?:[^ \t\n\f\r"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}"#;
    // From the comma to the underscore: digits and capitals are left out too.
    let of_domain = r#"(?:[^ \t\n\f\r"`'<>|.!?(){},-_$]+\.)+(?i:com|net|org|edu)"#;
    let local = r#"[a-zA-Z0-9][^ \t\n\f\r"<>|(){}\u{A0}]*"#;
    let host = r#"[^ \t\n\f\r"<>|(){}.\u{A0}]+"#;
    [
        rule(Action::Keep, format!("(?i:https?)://{inner}+{last}")),
        rule(Action::Keep, format!("(?:{of_www}|{of_domain}){path}")),
        rule(Action::Keep, format!(r"(?:&(?i:lt);|<)?{local}@(?:{host}\.)*{host}(?:&(?i:gt);|>)?")),
        rule(Action::Keep, "@[a-zA-Z_][a-zA-Z_0-9]*"),
        rule(Action::Keep, format!("#{}+", letter())),
    ]
}
