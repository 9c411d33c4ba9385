//! The token rules: what may be one token, in the order in which ties are decided.
//!
//! At each place the longest match wins, context included; of equally long ones the earlier rule. What becomes
//! of the text is the business of [`Action`]; how the rules are run is that of `automaton.rs`.

use super::abbreviations as abbreviation;
use super::chars::{
    APOSTROPHE, APOSTROPHE_LIKE, DIGIT, DOTTED, DOUBLE_QUOTE, HYPHEN, NEWLINE, SPACE, SYMBOLS, caseless, letter, plain_letter,
    plain_letter_or_digit,
};

/// What is done with the text of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
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
pub(super) enum Split {
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
pub(super) struct Rule {
    pub(super) action: Action,
    pub(super) pattern: String,
    pub(super) split: Split,
}

fn rule(action: Action, pattern: impl Into<String>) -> Rule {
    Rule { action, pattern: pattern.into(), split: Split::None }
}

fn before(action: Action, pattern: impl AsRef<str>, context: impl AsRef<str>, split: Split) -> Rule {
    Rule { action, pattern: format!("(?:{})(?:{})", pattern.as_ref(), context.as_ref()), split }
}

/// All rules, first the ones that win ties.
pub(super) fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    rules.extend(words());
    rules.extend(addresses());
    rules.extend(numbers());
    rules.extend(abbreviations());
    rules.extend(marks());
    rules
}

fn word() -> String {
    let (letter, digit) = (letter(), DIGIT);
    format!(r"{letter}(?:{letter}|{digit})*(?:[.!?]{letter}(?:{letter}|{digit})*)*")
}

fn contraction() -> String {
    format!("{APOSTROPHE}(?:[msdMSD]|{})", caseless("re|ve|ll"))
}

fn not() -> String {
    format!("(?i:n){APOSTROPHE_LIKE}(?i:t)")
}

/// Capitals around `&` or `+`.
const INITIALS: &str = "[A-Z]+(?:(?:[+&]|&(?i:amp);)[A-Z]+)+";

/// Marks that show that the sentence goes on.
const IN_SENTENCE: &str = r"[,;:\u{3001}]";

/// Words and numbers that hyphens join.
fn compound() -> String {
    let either = plain_letter_or_digit();
    let part = format!("(?:[dDoOlL]{APOSTROPHE_LIKE}{either})?{either}+");
    format!("{part}(?:{HYPHEN}{part})*")
}

/// Compounds whose parts have dots and commas.
fn hyphenated() -> String {
    let acronym = acronym().replace(")*", ")+");
    format!(r"[A-Za-z0-9][A-Za-z0-9.,\u{{AD}}]*(?:-(?:[A-Za-z0-9\u{{AD}}]+|{acronym}\.))+")
}

fn acronym() -> String {
    format!(r"(?:[A-Za-z](?:\.[A-Za-z])*|{})", caseless(r"(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-(?:U\.K|U\.S\.S\.R)"))
}

fn tag() -> &'static str {
    concat!(
        r"<(?:[!?][A-Za-z-][^>\r\n]*|/[A-Za-z][A-Za-z0-9_:.-]* *",
        r"|[A-Za-z][A-Za-z0-9_:.-]*(?: +[A-Za-z][A-Za-z0-9_:.-]*(?: *= *(?:'[^']*'|",
        r#""[^"]*"))?)* */?) *>"#
    )
}

fn words() -> Vec<Rule> {
    let l = plain_letter();
    let word = word();
    let apos = APOSTROPHE;
    let apos_words = [
        format!("{apos}(?i:n){apos}?"),
        format!("[lLdDjJ]{apos}"),
        format!("(?i:dunk{i}n){apos}", i = DOTTED),
        format!("(?i:someth{i}n){apos}", i = DOTTED),
        format!("(?i:ol){apos}"),
        format!("{apos}(?i:em)"),
        format!("[A-HJ-XZn]{APOSTROPHE_LIKE}{l}{{2}}{l}*"),
        format!("{apos}[2-9]0(?i:s)"),
        format!("{apos}(?i:t{i}ll?)", i = DOTTED),
        format!("{l}+[aeiouyAEIOUY]{APOSTROPHE_LIKE}[aeiouA-Z]{l}*"),
        format!("(?i:o){APOSTROPHE_LIKE}(?i:o)"),
        String::from("(?i:e'er)"),
        format!("{apos}(?i:cause)"),
        format!(r"(?i:cont'd)\.?"),
        format!("(?i:nor)'(?i:easter)"),
        format!("(?i:c)'(?i:mon)"),
        format!("(?i:s)'(?i:mores)"),
        format!("(?i:ev)'(?i:ry)"),
        format!("(?i:l{i})'(?i:l)", i = DOTTED),
        format!("(?i:nat)'(?i:l)"),
    ]
    .join("|");
    vec![
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
        before(Action::Word, &word, contraction(), Split::Apostrophe),
        before(Action::Word, r"[A-Za-z\u{AD}]*[A-MO-Za-mo-z]\u{AD}*", not(), Split::Not),
        rule(Action::Word, word),
        rule(Action::Keep, apos_words),
        before(Action::Keep, format!("(?i:y){APOSTROPHE}"), l, Split::Last(1)),
    ]
}

fn addresses() -> Vec<Rule> {
    vec![
        rule(Action::Keep, r#"(?i:https?)://[^ \t\n\f\r"<>|(){}]+[^ \t\n\f\r"<>|.!?(){},-]"#),
        rule(
            Action::Keep,
            r#"(?:(?i:www)\.(?:[^ \t\n\f\r"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}|(?:[^ \t\n\f\r"`'<>|.!?(){},-_$]+\.)+(?i:com|net|org|edu))(?:/[^ \t\n\f\r"<>|()]+[^ \t\n\f\r"<>|.!?(){},-])?"#,
        ),
        rule(
            Action::Keep,
            r#"(?:&(?i:lt);|<)?[a-zA-Z0-9][^ \t\n\f\r"<>|(){}\u{A0}]*@(?:[^ \t\n\f\r"<>|(){}.\u{A0}]+\.)*[^ \t\n\f\r"<>|(){}.\u{A0}]+(?:&(?i:gt);|>)?"#,
        ),
        rule(Action::Keep, "@[a-zA-Z_][a-zA-Z_0-9]*"),
        rule(Action::Keep, format!("#{}+", letter())),
    ]
}

fn numbers() -> Vec<Rule> {
    let number = format!(r"(?:{DIGIT}+|{DIGIT}*(?:[.:,\u{{AD}}\u{{66B}}\u{{66C}}]{DIGIT}+)+)");
    vec![
        before(Action::Quotes(false), contraction(), "[^A-Za-z]", Split::Last(1)),
        before(Action::Quotes(false), not(), "[^A-Za-z]", Split::Last(1)),
        rule(Action::Keep, format!("{DIGIT}{{1,2}}[-/]{DIGIT}{{1,2}}[-/]{DIGIT}{{2,4}}")),
        rule(Action::Word, format!("[-+]?{number}")),
        rule(Action::Keep, r"[\u{207A}\u{207B}\u{208A}\u{208B}]?(?:[\u{2070}\u{B9}\u{B2}\u{B3}\u{2074}-\u{2079}]+|[\u{2080}-\u{2089}]+)"),
        rule(
            Action::Spaced,
            format!(r"(?:{DIGIT}{{1,4}}[- \u{{A0}}])?{DIGIT}{{1,4}}(?:\\?/|\u{{2044}}){DIGIT}{{1,4}}"),
        ),
        rule(Action::Fraction, r"[\u{BC}-\u{BE}\u{2153}-\u{215E}]"),
        rule(Action::Ampersand, format!(r"-(?i:RRB|LRB|RCB|LCB|RSB|LSB)-|(?i:C\.D\.s|pro-|ant{DOTTED}-|S(?:&|&amp;)P-500|S(?:&|&amp;)Ls)|(?i:Cap){APOSTROPHE}(?i:n)|(?i:c){APOSTROPHE}(?i:est)")),
        rule(Action::Keep, r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"),
        rule(Action::Keep, r"[A-Z]*\$|#"),
        rule(Action::Currency, r"[\u{A2}-\u{A5}\u{80}\u{60B}\u{E3F}\u{20A0}\u{20A4}\u{20AC}\u{FFE0}\u{FFE1}\u{FFE5}\u{FFE6}]"),
    ]
}

fn abbreviations() -> Vec<Rule> {
    let space_nl = format!("(?:{SPACE}|{NEWLINE})");
    let acronym = acronym();
    let sentence = format!(r"{space_nl}(?:{space_nl}|\p{{Uppercase}}|{})", tag());
    let closing = format!(
        r"(?:{}|{}|{}|{}|{}|{})\.",
        caseless(abbreviation::CALENDAR),
        caseless(abbreviation::STATE),
        caseless(abbreviation::COMPANY),
        caseless(abbreviation::NUMBER),
        caseless(abbreviation::AFTER_NAME),
        caseless("etc|al|seq|Bldg"),
    );
    let inner = format!(r"(?:{}|{}|{})", caseless(abbreviation::INNER), caseless(abbreviation::TITLE), caseless(abbreviation::COMPANY_INNER));
    let citation = format!(r"(?:{})\.", caseless(abbreviation::CITATION));
    let ld = format!("(?:{}|{DIGIT})", letter());
    vec![
        before(Action::SentenceEnd, &closing, &sentence, Split::Space),
        before(Action::Keep, &closing, r"[\s\S][\s\S]", Split::Last(2)),
        rule(Action::SentenceEnd, &closing),
        rule(Action::Keep, format!(r"{inner}\.")),
        before(Action::Keep, &inner, SPACE, Split::Last(1)),
        before(Action::Keep, r"(?i:co|pte|pty)\.", format!("{SPACE}{}", caseless("ltd|lim")), Split::Space),
        before(Action::Keep, citation, format!("{space_nl}?{DIGIT}"), Split::Dot),
        before(
            Action::SentenceEnd,
            format!(r"{acronym}\."),
            format!("{space_nl}+(?:{}|{}){space_nl}", caseless(abbreviation::SENTENCE_OPENER), tag()),
            Split::Space,
        ),
        before(Action::Keep, &acronym, &space_nl, Split::Last(1)),
        rule(Action::Keep, format!(r"{acronym}\.")),
        before(Action::Keep, format!("{APOSTROPHE}[0-9][0-9]"), &space_nl, Split::Last(1)),
        before(
            Action::Keep,
            format!(r"{ld}+(?:\.{ld}+)*\.{}", caseless(abbreviation::FILE_ENDING)),
            format!("{space_nl}|[.?!,]"),
            Split::Last(1),
        ),
        before(Action::Word, format!(r"{}\.", word()), IN_SENTENCE, Split::Last(1)),
        rule(
            Action::Joined,
            concat!(
                r"(?:\([0-9]{2,3}\)[ \u{A0}]?|(?:\+\+?)?(?:[0-9]{2,4}[- \u{A0}])?[0-9]{2,4}[- \u{A0}])",
                r"[0-9]{3,4}[- \u{A0}]?[0-9]{3,5}|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"
            ),
        ),
        before(Action::Word, format!(r"{}\.", compound()), IN_SENTENCE, Split::Last(1)),
        before(Action::Word, format!(r"{}\.", hyphenated()), IN_SENTENCE, Split::Last(1)),
        before(Action::Ampersand, format!(r"{INITIALS}\."), IN_SENTENCE, Split::Last(1)),
    ]
}

fn marks() -> Vec<Rule> {
    let quotes = format!(r"(?:{APOSTROPHE}|''|[`\u{{91}}-\u{{94}}\u{{2018}}-\u{{201F}}\u{{2039}}\u{{203A}}\u{{AB}}\u{{BB}}]{{1,2}})");
    vec![
        before(Action::Quotes(true), DOUBLE_QUOTE, "[A-Za-z0-9$]", Split::Last(1)),
        rule(Action::Quotes(false), DOUBLE_QUOTE),
        before(Action::Brackets, r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", "[^A-Za-z0-9]", Split::Last(1)),
        rule(Action::Brackets, r"[\^x=~<>]\.\[\^(?i:x)=[^<]*<>\]|[-\^x=~<>']_[-\^x=~<>']|\([-\^x=~<>'][_.]?[-\^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)"),
        rule(Action::Keep, "<<|>>"),
        rule(Action::Replace("<"), "<|&(?i:lt);"),
        rule(Action::Replace(">"), ">|&(?i:gt);"),
        rule(Action::Replace("-LCB-"), r"\{"),
        rule(Action::Replace("-RCB-"), r"\}"),
        rule(Action::Replace("-LSB-"), r"\["),
        rule(Action::Replace("-RSB-"), r"\]"),
        rule(Action::Replace("-LRB-"), r"\("),
        rule(Action::Replace("-RRB-"), r"\)"),
        rule(Action::Hyphens, "-+"),
        rule(Action::Replace("..."), r"\.{3,5}|(?:\.[ \u{A0}]){2,4}\.|[\u{85}\u{2026}]"),
        rule(Action::Keep, "@+|#+|_+"),
        rule(Action::Keep, r"\*+|(?:\\\*){1,3}"),
        rule(Action::Keep, r"[,;:\u{3001}]"),
        rule(Action::Keep, "[?!]+"),
        rule(Action::Keep, r"[.=/]"),
        rule(Action::Word, hyphenated()),
        rule(Action::Word, compound()),
        rule(Action::Ampersand, INITIALS),
        before(Action::Quotes(true), "'", r"[A-Za-z][^ \t\n\r\u{A0}]", Split::Last(2)),
        rule(Action::Quotes(false), contraction()),
        rule(Action::Quotes(false), not()),
        rule(Action::Quotes(false), quotes),
        rule(Action::Keep, format!(r"[&+\\|~\^\u{{207A}}\u{{207B}}\u{{208A}}\u{{208B}}\u{{2044}}{SYMBOLS}]")),
        rule(Action::Skip, format!(r"\x00|{SPACE}+|[\u{{200B}}\u{{200E}}\u{{200F}}\u{{FEFF}}]|\x7F|&(?i:nbsp);|{NEWLINE}")),
        rule(Action::Skip, r"[\s\S]"),
    ]
}
