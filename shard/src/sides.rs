//! The height and width of a stored picture, from its payload. It leaves out all else that a payload says: for a
//! data set of one size nobody asks.

use crate::{ImageFormat, ImageSettings, Layout, npy};

/// Height and width of the picture in `payload`, or `None` where it is not of the settings' form.
pub fn of(payload: &[u8], image: &ImageSettings) -> Option<(u32, u32)> {
    match image.format {
        ImageFormat::Npy => of_npy(payload, image.layout),
        ImageFormat::Jpg => of_jpeg(payload),
    }
}

fn of_npy(payload: &[u8], layout: Layout) -> Option<(u32, u32)> {
    let header = std::str::from_utf8(payload.get(10..npy::HEADER_BYTES)?).ok()?;
    let (_, shape) = header.split_once("'shape': (")?;
    let mut sides = shape.split_once(')')?.0.split(", ").map(str::parse);
    let sides: [u32; 3] = [sides.next()?.ok()?, sides.next()?.ok()?, sides.next()?.ok()?];
    Some(match layout {
        Layout::Chw => (sides[1], sides[2]),
        Layout::Hwc => (sides[0], sides[1]),
    })
}

/// Reads a JPEG's segments as far as its frame header (ITU-T T.81, B.2.2).
fn of_jpeg(payload: &[u8]) -> Option<(u32, u32)> {
    let mut rest = payload.strip_prefix(b"\xff\xd8")?;
    loop {
        let [0xff, marker, high, low, ..] = *rest else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        // SOF0 to SOF15, without the tables DHT, JPG and DAC among them.
        if (0xc0..=0xcf).contains(&marker) && ![0xc4, 0xc8, 0xcc].contains(&marker) {
            let [_, h1, h0, w1, w0, ..] = *rest.get(4..)? else { return None };
            return Some((u16::from_be_bytes([h1, h0]).into(), u16::from_be_bytes([w1, w0]).into()));
        }
        rest = rest.get(2 + length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_npy_says_its_sides_in_both_layouts() {
        for layout in [Layout::Chw, Layout::Hwc] {
            let image = ImageSettings { height: 224, width: 301, layout, ..ImageSettings::tensor(224) };
            assert_eq!(of(&npy::header(&image), &image), Some((224, 301)));
        }
        let image = ImageSettings::tensor(8);
        assert_eq!(of(&npy::header(&image)[..127], &image), None);
        assert_eq!(of(&[b' '; 128], &image), None);
    }

    #[test]
    fn a_jpeg_says_its_sides_wherever_it_is_cut() {
        let image = ImageSettings::jpeg(8, 90);
        let jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc4\x00\x03x\xff\xc2\x00\x0b\x08\x01\x02\x03\x04\x01";
        assert_eq!(of(jpeg, &image), Some((0x102, 0x304)));
        for cut in 0..jpeg.len() - 1 {
            assert_eq!(of(&jpeg[..cut], &image), None, "cut at {cut}");
        }
    }
}
