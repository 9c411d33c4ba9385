//! Classes of characters that the token rules are made of, as fragments of regular expressions.
//!
//! Every fragment is closed: it can be repeated or joined to another without brackets of its own. Case is
//! ignored by all rules, so a class names one case. Letters and digits are those of Unicode 6.1, the tables
//! that the reference was generated with; newer letters are unknown to it and vanish.

/// Horizontal white space.
pub(super) const SPACE: &str = r"[ \t\u{A0}\u{2000}-\u{200A}\u{3000}]";
/// What ends a line.
pub(super) const NEWLINE: &str = r"(?:\r?\n|[\r\n\x0B\x0C\u{85}\u{2028}\u{2029}])";
/// A decimal digit of any script.
pub(super) const DIGIT: &str = r"[\p{Nd}&&\p{Age:6.1}&&[\u{0}-\u{FFFF}]]";
/// Inside brackets: what Unicode calls a letter, with the few that a later version took in or out.
pub(super) const PLAIN_LETTERS: &str = r"[\p{L}&&\p{Age:6.1}&&[\u{0}-\u{19AF}\u{19C1}-\u{19C7}\u{19CA}-\u{1CF1}\u{1CF4}-\u{FFFF}]]\u{1885}\u{1886}";
/// Inside brackets: marks and signs that hold words together in scripts beyond Latin, and the soft hyphen.
pub(super) const WORD_MARKS: &str = concat!(
    r"\u{AD}\u{2C2}-\u{2C5}\u{2D2}-\u{2DF}\u{2E5}-\u{36F}\u{375}\u{378}\u{379}\u{384}\u{385}\u{3F6}",
    r"\u{483}-\u{487}\u{55A}-\u{55F}\u{591}-\u{5BD}\u{5BF}\u{5C1}\u{5C2}\u{5C4}\u{5C5}\u{5C7}",
    r"\u{615}-\u{61A}\u{64B}-\u{65E}\u{670}\u{6D6}-\u{6EF}\u{6FD}\u{6FE}\u{70F}\u{711}\u{730}-\u{74C}",
    r"\u{7A6}-\u{7B0}\u{7EB}-\u{7F3}\u{900}-\u{903}\u{93C}\u{93E}-\u{94E}\u{951}-\u{955}\u{962}\u{963}",
    r"\u{981}-\u{983}\u{9BC}\u{9BE}-\u{9C4}\u{9C7}\u{9C8}\u{9CB}-\u{9CD}\u{9D7}\u{9E2}\u{9E3}",
    r"\u{A01}-\u{A03}\u{A3C}\u{A3E}-\u{A4F}\u{A81}-\u{A83}\u{ABC}\u{ABE}-\u{ACF}\u{B82}",
    r"\u{BBE}-\u{BC2}\u{BC6}-\u{BC8}\u{BCA}-\u{BCD}\u{C01}-\u{C03}\u{C3E}-\u{C56}",
    r"\u{D3E}-\u{D44}\u{D46}-\u{D48}\u{E31}\u{E34}-\u{E3A}\u{E47}-\u{E4E}",
    r"\u{EB1}\u{EB4}-\u{EBC}\u{EC8}-\u{ECD}",
);
/// An accented letter that is written as an entity.
pub(super) const LETTER_ENTITY: &str = "&[aeiouAEIOU](?i:acute|grave|uml);";
/// An apostrophe that may join a contraction.
pub(super) const APOSTROPHE: &str = r"(?:['\u{92}\u{2019}]|&(?i:apos);)";
/// An apostrophe, or an opening single quote that was typed for one.
pub(super) const APOSTROPHE_LIKE: &str = r"(?:['\u{92}\u{2019}`\u{91}\u{2018}\u{201B}]|&(?i:apos);)";
/// A hyphen inside a compound.
pub(super) const HYPHEN: &str = r"[-_\u{58A}\u{2010}\u{2011}]";
/// A straight double quote.
pub(super) const DOUBLE_QUOTE: &str = r#"(?:"|&(?i:quot);)"#;

/// Every case of `i`: the reference counts those of Turkish too.
pub(super) const DOTTED: &str = r"[iI\u{130}\u{131}]";

/// An expression whose letters may have any case, but for those inside brackets.
pub(super) fn caseless(literal: &str) -> String {
    let mut expression = String::from("(?i:");
    let mut in_class = false;
    for character in literal.chars() {
        match character {
            '[' => expression.push_str("(?-i:["),
            ']' => expression.push_str("])"),
            'i' | 'I' if !in_class => expression.push_str(DOTTED),
            other => expression.push(other),
        }
        in_class = character == '[' || in_class && character != ']';
    }
    expression.push(')');
    expression
}

/// A letter of a word, with entities and marks.
pub(super) fn letter() -> String {
    format!("(?:[{PLAIN_LETTERS}{WORD_MARKS}]|{LETTER_ENTITY})")
}

/// A letter as Unicode has it.
pub(super) fn plain_letter() -> String {
    format!("[{PLAIN_LETTERS}]")
}

/// A letter or a digit as Unicode has them.
pub(super) fn plain_letter_or_digit() -> String {
    format!("[{PLAIN_LETTERS}{DIGIT}]")
}

/// Inside brackets: signs and marks of punctuation that are tokens of their own.
pub(super) const SYMBOLS: &str = concat!(
    r"%\u{A1}\u{A6}-\u{A9}\u{AC}\u{AE}-\u{B1}\u{B4}\u{B6}-\u{B8}\u{BF}\u{D7}\u{F7}\u{37E}\u{387}\u{589}\u{5BE}\u{5C0}\u{5C3}\u{5C6}\u{5F3}\u{5F4}",
    r"\u{600}-\u{603}\u{606}-\u{60A}\u{60C}\u{614}\u{61B}\u{61E}\u{61F}\u{66A}\u{66D}\u{6D4}\u{700}-\u{70D}\u{7F6}-\u{7F8}\u{964}\u{965}",
    r"\u{E4F}\u{1FBD}\u{2016}\u{2017}\u{2020}-\u{2023}\u{2030}-\u{2038}\u{203B}\u{203E}-\u{2042}\u{207C}-\u{207E}\u{208C}-\u{208E}",
    r"\u{2100}\u{2101}\u{2103}-\u{2106}\u{2108}\u{2109}\u{2114}\u{2116}-\u{2118}\u{211E}-\u{2123}\u{2125}\u{2127}\u{2129}\u{212E}",
    r"\u{213A}\u{213B}\u{2140}-\u{2144}\u{214A}-\u{214D}\u{214F}\u{2190}-\u{24B5}\u{24B6}-\u{24CF}\u{24D0}-\u{2BFF}\u{3002}\u{3012}\u{30FB}",
    r"\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF20}\u{FF3B}-\u{FF40}\u{FF5B}-\u{FF65}",
);
