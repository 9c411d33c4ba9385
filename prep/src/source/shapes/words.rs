//! The things that a scene can have, with the words and the colours that stand for them, and which
//! combinations are held out of training. The order of each list is part of the generator.

/// Red, green, blue, each 0 to 255.
pub(super) type Rgb = [f32; 3];

/// A list that is drawn from: all values, each with its word.
macro_rules! kinds {
    ($(#[$about:meta])* $name:ident { $($(#[$each:meta])* $value:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$each])* #[doc = $word] $value),+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$value),+];

            /// The plain word for it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }
        }
    };
}

kinds! {
    /// An object's outline.
    Shape {
        Circle = "circle", Square = "square", Triangle = "triangle", Diamond = "diamond",
        Star = "star", Heart = "heart", Cross = "cross", Ring = "ring",
    }
}
kinds! {
    /// An object's colour.
    Colour {
        Red = "red", Orange = "orange", Yellow = "yellow", Green = "green", Blue = "blue",
        Purple = "purple", Pink = "pink", Brown = "brown", Black = "black", White = "white",
    }
}
kinds! {
    /// How an object is filled.
    Texture { Solid = "plain", Striped = "striped", Dotted = "dotted", Checkered = "checkered" }
}
kinds! {
    /// How large an object is: about a quarter, a third, or nearly half of the picture's width.
    Size { Small = "small", Medium = "medium-sized", Large = "large" }
}
kinds! {
    /// Where an object's middle is, on a grid of three by three.
    Place {
        TopLeft = "top left", Top = "top", TopRight = "top right",
        Left = "left", Middle = "middle", Right = "right",
        BottomLeft = "bottom left", Bottom = "bottom", BottomRight = "bottom right",
    }
}
kinds! {
    /// The colour behind the objects.
    Ground {
        White = "white", Gray = "gray", Black = "black", LightBlue = "light blue",
        LightGreen = "light green", Beige = "beige", DarkBlue = "dark blue", Lavender = "lavender",
    }
}
kinds! {
    /// The pattern behind the objects.
    Pattern {
        Plain = "plain", Gradient = "gradient", Striped = "striped", Dotted = "dotted",
        Checkered = "checkered",
    }
}
kinds! {
    /// Where one object is, as seen from another.
    Relation {
        LeftOf = "to the left of", RightOf = "to the right of", Above = "above", Below = "below",
        AboveLeft = "above and to the left of", AboveRight = "above and to the right of",
        BelowLeft = "below and to the left of", BelowRight = "below and to the right of",
        Inside = "inside", Around = "around",
    }
}

impl Relation {
    /// The same from the other object's side.
    pub(super) const fn turned(self) -> Self {
        match self {
            Self::LeftOf => Self::RightOf,
            Self::RightOf => Self::LeftOf,
            Self::Above => Self::Below,
            Self::Below => Self::Above,
            Self::AboveLeft => Self::BelowRight,
            Self::AboveRight => Self::BelowLeft,
            Self::BelowLeft => Self::AboveRight,
            Self::BelowRight => Self::AboveLeft,
            Self::Inside => Self::Around,
            Self::Around => Self::Inside,
        }
    }
}

impl Colour {
    /// Its mean colour, before the jitter of each object.
    pub(super) const fn rgb(self) -> Rgb {
        match self {
            Self::Red => [211.0, 38.0, 42.0],
            Self::Orange => [246.0, 130.0, 28.0],
            Self::Yellow => [250.0, 216.0, 46.0],
            Self::Green => [42.0, 152.0, 70.0],
            Self::Blue => [38.0, 92.0, 214.0],
            Self::Purple => [128.0, 56.0, 168.0],
            Self::Pink => [250.0, 138.0, 184.0],
            Self::Brown => [124.0, 74.0, 38.0],
            Self::Black => [28.0, 28.0, 32.0],
            Self::White => [247.0, 247.0, 244.0],
        }
    }

    /// Grounds on which it can be told apart.
    pub(super) const fn shows_on(self, ground: Ground) -> bool {
        !matches!(
            (self, ground),
            (
                Self::White,
                Ground::White | Ground::Beige | Ground::LightBlue | Ground::LightGreen | Ground::Lavender
            ) | (Self::Yellow, Ground::White | Ground::Beige)
                | (Self::Orange, Ground::Beige)
                | (Self::Pink, Ground::Lavender)
                | (Self::Black, Ground::Black | Ground::DarkBlue)
                | (Self::Brown, Ground::Black | Ground::DarkBlue | Ground::Gray)
                | (Self::Blue | Self::Purple, Ground::DarkBlue)
                | (Self::Purple, Ground::Black | Ground::Gray)
                | (Self::Green, Ground::Gray)
        )
    }

    /// Whether an object of this colour can be told apart on top of one of the other colour.
    pub(super) fn shows_over(self, other: Self) -> bool {
        let apart: f32 = self.rgb().iter().zip(other.rgb()).map(|(a, b)| (a - b).abs()).sum();
        apart > 230.0
    }
}

impl Ground {
    /// Its mean colour.
    pub(super) const fn rgb(self) -> Rgb {
        match self {
            Self::White => [238.0, 238.0, 236.0],
            Self::Gray => [150.0, 152.0, 156.0],
            Self::Black => [30.0, 31.0, 34.0],
            Self::LightBlue => [168.0, 212.0, 242.0],
            Self::LightGreen => [184.0, 228.0, 172.0],
            Self::Beige => [230.0, 211.0, 174.0],
            Self::DarkBlue => [28.0, 42.0, 98.0],
            Self::Lavender => [202.0, 186.0, 232.0],
        }
    }
}

impl Place {
    /// Column and row on the grid, each -1, 0 or 1 (left, top = -1).
    pub(super) const fn column_row(self) -> (f32, f32) {
        let number = self as u8;
        ((number % 3) as f32 - 1.0, (number / 3) as f32 - 1.0)
    }
}

/// Whether a combination never occurs in `train`, and is what each main object of `val` has. For
/// every pair of shape and colour that is just one of the four textures, spread so that every pair
/// of shape and texture, and of colour and texture, is seen in training.
pub fn held_out(shape: Shape, colour: Colour, texture: Texture) -> bool {
    let sum = shape as usize + 3 * colour as usize + 2 * texture as usize;
    matches!(sum % 8, 3 | 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_and_colour_has_one_held_out_texture() {
        for &shape in Shape::ALL {
            for &colour in Colour::ALL {
                let out = Texture::ALL.iter().filter(|texture| held_out(shape, colour, **texture)).count();
                assert_eq!(out, 1, "{shape:?} {colour:?}");
            }
        }
    }

    #[test]
    fn every_pair_with_a_texture_is_seen_in_training() {
        for &texture in Texture::ALL {
            for &shape in Shape::ALL {
                assert!(Colour::ALL.iter().any(|colour| !held_out(shape, *colour, texture)));
                assert!(Colour::ALL.iter().any(|colour| held_out(shape, *colour, texture)));
            }
            for &colour in Colour::ALL {
                assert!(Shape::ALL.iter().any(|shape| !held_out(*shape, colour, texture)));
            }
        }
    }

    #[test]
    fn every_colour_shows_on_some_grounds_and_over_some_colours() {
        for &colour in Colour::ALL {
            assert!(Ground::ALL.iter().filter(|ground| colour.shows_on(**ground)).count() >= 3);
            assert!(Colour::ALL.iter().filter(|other| colour.shows_over(**other)).count() >= 3, "{colour:?}");
        }
    }
}
