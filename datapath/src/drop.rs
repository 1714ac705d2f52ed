//! Why packets are dropped: the one table of reasons.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $id:ident = $name:literal;)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])* $id,)* }

        impl DropReason {
            /// Every reason.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$id,)*];

            /// Its name in statistics.
            pub fn name(self) -> &'static str {
                match self { $(DropReason::$id => $name,)* }
            }
        }
    };
}

reasons! {
    /// No rule matched, and the bridge drops such packets.
    NoMatch = "no_match";
    /// The rules that matched send it nowhere.
    NoOutput = "no_output";
    /// The port it came in by is down or set not to receive.
    PortNoRecv = "port_no_recv";
    /// The port it was to go out of is down, set not to forward, or gone.
    PortNoForward = "port_no_forward";
    /// The port it came in by is reserved for mirrors.
    MirrorOutput = "mirror_output_port";
    /// It would go back to where it came from.
    ToInputPort = "to_input_port";
    /// A tagged frame came in by an access port.
    VlanTagOnAccess = "vlan_tag_on_access_port";
    /// A trunk does not carry the frame's VLAN.
    VlanNotOnTrunk = "vlan_not_on_trunk";
    /// A dot1q-tunnel does not carry the customer's VLAN.
    CvlanNotCarried = "cvlan_not_carried";
    /// What says that there is a VLAN tag is the last of the frame.
    PartialVlanTag = "partial_vlan_tag";
    /// Protected ports do not talk to one another.
    Protected = "protected_ports";
    /// Addresses of protocols between neighbours (01:80:c2:00:00:0x and others) are not forwarded.
    ReservedMulticast = "reserved_multicast";
    /// Resubmits or patch ports nest too deep.
    TooDeep = "too_deep";
    /// Too many resubmits in all.
    TooManyResubmits = "too_many_resubmits";
    /// Too many actions in all.
    TooManyActions = "too_many_actions";
    /// No bucket of a group, and no port of a bundle, is live.
    NoLiveBucket = "no_live_bucket";
    /// More came in by its port than `ingress_policing_*` lets pass.
    IngressPolicing = "ingress_policing";
    /// More broadcast than storm control lets pass.
    StormBroadcast = "storm_broadcast";
    /// More multicast than storm control lets pass.
    StormMulticast = "storm_multicast";
    /// More unicast to unknown destinations than storm control lets pass.
    StormUnknownUnicast = "storm_unknown_unicast";
    /// It came from an Ethernet address that is not its port's (`guard-macs`).
    SpoofedMac = "spoofed_mac";
    /// It came from a network address that is not its port's (`guard-addresses`).
    SpoofedAddress = "spoofed_address";
    /// It was for others than who is behind the port it was to go out of (`guard-direction`).
    GuardEgress = "guard_egress";
    /// A meter dropped it.
    Meter = "meter";
    /// IP fragments are dropped.
    Fragment = "fragment";
    /// It has no Ethernet header, or none that can be taken off or put on.
    PacketType = "packet_type";
    /// The TTL ran out.
    TtlExpired = "ttl_expired";
    /// The destination had no room.
    TxFull = "tx_full";
    /// The packet is longer than the destination carries.
    TxTooLong = "tx_too_long";
    /// The destination has no receiver.
    TxDown = "tx_down";
    /// Another thread was sending to the destination for too long.
    TxBusy = "tx_busy";
    /// The destination failed.
    TxError = "tx_error";
    /// The queue of the port it was to leave by was full.
    QueueFull = "queue_full";
    /// It waited too long in a queue that drops such packets, or was lost on purpose there.
    QueueDelay = "queue_delay";
    /// It was above the rate that the port may send at.
    EgressPolicer = "egress_policer";
    /// No room before the headers for another tag.
    NoHeadroom = "no_headroom";
    /// More packet-ins than the controller takes from this port.
    PacketInLimit = "packet_in_limit";
    /// More packet-outs than the switch takes.
    PacketOutLimit = "packet_out_limit";
    /// The packet ends before its tunnel's headers do.
    TunnelTruncated = "tunnel_truncated";
    /// A tunnel's header has a version or flags that are not to be.
    TunnelHeader = "tunnel_header";
    /// The checksum of a tunnel's header is wrong.
    TunnelChecksum = "tunnel_checksum";
    /// What is inside a tunnel is of no known protocol.
    TunnelProtocol = "tunnel_protocol";
    /// The options of a tunnel's header are malformed, or one that must be understood is not.
    TunnelOption = "tunnel_option";
    /// Longer than the way out of the tunnel carries.
    TunnelMtu = "tunnel_mtu";
    /// No route leads to the other end of a tunnel, or nobody says where that is.
    TunnelRoute = "tunnel_no_route";
    /// The Ethernet address of a tunnel's next hop is not known yet.
    TunnelNeighbour = "tunnel_no_neighbour";
    /// The host has no socket for the tunnel.
    TunnelSocket = "tunnel_no_socket";
    /// The tunnel leads back to itself.
    TunnelLoop = "tunnel_loop";
    /// No tunnel port is for such packets.
    TunnelPort = "tunnel_no_port";
    /// It met congestion on its way, and does not know what that means (RFC 6040 4.2).
    TunnelCongestion = "tunnel_congestion";
}

/// How many reasons there are.
const REASONS: usize = DropReason::ALL.len();

/// Something of each reason, in the order of [`DropReason::ALL`].
#[derive(Clone, Copy, Debug)]
pub struct ByReason<T>([T; REASONS]);

impl<T: Default> Default for ByReason<T> {
    fn default() -> ByReason<T> {
        ByReason(std::array::from_fn(|_| T::default()))
    }
}

impl<T> std::ops::Index<DropReason> for ByReason<T> {
    type Output = T;

    #[inline]
    fn index(&self, reason: DropReason) -> &T {
        &self.0[reason as usize]
    }
}

impl<T> std::ops::IndexMut<DropReason> for ByReason<T> {
    #[inline]
    fn index_mut(&mut self, reason: DropReason) -> &mut T {
        &mut self.0[reason as usize]
    }
}

impl<T> ByReason<T> {
    /// One after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}
