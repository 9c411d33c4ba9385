//! Numbers, dates, fractions, money, and what stands beside them in the order of rules.

use super::{
    Action, Rule, Split, before,
    chars::{APOSTROPHE, DIGIT, DOTTED},
    rule,
    words::{contraction, not},
};

pub(super) fn rules() -> Vec<Rule> {
    let number = format!(r"(?:{DIGIT}+|{DIGIT}*(?:[.:,\u{{AD}}\u{{66B}}\u{{66C}}]{DIGIT}+)+)");
    let slashed = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}";
    vec![
        before(Action::Quotes(false), contraction(), "[^A-Za-z]", Split::Last(1)),
        before(Action::Quotes(false), not(), "[^A-Za-z]", Split::Last(1)),
        rule(Action::Keep, format!("{DIGIT}{{1,2}}[-/]{DIGIT}{{1,2}}[-/]{DIGIT}{{2,4}}")),
        rule(Action::Word, format!("[-+]?{number}")),
        rule(
            Action::Keep,
            concat!(
                r"[\u{207A}\u{207B}\u{208A}\u{208B}]?",
                r"(?:[\u{2070}\u{B9}\u{B2}\u{B3}\u{2074}-\u{2079}]+|[\u{2080}-\u{2089}]+)"
            ),
        ),
        // A fraction takes a whole number before it along: `3 1/2` is one token.
        rule(
            Action::Spaced,
            format!(r"(?:{DIGIT}{{1,4}}[- \u{{A0}}])?{DIGIT}{{1,4}}(?:\\?/|\u{{2044}}){DIGIT}{{1,4}}"),
        ),
        rule(Action::Fraction, r"[\u{BC}-\u{BE}\u{2153}-\u{215E}]"),
        rule(Action::Ampersand, fixed()),
        // `he/she`, `and/or`, `1/2-pipe`.
        rule(Action::Keep, format!(r"{slashed}(?:\\?/{slashed}){{1,2}}")),
        rule(Action::Keep, r"[A-Z]*\$|#"),
        rule(
            Action::Currency,
            r"[\u{A2}-\u{A5}\u{80}\u{60B}\u{E3F}\u{20A0}\u{20A4}\u{20AC}\u{FFE0}\u{FFE1}\u{FFE5}\u{FFE6}]",
        ),
    ]
}

/// Texts of the Penn Treebank that no general rule takes whole.
fn fixed() -> String {
    let and = "(?:&|&amp;)";
    [
        "-(?i:RRB|LRB|RCB|LCB|RSB|LSB)-".to_owned(),
        format!(r"(?i:C\.D\.s|pro-|ant{DOTTED}-|S{and}P-500|S{and}Ls)"),
        format!("(?i:Cap){APOSTROPHE}(?i:n)|(?i:c){APOSTROPHE}(?i:est)"),
    ]
    .join("|")
}
