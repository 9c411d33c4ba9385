//! Which column of a table holds the image, which the captions: as the user says, else by the names that data sets
//! use. It leaves out what is in them.

/// Names that a column of images has, the likeliest first.
const IMAGE: [&str; 11] = [
    "image",
    "jpg",
    "jpeg",
    "png",
    "img",
    "image_path",
    "filepath",
    "file_path",
    "file_name",
    "filename",
    "path",
];

/// Names that a column of captions has, the likeliest first.
const CAPTION: [&str; 12] = [
    "captions",
    "caption",
    "text",
    "prompt",
    "txt",
    "sentences",
    "sentence",
    "title",
    "description",
    "alt_text",
    "answer",
    "json",
];

/// Names that the user gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// `--image-column`.
    pub image: Option<String>,
    /// `--caption-column`.
    pub caption: Option<String>,
}

impl Names {
    /// The column of images among `columns`.
    pub fn image<'a>(&self, columns: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
        pick(self.image.as_deref(), &IMAGE, columns)
    }

    /// The column of captions among `columns`.
    pub fn caption<'a>(&self, columns: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
        pick(self.caption.as_deref(), &CAPTION, columns)
    }
}

fn pick<'a>(
    asked: Option<&str>,
    usual: &[&str],
    mut columns: impl Iterator<Item = &'a str> + Clone,
) -> Option<&'a str> {
    if let Some(asked) = asked {
        return columns.find(|column| *column == asked);
    }
    usual.iter().find_map(|name| columns.clone().find(|column| column.eq_ignore_ascii_case(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_for_wins_over_likely_and_likely_over_later() {
        let columns = ["id", "text", "Caption", "path", "image"];
        let names = Names::default();
        assert_eq!(names.image(columns.into_iter()), Some("image"));
        assert_eq!(names.caption(columns.into_iter()), Some("Caption"));
        let asked = Names { image: Some("path".to_owned()), caption: Some("none".to_owned()) };
        assert_eq!(asked.image(columns.into_iter()), Some("path"));
        assert_eq!(asked.caption(columns.into_iter()), None);
        assert_eq!(names.image(["a", "b"].into_iter()), None);
    }
}
