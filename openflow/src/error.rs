//! OpenFlow errors: what a switch answers when it refuses a message (OpenFlow 1.3.5 7.5.4).
//!
//! One table has every error of every version with Open vSwitch's name for it, which is the
//! specification's except where versions disagree (`OFPBRC_BAD_STAT`, `OFPBRC_BAD_VENDOR`) or words
//! have changed (`OFPBRC_IS_SECONDARY`). An error may have other numbers in each version, may be an
//! experimenter's in older ones, and in the oldest may not exist.

use std::fmt;

/// An error with words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfError {
    /// Which error.
    pub kind: ErrorKind,
    /// What was wrong with which value, for logs and local clients; not on the wire.
    pub detail: String,
}

impl OfError {
    /// An error with its explanation.
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> OfError {
        OfError {
            kind,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for OfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() {
            f.write_str(self.kind.name())
        } else {
            write!(f, "{}: {}", self.kind.name(), self.detail)
        }
    }
}

impl std::error::Error for OfError {}

/// An error's numbers on the wire of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorNumbers {
    /// Whose numbers they are; `None` for the specification's own.
    pub experimenter: Option<u32>,
    /// The type. An experimenter's error of 1.2 and later has one number, `exp_type`, which is this.
    pub r#type: u16,
    /// The code; 0 for experimenters' errors of 1.2 and later.
    pub code: u16,
}

impl fmt::Display for ErrorNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(experimenter) = self.experimenter {
            write!(f, "experimenter {experimenter:#010x}, ")?;
        }
        write!(f, "type {}, code {}", self.r#type, self.code)
    }
}

/// The numbers of an error in a run of versions.
struct Row {
    first: u8,
    last: u8,
    numbers: ErrorNumbers,
}

/// Whose numbers those of a row are.
mod owner {
    #![allow(non_upper_case_globals, reason = "words of the table below")]
    pub const of: Option<u32> = None;
    pub const nx: Option<u32> = Some(0x0000_2320);
    pub const onf: Option<u32> = Some(0x4f4e_4600);
}

macro_rules! error_kinds {
    ($($id:ident $name:literal $($who:ident $first:literal - $last:literal $type:literal / $code:literal),+;)*) => {
        /// The error types and codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each variant is documented by its row of the table")]
        pub enum ErrorKind {
            $($id,)*
            /// Numbers that weir has no name for.
            Other(ErrorNumbers),
        }

        impl ErrorKind {
            /// Every named error.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$id,)*];

            /// Open vSwitch's name for it.
            pub fn name(self) -> &'static str {
                match self { $(ErrorKind::$id => $name,)* ErrorKind::Other(_) => "unknown error" }
            }

            fn rows(self) -> &'static [Row] {
                match self {
                    $(ErrorKind::$id => &[$(Row {
                        first: $first,
                        last: $last,
                        numbers: ErrorNumbers { experimenter: owner::$who, r#type: $type, code: $code },
                    },)+],)*
                    ErrorKind::Other(_) => &[],
                }
            }
        }
    };
}

impl ErrorKind {
    /// Its numbers in a wire version, if that version has the error. Versions that are not spoken
    /// are taken for the nearest that is.
    pub fn numbers(self, version: u8) -> Option<ErrorNumbers> {
        let version = version.clamp(1, 6);
        if let ErrorKind::Other(numbers) = self {
            return Some(numbers);
        }
        let row = self
            .rows()
            .iter()
            .find(|r| (r.first..=r.last).contains(&version));
        row.map(|r| r.numbers)
    }

    /// The error that has these numbers in a wire version. Where an older version has one pair of
    /// numbers for what later ones tell apart, the first in the table is meant.
    pub fn from_numbers(version: u8, numbers: ErrorNumbers) -> ErrorKind {
        ErrorKind::ALL
            .iter()
            .copied()
            .find(|k| k.numbers(version) == Some(numbers))
            .unwrap_or(ErrorKind::Other(numbers))
    }
}

// Name, then runs of wire versions (1 is OpenFlow 1.0, 6 is 1.5) with owner, type and code.
error_kinds! {
    // Hello failed.
    HelloIncompatible "OFPHFC_INCOMPATIBLE" of 1-6 0/0;
    HelloEperm "OFPHFC_EPERM" of 1-6 0/1;
    // Bad request.
    BadVersion "OFPBRC_BAD_VERSION" of 1-6 1/0;
    BadType "OFPBRC_BAD_TYPE" of 1-6 1/1;
    BadMultipart "OFPBRC_BAD_STAT" of 1-6 1/2;
    BadExperimenter "OFPBRC_BAD_VENDOR" of 1-6 1/3;
    BadExpType "OFPBRC_BAD_SUBTYPE" of 1-6 1/4;
    RequestEperm "OFPBRC_EPERM" of 1-6 1/5;
    BadLen "OFPBRC_BAD_LEN" of 1-6 1/6;
    BufferEmpty "OFPBRC_BUFFER_EMPTY" of 1-6 1/7;
    BufferUnknown "OFPBRC_BUFFER_UNKNOWN" of 1-6 1/8;
    BadTableId "OFPBRC_BAD_TABLE_ID" nx 1-1 1/512, of 2-6 1/9;
    IsSlave "OFPBRC_IS_SECONDARY" of 1-2 1/5, of 3-6 1/10;
    BadPort "OFPBRC_BAD_PORT" nx 1-2 1/514, of 3-6 1/11;
    BadPacket "OFPBRC_BAD_PACKET" of 3-6 1/12;
    MultipartBufferOverflow "OFPBRC_MULTIPART_BUFFER_OVERFLOW" of 4-6 1/13;
    MultipartRequestTimeout "OFPBRC_MULTIPART_REQUEST_TIMEOUT" onf 4-4 2640/0, of 5-6 1/14;
    MultipartReplyTimeout "OFPBRC_MULTIPART_REPLY_TIMEOUT" onf 4-4 2641/0, of 5-6 1/15;
    MultipartBadSched "OFPBRC_MULTIPART_BAD_SCHED" of 6-6 1/16;
    PipelineFieldsOnly "OFPBRC_PIPELINE_FIELDS_ONLY" of 6-6 1/17;
    RequestUnknown "OFPBRC_UNKNOWN" of 6-6 1/18;
    NxmInvalid "NXBRC_NXM_INVALID" nx 1-2 1/256, nx 3-6 2/0;
    NxmBadType "NXBRC_NXM_BAD_TYPE" nx 1-2 1/257, nx 3-6 3/0;
    MustBeZero "NXBRC_MUST_BE_ZERO" nx 1-2 1/515, nx 3-6 4/0;
    BadReason "NXBRC_BAD_REASON" nx 1-2 1/516, nx 3-6 5/0;
    FmBadEvent "NXBRC_FM_BAD_EVENT" nx 1-2 1/520, nx 3-6 9/0;
    UnencodableError "NXBRC_UNENCODABLE_ERROR" nx 1-2 1/521, nx 3-6 10/0;
    // Bad action.
    BadActionType "OFPBAC_BAD_TYPE" of 1-6 2/0;
    BadActionLen "OFPBAC_BAD_LEN" of 1-6 2/1;
    BadActionExperimenter "OFPBAC_BAD_VENDOR" of 1-6 2/2;
    BadActionExpType "OFPBAC_BAD_VENDOR_TYPE" of 1-6 2/3;
    BadOutPort "OFPBAC_BAD_OUT_PORT" of 1-6 2/4;
    BadArgument "OFPBAC_BAD_ARGUMENT" of 1-6 2/5;
    ActionEperm "OFPBAC_EPERM" of 1-6 2/6;
    TooManyActions "OFPBAC_TOO_MANY" of 1-6 2/7;
    BadQueue "OFPBAC_BAD_QUEUE" of 1-6 2/8;
    BadOutGroup "OFPBAC_BAD_OUT_GROUP" nx 1-1 2/9, of 2-6 2/9;
    MatchInconsistent "OFPBAC_MATCH_INCONSISTENT" nx 1-1 1/522, of 2-6 2/10;
    UnsupportedOrder "OFPBAC_UNSUPPORTED_ORDER" of 2-6 2/11;
    BadTag "OFPBAC_BAD_TAG" of 2-6 2/12;
    BadSetType "OFPBAC_BAD_SET_TYPE" nx 1-2 1/523, of 3-6 2/13;
    BadSetLen "OFPBAC_BAD_SET_LEN" nx 1-2 1/524, of 3-6 2/14;
    BadSetArgument "OFPBAC_BAD_SET_ARGUMENT" nx 1-2 1/525, of 3-6 2/15;
    BadSetMask "OFPBAC_BAD_SET_MASK" onf 4-5 4250/0, of 6-6 2/16;
    BadActionMeter "OFPBAC_BAD_METER" of 6-6 2/17;
    ActionMustBeZero "NXBAC_MUST_BE_ZERO" nx 1-2 2/256, nx 3-6 11/0;
    BadConjunction "NXBAC_BAD_CONJUNCTION" nx 1-2 2/526, nx 3-6 15/0;
    BadHeaderType "NXBAC_BAD_HEADER_TYPE" nx 4-6 39/0;
    UnknownEncapProperty "NXBAC_UNKNOWN_ED_PROP" nx 4-6 40/0;
    BadEncapProperty "NXBAC_BAD_ED_PROP" nx 4-6 41/0;
    ActionCtDatapathSupport "NXBAC_CT_DATAPATH_SUPPORT" nx 1-2 1/265, nx 3-6 42/0;
    // Bad instruction.
    UnknownInst "OFPBIC_UNKNOWN_INST" of 2-6 3/0;
    UnsupInst "OFPBIC_UNSUP_INST" nx 1-1 2/257, of 2-6 3/1;
    BadInstTableId "OFPBIC_BAD_TABLE_ID" of 2-6 3/2;
    UnsupMetadata "OFPBIC_UNSUP_METADATA" of 2-6 3/3;
    UnsupMetadataMask "OFPBIC_UNSUP_METADATA_MASK" of 2-6 3/4;
    BadInstExperimenter "OFPBIC_BAD_EXPERIMENTER" of 2-6 3/5;
    BadInstExpType "OFPBIC_BAD_EXP_TYPE" of 2-2 3/5, of 3-6 3/6;
    BadInstLen "OFPBIC_BAD_LEN" of 3-6 3/7;
    InstEperm "OFPBIC_EPERM" of 3-6 3/8;
    DupInst "OFPBIC_DUP_INST" nx 2-2 3/256, onf 3-4 2600/0, of 5-6 3/9;
    // Bad match.
    BadMatchType "OFPBMC_BAD_TYPE" of 2-6 4/0;
    BadMatchLen "OFPBMC_BAD_LEN" of 2-6 4/1;
    BadMatchTag "OFPBMC_BAD_TAG" of 2-6 4/2;
    BadDlAddrMask "OFPBMC_BAD_DL_ADDR_MASK" of 2-6 4/3;
    BadNwAddrMask "OFPBMC_BAD_NW_ADDR_MASK" of 2-6 4/4;
    BadWildcards "OFPBMC_BAD_WILDCARDS" nx 1-1 1/262, of 2-6 4/5;
    BadField "OFPBMC_BAD_FIELD" nx 1-1 0/263, of 2-6 4/6;
    BadValue "OFPBMC_BAD_VALUE" nx 1-1 1/258, of 2-6 4/7;
    BadMask "OFPBMC_BAD_MASK" nx 1-2 1/259, of 3-6 4/8;
    BadPrereq "OFPBMC_BAD_PREREQ" nx 1-2 1/260, of 3-6 4/9;
    DupField "OFPBMC_DUP_FIELD" nx 1-2 1/261, of 3-6 4/10;
    MatchEperm "OFPBMC_EPERM" of 3-6 4/11;
    MatchCtDatapathSupport "NXBMC_CT_DATAPATH_SUPPORT" nx 1-2 1/264, nx 3-6 43/0;
    // Flow-mod failed.
    FlowModUnknown "OFPFMFC_UNKNOWN" of 2-6 5/0;
    TableFull "OFPFMFC_TABLE_FULL" of 1-1 3/0, of 2-6 5/1;
    FlowModBadTableId "OFPFMFC_BAD_TABLE_ID" of 2-6 5/2;
    Overlap "OFPFMFC_OVERLAP" of 1-1 3/1, of 2-6 5/3;
    FlowModEperm "OFPFMFC_EPERM" of 1-1 3/2, of 2-6 5/4;
    BadTimeout "OFPFMFC_BAD_TIMEOUT" of 2-6 5/5;
    BadCommand "OFPFMFC_BAD_COMMAND" of 1-1 3/4, of 2-6 5/6;
    BadFlowModFlags "OFPFMFC_BAD_FLAGS" nx 1-1 3/258, nx 2-2 5/258, of 3-6 5/7;
    FlowModCantSync "OFPFMFC_CANT_SYNC" of 5-6 5/8;
    FlowModBadPriority "OFPFMFC_BAD_PRIORITY" onf 4-4 2360/0, of 5-6 5/9;
    FlowModIsSync "OFPFMFC_IS_SYNC" of 5-6 5/10;
    FlowModBadEmergTimeout "OFPFMFC_BAD_EMERG_TIMEOUT" of 1-1 3/3;
    FlowModUnsupported "OFPFMFC_UNSUPPORTED" of 1-1 3/5;
    FlowModHardware "NXFMFC_HARDWARE" nx 1-2 5/256, nx 3-6 12/0;
    FlowModBadTableIdNicira "NXFMFC_BAD_TABLE_ID" nx 1-2 5/257, nx 3-6 13/0;
    FlowModInvalidTlvField "NXFMFC_INVALID_TLV_FIELD" nx 1-2 1/536, nx 3-6 37/0;
    // Group-mod failed.
    GroupExists "OFPGMFC_GROUP_EXISTS" nx 1-1 6/0, of 2-6 6/0;
    InvalidGroup "OFPGMFC_INVALID_GROUP" nx 1-1 6/1, of 2-6 6/1;
    WeightUnsupported "OFPGMFC_WEIGHT_UNSUPPORTED" nx 1-1 6/2, of 2-6 6/2;
    OutOfGroups "OFPGMFC_OUT_OF_GROUPS" nx 1-1 6/3, of 2-6 6/3;
    OutOfBuckets "OFPGMFC_OUT_OF_BUCKETS" nx 1-1 6/4, of 2-6 6/4;
    ChainingUnsupported "OFPGMFC_CHAINING_UNSUPPORTED" nx 1-1 6/5, of 2-6 6/5;
    WatchUnsupported "OFPGMFC_WATCH_UNSUPPORTED" nx 1-1 6/6, of 2-6 6/6;
    GroupLoop "OFPGMFC_LOOP" nx 1-1 6/7, of 2-6 6/7;
    UnknownGroup "OFPGMFC_UNKNOWN_GROUP" nx 1-1 6/8, of 2-6 6/8;
    ChainedGroup "OFPGMFC_CHAINED_GROUP" nx 1-1 6/9, of 3-6 6/9;
    BadGroupType "OFPGMFC_BAD_TYPE" nx 1-1 6/10, of 3-6 6/10;
    BadGroupCommand "OFPGMFC_BAD_COMMAND" nx 1-1 6/11, of 3-6 6/11;
    BadBucket "OFPGMFC_BAD_BUCKET" nx 1-1 6/12, of 3-6 6/12;
    BadWatch "OFPGMFC_BAD_WATCH" nx 1-1 6/13, of 3-6 6/13;
    GroupEperm "OFPGMFC_EPERM" nx 1-1 6/14, of 3-6 6/14;
    UnknownBucket "OFPGMFC_UNKNOWN_BUCKET" nx 1-1 6/15, of 6-6 6/15;
    BucketExists "OFPGMFC_BUCKET_EXISTS" nx 1-1 6/16, of 6-6 6/16;
    // Port-mod failed.
    PortModBadPort "OFPPMFC_BAD_PORT" of 1-1 4/0, of 2-6 7/0;
    PortModBadHwAddr "OFPPMFC_BAD_HW_ADDR" of 1-1 4/1, of 2-6 7/1;
    PortModBadConfig "OFPPMFC_BAD_CONFIG" of 2-6 7/2;
    PortModBadAdvertise "OFPPMFC_BAD_ADVERTISE" of 2-6 7/3;
    PortModEperm "OFPPMFC_EPERM" of 3-6 7/4;
    // Table-mod failed.
    TableModBadTable "OFPTMFC_BAD_TABLE" of 2-6 8/0;
    TableModBadConfig "OFPTMFC_BAD_CONFIG" of 2-6 8/1;
    TableModEperm "OFPTMFC_EPERM" of 3-6 8/2;
    // Queue operation failed.
    QueueBadPort "OFPQOFC_BAD_PORT" of 1-1 5/0, of 2-6 9/0;
    QueueBadQueue "OFPQOFC_BAD_QUEUE" of 1-1 5/1, of 2-6 9/1;
    QueueEperm "OFPQOFC_EPERM" of 1-1 5/2, of 2-6 9/2;
    QueueError "NXQOFC_QUEUE_ERROR" nx 5-6 23/0;
    // Switch configuration failed.
    SwitchConfigBadFlags "OFPSCFC_BAD_FLAGS" of 2-6 10/0;
    SwitchConfigBadLen "OFPSCFC_BAD_LEN" of 2-6 10/1;
    SwitchConfigEperm "OFPSCFC_EPERM" of 3-6 10/2;
    // Role request failed.
    RoleStale "OFPRRFC_STALE" of 3-6 11/0;
    RoleUnsup "OFPRRFC_UNSUP" of 3-6 11/1;
    BadRole "OFPRRFC_BAD_ROLE" nx 1-2 1/513, of 3-6 11/2;
    RoleIdUnsup "OFPRRFC_ID_UNSUP" of 6-6 11/3;
    RoleIdInUse "OFPRRFC_ID_IN_USE" of 6-6 11/4;
    // Meter-mod failed.
    MeterModUnknown "OFPMMFC_UNKNOWN" of 4-6 12/0;
    MeterExists "OFPMMFC_METER_EXISTS" of 4-6 12/1;
    InvalidMeter "OFPMMFC_INVALID_METER" of 4-6 12/2;
    UnknownMeter "OFPMMFC_UNKNOWN_METER" of 4-6 12/3;
    BadMeterCommand "OFPMMFC_BAD_COMMAND" of 4-6 12/4;
    BadMeterFlags "OFPMMFC_BAD_FLAGS" of 4-6 12/5;
    BadRate "OFPMMFC_BAD_RATE" of 4-6 12/6;
    BadBurst "OFPMMFC_BAD_BURST" of 4-6 12/7;
    BadBand "OFPMMFC_BAD_BAND" of 4-6 12/8;
    BadBandValue "OFPMMFC_BAD_BAND_VALUE" of 4-6 12/9;
    OutOfMeters "OFPMMFC_OUT_OF_METERS" of 4-6 12/10;
    OutOfBands "OFPMMFC_OUT_OF_BANDS" of 4-6 12/11;
    // Table features failed.
    TableFeaturesBadTable "OFPTFFC_BAD_TABLE" of 4-6 13/0;
    TableFeaturesBadMetadata "OFPTFFC_BAD_METADATA" of 4-6 13/1;
    TableFeaturesEperm "OFPTFFC_EPERM" of 4-6 13/5;
    TableFeaturesBadCapa "OFPTFFC_BAD_CAPA" of 6-6 13/6;
    TableFeaturesBadMaxEnt "OFPTFFC_BAD_MAX_ENT" of 6-6 13/7;
    TableFeaturesBadFeatures "OFPTFFC_BAD_FEATURES" of 6-6 13/8;
    TableFeaturesBadCommand "OFPTFFC_BAD_COMMAND" of 6-6 13/9;
    TableFeaturesTooMany "OFPTFFC_TOO_MANY" of 6-6 13/10;
    TableFeaturesDupTable "NXTFFC_DUP_TABLE" nx 4-6 44/0;
    // Bad property; before 1.4 only of table features.
    PropertyBadType "OFPBPC_BAD_TYPE" nx 1-2 13/2, nx 3-3 25/0, of 4-4 13/2, of 5-6 14/0;
    PropertyBadLen "OFPBPC_BAD_LEN" nx 1-2 13/3, nx 3-3 26/0, of 4-4 13/3, of 5-6 14/1;
    PropertyBadValue "OFPBPC_BAD_VALUE" nx 1-2 13/4, nx 3-3 27/0, of 4-4 13/4, of 5-6 14/2;
    PropertyTooMany "OFPBPC_TOO_MANY" nx 1-2 14/3, nx 3-3 28/0, onf 4-4 4443/0, of 5-6 14/3;
    PropertyDupType "OFPBPC_DUP_TYPE" nx 1-2 14/4, nx 3-3 29/0, onf 4-4 4444/0, of 5-6 14/4;
    PropertyBadExperimenter "OFPBPC_BAD_EXPERIMENTER" nx 1-2 14/5, nx 3-3 30/0, onf 4-4 4445/0, of 5-6 14/5;
    PropertyBadExpType "OFPBPC_BAD_EXP_TYPE" nx 1-2 14/6, nx 3-3 31/0, onf 4-4 4446/0, of 5-6 14/6;
    PropertyBadExpValue "OFPBPC_BAD_EXP_VALUE" nx 1-2 14/7, nx 3-3 32/0, onf 4-4 4447/0, of 5-6 14/7;
    PropertyEperm "OFPBPC_EPERM" nx 1-2 14/8, nx 3-3 33/0, onf 4-4 4448/0, of 5-6 14/8;
    // Asynchronous configuration failed.
    AsyncInvalid "OFPACFC_INVALID" onf 4-4 2370/0, of 5-6 15/0;
    AsyncUnsupported "OFPACFC_UNSUPPORTED" onf 4-4 2371/0, of 5-6 15/1;
    AsyncEperm "OFPACFC_EPERM" onf 4-4 2372/0, of 5-6 15/2;
    // Flow monitor failed.
    MonitorUnknown "OFPMOFC_UNKNOWN" of 5-6 16/0;
    MonitorExists "OFPMOFC_MONITOR_EXISTS" nx 1-2 1/517, nx 3-4 6/0, of 5-6 16/1;
    InvalidMonitor "OFPMOFC_INVALID_MONITOR" of 5-6 16/2;
    UnknownMonitor "OFPMOFC_UNKNOWN_MONITOR" nx 1-2 1/519, nx 3-4 8/0, of 5-6 16/3;
    MonitorBadCommand "OFPMOFC_BAD_COMMAND" of 5-6 16/4;
    MonitorBadFlags "OFPMOFC_BAD_FLAGS" nx 1-2 1/518, nx 3-4 7/0, of 5-6 16/5;
    MonitorBadTableId "OFPMOFC_BAD_TABLE_ID" of 5-6 16/6;
    MonitorBadOut "OFPMOFC_BAD_OUT" of 5-6 16/7;
    // Bundle failed; in 1.3 an extension of the ONF.
    BundleUnknown "OFPBFC_UNKNOWN" onf 4-4 2300/0, of 5-6 17/0;
    BundleEperm "OFPBFC_EPERM" onf 4-4 2301/0, of 5-6 17/1;
    BundleBadId "OFPBFC_BAD_ID" onf 4-4 2302/0, of 5-6 17/2;
    BundleExists "OFPBFC_BUNDLE_EXIST" onf 4-4 2303/0, of 5-6 17/3;
    BundleClosed "OFPBFC_BUNDLE_CLOSED" onf 4-4 2304/0, of 5-6 17/4;
    OutOfBundles "OFPBFC_OUT_OF_BUNDLES" onf 4-4 2305/0, of 5-6 17/5;
    BundleBadType "OFPBFC_BAD_TYPE" onf 4-4 2306/0, of 5-6 17/6;
    BundleBadFlags "OFPBFC_BAD_FLAGS" onf 4-4 2307/0, of 5-6 17/7;
    BundleMsgBadLen "OFPBFC_MSG_BAD_LEN" onf 4-4 2308/0, of 5-6 17/8;
    BundleMsgBadXid "OFPBFC_MSG_BAD_XID" onf 4-4 2309/0, of 5-6 17/9;
    BundleMsgUnsup "OFPBFC_MSG_UNSUP" onf 4-4 2310/0, of 5-6 17/10;
    BundleMsgConflict "OFPBFC_MSG_CONFLICT" onf 4-4 2311/0, of 5-6 17/11;
    BundleMsgTooMany "OFPBFC_MSG_TOO_MANY" onf 4-4 2312/0, of 5-6 17/12;
    BundleMsgFailed "OFPBFC_MSG_FAILED" onf 4-4 2313/0, of 5-6 17/13;
    BundleTimeout "OFPBFC_TIMEOUT" onf 4-4 2314/0, of 5-6 17/14;
    BundleInProgress "OFPBFC_BUNDLE_IN_PROGRESS" onf 4-4 2315/0, of 5-6 17/15;
    SchedNotSupported "OFPBFC_SCHED_NOT_SUPPORTED" of 6-6 17/16;
    SchedFuture "OFPBFC_SCHED_FUTURE" of 6-6 17/17;
    SchedPast "OFPBFC_SCHED_PAST" of 6-6 17/18;
    BundleBadVersion "OFPBFC_BAD_VERSION" nx 5-6 22/0;
    // Tunnel option table (Nicira).
    TlvBadCommand "NXTTMFC_BAD_COMMAND" nx 1-2 1/527, nx 3-6 16/0;
    TlvBadOptLen "NXTTMFC_BAD_OPT_LEN" nx 1-2 1/528, nx 3-6 17/0;
    TlvBadFieldIdx "NXTTMFC_BAD_FIELD_IDX" nx 1-2 1/529, nx 3-6 18/0;
    TlvTableFull "NXTTMFC_TABLE_FULL" nx 1-2 1/530, nx 3-6 19/0;
    TlvAlreadyMapped "NXTTMFC_ALREADY_MAPPED" nx 1-2 1/531, nx 3-6 20/0;
    TlvDupEntry "NXTTMFC_DUP_ENTRY" nx 1-2 1/532, nx 3-6 21/0;
    TlvInvalidDel "NXTTMFC_INVALID_TLV_DEL" nx 1-2 1/537, nx 3-6 38/0;
    // Resume, statistics (Nicira).
    ResumeNotSupported "NXR_NOT_SUPPORTED" nx 1-2 1/533, nx 3-6 34/0;
    ResumeStale "NXR_STALE" nx 1-2 1/534, nx 3-6 35/0;
    StatsNotConfigured "NXST_NOT_CONFIGURED" nx 1-2 1/535, nx 3-6 36/0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet, HashSet};

    /// How many codes each of the specification's types has, numbered from zero, and which of them
    /// are not there (1.0.0 5.4.4, 1.1.0 A.4.4, 1.2 A.4.4, 1.3.5 7.5.4, 1.4.1 7.5.4, 1.5.1 7.5.4).
    const CODES: [(u8, &[u16]); 6] = [
        (1, &[2, 9, 9, 6, 2, 3]),
        (2, &[2, 10, 13, 6, 8, 7, 9, 4, 2, 3, 2]),
        (3, &[2, 13, 16, 9, 12, 8, 15, 5, 3, 3, 3, 3]),
        (4, &[2, 14, 16, 9, 12, 8, 15, 5, 3, 3, 3, 3, 12, 6]),
        (
            5,
            &[2, 16, 16, 10, 12, 11, 15, 5, 3, 3, 3, 3, 12, 6, 9, 3, 8, 16],
        ),
        (
            6,
            &[
                2, 19, 18, 10, 12, 11, 17, 5, 3, 3, 3, 5, 12, 11, 9, 3, 8, 19,
            ],
        ),
    ];
    /// Of the types that 1.4 calls bad properties, table features have only their own codes left.
    const GONE: [(u8, u16, u16); 6] = [
        (5, 13, 2),
        (5, 13, 3),
        (5, 13, 4),
        (6, 13, 2),
        (6, 13, 3),
        (6, 13, 4),
    ];

    #[test]
    fn every_code_of_every_version_has_a_name() {
        for (version, types) in CODES {
            for (r#type, count) in types.iter().enumerate() {
                for code in 0..*count {
                    let r#type = r#type as u16;
                    let numbers = ErrorNumbers {
                        experimenter: None,
                        r#type,
                        code,
                    };
                    let kind = ErrorKind::from_numbers(version, numbers);
                    let gone = GONE.contains(&(version, r#type, code));
                    assert_eq!(
                        matches!(kind, ErrorKind::Other(_)),
                        gone,
                        "version {version}: {numbers}"
                    );
                    assert_eq!(kind.numbers(version), Some(numbers));
                }
            }
            // And nothing is made up beside those.
            for kind in ErrorKind::ALL {
                let Some(n) = kind.numbers(version).filter(|n| n.experimenter.is_none()) else {
                    continue;
                };
                let count = types.get(usize::from(n.r#type)).copied().unwrap_or(0);
                assert!(n.code < count, "version {version}: {} {n}", kind.name());
            }
        }
    }

    #[test]
    fn names_are_unique_and_numbers_but_for_the_known_ones() {
        let names: HashSet<&str> = ErrorKind::ALL.iter().map(|k| k.name()).collect();
        assert_eq!(names.len(), ErrorKind::ALL.len());
        let mut shared = BTreeSet::new();
        for version in 1..=6 {
            let mut seen = BTreeMap::new();
            for kind in ErrorKind::ALL {
                let Some(n) = kind.numbers(version) else {
                    continue;
                };
                let n = (n.experimenter, n.r#type, n.code);
                if let Some(first) = seen.insert(n, kind.name()) {
                    shared.insert((version, first, kind.name()));
                }
            }
        }
        let known = [
            (1, "OFPBRC_EPERM", "OFPBRC_IS_SECONDARY"),
            (2, "OFPBIC_BAD_EXPERIMENTER", "OFPBIC_BAD_EXP_TYPE"),
            (2, "OFPBRC_EPERM", "OFPBRC_IS_SECONDARY"),
        ];
        assert_eq!(shared, BTreeSet::from(known));
    }

    #[test]
    fn bundles_are_the_onfs_in_13() {
        let n = ErrorKind::BundleMsgUnsup.numbers(4).unwrap();
        assert_eq!((n.experimenter, n.r#type), (Some(0x4f4e_4600), 2310));
        assert_eq!(ErrorKind::BundleMsgUnsup.numbers(1), None);
    }
}
