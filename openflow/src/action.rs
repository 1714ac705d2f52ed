//! Actions and instructions, independent of any protocol version.

use crate::field::FieldId;
use crate::matching::Match;
use crate::message::PortNo;
use bytes::Bytes;

/// A run of bits of a field: `NXM_OF_VLAN_TCI[0..11]`, `reg0[16..31]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subfield {
    /// The field.
    pub field: FieldId,
    /// Lowest bit.
    pub offset: u8,
    /// Number of bits, at least one.
    pub bits: u8,
}

impl Subfield {
    /// All of a field.
    pub fn whole(field: FieldId) -> Subfield {
        Subfield {
            field,
            offset: 0,
            bits: field.info().bits as u8,
        }
    }
}

/// Why a packet goes to a controller (OpenFlow 1.3.5 7.4.1; numbers as on the wire).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PacketInReason {
    /// No rule matched (the table-miss rule).
    NoMatch,
    /// A rule sent it.
    #[default]
    Action,
    /// The TTL ran out.
    InvalidTtl,
    /// An action set sent it (1.4 and later).
    ActionSet,
    /// A group bucket sent it (1.4 and later).
    Group,
    /// A packet-out sent it (1.4 and later).
    PacketOut,
}

/// How fields become a number (`nx_hash_fields`), for [`Multipath`] and [`Spread`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashFields {
    /// The Ethernet source.
    EthSrc,
    /// Layers 2 to 4, each direction of a connection alike.
    SymmetricL4,
    /// TCP and UDP ports and addresses, each direction alike.
    SymmetricL3L4,
    /// The same, with UDP ports too.
    SymmetricL3L4Udp,
    /// The network source.
    NwSrc,
    /// The network destination.
    NwDst,
    /// Network addresses, each direction alike.
    SymmetricL3,
}

/// Nicira's multipath: a link number, chosen by hash, into a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Multipath {
    /// What is hashed.
    pub fields: HashFields,
    /// Added to the hash.
    pub basis: u16,
    /// How the hash becomes a link.
    pub algorithm: MultipathAlgorithm,
    /// The highest link number, `n_links - 1`.
    pub max_link: u16,
    /// Argument of [`MultipathAlgorithm::IterHash`].
    pub arg: u32,
    /// Where the link number goes.
    pub target: Subfield,
}

/// `nx_mp_algorithm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "Nicira's names")]
pub enum MultipathAlgorithm {
    ModuloN,
    HashThreshold,
    /// Highest random weight.
    Hrw,
    IterHash,
}

/// Nicira's bundle and bundle_load: one port of several, chosen among those that are up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spread {
    /// What is hashed.
    pub fields: HashFields,
    /// Added to the hash.
    pub basis: u16,
    /// The first port that is up (`active_backup`), or highest random weight among those.
    pub active_backup: bool,
    /// The ports.
    pub ports: Vec<PortNo>,
    /// `bundle_load` writes the port's number here; `bundle` sends to it.
    pub target: Option<Subfield>,
}

/// Nicira's learn: the packet makes a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learn {
    /// Of the rule made.
    pub idle_timeout: u16,
    /// Of the rule made.
    pub hard_timeout: u16,
    /// Of the rule made.
    pub priority: u16,
    /// Of the rule made.
    pub cookie: u64,
    /// `send_flow_rem` of the rule made.
    pub send_flow_rem: bool,
    /// When the rule with this action goes, those that it made go.
    pub delete_learned: bool,
    /// Its table.
    pub table: u8,
    /// A FIN or RST shortens the idle timeout to this.
    pub fin_idle_timeout: u16,
    /// A FIN or RST shortens the hard timeout to this.
    pub fin_hard_timeout: u16,
    /// At most so many rules made by this action (rules with its cookie in its table); 0 for no limit.
    pub limit: u32,
    /// One bit that says whether the rule was made, below the limit.
    pub result: Option<Subfield>,
    /// What the rule matches and does.
    pub specs: Vec<LearnSpec>,
}

/// One piece of a learned rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LearnSpec {
    /// Where the bits come from.
    pub source: LearnSource,
    /// Where they go.
    pub target: LearnTarget,
}

/// Where bits of a learned rule come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "said above")]
pub enum LearnSource {
    /// The packet.
    Field(Subfield),
    /// A constant of so many bits.
    Value { value: u128, bits: u8 },
}

/// Where bits of a learned rule go. (An output's source is as wide as a port number.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LearnTarget {
    /// Its match.
    Match(Subfield),
    /// An action that loads them.
    Load(Subfield),
    /// An action that outputs to the port of that number.
    Output,
}

/// Nicira's ct: connection tracking.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conntrack {
    /// `NX_CT_F_COMMIT`.
    pub commit: bool,
    /// `NX_CT_F_FORCE`.
    pub force: bool,
    /// The zone, a number or bits of a field.
    pub zone: ConntrackZone,
    /// The table in which a tracked copy goes on.
    pub table: Option<u8>,
    /// Application layer gateway by its port: 21 FTP, 69 TFTP.
    pub alg: u16,
    /// `nat` and sets of `ct_mark` and `ct_label`.
    pub actions: Vec<Action>,
}

/// A [`Conntrack`]'s zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "said above")]
pub enum ConntrackZone {
    Number(u16),
    Field(Subfield),
}

/// Nicira's nat, inside a ct.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Nat {
    /// Translate the source.
    pub src: bool,
    /// Translate the destination.
    pub dst: bool,
    /// `NX_NAT_F_PERSISTENT`.
    pub persistent: bool,
    /// `NX_NAT_F_PROTO_HASH`.
    pub hash: bool,
    /// `NX_NAT_F_PROTO_RANDOM`.
    pub random: bool,
    /// First and, if given, last address.
    pub addresses: Option<(std::net::IpAddr, Option<std::net::IpAddr>)>,
    /// First and, if given, last port.
    pub ports: Option<(u16, Option<u16>)>,
}

/// Nicira's sample: every so manieth packet is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sample {
    /// Of 65536.
    pub probability: u16,
    /// `Flow_Sample_Collector_Set` id.
    pub collector_set: u32,
    /// IPFIX observation domain.
    pub obs_domain: u32,
    /// IPFIX observation point.
    pub obs_point: u32,
    /// The port sampled, if said.
    pub sampling_port: Option<PortNo>,
    /// Which way.
    pub direction: SampleDirection,
}

/// `nx_action_sample_direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "Nicira's names")]
pub enum SampleDirection {
    Default,
    Ingress,
    Egress,
}

/// What a generic encap puts on: a packet type (namespace and type), and properties by class and type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Encap {
    /// Namespace in the high half: 0 is Ethernet itself, 1 Ethernet types.
    pub packet_type: u32,
    /// Bytes of the new header, 0 for the type's own.
    pub header_size: u16,
    /// Properties: class, type, value.
    pub properties: Vec<(u16, u8, Bytes)>,
}

/// One action. What a version cannot express is an error of that version's encoder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Send out of a port, real or reserved. `max_len` counts for [`PortNo::CONTROLLER`] alone.
    #[allow(missing_docs, reason = "said above")]
    Output { port: PortNo, max_len: u16 },
    /// Send to the port whose number a field holds.
    #[allow(missing_docs, reason = "said above")]
    OutputReg { source: Subfield, max_len: u16 },
    /// Nicira's controller action.
    #[allow(missing_docs, reason = "said above")]
    Controller {
        max_len: u16,
        reason: PacketInReason,
        id: u16,
        userdata: Bytes,
        pause: bool,
        /// Meter that limits them.
        meter: Option<u32>,
    },
    /// Send to a port no more than the packet's first bytes (Nicira's output_trunc).
    #[allow(missing_docs, reason = "said above")]
    OutputTrunc { port: PortNo, max_len: u32 },
    /// Output, on a given queue (OpenFlow 1.0).
    #[allow(missing_docs, reason = "said above")]
    Enqueue { port: PortNo, queue: u32 },
    /// Choose the queue for later outputs.
    SetQueue(u32),
    /// Back to the default queue.
    PopQueue,
    /// Run a group.
    Group(u32),
    /// Go through a meter (an action from OpenFlow 1.5 on; before, the instruction).
    Meter(u32),
    /// Write bits of a field: `value` under `mask`, in the field's own width. Covers set_field and
    /// Nicira's load, and OpenFlow 1.0's `mod_*` apart from the VLAN ones.
    #[allow(missing_docs, reason = "said above")]
    SetField {
        field: FieldId,
        value: u128,
        mask: u128,
    },
    /// Nicira's reg_load: write the low bits of `value` to a run of bits. Does what a
    /// [`Action::SetField`] with a mask does, but is written back as it came (`load:`).
    #[allow(missing_docs, reason = "said above")]
    Load { target: Subfield, value: u64 },
    /// Copy bits between fields.
    #[allow(missing_docs, reason = "said above")]
    Move { source: Subfield, target: Subfield },
    /// Set the VLAN id, adding a tag if there is none (`mod_vlan_vid`).
    SetVlanVid(u16),
    /// Set the VLAN priority, adding a tag if there is none (`mod_vlan_pcp`).
    SetVlanPcp(u8),
    /// Take the outermost VLAN tag off, if there is one.
    PopVlan,
    /// Put a VLAN tag of this Ethernet type on: 0x8100 or 0x88a8.
    PushVlan(u16),
    /// Put an MPLS label stack entry on: 0x8847 or 0x8848.
    PushMpls(u16),
    /// Take one off; the packet becomes this Ethernet type.
    PopMpls(u16),
    /// Put a PBB service tag on: 0x88e7.
    PushPbb(u16),
    /// Take it off.
    PopPbb,
    /// Set the tunnel key; `wide` in the form with 64 bits. Written back as it came.
    #[allow(missing_docs, reason = "said above")]
    SetTunnel { id: u64, wide: bool },
    /// Decrement the IP TTL; at zero the packet goes to these controller ids (0: the usual ones).
    DecTtl(Vec<u16>),
    /// Decrement the MPLS TTL.
    DecMplsTtl,
    /// Decrement the NSH TTL.
    DecNshTtl,
    /// Copy the TTL from the next-outermost header to the outermost.
    CopyTtlOut,
    /// Copy the TTL from the outermost header to the next-outermost.
    CopyTtlIn,
    /// Look the packet up again: in `table` (or the current one), as if it came in by `in_port` (or
    /// where it did), and come back.
    #[allow(missing_docs, reason = "said above")]
    Resubmit {
        in_port: Option<PortNo>,
        table: Option<u8>,
        ct: bool,
    },
    /// Leave the pipeline now.
    Exit,
    /// Bytes for people, no effect.
    Note(Bytes),
    /// Make a rule.
    Learn(Box<Learn>),
    /// Choose a link.
    Multipath(Box<Multipath>),
    /// Choose a port.
    Bundle(Box<Spread>),
    /// Put bits of a field on the stack.
    Push(Subfield),
    /// Take bits from the stack.
    Pop(Subfield),
    /// FIN and RST shorten the rule's timeouts to these.
    #[allow(missing_docs, reason = "said above")]
    FinTimeout { idle: u16, hard: u16 },
    /// Tell of some packets.
    Sample(Sample),
    /// The rule is clause `clause` (from 0) of `clauses` of a conjunction.
    #[allow(missing_docs, reason = "said above")]
    Conjunction { id: u32, clause: u8, clauses: u8 },
    /// Track the connection.
    Ct(Box<Conntrack>),
    /// Forget what tracking said.
    CtClear,
    /// Translate addresses, in [`Conntrack::actions`] alone.
    Nat(Box<Nat>),
    /// Do these to a copy.
    Clone(Vec<Action>),
    /// Whether the packet (without FCS) is longer than `len`, into one bit.
    #[allow(missing_docs, reason = "said above")]
    CheckPktLarger { len: u16, target: Subfield },
    /// Take a tunnel option away.
    DeleteField(FieldId),
    /// Put a header on.
    Encap(Box<Encap>),
    /// Take the outer header off; the rest becomes this packet type if it is said.
    Decap(Option<u32>),
}

impl Action {
    /// For a [`Action::Load`] the same as value and mask in the field's own width.
    pub fn load_as_masked(target: Subfield, value: u64) -> (u128, u128) {
        let ones = if target.bits >= 128 {
            u128::MAX
        } else {
            (1 << target.bits) - 1
        };
        let mask = ones << target.offset;
        ((u128::from(value) << target.offset) & mask, mask)
    }
}

/// What a rule does (OpenFlow 1.3.5 5.9), in the order in which it is carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Instructions {
    /// Meter first.
    pub meter: Option<u32>,
    /// Carried out at once.
    pub apply: Vec<Action>,
    /// Empty the action set.
    pub clear_actions: bool,
    /// Merged into the action set.
    pub write: Vec<Action>,
    /// New metadata bits: value and mask.
    pub metadata: Option<(u64, u64)>,
    /// The next table; none ends the pipeline and runs the action set.
    pub goto_table: Option<u8>,
    /// Tell of the flow's statistics when they pass thresholds (OpenFlow 1.5.1 5.9).
    pub stat_trigger: Option<Box<StatTrigger>>,
}

/// When a flow's statistics are told of (OpenFlow 1.5.1 7.2.4): all zero thresholds are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatTrigger {
    /// Each time another threshold's worth was counted.
    pub periodic: bool,
    /// Only the first.
    pub only_first: bool,
    /// Age in seconds.
    pub duration: u32,
    /// Seconds without a packet.
    pub idle: u32,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Instructions {
    /// Only apply-actions: all that OpenFlow 1.0 knows. No actions drop the packet.
    pub fn apply(actions: Vec<Action>) -> Instructions {
        Instructions {
            apply: actions,
            ..Instructions::default()
        }
    }

    /// Whether a port (or group) is the target of some output among apply and write actions, for
    /// the `out_port` and `out_group` filters.
    pub fn outputs_to(&self, port: PortNo) -> bool {
        self.has(|a| match a {
            Action::Output { port: p, .. }
            | Action::OutputTrunc { port: p, .. }
            | Action::Enqueue { port: p, .. } => *p == port,
            Action::Controller { .. } => port == PortNo::CONTROLLER,
            _ => false,
        })
    }

    /// Whether some apply or write action runs this group.
    pub fn uses_group(&self, group: u32) -> bool {
        self.has(|a| *a == Action::Group(group))
    }

    /// Whether some apply or write action is such, or one inside of another.
    fn has(&self, such: impl Fn(&Action) -> bool) -> bool {
        let mut any = false;
        let mut look = |a: &Action| any |= such(a);
        each_action(&self.apply, &mut look);
        each_action(&self.write, &mut look);
        any
    }
}

/// Makes writes of TCP's ports writes of the ports that packets of `m` have: the actions before set_field name no protocol.
pub(crate) fn fit_ports(actions: &mut [Action], m: &Match) {
    use crate::field::Prereq;
    for a in actions {
        match a {
            Action::SetField { field, .. } => {
                *field = match *field {
                    FieldId::TcpSrc if m.meets(Prereq::Udp) => FieldId::UdpSrc,
                    FieldId::TcpDst if m.meets(Prereq::Udp) => FieldId::UdpDst,
                    FieldId::TcpSrc if m.meets(Prereq::Sctp) => FieldId::SctpSrc,
                    FieldId::TcpDst if m.meets(Prereq::Sctp) => FieldId::SctpDst,
                    f => f,
                };
            }
            Action::Clone(inside) => fit_ports(inside, m),
            _ => {}
        }
    }
}

/// How deep actions may stand inside of others (clone, ct), in bytes and in text.
pub const MAX_NESTING: usize = 100;

/// How many ports a [`Spread`] may have.
pub const BUNDLE_PORTS_MAX: usize = 2048;

/// The loads that write what a set_field writes, for versions whose set_field takes no mask or that have none: one for each
/// run of bits, of at most 64. Experimenters' fields and tunnel options cannot be loaded: their set_field stays.
pub(crate) fn loads(field: FieldId, value: u128, mask: u128) -> Vec<Action> {
    let info = field.info();
    let named = info.nxm.or(info.oxm);
    if info.is_option() || named.is_some_and(|c| c.experimenter != 0) {
        return vec![Action::SetField { field, value, mask }];
    }
    // Of a port number, Nicira's in_port has the low half.
    let mask = match field {
        FieldId::InPort => mask & 0xffff,
        _ => mask,
    };
    let mut out = Vec::new();
    let mut at = 0;
    while at < 128 && mask >> at != 0 {
        at += (mask >> at).trailing_zeros();
        let bits = (mask >> at).trailing_ones().min(64);
        out.push(Action::Load {
            target: Subfield {
                field,
                offset: at as u8,
                bits: bits as u8,
            },
            value: (value >> at) as u64 & (u64::MAX >> (64 - bits)),
        });
        at += bits;
    }
    out
}
/// Calls `f` with every action of a list, and with those inside of others.
pub fn each_action(list: &[Action], f: &mut dyn FnMut(&Action)) {
    for a in list {
        f(a);
        match a {
            Action::Clone(inner) => each_action(inner, f),
            Action::Ct(ct) => each_action(&ct.actions, f),
            _ => {}
        }
    }
}
