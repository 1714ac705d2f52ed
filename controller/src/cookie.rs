//! Cookies: how the controller knows its own flows on a switch.
//!
//! The upper 32 bits of a flow's cookie tell which part of the controller owns it. Everything the
//! controller deletes, it deletes under this mask, so flows that others installed (by `ofctl`, by
//! another controller) are never touched.

/// The bits that tell the owner.
pub const OWNER_MASK: u64 = 0xffff_ffff_0000_0000;
/// The bits common to all of the controller's flows.
pub const OURS_MASK: u64 = 0xffff_0000_0000_0000;
/// What those bits are ("We").
pub const OURS: u64 = 0x5765_0000_0000_0000;
/// Named flows; the lower half is a hash of the name.
pub const NAMED: u64 = OURS | 1 << 32;
/// Flows of the learning switch.
pub const LEARNED: u64 = OURS | 2 << 32;
/// The table-miss flow that sends unknown packets to the controller.
pub const TABLE_MISS: u64 = OURS | 3 << 32;
/// The flow that sends LLDP to the controller.
pub const LLDP: u64 = OURS | 4 << 32;

/// The cookie of a named flow (FNV-1a over the name). Two names with one hash do no harm: flows
/// are told apart by table, priority and match, the cookie only tells the owner.
pub fn named(name: &str) -> u64 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    });
    NAMED | u64::from(hash)
}

/// Whether a cookie has this owner, one of the constants above.
pub fn owned_by(cookie: u64, owner: u64) -> bool {
    cookie & OWNER_MASK == owner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_told_apart() {
        for owner in [NAMED, LEARNED, TABLE_MISS, LLDP] {
            assert_eq!(owner & OURS_MASK, OURS);
        }
        let c = named("block-icmp");
        assert!(owned_by(c, NAMED) && !owned_by(c, LEARNED));
        assert_ne!(c, named("block-icmq"));
    }
}
