//! The XDP program, in instructions (RFC 9669).

use std::os::fd::RawFd;

/// One instruction (RFC 9669 3): operation, destination, source, offset, immediate value.
const fn i(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    code as u64
        | ((from << 4 | to) as u64) << 8
        | (offset as u16 as u64) << 16
        | (value as u32 as u64) << 32
}

const LOAD32: u8 = 0x61;
const LOAD16: u8 = 0x69;
const STORE32: u8 = 0x63;
const STORE16: u8 = 0x6b;
const STORE64_VALUE: u8 = 0x7a;
const LOAD_MAP: u8 = 0x18;
const SET: u8 = 0xb7;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const TO_BIG_ENDIAN: u8 = 0xdc;
const CALL: u8 = 0x85;
const JUMP: u8 = 0x05;
const UNLESS_EQUAL: u8 = 0x55;
const IF_ABOVE: u8 = 0x2d;
const EXIT: u8 = 0x95;

/// What [`LOAD_MAP`] loads, and [`CALL`] calls, instead of a number and a helper.
const MAP: u8 = 1;
const KERNEL_FUNCTION: u8 = 2;
/// Helpers of the kernel's.
const REDIRECT_MAP: i32 = 51;
const ADJUST_HEAD: i32 = 44;
/// What becomes of a frame.
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;
const XDP_REDIRECT: i32 = 4;
/// Where `struct xdp_md` has the frame's start and end, and its receive queue.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const QUEUE: i16 = 16;
const STACK: u8 = 10;

/// The program that gives frames to the sockets in a map, by receive queue; what comes by others passes. With the number of the
/// kernel's function that tells a frame's VLAN tag, a tag that the driver keeps beside the frame is put back into it.
pub(super) fn redirect(map: RawFd, vlan_tag: Option<i32>) -> Vec<u64> {
    let find = [
        i(MOVE, 6, 1, 0, 0),
        i(LOAD32, 2, 1, QUEUE, 0),
        i(LOAD_MAP, 1, MAP, 0, map),
        0,
        i(SET, 3, 0, 0, XDP_PASS),
        i(CALL, 0, 0, 0, REDIRECT_MAP),
    ];
    let Some(vlan_tag) = vlan_tag else {
        return [&find[..], &[i(EXIT, 0, 0, 0, 0)]].concat();
    };
    // The tag's type (network byte order) goes to the stack at -8, its other half (host byte order) to -16.
    let ask = [
        i(STORE64_VALUE, STACK, 0, -8, 0),
        i(STORE64_VALUE, STACK, 0, -16, 0),
        i(MOVE, 1, 6, 0, 0),
        i(MOVE, 2, STACK, 0, 0),
        i(ADD, 2, 0, 0, -8),
        i(MOVE, 3, STACK, 0, 0),
        i(ADD, 3, 0, 0, -16),
        i(CALL, 0, KERNEL_FUNCTION, 0, vlan_tag),
    ];
    let put = [
        // Both addresses move four bytes to the front.
        i(LOAD32, 4, 1, 4, 0),
        i(STORE32, 1, 4, 0, 0),
        i(LOAD32, 4, 1, 8, 0),
        i(STORE32, 1, 4, 4, 0),
        i(LOAD32, 4, 1, 12, 0),
        i(STORE32, 1, 4, 8, 0),
        i(LOAD16, 4, STACK, -8, 0),
        i(STORE16, 1, 4, 12, 0),
        i(LOAD16, 4, STACK, -16, 0),
        i(TO_BIG_ENDIAN, 4, 0, 0, 16),
        i(STORE16, 1, 4, 14, 0),
    ];
    let end = [
        i(JUMP, 0, 0, 1, 0),
        i(SET, 7, 0, 0, XDP_DROP),
        i(MOVE, 0, 7, 0, 0),
        i(EXIT, 0, 0, 0, 0),
    ];
    // Jumps count from the next instruction: to `end`'s second (drop) or third (out).
    let to_out = |behind: usize| (behind + 2) as i16;
    let to_drop = |behind: usize| (behind + 1) as i16;
    let grow = [
        i(MOVE, 1, 6, 0, 0),
        i(SET, 2, 0, 0, -4),
        i(CALL, 0, 0, 0, ADJUST_HEAD),
        i(UNLESS_EQUAL, 0, 0, to_drop(5 + put.len()), 0),
        i(LOAD32, 1, 6, DATA, 0),
        i(LOAD32, 2, 6, DATA_END, 0),
        i(MOVE, 3, 1, 0, 0),
        i(ADD, 3, 0, 0, 18),
        i(IF_ABOVE, 3, 2, to_drop(put.len()), 0),
    ];
    let behind_ask = grow.len() + put.len();
    let found = [
        i(MOVE, 7, 0, 0, 0),
        i(
            UNLESS_EQUAL,
            0,
            0,
            to_out(ask.len() + 1 + behind_ask),
            XDP_REDIRECT,
        ),
    ];
    let tagged = [i(UNLESS_EQUAL, 0, 0, to_out(behind_ask), 0)];
    [&find[..], &found, &ask, &tagged, &grow, &put, &end].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_to_the_end_and_nowhere_else() {
        let program = redirect(5, Some(77));
        assert_eq!(program[2], 0x5_0000_1118);
        let out = program.len() - 2;
        let mut jumps = 0;
        for (n, word) in program.iter().enumerate() {
            if matches!(*word as u8, UNLESS_EQUAL | IF_ABOVE | JUMP) {
                let to = n + 1 + usize::from((word >> 16) as u16);
                assert!([out - 1, out].contains(&to), "{n} jumps to {to}");
                jumps += 1;
            }
        }
        assert_eq!(jumps, 5);
        assert_eq!(redirect(5, None).len(), 7);
    }
}
