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
        }
    }
}

/// An OXM or NXM type: class and field number (OpenFlow 1.3.5 7.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OxmCode {
    /// `oxm_class`: 0x0000 and 0x0001 are Nicira's, 0x8000 the basic class, 0x8001 packet registers.
    pub class: u16,
    /// `oxm_field`, 7 bits.
    pub field: u8,
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
        #[repr(u8)]
        pub enum Slot { $($(#[$doc])* $slot,)* }

        impl Slot {
            /// Every slot, in key order.
            pub const ALL: &'static [Slot] = &[$(Slot::$slot,)*];

            /// Width in bits: 8, 16, 32, 48, 64 or 128.
            pub const fn bits(self) -> u16 {
                match self { $(Slot::$slot => $bits,)* }
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
    /// Reserved, zero.
    TunPad = 8;
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
        })
    };
}

macro_rules! fields {
    ($($id:ident $name:literal [$($alias:literal)*] $bits:literal $slot:ident >> $shift:literal
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
            slot: Slot::$slot,
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
    TunFlags "tun_flags" [] 16 TunFlags >> 0 TunnelFlags Any None rw nxm (0x0001/104) oxm (-) since 1;
    TunGbpId "tun_gbp_id" [] 16 TunGbpId >> 0 Decimal Any None rw nxm (0x0001/38) oxm (-) since 1;
    TunGbpFlags "tun_gbp_flags" [] 8 TunGbpFlags >> 0 Hex Any None rw nxm (0x0001/39) oxm (-) since 1;
    Metadata "metadata" [] 64 Metadata >> 0 Hex Any None rw nxm (-) oxm (0x8000/2) since 2;
    InPort "in_port" [] 32 InPort >> 0 Port Exact None rw nxm (0x0000/0) oxm (0x8000/0) since 1;
    InPhyPort "in_phy_port" [] 32 InPhyPort >> 0 Port Exact None ro nxm (-) oxm (0x8000/1) since 3;
    ActsetOutput "actset_output" [] 32 ActsetOutput >> 0 Port Exact None ro nxm (-) oxm (0x8000/43) since 6;
    PktMark "pkt_mark" [] 32 PktMark >> 0 Hex Any None rw nxm (0x0001/33) oxm (-) since 1;
    CtState "ct_state" [] 32 CtState >> 0 CtState Any None ro nxm (0x0001/105) oxm (-) since 1;
    CtZone "ct_zone" [] 16 CtZone >> 0 Decimal Exact None ro nxm (0x0001/106) oxm (-) since 1;
    CtMark "ct_mark" [] 32 CtMark >> 0 Hex Any None rw nxm (0x0001/107) oxm (-) since 1;
    CtLabel "ct_label" [] 128 CtLabel >> 0 Hex Any None rw nxm (0x0001/108) oxm (-) since 1;
    CtNwProto "ct_nw_proto" [] 8 CtNwProto >> 0 Decimal Exact None ro nxm (0x0001/119) oxm (-) since 1;
    CtNwSrc "ct_nw_src" [] 32 CtNwSrc >> 0 Ipv4 Any None ro nxm (0x0001/120) oxm (-) since 1;
    CtNwDst "ct_nw_dst" [] 32 CtNwDst >> 0 Ipv4 Any None ro nxm (0x0001/121) oxm (-) since 1;
    CtIpv6Src "ct_ipv6_src" [] 128 CtIpv6Src >> 0 Ipv6 Any None ro nxm (0x0001/122) oxm (-) since 1;
    CtIpv6Dst "ct_ipv6_dst" [] 128 CtIpv6Dst >> 0 Ipv6 Any None ro nxm (0x0001/123) oxm (-) since 1;
    CtTpSrc "ct_tp_src" [] 16 CtTpSrc >> 0 Decimal Any None ro nxm (0x0001/124) oxm (-) since 1;
    CtTpDst "ct_tp_dst" [] 16 CtTpDst >> 0 Decimal Any None ro nxm (0x0001/125) oxm (-) since 1;
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
}

/// The classes that fields have codes in.
const CLASSES: [u16; 4] = [0x0000, 0x0001, 0x8000, 0x8001];

/// Fields by class (as in [`CLASSES`]) and number.
static BY_CODE: LazyLock<[[Option<FieldId>; 128]; CLASSES.len()]> = LazyLock::new(|| {
    let mut table = [[None; 128]; CLASSES.len()];
    for f in FIELDS {
        for code in f.oxm.iter().chain(&f.nxm) {
            if let Some(class) = CLASSES.iter().position(|c| *c == code.class) {
                table[class][usize::from(code.field)] = Some(f.id);
            }
        }
    }
    table
});

impl FieldId {
    /// The field's row.
    pub fn info(self) -> &'static FieldInfo {
        &FIELDS[self as usize]
    }

    /// Finds a field by its code, the standard's or Nicira's. (Messages are full of them: no search.)
    pub fn from_code(code: OxmCode) -> Option<FieldId> {
        let class = CLASSES.iter().position(|c| *c == code.class)?;
        *BY_CODE[class].get(usize::from(code.field))?
    }

    /// Finds a field by its name or one of its other names.
    pub fn from_name(name: &str) -> Option<FieldId> {
        FIELDS
            .iter()
            .find(|f| f.name == name || f.aliases.contains(&name))
            .map(|f| f.id)
    }
}

impl FieldInfo {
    /// All ones in the field's own width.
    pub const fn full_mask(&self) -> u128 {
        if self.bits == 128 {
            u128::MAX
        } else {
            (1 << self.bits) - 1
        }
    }

    /// Bytes on the wire: the width rounded up to 8, 16, 24 (PBB's I-SID alone), 32, 48, 64 or 128
    /// bits.
    pub const fn bytes(&self) -> usize {
        match self.bits {
            17..=23 => 4,
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
