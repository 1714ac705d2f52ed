//! The order in which Open vSwitch's tools list names that they do not sort: that of its string
//! hash table. Scripts compare such lists, so ours come in the same order.

/// MurmurHash3 (x86, 32 bit) of a string with seed 0, as `hash_string` computes it.
fn hash(s: &str) -> u32 {
    let mut h = 0u32;
    for piece in s.as_bytes().chunks(4) {
        let mut word = [0; 4];
        word[..piece.len()].copy_from_slice(piece);
        let k = u32::from_le_bytes(word)
            .wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593);
        h = (h ^ k)
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    h ^= s.len() as u32;
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// The names in the order of a table they are put into one after the other: by bucket, and within
/// one bucket the last comer first. The table doubles when it holds more than two per bucket.
pub fn hash_order<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut buckets: Vec<Vec<(u32, &str)>> = vec![Vec::new()];
    let mut n = 0;
    for name in names {
        let h = hash(name);
        let mask = buckets.len() - 1;
        buckets[h as usize & mask].insert(0, (h, name));
        n += 1;
        if n / 2 > mask {
            let mut mask = mask * 2 + 1;
            if mask == 1 {
                mask = 3;
            }
            let mut bigger = vec![Vec::new(); mask + 1];
            for (h, name) in buckets.into_iter().flatten() {
                bigger[h as usize & mask].insert(0, (h, name));
            }
            buckets = bigger;
        }
    }
    buckets
        .into_iter()
        .flatten()
        .map(|(_, name)| name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_in_the_order_ovsdb_client_lists_them() {
        // As `ovsdb-client list-columns` of Open vSwitch prints the columns of QoS.
        let want = [
            "_version",
            "queues",
            "_uuid",
            "other_config",
            "external_ids",
            "type",
        ];
        let mut names = want;
        names.sort_unstable();
        assert_eq!(hash_order(names), want);
    }

    #[test]
    fn nothing_is_lost() {
        let names: Vec<String> = (0..1000).map(|i| format!("n{i}")).collect();
        let mut out = hash_order(names.iter().map(String::as_str));
        out.sort_unstable();
        out.dedup();
        assert_eq!(out.len(), 1000);
    }
}
