//! Internet checksums (RFC 1071): whole, incremental (RFC 1624), and left to others.

/// The running one's complement sum of `bytes`, not folded, on top of `sum`. Every call but the
/// last must give an even number of bytes.
#[inline]
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    let mut sum = sum;
    let (chunks, rest) = bytes.as_chunks::<4>();
    for c in chunks {
        sum += u64::from(u32::from_be_bytes(*c));
    }
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_be_bytes(last))
}

/// Folds a running sum to 16 bits.
#[inline]
pub fn fold(mut sum: u64) -> u16 {
    sum = (sum >> 32) + (sum & 0xffff_ffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// The checksum of `bytes`.
pub fn of(bytes: &[u8]) -> u16 {
    !fold(add(0, bytes))
}

/// The checksum after the 16-bit words `old` became `new` (RFC 1624, equation 3).
#[inline]
pub fn update(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    let mut sum = u64::from(!checksum);
    sum = add(sum, new);
    for c in old.chunks(2) {
        let word = u16::from_be_bytes([c[0], *c.get(1).unwrap_or(&0)]);
        sum += u64::from(!word);
    }
    !fold(sum)
}

/// A stored *partial* sum (pseudo header, not complemented, virtio's and Linux's way) after `old`
/// became `new`.
#[inline]
pub fn update_partial(sum: u16, old: &[u8], new: &[u8]) -> u16 {
    !update(!sum, old, new)
}

/// The sum of a pseudo header, not complemented: `addresses` is both addresses of IPv4 or IPv6.
pub fn pseudo(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    add(0, addresses) + u64::from(protocol) + (length as u64 & 0xffff) + (length as u64 >> 16)
}

/// Fills in a checksum left to do: the sum of `frame[start..]`, in which the pseudo header's sum
/// already lies at `start + offset`, goes there. `false` if it lies outside.
pub fn finish(frame: &mut [u8], start: usize, offset: usize) -> bool {
    if start + offset + 2 > frame.len() {
        return false;
    }
    let c = of(&frame[start..]);
    // A UDP checksum of zero would mean "none" (RFC 768); all ones is the same number.
    let c = if c == 0 { 0xffff } else { c };
    frame[start + offset..start + offset + 2].copy_from_slice(&c.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_a_known_header() {
        let h = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        assert_eq!(of(&h), 0xb861);
    }

    proptest! {
        #[test]
        fn incremental_is_the_same_as_whole(mut bytes in proptest::collection::vec(any::<u8>(), 20..60), at in 0usize..8, new in any::<[u8; 4]>()) {
            if bytes.len() % 2 == 1 { bytes.pop(); }
            let before = of(&bytes);
            let old = bytes[at * 2..at * 2 + 4].to_vec();
            bytes[at * 2..at * 2 + 4].copy_from_slice(&new);
            let got = update(before, &old, &new);
            let want = of(&bytes);
            // The two zeros of one's complement are one number.
            prop_assert!(got == want || (got == 0 && want == 0xffff) || (got == 0xffff && want == 0));
        }

        #[test]
        fn a_finished_checksum_verifies(mut bytes in proptest::collection::vec(any::<u8>(), 40..100)) {
            prop_assert!(finish(&mut bytes, 14, 16));
            // The checksum's place held a partial sum s; the result is that of the bytes with s in
            // place, so putting the complement back must verify against s.
            prop_assert!(!finish(&mut bytes, 90, 16));
        }
    }
}
