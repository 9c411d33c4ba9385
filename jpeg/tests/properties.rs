//! Bytes that are no sound picture: small changes of sound ones, and any.

use jpeg::Decoder;
use proptest::prelude::*;

#[path = "common/outside_bytes.rs"]
mod outside_bytes;
#[path = "common/records.rs"]
mod records;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn changed_bytes_are_decoded_or_refused(
        number in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let records = records::records();
        let sound = records[number.index(records.len())].jpeg;
        let mut bytes = sound.to_vec();
        for (place, byte) in changes {
            let len = bytes.len();
            bytes[place.index(len)] = byte;
        }
        let mut decoder = Decoder::default();
        outside_bytes::picture(&mut decoder, &bytes);
        prop_assert!(outside_bytes::picture(&mut decoder, sound));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        bytes.splice(0..0, *b"\xff\xd8\xff");
        outside_bytes::picture(&mut Decoder::default(), &bytes);
    }
}
