//! Against pictures that libjpeg-turbo decoded (`fixtures/generate.py`).

use jpeg::Decoder;

#[path = "common/records.rs"]
mod records;

#[test]
fn pictures_are_what_libjpeg_turbo_makes_of_them() {
    let records = records::records();
    assert_eq!(records.len(), 5 * 8);
    // One decoder for all: nothing of a picture may show in the next one.
    let mut decoder = Decoder::default();
    for (number, record) in records.into_iter().enumerate() {
        let records::Record { jpeg, width, height, pixels: wanted } = record;
        let picture = decoder.open(jpeg).expect("a usual file");
        assert_eq!((picture.width(), picture.height()), (width, height));
        let mut planar = vec![1; wanted.len()];
        picture.planar(&mut planar).expect("an undamaged file");
        let plane = width * height;
        let wrong = (0..wanted.len()).find(|&at| wanted[at] != planar[at % 3 * plane + at / 3]);
        assert_eq!(wrong, None, "picture {number} of {width}x{height}: first other value");
    }
}
