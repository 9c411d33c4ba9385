//! A page of pictures with their captions, references and proximities: one HTML file with nothing beside it.

use super::Captioned;
use crate::error::{Error, Result};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use std::fmt::Write as _;

const STYLE: &str = "body{font:15px/1.4 system-ui,sans-serif;margin:24px;background:#fafafa;color:#222}\
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:16px}\
.card{background:#fff;border:1px solid #ddd;border-radius:6px;padding:12px}\
img{width:100%;max-width:224px;image-rendering:pixelated;display:block;margin-bottom:8px}\
.key{color:#777;font-size:12px}.said{font-weight:600;margin:4px 0}.other{margin:2px 0}\
.number{color:#777;font-size:12px}ul{margin:6px 0 0;padding-left:18px;color:#555;font-size:13px}";

/// The page as HTML.
///
/// # Errors
/// [`Error::Plot`] when a picture cannot be written as PNG.
pub fn page(title: &str, pictures: &[Captioned]) -> Result<String> {
    let title = escaped(title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n<div class=\"grid\">\n"
    );
    for picture in pictures {
        html.push_str("<div class=\"card\">");
        if let Some(thumbnail) = &picture.thumbnail {
            let mut png = Vec::new();
            let side = u32::try_from(thumbnail.size).unwrap_or(u32::MAX);
            PngEncoder::new(&mut png)
                .write_image(&thumbnail.rgb, side, side, ExtendedColorType::Rgb8)
                .map_err(|e| Error::Plot { path: "page".into(), reason: e.to_string() })?;
            let _ = write!(html, "<img alt=\"\" src=\"data:image/png;base64,{}\">", base64(&png));
        }
        let _ = write!(html, "<div class=\"key\">{}</div>", escaped(&picture.key));
        for (place, caption) in picture.captions.iter().enumerate() {
            let class = if place == 0 { "said" } else { "other" };
            let near = caption.image_proximity.map_or_else(String::new, |p| format!("image {p:.3}, "));
            let cut = if caption.has_ended { "" } else { ", cut" };
            let _ = write!(
                html,
                "<div class=\"{class}\">{} <span class=\"number\">({near}log p {:.1}{cut})</span></div>",
                escaped(&caption.text),
                caption.log_prob
            );
        }
        if let Some(proximity) = picture.text_proximity {
            let _ = write!(html, "<div class=\"number\">nearest reference: {proximity:.3}</div>");
        }
        if !picture.references.is_empty() {
            html.push_str("<ul>");
            picture.references.iter().for_each(|text| {
                let _ = write!(html, "<li>{}</li>", escaped(text));
            });
            html.push_str("</ul>");
        }
        html.push_str("</div>\n");
    }
    html.push_str("</div></body></html>\n");
    Ok(html)
}

/// Text that means nothing to a browser.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number = three.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for place in 0..4 {
            if place <= three.len() {
                out.push(char::from(LETTERS[(number >> (18 - 6 * place)) as usize & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::captioner::{Caption, Thumbnail};

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn what_a_caption_says_is_text() {
        let caption = Caption {
            text: "<script>alert(\"x\")</script> & more".into(),
            image_proximity: Some(0.25),
            log_prob: -3.5,
            tokens: 3,
            has_ended: false,
            number: 0,
        };
        let picture = Captioned {
            key: "a<b".into(),
            captions: vec![caption],
            text_proximity: Some(0.5),
            references: vec!["one > two".into()],
            thumbnail: Some(Thumbnail { rgb: vec![7; 12], size: 2 }),
        };
        let html = page("run & step", &[picture]).unwrap();
        assert!(html.contains("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; more"));
        assert!(!html.contains("<script>") && html.contains("one &gt; two") && html.contains("a&lt;b"));
        assert!(
            html.contains("data:image/png;base64,iVBORw0KGgo")
                && html.contains("image 0.250, log p -3.5, cut")
        );
    }
}
