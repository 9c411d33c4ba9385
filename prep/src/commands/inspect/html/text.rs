//! Texts and bytes on their way into HTML. Every text of a data set goes through [`escaped`]. It leaves out layout.

/// A text as HTML shows it, in an element or a quoted attribute. Control characters, which HTML forbids, become the
/// replacement character.
pub(super) fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            '\n' | '\t' => html.push(' '),
            c if c.is_control() => html.push('\u{fffd}'),
            c => html.push(c),
        }
    }
    html
}

/// A text of at most `characters_max` characters, escaped; a longer one ends in an ellipsis and says how long it is.
pub(super) fn shortened(text: &str, characters_max: usize) -> String {
    let length = text.chars().count();
    if length <= characters_max {
        return escaped(text);
    }
    let start: String = text.chars().take(characters_max).collect();
    format!("{}… <span class=\"faint\">({} characters)</span>", escaped(&start), grouped(length as u64))
}

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// RFC 4648 base64, with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { DIGITS[value as usize] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        assert_eq!(escaped("<b a='1'>\"&\u{0}\n"), "&lt;b a=&#39;1&#39;&gt;&quot;&amp;\u{fffd} ");
        assert_eq!(escaped("naïve 赤 🦀"), "naïve 赤 🦀");
        assert!(shortened(&"<".repeat(2_000), 3).starts_with("&lt;&lt;&lt;… <span class=\"faint\">(2,000 "));
        assert_eq!(shortened("<", 3), "&lt;");
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let table = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ];
        for (bytes, text) in table {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xef, 0xbe]), "/+++");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
