//! Numbers of functions of the running kernel's, by name (BTF: networking-independent type information that the kernel shows of itself;
//! Documentation/bpf/btf.rst).

use std::sync::LazyLock;

const KERNEL: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const FUNC: u32 = 12;

/// The function that tells a frame's VLAN tag to an XDP program, if this kernel has it.
pub(super) fn vlan_tag() -> Option<i32> {
    static NUMBER: LazyLock<Option<i32>> = LazyLock::new(|| {
        find(
            &std::fs::read(KERNEL).ok()?,
            b"bpf_xdp_metadata_rx_vlan_tag",
        )
    });
    *NUMBER
}

/// The number of the function of this name.
fn find(btf: &[u8], name: &[u8]) -> Option<i32> {
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(btf.get(at..at + 4)?.try_into().ok()?))
    };
    if u16::from_ne_bytes(btf.get(..2)?.try_into().ok()?) != MAGIC {
        return None;
    }
    let header = word(4)? as usize;
    let (types, types_len) = (header + word(8)? as usize, word(12)? as usize);
    let strings = header + word(16)? as usize;
    let mut at = types;
    let mut number = 1;
    while at < types + types_len {
        let info = word(at + 4)?;
        let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if kind == FUNC {
            let text = btf.get(strings + word(at)? as usize..)?;
            if text.starts_with(name) && text.get(name.len()) == Some(&0) {
                return Some(number);
            }
        }
        at += 12
            + match kind {
                // Integers, variables, tags of declarations.
                1 | 14 | 17 => 4,
                // Arrays.
                3 => 12,
                // Structures, unions, sections of data, enumerations of 64 bits.
                4 | 5 | 15 | 19 => members * 12,
                // Enumerations, prototypes of functions.
                6 | 13 => members * 8,
                _ => 0,
            };
        number += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_behind_types_of_other_sizes() {
        let mut types: Vec<u32> = vec![0, 1 << 24, 4, 32];
        types.extend([0, 4 << 24 | 2, 8, 0, 1, 0, 0, 1, 32]);
        types.extend([1, 12 << 24, 1]);
        types.extend([5, 12 << 24, 1]);
        let strings = b"\0one\0two\0";
        let len = types.len() as u32 * 4;
        let mut btf = 0x0001_eb9fu32.to_ne_bytes().to_vec();
        for word in [24, 0, len, len, strings.len() as u32].iter().chain(&types) {
            btf.extend(word.to_ne_bytes());
        }
        btf.extend(strings);
        assert_eq!(find(&btf, b"one"), Some(3));
        assert_eq!(find(&btf, b"two"), Some(4));
        assert_eq!(find(&btf, b"tw"), None);
        for n in 0..btf.len() {
            let _ = find(&btf[..n], b"two");
        }
    }
}
