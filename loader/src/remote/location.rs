//! Where a data set lies, read from its URL: `s3://BUCKET/PREFIX`, `http://` and `https://`, and
//! `hf://datasets/OWNER/NAME[@REVISION]/PATH`. Left out: asking anybody whether it is there.

use reqwest::Url;

use crate::{
    cache::{CacheConfig, redact},
    error::{Error, Result},
};

/// The Hub, where `HF_ENDPOINT` names no other.
const HUB: &str = "https://huggingface.co";

/// A data set's place in an object store.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// As it may be shown: without users, passwords and signatures, and no slash at the end.
    pub(super) shown: String,
    pub(super) store: StoreAt,
}

/// Which kind of store, and where in it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum StoreAt {
    S3 {
        bucket: String,
        /// Without a slash at either end; still with its percent signs.
        prefix: String,
    },
    Http {
        /// Without a slash at the end of its path.
        url: Url,
        /// The header `Authorization`, sent to that host alone.
        authorization: Option<String>,
    },
}

impl Location {
    /// # Errors
    /// [`Error::Remote`] where it is no such URL.
    pub(super) fn parse(text: &str, config: &CacheConfig) -> Result<Location> {
        let shown = redact(text).trim_end_matches('/').to_owned();
        let wrong = |reason: String| Error::Remote { url: shown.clone(), reason };
        let (scheme, _) = text.split_once("://").unwrap_or_default();
        let store = match scheme.to_ascii_lowercase().as_str() {
            "s3" => {
                let url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
                let bucket = url.host_str().unwrap_or_default().to_owned();
                if bucket.is_empty() {
                    return Err(wrong("an address is s3://BUCKET/PREFIX".to_owned()));
                }
                StoreAt::S3 { bucket, prefix: url.path().trim_matches('/').to_owned() }
            }
            "http" | "https" => {
                let (url, authorization) = base(text).map_err(wrong)?;
                StoreAt::Http { url, authorization }
            }
            "hf" => {
                let endpoint = config.variable("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned());
                let url = hub_url(text, endpoint.trim_end_matches('/')).map_err(wrong)?;
                let (url, own) = base(&url).map_err(wrong)?;
                let token = config.variable("HF_TOKEN").map(|token| format!("Bearer {}", token.trim()));
                StoreAt::Http { url, authorization: token.or(own) }
            }
            _ => {
                return Err(wrong(
                    "this program reads s3://BUCKET/PREFIX, https://HOST/PATH and hf://datasets/OWNER/NAME/PATH"
                        .to_owned(),
                ));
            }
        };
        Ok(Location { shown, store })
    }
}

/// A base to which names are added, and the header that says who asks, where the URL says it.
fn base(text: &str) -> Result<(Url, Option<String>), String> {
    let mut url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.cannot_be_a_base() || !url.has_host() {
        return Err("it names no host".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    url.set_fragment(None);
    let authorization = url.password().map(|password| {
        let plain = |text: &str| percent_decoded(text);
        let mut pair = plain(url.username());
        pair.push(b':');
        pair.extend(plain(password));
        format!("Basic {}", base64(&pair))
    });
    // A host was found, so there may be a user.
    let (_, _) = (url.set_username(""), url.set_password(None));
    Ok((url, authorization))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    bytes
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let is_padding = digit > group.len();
            let digit = DIGITS[(bits >> (18 - 6 * digit) & 63) as usize];
            text.push(if is_padding { '=' } else { char::from(digit) });
        }
    }
    text
}

fn hub_url(text: &str, endpoint: &str) -> Result<String, String> {
    let wrong = || "an address on the Hub is hf://datasets/OWNER/NAME[@REVISION]/PATH".to_owned();
    let path = text.split_once("://").map(|(_, path)| path.trim_matches('/')).ok_or_else(wrong)?;
    let mut words = path.splitn(4, '/');
    let (Some("datasets"), Some(owner), Some(name)) = (words.next(), words.next(), words.next()) else {
        return Err(wrong());
    };
    let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
    let rest = words.next().unwrap_or_default();
    let odd = |word: &str| word.is_empty() || word == "." || word == ".." || word.contains(['?', '#']);
    if odd(owner) || odd(name) || odd(revision) || rest.split('/').any(|word| !rest.is_empty() && odd(word)) {
        return Err(wrong());
    }
    let slash = if rest.is_empty() { "" } else { "/" };
    Ok(format!("{endpoint}/datasets/{owner}/{name}/resolve/{revision}{slash}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location> {
        let mut config = CacheConfig::default();
        config.variables.insert("HF_ENDPOINT".to_owned(), "http://hub.test:81/".to_owned());
        config.variables.insert("HF_TOKEN".to_owned(), "hf_secret".to_owned());
        Location::parse(text, &config)
    }

    fn http(text: &str) -> (String, String, Option<String>) {
        let location = parse(text).unwrap();
        let StoreAt::Http { url, authorization } = location.store else { panic!("{text} is no http") };
        (location.shown, url.to_string(), authorization)
    }

    #[test]
    fn addresses_are_taken_apart() {
        let location = parse("s3://bucket/a/b%20c/").unwrap();
        assert_eq!(location.shown, "s3://bucket/a/b%20c");
        let expected = StoreAt::S3 { bucket: "bucket".to_owned(), prefix: "a/b%20c".to_owned() };
        assert!(location.store == expected);
        let (shown, url, authorization) = http("https://me:w%6Frd@host/data/?sig=abc");
        assert_eq!(shown, "https://host/data");
        assert_eq!(url, "https://host/data?sig=abc");
        assert_eq!(authorization.as_deref(), Some("Basic bWU6d29yZA=="));
        assert_eq!(http("http://host").2, None);
    }

    #[test]
    fn base64_has_the_published_values() {
        for (plain, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }

    #[test]
    fn the_hub_is_one_more_address() {
        let token = Some("Bearer hf_secret".to_owned());
        assert_eq!(http("hf://datasets/o/n/a/b").1, "http://hub.test:81/datasets/o/n/resolve/main/a/b");
        assert_eq!(http("hf://datasets/o/n@v1.0").1, "http://hub.test:81/datasets/o/n/resolve/v1.0");
        assert_eq!(http("hf://datasets/o/n").2, token);
    }

    #[test]
    fn what_is_no_address_is_refused_by_name() {
        for bad in [
            "gs://bucket/x",
            "s3:///x",
            "hf://o/n",
            "hf://datasets/o",
            "hf://datasets/o/../x",
            "hf://datasets/o/n/a/../../x",
            "hf://datasets/o/n?x",
            "https:///",
        ] {
            let error = parse(bad).err().unwrap_or_else(|| panic!("{bad} was taken"));
            assert!(
                error.to_string().contains(bad.split('?').next().unwrap().trim_end_matches('/')),
                "{error}"
            );
        }
        let error = parse("ftp://user:hush@host/?key=hush").err().unwrap().to_string();
        assert!(!error.contains("hush"), "{error}");
    }
}
