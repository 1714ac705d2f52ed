//! What the database asks for: the `QoS` and `Queue` tables, read and checked (ovs-vswitchd.conf.db(5)).

use super::htb::ClassRates;
use std::collections::BTreeMap;

/// The types there are, by the names they have in the database.
pub const TYPES: &[&str] = &[
    "egress-policer",
    "linux-codel",
    "linux-fq_codel",
    "linux-hfsc",
    "linux-htb",
    "linux-netem",
    "linux-noop",
    "linux-sfq",
    "trtcm-policer",
];

/// Queues are numbered below this where a type has queues (`linux-htb`, `linux-hfsc`; ovs-vswitchd.conf.db(5)).
pub const QUEUES_MAX: u32 = 61_440;
/// The rate of a device that does not tell: 10 Gbit/s.
pub const DEFAULT_RATE: u64 = 10_000_000_000;
/// What may come on top of the MTU: Ethernet header and tags.
const HEADERS: u32 = 64;

/// Quality of service of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QosSpec {
    /// How packets are treated.
    pub discipline: Discipline,
    /// The queues, by number. Queue 0 is always there.
    pub queues: BTreeMap<u32, QueueSpec>,
}

/// A `QoS` row's type and settings. Rates are bits a second, times microseconds, unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    /// `linux-htb`.
    Htb {
        /// Of all queues together; none for the link's.
        max_rate: Option<u64>,
    },
    /// `linux-hfsc`.
    Hfsc {
        /// Of all queues together; none for the link's.
        max_rate: Option<u64>,
    },
    /// `linux-sfq`.
    Sfq {
        /// Seconds between changes of the hash; 0 for never.
        perturb: u64,
        /// Bytes in a turn; none for the MTU.
        quantum: Option<u32>,
    },
    /// `linux-codel`.
    Codel(CodelSpec),
    /// `linux-fq_codel`.
    FqCodel {
        /// What each flow is held to.
        codel: CodelSpec,
        /// Into how many flows packets are told apart.
        flows: u32,
        /// Bytes in a turn.
        quantum: u32,
    },
    /// `linux-netem`.
    Netem {
        /// Delay.
        latency: u64,
        /// How much the delay differs, at most.
        jitter: u64,
        /// Packets that wait.
        limit: u32,
        /// Percent of packets that are lost.
        loss: u32,
    },
    /// `linux-noop`.
    Noop,
    /// `egress-policer`.
    Policer(PolicerSpec),
    /// `trtcm-policer`.
    TrTcm(PolicerSpec),
}

/// What CoDel is told (RFC 8289 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodelSpec {
    /// Delay that is put up with.
    pub target: u64,
    /// Over which delay has to have been too long.
    pub interval: u64,
    /// Packets that wait.
    pub limit: u32,
    /// Whether packets are marked, not dropped, where their ends understand it.
    pub ecn: bool,
}

/// Rates of a policer: bytes of IP packets a second, and bytes at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicerSpec {
    /// Committed information rate.
    pub cir: u64,
    /// Committed burst size.
    pub cbs: u64,
    /// Excess information rate (RFC 4115: on top of the committed one).
    pub eir: u64,
    /// Excess burst size.
    pub ebs: u64,
}

/// A queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSpec {
    /// Differentiated services code point that its packets are marked with.
    pub dscp: Option<u8>,
    /// Guaranteed bits a second.
    pub min_rate: Option<u64>,
    /// Most bits a second.
    pub max_rate: Option<u64>,
    /// Bits that may be saved up.
    pub burst: Option<u64>,
    /// Smaller goes first.
    pub priority: u32,
    /// Of `trtcm-policer`.
    pub policer: Option<PolicerSpec>,
}

/// A `Queue` row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRow {
    /// `dscp`.
    pub dscp: Option<u8>,
    /// `other_config`.
    pub options: BTreeMap<String, String>,
}

/// Numbers out of `other_config`.
struct Numbers<'a> {
    of: String,
    options: &'a BTreeMap<String, String>,
    notes: &'a mut Vec<String>,
}

impl Numbers<'_> {
    fn get(&mut self, key: &str) -> Option<u64> {
        let text = self.options.get(key)?;
        match text.trim().parse() {
            Ok(n) => Some(n),
            Err(_) => {
                let of = &self.of;
                self.notes.push(format!(
                    "{of} other_config:{key} \"{text}\" is not a whole number: ignored"
                ));
                None
            }
        }
    }

    /// A number that fits 32 bits and is not 0; else the default.
    fn small(&mut self, key: &str, default: u32) -> u32 {
        let n = self.get(key).filter(|n| *n != 0);
        n.map_or(default, |n| u32::try_from(n).unwrap_or(u32::MAX))
    }

    fn bool(&mut self, key: &str, default: bool) -> bool {
        match self.options.get(key).map(String::as_str) {
            None => default,
            Some("true") => true,
            Some("false") => false,
            Some(text) => {
                let of = &self.of;
                self.notes.push(format!(
                    "{of} other_config:{key} \"{text}\" is neither true nor false: ignored"
                ));
                default
            }
        }
    }

    fn codel(&mut self, ecn: bool) -> CodelSpec {
        CodelSpec {
            target: self.small("target", 5000).into(),
            interval: self.small("interval", 100_000).into(),
            limit: self.small("limit", 10_240).min(LIMIT_MAX),
            ecn: self.bool("ecn", ecn),
        }
    }

    fn policer(&mut self) -> PolicerSpec {
        PolicerSpec {
            cir: self.get("cir").unwrap_or(0),
            cbs: self.get("cbs").unwrap_or(0),
            eir: self.get("eir").unwrap_or(0),
            ebs: self.get("ebs").unwrap_or(0),
        }
    }
}

/// Most packets that `limit` may ask for.
pub const LIMIT_MAX: u32 = 65_536;
/// Most flows that `flows` may ask for, as in the kernel.
pub const FLOWS_MAX: u32 = 65_536;

impl QosSpec {
    /// Reads a `QoS` row, and the rows of its queues by number. What of it is not obeyed goes into `notes`.
    ///
    /// # Errors
    /// There is no such type.
    pub fn read(
        kind: &str,
        options: &BTreeMap<String, String>,
        rows: &BTreeMap<i64, QueueRow>,
        notes: &mut Vec<String>,
    ) -> Result<QosSpec, String> {
        let mut n = Numbers {
            of: format!("QoS {kind}"),
            options,
            notes,
        };
        let discipline = match kind {
            "linux-htb" => Discipline::Htb {
                max_rate: n.get("max-rate").filter(|r| *r >= 8),
            },
            "linux-hfsc" => Discipline::Hfsc {
                max_rate: n.get("max-rate").filter(|r| *r >= 8),
            },
            "linux-sfq" => Discipline::Sfq {
                perturb: n.get("perturb").filter(|p| *p != 0).unwrap_or(10),
                quantum: n
                    .get("quantum")
                    .and_then(|q| q.try_into().ok())
                    .filter(|q| *q != 0),
            },
            "linux-codel" => Discipline::Codel(n.codel(false)),
            "linux-fq_codel" => Discipline::FqCodel {
                codel: n.codel(true),
                flows: n.small("flows", 1024).min(FLOWS_MAX),
                quantum: n.small("quantum", 1514),
            },
            "linux-netem" => Discipline::Netem {
                latency: n.get("latency").unwrap_or(0),
                jitter: n.get("jitter").unwrap_or(0),
                limit: n.small("limit", 1000).min(LIMIT_MAX),
                loss: n.get("loss").map_or(0, |l| l.min(100) as u32),
            },
            "linux-noop" => Discipline::Noop,
            "egress-policer" => Discipline::Policer(n.policer()),
            "trtcm-policer" => Discipline::TrTcm(n.policer()),
            _ => {
                return Err(format!(
                    "type \"{kind}\" is unknown; known are {}",
                    TYPES.join(", ")
                ));
            }
        };
        let mut queues = BTreeMap::new();
        for (number, row) in rows {
            let Some(id) = u32::try_from(*number).ok().filter(|n| *n < QUEUES_MAX) else {
                n.notes.push(format!(
                    "QoS {kind} queue {number} is not used: numbers are 0 to {}",
                    QUEUES_MAX - 1
                ));
                continue;
            };
            let mut of = Numbers {
                of: format!("QoS {kind} queue {id}"),
                options: &row.options,
                notes: n.notes,
            };
            let mut q = QueueSpec {
                dscp: row.dscp.filter(|d| *d < 64),
                ..QueueSpec::default()
            };
            match discipline {
                Discipline::Htb { .. } => {
                    q.min_rate = of.get("min-rate");
                    q.max_rate = of.get("max-rate");
                    q.burst = of.get("burst");
                    let priority = of.get("priority").unwrap_or(0);
                    q.priority = priority.try_into().unwrap_or(u32::MAX);
                }
                Discipline::Hfsc { .. } => {
                    q.min_rate = of.get("min-rate");
                    q.max_rate = of.get("max-rate");
                }
                Discipline::TrTcm(_) => q.policer = Some(of.policer()),
                _ => {}
            }
            queues.insert(id, q);
        }
        // The default queue. The policer's has the port's own settings.
        queues.entry(0).or_insert(QueueSpec {
            policer: match discipline {
                Discipline::TrTcm(p) => Some(p),
                _ => None,
            },
            ..QueueSpec::default()
        });
        Ok(QosSpec { discipline, queues })
    }

    /// Its type's name.
    pub fn name(&self) -> &'static str {
        match self.discipline {
            Discipline::Htb { .. } => "linux-htb",
            Discipline::Hfsc { .. } => "linux-hfsc",
            Discipline::Sfq { .. } => "linux-sfq",
            Discipline::Codel(_) => "linux-codel",
            Discipline::FqCodel { .. } => "linux-fq_codel",
            Discipline::Netem { .. } => "linux-netem",
            Discipline::Noop => "linux-noop",
            Discipline::Policer(_) => "egress-policer",
            Discipline::TrTcm(_) => "trtcm-policer",
        }
    }
}

/// What a port's device is like, as far as defaults depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Bits a second, 0 if unknown.
    pub rate: u64,
    /// Largest packet without the Ethernet header, 0 if unknown.
    pub mtu: u32,
}

impl Device {
    /// Its MTU, or the usual one.
    pub fn mtu(&self) -> u32 {
        match self.mtu {
            0 => 1500,
            mtu => mtu,
        }
    }

    /// The rate of all queues together, whole bytes a second.
    pub fn max_rate(&self, asked: Option<u64>) -> u64 {
        let link = match self.rate {
            0 => DEFAULT_RATE,
            rate => rate,
        };
        asked.unwrap_or(link) / 8 * 8
    }

    /// The longest frame usually.
    pub fn frame(&self) -> u32 {
        self.mtu() + HEADERS
    }

    /// What a class of a hierarchy with this rate comes to: never below `least` nor above the whole.
    fn class(&self, q: &QueueSpec, max_rate: u64, least: u64) -> ClassRates {
        let whole = |rate: u64| rate / 8 * 8;
        let min = whole(q.min_rate.unwrap_or(0)).max(least).min(max_rate);
        let max = q.max_rate.map_or(max_rate, whole).max(min).min(max_rate);
        let burst = q.burst.unwrap_or(0) / 8;
        ClassRates {
            min,
            max,
            burst: burst.max(self.frame().into()),
            priority: q.priority,
        }
    }

    /// A class of `linux-htb`: at least the MTU a second, without which it could never send.
    pub fn htb_class(&self, q: &QueueSpec, max_rate: u64) -> ClassRates {
        self.class(q, max_rate, u64::from(self.mtu()) * 8)
    }

    /// A class of `linux-hfsc`: at least a byte a second.
    pub fn hfsc_class(&self, q: &QueueSpec, max_rate: u64) -> ClassRates {
        self.class(q, max_rate, 8)
    }
}
