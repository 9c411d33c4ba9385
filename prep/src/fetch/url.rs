//! The little about URLs that downloads need: scheme, host and port to compare, a redirect's target, a path put in
//! percent signs, and a form to show, without secrets. Anything but `http` and `https` is refused.

use std::fmt;

/// An absolute `http` or `https` URL. `Display` leaves out what may be secret: the user, and the query.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    text: String,
    /// Bytes of scheme, `://` and authority.
    origin_end: usize,
}

impl Url {
    /// Reads one; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.split('#').next().unwrap_or_default();
        let rest = ["http://", "https://"].iter().find_map(|scheme| {
            let head = text.get(..scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then(|| &text[scheme.len()..])
        });
        let Some(rest) = rest else {
            return Err("not an http:// or https:// URL".into());
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.is_empty() || host.starts_with(':') {
            return Err("the URL names no host".into());
        }
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
            return Err("the URL has a space or a control character".into());
        }
        let origin_end = text.len() - rest.len() + authority.len();
        Ok(Self { text: text.to_owned(), origin_end })
    }

    /// The whole, secrets included: for the request alone.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn is_https(&self) -> bool {
        self.text.as_bytes().get(4).is_some_and(|byte| byte.eq_ignore_ascii_case(&b's'))
    }

    /// Host in small letters, and port.
    fn host_port(&self) -> (String, u16) {
        let authority = &self.text[self.scheme_end()..self.origin_end];
        let host = authority.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
        let default = if self.is_https() { 443 } else { 80 };
        // The colons of an IPv6 address stand in brackets.
        match host.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((name, port)) => (name.to_owned(), port.parse().unwrap_or(default)),
            None => (host, default),
        }
    }

    fn scheme_end(&self) -> usize {
        if self.is_https() { "https://".len() } else { "http://".len() }
    }

    /// Whether both have scheme, host and port in common, which is who may see the same secrets.
    pub(super) fn same_origin(&self, other: &Self) -> bool {
        self.is_https() == other.is_https() && self.host_port() == other.host_port()
    }

    /// Where a redirect from here leads.
    pub(super) fn join(&self, location: &str) -> Result<Self, String> {
        let location = location.trim();
        let origin = &self.text[..self.origin_end];
        let path = self.text[self.origin_end..].split('?').next().unwrap_or_default();
        let scheme_like = location.split(['/', '?', '#']).next().is_some_and(|head| head.contains(':'));
        let text = if scheme_like {
            location.to_owned()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{}{rest}", &self.text[..self.scheme_end()])
        } else if location.starts_with('/') {
            format!("{origin}{location}")
        } else if location.starts_with('?') {
            format!("{origin}{path}{location}")
        } else {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{origin}{folder}/{location}")
        };
        Self::parse(&text)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = &self.text[self.scheme_end()..self.origin_end];
        let host = authority.rsplit('@').next().unwrap_or_default();
        let path = self.text[self.origin_end..].split('?').next().unwrap_or_default();
        write!(f, "{}{host}{path}", &self.text[..self.scheme_end()])
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

/// A path's bytes in percent signs, but for letters, digits, `-._~` and, where `slash`, the slash.
pub(super) fn encoded(path: &str, slash: bool) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (slash && byte == b'/');
        if plain {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_same_scheme_host_and_port_are_the_same_origin() {
        let url = |text| Url::parse(text).unwrap();
        let hub = url("https://huggingface.co/api");
        for same in ["https://huggingface.co/x", "https://HuggingFace.co:443/", "HTTPS://huggingface.co?q"] {
            assert!(hub.same_origin(&url(same)), "{same}");
        }
        for other in [
            "http://huggingface.co/api",
            "https://huggingface.co:8443/",
            "https://huggingface.co.evil.org/",
            "https://huggingface.co@evil.org/",
            "https://cdn.huggingface.co/",
            "https://[::1]:443/",
        ] {
            assert!(!hub.same_origin(&url(other)), "{other}");
        }
        assert!(url("http://[::1]/").same_origin(&url("http://[::1]:80/a")));
        assert!(!url("http://[::1]:8000/").same_origin(&url("http://[::1]/")));
    }

    #[test]
    fn redirects_lead_where_they_say() {
        let from = Url::parse("https://host:1/a/b?token=1").unwrap();
        for (location, to) in [
            ("https://other/x?y=1", "https://other/x?y=1"),
            ("//other/x", "https://other/x"),
            ("/c", "https://host:1/c"),
            ("c#frag", "https://host:1/a/c"),
            ("?d", "https://host:1/a/b?d"),
        ] {
            assert_eq!(from.join(location).unwrap().as_str(), to, "{location}");
        }
        for bad in
            ["file:///etc/passwd", "ftp://x/", "javascript:1", "https://", "https://a b/", "https://a\\b/"]
        {
            assert!(from.join(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let url = Url::parse("https://me:pass@host/a%20b?Signature=secret#x").unwrap();
        assert_eq!(url.to_string(), "https://host/a%20b");
        assert_eq!(format!("{url:?}"), "Url(https://host/a%20b)");
    }

    proptest! {
        /// What a server writes into a header is a URL or is refused, and never shows its query.
        #[test]
        fn any_text_is_a_url_or_is_refused(base in "(https?://)?\\PC{0,20}", location in any::<String>()) {
            let from = Url::parse(&base).or_else(|_| Url::parse("https://me:pass@host:1/a/b")).unwrap();
            if let Ok(to) = from.join(&location) {
                prop_assert!(to.as_str().to_ascii_lowercase().starts_with("http"));
                prop_assert!(!to.to_string().contains('?'));
                let _ = to.same_origin(&from);
            }
        }
    }

    #[test]
    fn names_are_put_in_percent_signs() {
        assert_eq!(encoded("a b/ü#?%.tar", true), "a%20b/%C3%BC%23%3F%25.tar");
        assert_eq!(encoded("refs/pr/1", false), "refs%2Fpr%2F1");
    }
}
