//! The two checksums. CRC-32 guards what is read in training, payload by payload and row by row: at 25 GB/s
//! it is free beside the copy it rides on. BLAKE3 guards whole files and names data sets. It leaves out any
//! choice between algorithms: the format has one of each.

/// CRC-32 as in zip and gzip (reflected polynomial 0xEDB88320).
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// BLAKE3 in 64 lower-case hexadecimal digits.
pub fn blake3_hex(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// One changed byte, found from nothing but the CRC before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedByte {
    /// Its place in the payload.
    pub position: usize,
    /// `found ^ expected`.
    pub xor: u8,
}

/// Finds the single changed byte that turns a payload with CRC `expected` into one of `len` bytes with CRC
/// `found`, if one byte can explain it.
///
/// CRC-32 is linear: a change `e` followed by `k` unchanged bytes leaves the difference `T^k(table[e])`, with `T`
/// the step over a zero byte. `T` is undone from the end of the payload until the difference is a table
/// entry. Random damage to several bytes passes for one in about `len·255/2³²` of all cases.
pub fn changed_byte(len: usize, expected: u32, found: u32) -> Option<ChangedByte> {
    let table = table();
    // The top bytes of the entries are a permutation, so each difference has one possible predecessor.
    let mut entry_of_top_byte = [0u8; 256];
    for (entry, value) in (0u8..=255).zip(table) {
        entry_of_top_byte[(value >> 24) as usize] = entry;
    }
    let mut difference = expected ^ found;
    if difference == 0 {
        return None;
    }
    for position in (0..len).rev() {
        let entry = entry_of_top_byte[(difference >> 24) as usize];
        if table[entry as usize] == difference {
            return Some(ChangedByte { position, xor: entry });
        }
        difference = ((difference ^ table[entry as usize]) << 8) | u32::from(entry);
    }
    None
}

const fn table() -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut entry = 0;
    while entry < 256 {
        let mut value = entry as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xEDB8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[entry] = value;
        entry += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_has_the_published_check_value() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn blake3_has_the_published_value_of_nothing() {
        assert_eq!(blake3_hex(b""), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    }

    #[test]
    fn a_changed_byte_is_found_at_every_position() {
        let payload: Vec<u8> = (0..2_000u32).map(|i| (i * 7 + i / 13) as u8).collect();
        let expected = crc32(&payload);
        for position in [0, 1, 2, 3, 4, 777, 1_998, 1_999] {
            for xor in [1u8, 0x80, 0xff, 0x5a] {
                let mut damaged = payload.clone();
                damaged[position] ^= xor;
                let found = changed_byte(payload.len(), expected, crc32(&damaged));
                assert_eq!(found, Some(ChangedByte { position, xor }));
            }
        }
        assert_eq!(changed_byte(payload.len(), expected, expected), None);
    }
}
