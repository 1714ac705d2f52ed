//! The table of match fields: the only place in weir that knows their names, codes and widths.
//!
//! Everything that deals with fields derives from [`FIELDS`]: the text parser and printer, the
//! OXM and NXM codecs, the layout of the datapath's flow key, and the documentation.
//!
//! A *field* is what a person or a protocol names (`tcp_dst`, `vlan_vid`). A [`Slot`] is where a
//! field's bits live in a packet's flow key. Several fields may look at one slot: `tcp_dst` and
//! `udp_dst` (their prerequisites keep them apart), or `vlan_vid`, `vlan_pcp` and `vlan_tci`
//! (different bits of one 16-bit tag). Matches are kept by slot, so two spellings of one match are
//! one value.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Which masks a field accepts in a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskRule {
    /// All bits or none.
    Exact,
    /// Any bit pattern.
    Any,
}

/// How a field's value is written in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `10`
    Decimal,
    /// `0x0a`
    Hex,
    /// `00:00:5e:00:53:01`
    Ethernet,
    /// `192.0.2.1`, masks as prefix or dotted
    Ipv4,
    /// `2001:db8::1`, masks as prefix or address
    Ipv6,
    /// An OpenFlow port number or reserved port name
    Port,
    /// `no`, `yes`, `first`, `later`, `not_later`
    Frag,
    /// `+syn-ack`
    TcpFlags,
    /// `+trk+est`
    CtState,
    /// `oam`
    TunnelFlags,
}

/// What a packet must be for the field to exist in it (OpenFlow 1.3.5 7.2.3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prereq {
    /// Always there.
    None,
    /// An 802.1Q tag is present.
    Vlan,
    /// eth_type 0x8847 or 0x8848.
    Mpls,
    /// eth_type 0x88e7.
    Pbb,
    /// eth_type 0x0800 or 0x86dd.
    Ip,
    /// eth_type 0x0800.
    Ipv4,
    /// eth_type 0x86dd.
    Ipv6,
    /// eth_type 0x0806 or 0x8035.
    Arp,
    /// IP with protocol 6.
    Tcp,
    /// IP with protocol 17.
    Udp,
    /// IP with protocol 132.
    Sctp,
    /// IPv4 with protocol 1.
    Icmpv4,
    /// IPv6 with protocol 58.
    Icmpv6,
    /// ICMPv6 type 135 or 136.
    Nd,
    /// ICMPv6 type 135.
    NdSolicit,
    /// ICMPv6 type 136.
    NdAdvert,
    /// eth_type 0x894f (RFC 8300).
    Nsh,
    /// Tracked, and not known to be invalid.
    Ct,
}

impl Prereq {
    /// What must be matched, for people.
    pub const fn needs(self) -> &'static str {
        match self {
            Prereq::None => "nothing",
            Prereq::Vlan => "a VLAN tag",
            Prereq::Mpls => "eth_type 0x8847 or 0x8848",
            Prereq::Pbb => "eth_type 0x88e7",
            Prereq::Ip => "eth_type 0x0800 or 0x86dd",
            Prereq::Ipv4 => "eth_type 0x0800",
            Prereq::Ipv6 => "eth_type 0x86dd",
            Prereq::Arp => "eth_type 0x0806 or 0x8035",
            Prereq::Tcp => "IP protocol 6",
            Prereq::Udp => "IP protocol 17",
            Prereq::Sctp => "IP protocol 132",
            Prereq::Icmpv4 => "eth_type 0x0800 and IP protocol 1",
            Prereq::Icmpv6 => "eth_type 0x86dd and IP protocol 58",
            Prereq::Nd => "icmpv6_type 135 or 136",
            Prereq::NdSolicit => "icmpv6_type 135",
            Prereq::NdAdvert => "icmpv6_type 136",
            Prereq::Nsh => "eth_type 0x894f",
            Prereq::Ct => "ct_state of a connection (such as +trk-inv)",
        }
    }
}

/// An OXM or NXM type: class, field number and experimenter (OpenFlow 1.3.5 7.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OxmCode {
    /// `oxm_class`: 0x0000 and 0x0001 are Nicira's, 0x8000 the basic class, 0x8001 packet registers,
    /// 0xffff experimenters'.
    pub class: u16,
    /// `oxm_field`, 7 bits.
    pub field: u8,
    /// Who the number is of, in class 0xffff; else 0.
    pub experimenter: u32,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct FieldInfo {
    /// The row's own identity.
    pub id: FieldId,
    /// The name as OpenFlow 1.2 and later and `set_field` know it.
    pub name: &'static str,
    /// Other names people type (OpenFlow 1.0 names, Nicira names).
    pub aliases: &'static [&'static str],
    /// Width in bits.
    pub bits: u16,
    /// Where its bits live.
    pub slot: Slot,
    /// How far left of the slot's lowest bit the field's lowest bit is.
    pub shift: u8,
    /// How it is written.
    pub format: Format,
    /// Which masks it takes.
    pub mask: MaskRule,
    /// What the packet must be.
    pub prereq: Prereq,
    /// Whether actions may write it.
    pub writable: bool,
    /// The Nicira code, if it has one.
    pub nxm: Option<OxmCode>,
    /// The standard code, if it has one.
    pub oxm: Option<OxmCode>,
    /// The first OpenFlow version (wire number) whose basic class has the field.
    pub since: u8,
}

macro_rules! slots {
    ($($(#[$doc:meta])* $slot:ident = $bits:literal;)*) => {
        /// A place in the flow key. The order is the order in the key: what changes least from
        /// packet to packet, and what every lookup needs first, comes first.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Slot {
            $($(#[$doc])* $slot,)*
            /// The tunnel option that a bridge's TLV table knows by this number (0 to 63): at most its first 16
            /// bytes, which is what fits a value.
            TunOption(u8),
        }

        impl Slot {
            /// Every slot that has a place in the key, in key order.
            pub const ALL: &'static [Slot] = &[$(Slot::$slot,)*];

            /// Width in bits: 8, 16, 32, 48, 64 or 128.
            pub const fn bits(self) -> u16 {
                match self { $(Slot::$slot => $bits,)* Slot::TunOption(_) => 128 }
            }
        }
    };
}

slots! {
    /// Port the packet came in by.
    InPort = 32;
    /// Packet mark.
    PktMark = 32;
    /// Ethernet destination.
    EthDst = 48;
    /// Ethernet type of the payload behind any VLAN tags.
    EthType = 16;
    /// Ethernet source.
    EthSrc = 48;
    /// Outer VLAN tag control information, bit 12 set when a tag is present.
    VlanTci = 16;
    /// IPv4 source, or ARP sender protocol address.
    NwSrc = 32;
    /// IPv4 destination, or ARP target protocol address.
    NwDst = 32;
    /// IP protocol, or the low byte of the ARP opcode.
    NwProto = 8;
    /// DSCP and ECN: the whole TOS or traffic class byte.
    NwTos = 8;
    /// TTL or hop limit.
    NwTtl = 8;
    /// Bit 0: a fragment; bit 1: not the first.
    NwFrag = 8;
    /// TCP, UDP, SCTP source port, or ICMP type.
    TpSrc = 16;
    /// TCP, UDP, SCTP destination port, or ICMP code.
    TpDst = 16;
    /// Network service header: flags.
    NshFlags = 8;
    /// Network service header: TTL, 6 bits.
    NshTtl = 8;
    /// Network service header: kind of metadata, 1 or 2.
    NshMdtype = 8;
    /// Network service header: next protocol.
    NshNp = 8;
    /// Network service header: path id (24 bits) and, lowest, service index.
    NshPath = 32;
    /// Network service header of metadata type 1: contexts 1 (highest) to 4.
    NshContext = 128;
    /// IPv6 source.
    Ipv6Src = 128;
    /// IPv6 destination.
    Ipv6Dst = 128;
    /// IPv6 flow label, 20 bits.
    Ipv6Label = 32;
    /// TCP flags, 12 bits.
    TcpFlags = 16;
    /// IPv6 extension headers seen, 9 bits.
    Ipv6Exthdr = 16;
    /// ND target address.
    NdTarget = 128;
    /// ARP sender hardware address, or ND source link-layer address.
    ArpSha = 48;
    /// Second (inner) VLAN tag, bit 12 set when present.
    InnerVlanTci = 16;
    /// ARP target hardware address, or ND target link-layer address.
    ArpTha = 48;
    /// PBB service instance (24 bits) and use-customer-address flag (bit 24)... kept apart from MPLS.
    PbbUca = 8;
    /// Reserved, zero.
    Pad = 8;
    /// Outermost MPLS label stack entry.
    Mpls = 32;
    /// PBB I-SID, 24 bits.
    PbbIsid = 32;
    /// Tunnel key.
    TunId = 64;
    /// Outer IPv4 source.
    TunSrc = 32;
    /// Outer IPv4 destination.
    TunDst = 32;
    /// Outer IPv6 source.
    TunIpv6Src = 128;
    /// Outer IPv6 destination.
    TunIpv6Dst = 128;
    /// Tunnel flags (bit 0: OAM).
    TunFlags = 16;
    /// VXLAN group policy id.
    TunGbpId = 16;
    /// VXLAN group policy flags.
    TunGbpFlags = 8;
    /// Outer TOS, not matchable by name.
    TunTos = 8;
    /// Outer TTL, not matchable by name.
    TunTtl = 8;
    /// ERSPAN direction, 1 bit.
    ErspanDir = 8;
    /// ERSPAN version 1's index, 20 bits.
    ErspanIdx = 32;
    /// ERSPAN version, 4 bits.
    ErspanVer = 8;
    /// ERSPAN version 2's hardware id, 6 bits.
    ErspanHwid = 8;
    /// GTP-U flags.
    GtpuFlags = 8;
    /// GTP-U message type.
    GtpuMsgtype = 8;
    /// OpenFlow pipeline metadata.
    Metadata = 64;
    /// Conjunction id.
    ConjId = 32;
    /// Output port in the action set.
    ActsetOutput = 32;
    /// Packet type (OpenFlow 1.5), 0 is Ethernet.
    PacketType = 32;
    /// Datapath hash.
    DpHash = 32;
    /// Recirculation id.
    RecircId = 32;
    /// Physical input port.
    InPhyPort = 32;
    /// Registers 0 to 3 (register 0 in the most significant bits).
    Xxreg0 = 128;
    /// Registers 4 to 7.
    Xxreg1 = 128;
    /// Registers 8 to 11.
    Xxreg2 = 128;
    /// Registers 12 to 15.
    Xxreg3 = 128;
    /// Connection state flags.
    CtState = 32;
    /// Connection mark.
    CtMark = 32;
    /// Connection label.
    CtLabel = 128;
    /// Connection zone.
    CtZone = 16;
    /// Original-direction protocol.
    CtNwProto = 8;
    /// Reserved, zero.
    CtPad = 8;
    /// Original-direction source port.
    CtTpSrc = 16;
    /// Original-direction destination port.
    CtTpDst = 16;
    /// Original-direction IPv4 source.
    CtNwSrc = 32;
    /// Original-direction IPv4 destination.
    CtNwDst = 32;
    /// Original-direction IPv6 source.
    CtIpv6Src = 128;
    /// Original-direction IPv6 destination.
    CtIpv6Dst = 128;
}

macro_rules! code {
    (-) => {
        None
    };
    ($class:literal / $field:literal) => {
        Some(OxmCode {
            class: $class,
            field: $field,
            experimenter: 0,
        })
    };
    (exp $experimenter:literal / $field:literal) => {
        Some(OxmCode {
            class: 0xffff,
            field: $field,
            experimenter: $experimenter,
        })
    };
}

macro_rules! fields {
    ($($id:ident $name:literal [$($alias:literal)*] $bits:literal $slot:ident $(($n:literal))? >> $shift:literal
        $format:ident $mask:ident $prereq:ident $writable:ident nxm ($($nxm:tt)*) oxm ($($oxm:tt)*) since $since:literal;)*) => {
        /// A match field's identity; its row is [`FieldId::info`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "each variant is documented by its row")]
        pub enum FieldId { $($id,)* }

        /// The table, one row a field, in `FieldId` order.
        pub static FIELDS: &[FieldInfo] = &[$(FieldInfo {
            id: FieldId::$id,
            name: $name,
            aliases: &[$($alias),*],
            bits: $bits,
            slot: Slot::$slot $(($n))?,
            shift: $shift,
            format: Format::$format,
            mask: MaskRule::$mask,
            prereq: Prereq::$prereq,
            writable: fields!(@w $writable),
            nxm: code!($($nxm)*),
            oxm: code!($($oxm)*),
            since: $since,
        },)*];
    };
    (@w rw) => { true };
    (@w ro) => { false };
}

// id, name, [other names], bits, slot >> shift, format, mask rule, prerequisite, access, codes, first version.
fields! {
    DpHash "dp_hash" [] 32 DpHash >> 0 Hex Any None ro nxm (0x0001/35) oxm (-) since 1;
    RecircId "recirc_id" [] 32 RecircId >> 0 Decimal Exact None ro nxm (0x0001/36) oxm (-) since 1;
    PacketType "packet_type" [] 32 PacketType >> 0 Hex Exact None ro nxm (-) oxm (0x8000/44) since 6;
    ConjId "conj_id" [] 32 ConjId >> 0 Decimal Exact None ro nxm (0x0001/37) oxm (-) since 1;
    TunId "tun_id" ["tunnel_id"] 64 TunId >> 0 Hex Any None rw nxm (0x0001/16) oxm (0x8000/38) since 4;
    TunSrc "tun_src" [] 32 TunSrc >> 0 Ipv4 Any None rw nxm (0x0001/31) oxm (-) since 1;
    TunDst "tun_dst" [] 32 TunDst >> 0 Ipv4 Any None rw nxm (0x0001/32) oxm (-) since 1;
    TunIpv6Src "tun_ipv6_src" [] 128 TunIpv6Src >> 0 Ipv6 Any None rw nxm (0x0001/109) oxm (-) since 1;
    TunIpv6Dst "tun_ipv6_dst" [] 128 TunIpv6Dst >> 0 Ipv6 Any None rw nxm (0x0001/110) oxm (-) since 1;
    TunFlags "tun_flags" [] 1 TunFlags >> 0 TunnelFlags Any None rw nxm (0x0001/104) oxm (-) since 1;
    TunGbpId "tun_gbp_id" [] 16 TunGbpId >> 0 Decimal Any None rw nxm (0x0001/38) oxm (-) since 1;
    TunGbpFlags "tun_gbp_flags" [] 8 TunGbpFlags >> 0 Hex Any None rw nxm (0x0001/39) oxm (-) since 1;
    TunErspanIdx "tun_erspan_idx" [] 20 ErspanIdx >> 0 Hex Any None rw nxm (exp 0x0000_2320/11) oxm (-) since 1;
    TunErspanVer "tun_erspan_ver" [] 4 ErspanVer >> 0 Decimal Any None rw nxm (exp 0x0000_2320/12) oxm (-) since 1;
    TunErspanDir "tun_erspan_dir" [] 1 ErspanDir >> 0 Decimal Any None rw nxm (exp 0x0000_2320/13) oxm (-) since 1;
    TunErspanHwid "tun_erspan_hwid" [] 6 ErspanHwid >> 0 Hex Any None rw nxm (exp 0x0000_2320/14) oxm (-) since 1;
    TunGtpuFlags "tun_gtpu_flags" ["gtpu_flags"] 8 GtpuFlags >> 0 Hex Any None ro nxm (exp 0x0000_2320/15) oxm (-) since 1;
    TunGtpuMsgtype "tun_gtpu_msgtype" ["gtpu_msgtype"] 8 GtpuMsgtype >> 0 Decimal Any None ro nxm (exp 0x0000_2320/16) oxm (-) since 1;
    TunMetadata0 "tun_metadata0" [] 128 TunOption(0) >> 0 Hex Any None rw nxm (0x0001/40) oxm (-) since 1;
    TunMetadata1 "tun_metadata1" [] 128 TunOption(1) >> 0 Hex Any None rw nxm (0x0001/41) oxm (-) since 1;
    TunMetadata2 "tun_metadata2" [] 128 TunOption(2) >> 0 Hex Any None rw nxm (0x0001/42) oxm (-) since 1;
    TunMetadata3 "tun_metadata3" [] 128 TunOption(3) >> 0 Hex Any None rw nxm (0x0001/43) oxm (-) since 1;
    TunMetadata4 "tun_metadata4" [] 128 TunOption(4) >> 0 Hex Any None rw nxm (0x0001/44) oxm (-) since 1;
    TunMetadata5 "tun_metadata5" [] 128 TunOption(5) >> 0 Hex Any None rw nxm (0x0001/45) oxm (-) since 1;
    TunMetadata6 "tun_metadata6" [] 128 TunOption(6) >> 0 Hex Any None rw nxm (0x0001/46) oxm (-) since 1;
    TunMetadata7 "tun_metadata7" [] 128 TunOption(7) >> 0 Hex Any None rw nxm (0x0001/47) oxm (-) since 1;
    TunMetadata8 "tun_metadata8" [] 128 TunOption(8) >> 0 Hex Any None rw nxm (0x0001/48) oxm (-) since 1;
    TunMetadata9 "tun_metadata9" [] 128 TunOption(9) >> 0 Hex Any None rw nxm (0x0001/49) oxm (-) since 1;
    TunMetadata10 "tun_metadata10" [] 128 TunOption(10) >> 0 Hex Any None rw nxm (0x0001/50) oxm (-) since 1;
    TunMetadata11 "tun_metadata11" [] 128 TunOption(11) >> 0 Hex Any None rw nxm (0x0001/51) oxm (-) since 1;
    TunMetadata12 "tun_metadata12" [] 128 TunOption(12) >> 0 Hex Any None rw nxm (0x0001/52) oxm (-) since 1;
    TunMetadata13 "tun_metadata13" [] 128 TunOption(13) >> 0 Hex Any None rw nxm (0x0001/53) oxm (-) since 1;
    TunMetadata14 "tun_metadata14" [] 128 TunOption(14) >> 0 Hex Any None rw nxm (0x0001/54) oxm (-) since 1;
    TunMetadata15 "tun_metadata15" [] 128 TunOption(15) >> 0 Hex Any None rw nxm (0x0001/55) oxm (-) since 1;
    TunMetadata16 "tun_metadata16" [] 128 TunOption(16) >> 0 Hex Any None rw nxm (0x0001/56) oxm (-) since 1;
    TunMetadata17 "tun_metadata17" [] 128 TunOption(17) >> 0 Hex Any None rw nxm (0x0001/57) oxm (-) since 1;
    TunMetadata18 "tun_metadata18" [] 128 TunOption(18) >> 0 Hex Any None rw nxm (0x0001/58) oxm (-) since 1;
    TunMetadata19 "tun_metadata19" [] 128 TunOption(19) >> 0 Hex Any None rw nxm (0x0001/59) oxm (-) since 1;
    TunMetadata20 "tun_metadata20" [] 128 TunOption(20) >> 0 Hex Any None rw nxm (0x0001/60) oxm (-) since 1;
    TunMetadata21 "tun_metadata21" [] 128 TunOption(21) >> 0 Hex Any None rw nxm (0x0001/61) oxm (-) since 1;
    TunMetadata22 "tun_metadata22" [] 128 TunOption(22) >> 0 Hex Any None rw nxm (0x0001/62) oxm (-) since 1;
    TunMetadata23 "tun_metadata23" [] 128 TunOption(23) >> 0 Hex Any None rw nxm (0x0001/63) oxm (-) since 1;
    TunMetadata24 "tun_metadata24" [] 128 TunOption(24) >> 0 Hex Any None rw nxm (0x0001/64) oxm (-) since 1;
    TunMetadata25 "tun_metadata25" [] 128 TunOption(25) >> 0 Hex Any None rw nxm (0x0001/65) oxm (-) since 1;
    TunMetadata26 "tun_metadata26" [] 128 TunOption(26) >> 0 Hex Any None rw nxm (0x0001/66) oxm (-) since 1;
    TunMetadata27 "tun_metadata27" [] 128 TunOption(27) >> 0 Hex Any None rw nxm (0x0001/67) oxm (-) since 1;
    TunMetadata28 "tun_metadata28" [] 128 TunOption(28) >> 0 Hex Any None rw nxm (0x0001/68) oxm (-) since 1;
    TunMetadata29 "tun_metadata29" [] 128 TunOption(29) >> 0 Hex Any None rw nxm (0x0001/69) oxm (-) since 1;
    TunMetadata30 "tun_metadata30" [] 128 TunOption(30) >> 0 Hex Any None rw nxm (0x0001/70) oxm (-) since 1;
    TunMetadata31 "tun_metadata31" [] 128 TunOption(31) >> 0 Hex Any None rw nxm (0x0001/71) oxm (-) since 1;
    TunMetadata32 "tun_metadata32" [] 128 TunOption(32) >> 0 Hex Any None rw nxm (0x0001/72) oxm (-) since 1;
    TunMetadata33 "tun_metadata33" [] 128 TunOption(33) >> 0 Hex Any None rw nxm (0x0001/73) oxm (-) since 1;
    TunMetadata34 "tun_metadata34" [] 128 TunOption(34) >> 0 Hex Any None rw nxm (0x0001/74) oxm (-) since 1;
    TunMetadata35 "tun_metadata35" [] 128 TunOption(35) >> 0 Hex Any None rw nxm (0x0001/75) oxm (-) since 1;
    TunMetadata36 "tun_metadata36" [] 128 TunOption(36) >> 0 Hex Any None rw nxm (0x0001/76) oxm (-) since 1;
    TunMetadata37 "tun_metadata37" [] 128 TunOption(37) >> 0 Hex Any None rw nxm (0x0001/77) oxm (-) since 1;
    TunMetadata38 "tun_metadata38" [] 128 TunOption(38) >> 0 Hex Any None rw nxm (0x0001/78) oxm (-) since 1;
    TunMetadata39 "tun_metadata39" [] 128 TunOption(39) >> 0 Hex Any None rw nxm (0x0001/79) oxm (-) since 1;
    TunMetadata40 "tun_metadata40" [] 128 TunOption(40) >> 0 Hex Any None rw nxm (0x0001/80) oxm (-) since 1;
    TunMetadata41 "tun_metadata41" [] 128 TunOption(41) >> 0 Hex Any None rw nxm (0x0001/81) oxm (-) since 1;
    TunMetadata42 "tun_metadata42" [] 128 TunOption(42) >> 0 Hex Any None rw nxm (0x0001/82) oxm (-) since 1;
    TunMetadata43 "tun_metadata43" [] 128 TunOption(43) >> 0 Hex Any None rw nxm (0x0001/83) oxm (-) since 1;
    TunMetadata44 "tun_metadata44" [] 128 TunOption(44) >> 0 Hex Any None rw nxm (0x0001/84) oxm (-) since 1;
    TunMetadata45 "tun_metadata45" [] 128 TunOption(45) >> 0 Hex Any None rw nxm (0x0001/85) oxm (-) since 1;
    TunMetadata46 "tun_metadata46" [] 128 TunOption(46) >> 0 Hex Any None rw nxm (0x0001/86) oxm (-) since 1;
    TunMetadata47 "tun_metadata47" [] 128 TunOption(47) >> 0 Hex Any None rw nxm (0x0001/87) oxm (-) since 1;
    TunMetadata48 "tun_metadata48" [] 128 TunOption(48) >> 0 Hex Any None rw nxm (0x0001/88) oxm (-) since 1;
    TunMetadata49 "tun_metadata49" [] 128 TunOption(49) >> 0 Hex Any None rw nxm (0x0001/89) oxm (-) since 1;
    TunMetadata50 "tun_metadata50" [] 128 TunOption(50) >> 0 Hex Any None rw nxm (0x0001/90) oxm (-) since 1;
    TunMetadata51 "tun_metadata51" [] 128 TunOption(51) >> 0 Hex Any None rw nxm (0x0001/91) oxm (-) since 1;
    TunMetadata52 "tun_metadata52" [] 128 TunOption(52) >> 0 Hex Any None rw nxm (0x0001/92) oxm (-) since 1;
    TunMetadata53 "tun_metadata53" [] 128 TunOption(53) >> 0 Hex Any None rw nxm (0x0001/93) oxm (-) since 1;
    TunMetadata54 "tun_metadata54" [] 128 TunOption(54) >> 0 Hex Any None rw nxm (0x0001/94) oxm (-) since 1;
    TunMetadata55 "tun_metadata55" [] 128 TunOption(55) >> 0 Hex Any None rw nxm (0x0001/95) oxm (-) since 1;
    TunMetadata56 "tun_metadata56" [] 128 TunOption(56) >> 0 Hex Any None rw nxm (0x0001/96) oxm (-) since 1;
    TunMetadata57 "tun_metadata57" [] 128 TunOption(57) >> 0 Hex Any None rw nxm (0x0001/97) oxm (-) since 1;
    TunMetadata58 "tun_metadata58" [] 128 TunOption(58) >> 0 Hex Any None rw nxm (0x0001/98) oxm (-) since 1;
    TunMetadata59 "tun_metadata59" [] 128 TunOption(59) >> 0 Hex Any None rw nxm (0x0001/99) oxm (-) since 1;
    TunMetadata60 "tun_metadata60" [] 128 TunOption(60) >> 0 Hex Any None rw nxm (0x0001/100) oxm (-) since 1;
    TunMetadata61 "tun_metadata61" [] 128 TunOption(61) >> 0 Hex Any None rw nxm (0x0001/101) oxm (-) since 1;
    TunMetadata62 "tun_metadata62" [] 128 TunOption(62) >> 0 Hex Any None rw nxm (0x0001/102) oxm (-) since 1;
    TunMetadata63 "tun_metadata63" [] 128 TunOption(63) >> 0 Hex Any None rw nxm (0x0001/103) oxm (-) since 1;
    Metadata "metadata" [] 64 Metadata >> 0 Hex Any None rw nxm (-) oxm (0x8000/2) since 2;
    InPort "in_port" ["in_port_oxm"] 32 InPort >> 0 Port Exact None rw nxm (0x0000/0) oxm (0x8000/0) since 1;
    InPhyPort "in_phy_port" [] 32 InPhyPort >> 0 Port Exact None ro nxm (-) oxm (0x8000/1) since 3;
    ActsetOutput "actset_output" [] 32 ActsetOutput >> 0 Port Exact None ro nxm (-) oxm (0x8000/43) since 6;
    PktMark "pkt_mark" [] 32 PktMark >> 0 Hex Any None rw nxm (0x0001/33) oxm (-) since 1;
    CtState "ct_state" [] 32 CtState >> 0 CtState Any None ro nxm (0x0001/105) oxm (-) since 1;
    CtZone "ct_zone" [] 16 CtZone >> 0 Decimal Exact None ro nxm (0x0001/106) oxm (-) since 1;
    CtMark "ct_mark" [] 32 CtMark >> 0 Hex Any None rw nxm (0x0001/107) oxm (-) since 1;
    CtLabel "ct_label" [] 128 CtLabel >> 0 Hex Any None rw nxm (0x0001/108) oxm (-) since 1;
    CtNwProto "ct_nw_proto" [] 8 CtNwProto >> 0 Decimal Exact Ct ro nxm (0x0001/119) oxm (-) since 1;
    CtNwSrc "ct_nw_src" [] 32 CtNwSrc >> 0 Ipv4 Any Ct ro nxm (0x0001/120) oxm (-) since 1;
    CtNwDst "ct_nw_dst" [] 32 CtNwDst >> 0 Ipv4 Any Ct ro nxm (0x0001/121) oxm (-) since 1;
    CtIpv6Src "ct_ipv6_src" [] 128 CtIpv6Src >> 0 Ipv6 Any Ct ro nxm (0x0001/122) oxm (-) since 1;
    CtIpv6Dst "ct_ipv6_dst" [] 128 CtIpv6Dst >> 0 Ipv6 Any Ct ro nxm (0x0001/123) oxm (-) since 1;
    CtTpSrc "ct_tp_src" [] 16 CtTpSrc >> 0 Decimal Any Ct ro nxm (0x0001/124) oxm (-) since 1;
    CtTpDst "ct_tp_dst" [] 16 CtTpDst >> 0 Decimal Any Ct ro nxm (0x0001/125) oxm (-) since 1;
    Reg0 "reg0" [] 32 Xxreg0 >> 96 Hex Any None rw nxm (0x0001/0) oxm (-) since 1;
    Reg1 "reg1" [] 32 Xxreg0 >> 64 Hex Any None rw nxm (0x0001/1) oxm (-) since 1;
    Reg2 "reg2" [] 32 Xxreg0 >> 32 Hex Any None rw nxm (0x0001/2) oxm (-) since 1;
    Reg3 "reg3" [] 32 Xxreg0 >> 0 Hex Any None rw nxm (0x0001/3) oxm (-) since 1;
    Reg4 "reg4" [] 32 Xxreg1 >> 96 Hex Any None rw nxm (0x0001/4) oxm (-) since 1;
    Reg5 "reg5" [] 32 Xxreg1 >> 64 Hex Any None rw nxm (0x0001/5) oxm (-) since 1;
    Reg6 "reg6" [] 32 Xxreg1 >> 32 Hex Any None rw nxm (0x0001/6) oxm (-) since 1;
    Reg7 "reg7" [] 32 Xxreg1 >> 0 Hex Any None rw nxm (0x0001/7) oxm (-) since 1;
    Reg8 "reg8" [] 32 Xxreg2 >> 96 Hex Any None rw nxm (0x0001/8) oxm (-) since 1;
    Reg9 "reg9" [] 32 Xxreg2 >> 64 Hex Any None rw nxm (0x0001/9) oxm (-) since 1;
    Reg10 "reg10" [] 32 Xxreg2 >> 32 Hex Any None rw nxm (0x0001/10) oxm (-) since 1;
    Reg11 "reg11" [] 32 Xxreg2 >> 0 Hex Any None rw nxm (0x0001/11) oxm (-) since 1;
    Reg12 "reg12" [] 32 Xxreg3 >> 96 Hex Any None rw nxm (0x0001/12) oxm (-) since 1;
    Reg13 "reg13" [] 32 Xxreg3 >> 64 Hex Any None rw nxm (0x0001/13) oxm (-) since 1;
    Reg14 "reg14" [] 32 Xxreg3 >> 32 Hex Any None rw nxm (0x0001/14) oxm (-) since 1;
    Reg15 "reg15" [] 32 Xxreg3 >> 0 Hex Any None rw nxm (0x0001/15) oxm (-) since 1;
    Xreg0 "xreg0" [] 64 Xxreg0 >> 64 Hex Any None rw nxm (-) oxm (0x8001/0) since 4;
    Xreg1 "xreg1" [] 64 Xxreg0 >> 0 Hex Any None rw nxm (-) oxm (0x8001/1) since 4;
    Xreg2 "xreg2" [] 64 Xxreg1 >> 64 Hex Any None rw nxm (-) oxm (0x8001/2) since 4;
    Xreg3 "xreg3" [] 64 Xxreg1 >> 0 Hex Any None rw nxm (-) oxm (0x8001/3) since 4;
    Xreg4 "xreg4" [] 64 Xxreg2 >> 64 Hex Any None rw nxm (-) oxm (0x8001/4) since 4;
    Xreg5 "xreg5" [] 64 Xxreg2 >> 0 Hex Any None rw nxm (-) oxm (0x8001/5) since 4;
    Xreg6 "xreg6" [] 64 Xxreg3 >> 64 Hex Any None rw nxm (-) oxm (0x8001/6) since 4;
    Xreg7 "xreg7" [] 64 Xxreg3 >> 0 Hex Any None rw nxm (-) oxm (0x8001/7) since 4;
    Xxreg0 "xxreg0" [] 128 Xxreg0 >> 0 Hex Any None rw nxm (0x0001/111) oxm (-) since 1;
    Xxreg1 "xxreg1" [] 128 Xxreg1 >> 0 Hex Any None rw nxm (0x0001/112) oxm (-) since 1;
    Xxreg2 "xxreg2" [] 128 Xxreg2 >> 0 Hex Any None rw nxm (0x0001/113) oxm (-) since 1;
    Xxreg3 "xxreg3" [] 128 Xxreg3 >> 0 Hex Any None rw nxm (0x0001/114) oxm (-) since 1;
    EthSrc "eth_src" ["dl_src"] 48 EthSrc >> 0 Ethernet Any None rw nxm (0x0000/2) oxm (0x8000/4) since 1;
    EthDst "eth_dst" ["dl_dst"] 48 EthDst >> 0 Ethernet Any None rw nxm (0x0000/1) oxm (0x8000/3) since 1;
    EthType "eth_type" ["dl_type"] 16 EthType >> 0 Hex Exact None ro nxm (0x0000/3) oxm (0x8000/5) since 1;
    VlanTci "vlan_tci" [] 16 VlanTci >> 0 Hex Any None rw nxm (0x0000/4) oxm (-) since 1;
    VlanVid "vlan_vid" [] 13 VlanTci >> 0 Decimal Any None rw nxm (-) oxm (0x8000/6) since 3;
    VlanPcp "vlan_pcp" ["dl_vlan_pcp"] 3 VlanTci >> 13 Decimal Exact Vlan rw nxm (-) oxm (0x8000/7) since 3;
    MplsLabel "mpls_label" [] 20 Mpls >> 12 Decimal Exact Mpls rw nxm (-) oxm (0x8000/34) since 2;
    MplsTc "mpls_tc" [] 3 Mpls >> 9 Decimal Exact Mpls rw nxm (-) oxm (0x8000/35) since 2;
    MplsBos "mpls_bos" [] 1 Mpls >> 8 Decimal Exact Mpls ro nxm (-) oxm (0x8000/36) since 4;
    MplsTtl "mpls_ttl" [] 8 Mpls >> 0 Decimal Exact Mpls rw nxm (0x0001/30) oxm (-) since 2;
    PbbIsid "pbb_isid" [] 24 PbbIsid >> 0 Decimal Any Pbb rw nxm (-) oxm (0x8000/37) since 4;
    PbbUca "pbb_uca" [] 1 PbbUca >> 0 Decimal Exact Pbb rw nxm (-) oxm (0x8000/41) since 5;
    Ipv4Src "ip_src" ["nw_src" "ipv4_src"] 32 NwSrc >> 0 Ipv4 Any Ipv4 rw nxm (0x0000/7) oxm (0x8000/11) since 1;
    Ipv4Dst "ip_dst" ["nw_dst" "ipv4_dst"] 32 NwDst >> 0 Ipv4 Any Ipv4 rw nxm (0x0000/8) oxm (0x8000/12) since 1;
    Ipv6Src "ipv6_src" [] 128 Ipv6Src >> 0 Ipv6 Any Ipv6 rw nxm (0x0001/19) oxm (0x8000/26) since 3;
    Ipv6Dst "ipv6_dst" [] 128 Ipv6Dst >> 0 Ipv6 Any Ipv6 rw nxm (0x0001/20) oxm (0x8000/27) since 3;
    Ipv6Label "ipv6_label" ["ipv6_flabel"] 20 Ipv6Label >> 0 Hex Any Ipv6 rw nxm (0x0001/27) oxm (0x8000/28) since 3;
    Ipv6Exthdr "ipv6_exthdr" [] 9 Ipv6Exthdr >> 0 Hex Any Ipv6 ro nxm (-) oxm (0x8000/39) since 4;
    IpProto "nw_proto" ["ip_proto"] 8 NwProto >> 0 Decimal Exact Ip ro nxm (0x0000/6) oxm (0x8000/10) since 1;
    NwTos "nw_tos" [] 8 NwTos >> 0 Decimal Exact Ip rw nxm (0x0000/5) oxm (-) since 1;
    IpDscp "ip_dscp" [] 6 NwTos >> 2 Decimal Exact Ip rw nxm (-) oxm (0x8000/8) since 3;
    IpEcn "nw_ecn" ["ip_ecn"] 2 NwTos >> 0 Decimal Exact Ip rw nxm (0x0001/28) oxm (0x8000/9) since 3;
    NwTtl "nw_ttl" [] 8 NwTtl >> 0 Decimal Exact Ip rw nxm (0x0001/29) oxm (-) since 1;
    IpFrag "ip_frag" ["nw_frag"] 2 NwFrag >> 0 Frag Any Ip ro nxm (0x0001/26) oxm (-) since 1;
    ArpOp "arp_op" [] 16 NwProto >> 0 Decimal Exact Arp rw nxm (0x0000/15) oxm (0x8000/21) since 1;
    ArpSpa "arp_spa" [] 32 NwSrc >> 0 Ipv4 Any Arp rw nxm (0x0000/16) oxm (0x8000/22) since 1;
    ArpTpa "arp_tpa" [] 32 NwDst >> 0 Ipv4 Any Arp rw nxm (0x0000/17) oxm (0x8000/23) since 1;
    ArpSha "arp_sha" [] 48 ArpSha >> 0 Ethernet Any Arp rw nxm (0x0001/17) oxm (0x8000/24) since 3;
    ArpTha "arp_tha" [] 48 ArpTha >> 0 Ethernet Any Arp rw nxm (0x0001/18) oxm (0x8000/25) since 3;
    TcpSrc "tcp_src" ["tp_src"] 16 TpSrc >> 0 Decimal Any Tcp rw nxm (0x0000/9) oxm (0x8000/13) since 1;
    TcpDst "tcp_dst" ["tp_dst"] 16 TpDst >> 0 Decimal Any Tcp rw nxm (0x0000/10) oxm (0x8000/14) since 1;
    TcpFlags "tcp_flags" [] 12 TcpFlags >> 0 TcpFlags Any Tcp ro nxm (0x0001/34) oxm (0x8000/42) since 6;
    UdpSrc "udp_src" [] 16 TpSrc >> 0 Decimal Any Udp rw nxm (0x0000/11) oxm (0x8000/15) since 1;
    UdpDst "udp_dst" [] 16 TpDst >> 0 Decimal Any Udp rw nxm (0x0000/12) oxm (0x8000/16) since 1;
    SctpSrc "sctp_src" [] 16 TpSrc >> 0 Decimal Any Sctp rw nxm (-) oxm (0x8000/17) since 2;
    SctpDst "sctp_dst" [] 16 TpDst >> 0 Decimal Any Sctp rw nxm (-) oxm (0x8000/18) since 2;
    Icmpv4Type "icmp_type" ["icmpv4_type"] 8 TpSrc >> 0 Decimal Exact Icmpv4 rw nxm (0x0000/13) oxm (0x8000/19) since 1;
    Icmpv4Code "icmp_code" ["icmpv4_code"] 8 TpDst >> 0 Decimal Exact Icmpv4 rw nxm (0x0000/14) oxm (0x8000/20) since 1;
    Icmpv6Type "icmpv6_type" [] 8 TpSrc >> 0 Decimal Exact Icmpv6 rw nxm (0x0001/21) oxm (0x8000/29) since 3;
    Icmpv6Code "icmpv6_code" [] 8 TpDst >> 0 Decimal Exact Icmpv6 rw nxm (0x0001/22) oxm (0x8000/30) since 3;
    NdTarget "nd_target" ["ipv6_nd_target"] 128 NdTarget >> 0 Ipv6 Any Nd rw nxm (0x0001/23) oxm (0x8000/31) since 3;
    NdSll "nd_sll" ["ipv6_nd_sll"] 48 ArpSha >> 0 Ethernet Any NdSolicit rw nxm (0x0001/24) oxm (0x8000/32) since 3;
    NdTll "nd_tll" ["ipv6_nd_tll"] 48 ArpTha >> 0 Ethernet Any NdAdvert rw nxm (0x0001/25) oxm (0x8000/33) since 3;
    NshFlags "nsh_flags" [] 8 NshFlags >> 0 Decimal Any Nsh rw nxm (exp 0x005a_d650/1) oxm (-) since 1;
    NshMdtype "nsh_mdtype" [] 8 NshMdtype >> 0 Decimal Exact Nsh ro nxm (exp 0x005a_d650/2) oxm (-) since 1;
    NshNp "nsh_np" [] 8 NshNp >> 0 Decimal Exact Nsh ro nxm (exp 0x005a_d650/3) oxm (-) since 1;
    NshSpi "nsh_spi" ["nsp"] 24 NshPath >> 8 Hex Exact Nsh rw nxm (exp 0x005a_d650/4) oxm (-) since 1;
    NshSi "nsh_si" ["nsi"] 8 NshPath >> 0 Decimal Exact Nsh rw nxm (exp 0x005a_d650/5) oxm (-) since 1;
    NshC1 "nsh_c1" ["nshc1"] 32 NshContext >> 96 Hex Any Nsh rw nxm (exp 0x005a_d650/6) oxm (-) since 1;
    NshC2 "nsh_c2" ["nshc2"] 32 NshContext >> 64 Hex Any Nsh rw nxm (exp 0x005a_d650/7) oxm (-) since 1;
    NshC3 "nsh_c3" ["nshc3"] 32 NshContext >> 32 Hex Any Nsh rw nxm (exp 0x005a_d650/8) oxm (-) since 1;
    NshC4 "nsh_c4" ["nshc4"] 32 NshContext >> 0 Hex Any Nsh rw nxm (exp 0x005a_d650/9) oxm (-) since 1;
    NshTtl "nsh_ttl" [] 8 NshTtl >> 0 Decimal Exact Nsh rw nxm (exp 0x005a_d650/10) oxm (-) since 1;
}

/// Nicira's experimenter number.
pub const NICIRA: u32 = 0x0000_2320;
/// The ONF's experimenter number.
pub const ONF: u32 = 0x4f4e_4600;
/// The experimenter number of the network service header's fields.
pub const NSH: u32 = 0x005a_d650;

/// Fields of 1.5's basic class that 1.3 and 1.4 know as experimenter fields of the ONF, under the same number.
const ONF_FIELDS: &[FieldId] = &[FieldId::TcpFlags, FieldId::ActsetOutput];

/// The classes that fields have codes in, with who their numbers are of.
const CLASSES: [(u16, u32); 7] = [
    (0x0000, 0),
    (0x0001, 0),
    (0x8000, 0),
    (0x8001, 0),
    (0xffff, NICIRA),
    (0xffff, NSH),
    (0xffff, ONF),
];

/// Fields by class (as in [`CLASSES`]) and number.
static BY_CODE: LazyLock<[[Option<FieldId>; 128]; CLASSES.len()]> = LazyLock::new(|| {
    let mut table = [[None; 128]; CLASSES.len()];
    for f in FIELDS {
        for code in [f.nxm, f.oxm, f.onf()].into_iter().flatten() {
            let at = (code.class, code.experimenter);
            let class = CLASSES.iter().position(|c| *c == at);
            let class = class.expect("every class of a field is listed");
            table[class][usize::from(code.field)] = Some(f.id);
        }
    }
    table
});

/// Fields by what people call them.
struct Index {
    names: HashMap<&'static str, FieldId>,
    formal: HashMap<String, FieldId>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut index = Index {
        names: HashMap::new(),
        formal: HashMap::new(),
    };
    for f in FIELDS {
        index.names.insert(f.name, f.id);
        index.names.extend(f.aliases.iter().map(|a| (*a, f.id)));
        index.formal.extend(f.nxm_name().map(|n| (n, f.id)));
        index.formal.extend(f.oxm_name().map(|n| (n, f.id)));
        if f.onf().is_some() {
            let name = format!("ONFOXM_ET_{}", f.name.to_ascii_uppercase());
            index.formal.insert(name, f.id);
        }
    }
    index
});

impl FieldId {
    /// The field's row.
    pub fn info(self) -> &'static FieldInfo {
        &FIELDS[self as usize]
    }

    /// Finds a field by its code, whoever's it is. (Messages are full of them: no search.)
    pub fn from_code(code: OxmCode) -> Option<FieldId> {
        let at = (code.class, code.experimenter);
        let class = CLASSES.iter().position(|c| *c == at)?;
        *BY_CODE[class].get(usize::from(code.field))?
    }

    /// Finds a field by its name or one of its other names.
    pub fn from_name(name: &str) -> Option<FieldId> {
        INDEX.names.get(name).copied()
    }

    /// Finds a field by the name that `nicira-ext.h` or the specification has for one of its codes, such as
    /// `NXM_OF_ETH_SRC` or `OXM_OF_ETH_SRC`.
    pub fn from_formal_name(name: &str) -> Option<FieldId> {
        INDEX.formal.get(name).copied()
    }
}

/// Formal names, behind their prefix, that are not the field's own in capitals: the field's name, Nicira's, the standard's.
const FORMAL: &[(&str, &str, &str)] = &[
    ("tun_id", "TUN_ID", "TUNNEL_ID"),
    ("tun_src", "TUN_IPV4_SRC", ""),
    ("tun_dst", "TUN_IPV4_DST", ""),
    ("ip_src", "IP_SRC", "IPV4_SRC"),
    ("ip_dst", "IP_DST", "IPV4_DST"),
    ("ipv6_label", "IPV6_LABEL", "IPV6_FLABEL"),
    ("nw_proto", "IP_PROTO", "IP_PROTO"),
    ("nw_tos", "IP_TOS", ""),
    ("nw_ttl", "IP_TTL", ""),
    ("nw_ecn", "IP_ECN", "IP_ECN"),
    ("icmp_type", "ICMP_TYPE", "ICMPV4_TYPE"),
    ("icmp_code", "ICMP_CODE", "ICMPV4_CODE"),
    ("nd_target", "ND_TARGET", "IPV6_ND_TARGET"),
    ("nd_sll", "ND_SLL", "IPV6_ND_SLL"),
    ("nd_tll", "ND_TLL", "IPV6_ND_TLL"),
];

impl FieldInfo {
    /// The ONF's experimenter code of OpenFlow 1.3 and 1.4, if the field has one.
    pub fn onf(&self) -> Option<OxmCode> {
        let code = self.oxm.filter(|_| ONF_FIELDS.contains(&self.id))?;
        Some(OxmCode {
            class: 0xffff,
            field: code.field,
            experimenter: ONF,
        })
    }

    /// Whether it is a tunnel option, whose value has as many bytes on the wire as it needs.
    pub const fn is_option(&self) -> bool {
        matches!(self.slot, Slot::TunOption(_))
    }

    /// The name that Nicira's codes have in `nicira-ext.h`, such as `NXM_OF_ETH_SRC`.
    pub fn nxm_name(&self) -> Option<String> {
        let code = self.nxm?;
        let (prefix, drop) = match (code.class, code.experimenter) {
            (0, _) => ("NXM_OF_", ""),
            (_, 0) => ("NXM_NX_", ""),
            (_, NSH) => ("NXOXM_NSH_", "nsh_"),
            _ => ("NXOXM_ET_", "tun_"),
        };
        let own = self.name.strip_prefix(drop).unwrap_or(self.name);
        let special = FORMAL.iter().find(|f| f.0 == self.name);
        Some(special.map_or_else(
            || format!("{prefix}{}", own.to_ascii_uppercase()),
            |f| format!("{prefix}{}", f.1),
        ))
    }

    /// The name that the standard's code has in the specification, such as `OXM_OF_ETH_SRC`.
    pub fn oxm_name(&self) -> Option<String> {
        self.oxm?;
        if let Some(n) = self.name.strip_prefix("xreg") {
            return Some(format!("OXM_OF_PKT_REG{n}"));
        }
        let special = FORMAL.iter().find(|f| f.0 == self.name);
        Some(special.map_or_else(
            || format!("OXM_OF_{}", self.name.to_ascii_uppercase()),
            |f| format!("OXM_OF_{}", f.2),
        ))
    }

    /// All ones in the field's own width.
    pub const fn full_mask(&self) -> u128 {
        if self.bits == 128 {
            u128::MAX
        } else {
            (1 << self.bits) - 1
        }
    }

    /// All the bits that a match or an action can hold of the field. Of Nicira's whole TOS byte these are the DSCP's; of
    /// the standard's two bytes of an ARP opcode, those that the key has.
    pub const fn exact_mask(&self) -> u128 {
        match self.id {
            FieldId::NwTos => 0xfc,
            FieldId::ArpOp => 0xff,
            _ => self.full_mask(),
        }
    }

    /// Bytes on the wire: the width rounded up to 8, 16, 24 (PBB's I-SID alone), 32, 48, 64 or 128
    /// bits.
    pub const fn bytes(&self) -> usize {
        match self.bits {
            // Tunnel flags are 16 bits, of which one is known.
            1 if matches!(self.format, Format::TunnelFlags) => 2,
            17..=23 => 4,
            // NSH's path id has 32 bits on the wire, PBB's I-SID 24.
            24 if self.oxm.is_none() => 4,
            n => n.div_ceil(8) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_codes_are_unique_and_fields_fit_their_slots() {
        let mut names = HashSet::new();
        let mut codes = HashSet::new();
        for (i, f) in FIELDS.iter().enumerate() {
            assert_eq!(f.id as usize, i);
            for code in f.oxm.iter().chain(&f.nxm) {
                assert_eq!(FieldId::from_code(*code), Some(f.id), "{code:?}");
            }
            assert!(names.insert(f.name), "{} twice", f.name);
            for a in f.aliases {
                assert!(names.insert(a), "{a} twice");
            }
            for c in [f.nxm, f.oxm].into_iter().flatten() {
                assert!(codes.insert(c), "{c:?} twice");
            }
            assert!(
                f.bits + u16::from(f.shift) <= f.slot.bits().max(16),
                "{} does not fit",
                f.name
            );
        }
    }
}
