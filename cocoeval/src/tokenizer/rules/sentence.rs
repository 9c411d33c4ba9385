//! Abbreviations, acronyms and their dots, names of files, telephone numbers.

use super::{
    Action, Rule, Split, abbreviations as list, before,
    chars::{APOSTROPHE, DIGIT, NEWLINE, SPACE, caseless, letter},
    rule,
    words::{INITIALS, acronym, compound, hyphenated, tag, word},
};

pub(super) fn rules() -> Vec<Rule> {
    let space = format!("(?:{SPACE}|{NEWLINE})");
    let mut rules = abbreviations(&space);
    rules.extend(acronyms(&space));
    rules.extend(others(&space));
    rules
}

fn any(lists: &[&str]) -> String {
    format!("(?:{})", lists.iter().map(|list| caseless(list)).collect::<Vec<_>>().join("|"))
}

fn abbreviations(space: &str) -> Vec<Rule> {
    let sentence = format!(r"{space}(?:{space}|\p{{Uppercase}}|{})", tag());
    let closing =
        any(&[list::CALENDAR, list::STATE, list::COMPANY, list::NUMBER, list::AFTER_NAME, list::LAST]);
    let closing = format!(r"{closing}\.");
    let inner = any(&[list::INNER, list::TITLE, list::COMPANY_INNER]);
    let citation = format!(r"{}\.", any(&[list::CITATION]));
    vec![
        before(Action::SentenceEnd, &closing, sentence, Split::Space),
        before(Action::Keep, &closing, r"[\s\S][\s\S]", Split::Last(2)),
        rule(Action::SentenceEnd, closing),
        rule(Action::Keep, format!(r"{inner}\.")),
        before(Action::Keep, inner, SPACE, Split::Last(1)),
        before(Action::Keep, r"(?i:co|pte|pty)\.", format!("{SPACE}{}", caseless("ltd|lim")), Split::Space),
        before(Action::Keep, citation, format!("{space}?{DIGIT}"), Split::Dot),
    ]
}

fn acronyms(space: &str) -> [Rule; 3] {
    let acronym = acronym();
    let opener = format!("(?:{}|{})", caseless(list::SENTENCE_OPENER), tag());
    [
        before(
            Action::SentenceEnd,
            format!(r"{acronym}\."),
            format!("{space}+{opener}{space}"),
            Split::Space,
        ),
        before(Action::Keep, &acronym, space, Split::Last(1)),
        rule(Action::Keep, format!(r"{acronym}\.")),
    ]
}

fn others(space: &str) -> [Rule; 7] {
    // Marks that show that the sentence goes on, so a dot before them is the word's own.
    let goes_on = r"[,;:\u{3001}]";
    let part = format!("(?:{}|{DIGIT})", letter());
    let file = format!(r"{part}+(?:\.{part}+)*\.{}", caseless(list::FILE_ENDING));
    let gap = r"[- \u{A0}]";
    let telephone = [
        format!(r"(?:\([0-9]{{2,3}}\)[ \u{{A0}}]?|(?:\+\+?)?(?:[0-9]{{2,4}}{gap})?[0-9]{{2,4}}{gap})"),
        format!("[0-9]{{3,4}}{gap}?[0-9]{{3,5}}"),
        r"|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}".to_owned(),
    ]
    .concat();
    [
        before(Action::Keep, format!("{APOSTROPHE}[0-9][0-9]"), space, Split::Last(1)),
        before(Action::Keep, file, format!("{space}|[.?!,]"), Split::Last(1)),
        before(Action::Word, format!(r"{}\.", word()), goes_on, Split::Last(1)),
        rule(Action::Joined, telephone),
        before(Action::Word, format!(r"{}\.", compound()), goes_on, Split::Last(1)),
        before(Action::Word, format!(r"{}\.", hyphenated()), goes_on, Split::Last(1)),
        before(Action::Ampersand, format!(r"{INITIALS}\."), goes_on, Split::Last(1)),
    ]
}
