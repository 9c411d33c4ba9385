//! Quotes, brackets, dashes, smileys, single signs, white space, and compounds, which lose ties to all of them.

use super::{
    Action, Rule, Split, before,
    chars::{APOSTROPHE, DOUBLE_QUOTE, NEWLINE, SPACE, SYMBOLS},
    rule,
    words::{INITIALS, compound, contraction, hyphenated, not},
};

pub(super) fn rules() -> Vec<Rule> {
    let mut rules = smileys();
    rules.extend(brackets());
    rules.extend(runs());
    rules.extend(last());
    rules
}

fn smileys() -> Vec<Rule> {
    let eastern = [
        // In the reference's notation `~` stands for "all up to", which this takes over.
        r"[\^x=~<>]\.\[\^(?i:x)=[^<]*<>\]",
        r"[-\^x=~<>']_[-\^x=~<>']",
        r"\([-\^x=~<>'][_.]?[-\^x=~<>']\)",
        r"\([\^x=~<>']-[\^x=~<>'`]\)",
    ]
    .join("|");
    vec![
        before(Action::Quotes(true), DOUBLE_QUOTE, "[A-Za-z0-9$]", Split::Last(1)),
        rule(Action::Quotes(false), DOUBLE_QUOTE),
        before(Action::Brackets, r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", "[^A-Za-z0-9]", Split::Last(1)),
        rule(Action::Brackets, eastern),
    ]
}

fn brackets() -> [Rule; 9] {
    [
        rule(Action::Keep, "<<|>>"),
        rule(Action::Replace("<"), "<|&(?i:lt);"),
        rule(Action::Replace(">"), ">|&(?i:gt);"),
        rule(Action::Replace("-LCB-"), r"\{"),
        rule(Action::Replace("-RCB-"), r"\}"),
        rule(Action::Replace("-LSB-"), r"\["),
        rule(Action::Replace("-RSB-"), r"\]"),
        rule(Action::Replace("-LRB-"), r"\("),
        rule(Action::Replace("-RRB-"), r"\)"),
    ]
}

fn runs() -> [Rule; 7] {
    [
        rule(Action::Hyphens, "-+"),
        rule(Action::Replace("..."), r"\.{3,5}|(?:\.[ \u{A0}]){2,4}\.|[\u{85}\u{2026}]"),
        rule(Action::Keep, "@+|#+|_+"),
        rule(Action::Keep, r"\*+|(?:\\\*){1,3}"),
        rule(Action::Keep, r"[,;:\u{3001}]"),
        rule(Action::Keep, "[?!]+"),
        rule(Action::Keep, r"[.=/]"),
    ]
}

fn last() -> Vec<Rule> {
    let typographic = r"[`\u{91}-\u{94}\u{2018}-\u{201F}\u{2039}\u{203A}\u{AB}\u{BB}]";
    vec![
        rule(Action::Word, hyphenated()),
        rule(Action::Word, compound()),
        rule(Action::Ampersand, INITIALS),
        before(Action::Quotes(true), "'", r"[A-Za-z][^ \t\n\r\u{A0}]", Split::Last(2)),
        rule(Action::Quotes(false), contraction()),
        rule(Action::Quotes(false), not()),
        rule(Action::Quotes(false), format!("(?:{APOSTROPHE}|''|{typographic}{{1,2}})")),
        rule(Action::Keep, format!(r"[&+\\|~\^\u{{207A}}\u{{207B}}\u{{208A}}\u{{208B}}\u{{2044}}{SYMBOLS}]")),
        rule(Action::Skip, format!(r"{SPACE}+|{NEWLINE}|&(?i:nbsp);")),
        rule(Action::Skip, r"[\x00\x7F\u{200B}\u{200E}\u{200F}\u{FEFF}]"),
        // What no rule knows vanishes.
        rule(Action::Skip, r"[\s\S]"),
    ]
}
