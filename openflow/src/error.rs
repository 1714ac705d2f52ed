//! OpenFlow errors: what a switch answers when it refuses a message (OpenFlow 1.3.5 7.5.4).

use std::fmt;

/// An error type and code as numbers of the 1.3 wire, with words for people.
///
/// The numbers are those of OpenFlow 1.3; codecs of other versions translate them.
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

macro_rules! error_kinds {
    ($($id:ident $name:literal $type:literal $code:literal;)*) => {
        /// The error types and codes, named as the specification does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each variant is the specification's own name")]
        pub enum ErrorKind {
            $($id,)*
            /// A type and code that weir has no name for.
            #[allow(missing_docs)]
            Other { r#type: u16, code: u16 },
        }

        impl ErrorKind {
            /// Every named error.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$id,)*];

            /// Type and code on the OpenFlow 1.3 wire.
            pub fn type_and_code(self) -> (u16, u16) {
                match self { $(ErrorKind::$id => ($type, $code),)* ErrorKind::Other { r#type, code } => (r#type, code) }
            }

            /// From the OpenFlow 1.3 wire.
            pub fn from_type_and_code(r#type: u16, code: u16) -> ErrorKind {
                match (r#type, code) { $(($type, $code) => ErrorKind::$id,)* _ => ErrorKind::Other { r#type, code } }
            }

            /// The specification's name.
            pub fn name(self) -> &'static str {
                match self { $(ErrorKind::$id => $name,)* ErrorKind::Other { .. } => "unknown error" }
            }
        }
    };
}

error_kinds! {
    HelloIncompatible "OFPHFC_INCOMPATIBLE" 0 0;
    HelloEperm "OFPHFC_EPERM" 0 1;
    BadVersion "OFPBRC_BAD_VERSION" 1 0;
    BadType "OFPBRC_BAD_TYPE" 1 1;
    BadMultipart "OFPBRC_BAD_MULTIPART" 1 2;
    BadExperimenter "OFPBRC_BAD_EXPERIMENTER" 1 3;
    BadExpType "OFPBRC_BAD_EXP_TYPE" 1 4;
    RequestEperm "OFPBRC_EPERM" 1 5;
    BadLen "OFPBRC_BAD_LEN" 1 6;
    BufferEmpty "OFPBRC_BUFFER_EMPTY" 1 7;
    BufferUnknown "OFPBRC_BUFFER_UNKNOWN" 1 8;
    BadTableId "OFPBRC_BAD_TABLE_ID" 1 9;
    IsSlave "OFPBRC_IS_SLAVE" 1 10;
    BadPort "OFPBRC_BAD_PORT" 1 11;
    BadPacket "OFPBRC_BAD_PACKET" 1 12;
    MultipartBufferOverflow "OFPBRC_MULTIPART_BUFFER_OVERFLOW" 1 13;
    BadActionType "OFPBAC_BAD_TYPE" 2 0;
    BadActionLen "OFPBAC_BAD_LEN" 2 1;
    BadActionExperimenter "OFPBAC_BAD_EXPERIMENTER" 2 2;
    BadActionExpType "OFPBAC_BAD_EXP_TYPE" 2 3;
    BadOutPort "OFPBAC_BAD_OUT_PORT" 2 4;
    BadArgument "OFPBAC_BAD_ARGUMENT" 2 5;
    ActionEperm "OFPBAC_EPERM" 2 6;
    TooManyActions "OFPBAC_TOO_MANY" 2 7;
    BadQueue "OFPBAC_BAD_QUEUE" 2 8;
    BadOutGroup "OFPBAC_BAD_OUT_GROUP" 2 9;
    MatchInconsistent "OFPBAC_MATCH_INCONSISTENT" 2 10;
    UnsupportedOrder "OFPBAC_UNSUPPORTED_ORDER" 2 11;
    BadTag "OFPBAC_BAD_TAG" 2 12;
    BadSetType "OFPBAC_BAD_SET_TYPE" 2 13;
    BadSetLen "OFPBAC_BAD_SET_LEN" 2 14;
    BadSetArgument "OFPBAC_BAD_SET_ARGUMENT" 2 15;
    UnknownInst "OFPBIC_UNKNOWN_INST" 3 0;
    UnsupInst "OFPBIC_UNSUP_INST" 3 1;
    BadInstTableId "OFPBIC_BAD_TABLE_ID" 3 2;
    UnsupMetadata "OFPBIC_UNSUP_METADATA" 3 3;
    UnsupMetadataMask "OFPBIC_UNSUP_METADATA_MASK" 3 4;
    BadInstExperimenter "OFPBIC_BAD_EXPERIMENTER" 3 5;
    BadInstExpType "OFPBIC_BAD_EXP_TYPE" 3 6;
    BadInstLen "OFPBIC_BAD_LEN" 3 7;
    InstEperm "OFPBIC_EPERM" 3 8;
    DupInst "OFPBIC_DUP_INST" 3 9;
    BadMatchType "OFPBMC_BAD_TYPE" 4 0;
    BadMatchLen "OFPBMC_BAD_LEN" 4 1;
    BadMatchTag "OFPBMC_BAD_TAG" 4 2;
    BadDlAddrMask "OFPBMC_BAD_DL_ADDR_MASK" 4 3;
    BadNwAddrMask "OFPBMC_BAD_NW_ADDR_MASK" 4 4;
    BadWildcards "OFPBMC_BAD_WILDCARDS" 4 5;
    BadField "OFPBMC_BAD_FIELD" 4 6;
    BadValue "OFPBMC_BAD_VALUE" 4 7;
    BadMask "OFPBMC_BAD_MASK" 4 8;
    BadPrereq "OFPBMC_BAD_PREREQ" 4 9;
    DupField "OFPBMC_DUP_FIELD" 4 10;
    MatchEperm "OFPBMC_EPERM" 4 11;
    FlowModUnknown "OFPFMFC_UNKNOWN" 5 0;
    TableFull "OFPFMFC_TABLE_FULL" 5 1;
    FlowModBadTableId "OFPFMFC_BAD_TABLE_ID" 5 2;
    Overlap "OFPFMFC_OVERLAP" 5 3;
    FlowModEperm "OFPFMFC_EPERM" 5 4;
    BadTimeout "OFPFMFC_BAD_TIMEOUT" 5 5;
    BadCommand "OFPFMFC_BAD_COMMAND" 5 6;
    BadFlowModFlags "OFPFMFC_BAD_FLAGS" 5 7;
    GroupExists "OFPGMFC_GROUP_EXISTS" 6 0;
    InvalidGroup "OFPGMFC_INVALID_GROUP" 6 1;
    WeightUnsupported "OFPGMFC_WEIGHT_UNSUPPORTED" 6 2;
    OutOfGroups "OFPGMFC_OUT_OF_GROUPS" 6 3;
    OutOfBuckets "OFPGMFC_OUT_OF_BUCKETS" 6 4;
    ChainingUnsupported "OFPGMFC_CHAINING_UNSUPPORTED" 6 5;
    WatchUnsupported "OFPGMFC_WATCH_UNSUPPORTED" 6 6;
    GroupLoop "OFPGMFC_LOOP" 6 7;
    UnknownGroup "OFPGMFC_UNKNOWN_GROUP" 6 8;
    ChainedGroup "OFPGMFC_CHAINED_GROUP" 6 9;
    BadGroupType "OFPGMFC_BAD_TYPE" 6 10;
    BadGroupCommand "OFPGMFC_BAD_COMMAND" 6 11;
    BadBucket "OFPGMFC_BAD_BUCKET" 6 12;
    BadWatch "OFPGMFC_BAD_WATCH" 6 13;
    GroupEperm "OFPGMFC_EPERM" 6 14;
    PortModBadPort "OFPPMFC_BAD_PORT" 7 0;
    PortModBadHwAddr "OFPPMFC_BAD_HW_ADDR" 7 1;
    PortModBadConfig "OFPPMFC_BAD_CONFIG" 7 2;
    PortModBadAdvertise "OFPPMFC_BAD_ADVERTISE" 7 3;
    PortModEperm "OFPPMFC_EPERM" 7 4;
    TableModBadTable "OFPTMFC_BAD_TABLE" 8 0;
    TableModBadConfig "OFPTMFC_BAD_CONFIG" 8 1;
    TableModEperm "OFPTMFC_EPERM" 8 2;
    QueueBadPort "OFPQOFC_BAD_PORT" 9 0;
    QueueBadQueue "OFPQOFC_BAD_QUEUE" 9 1;
    QueueEperm "OFPQOFC_EPERM" 9 2;
    SwitchConfigBadFlags "OFPSCFC_BAD_FLAGS" 10 0;
    SwitchConfigBadLen "OFPSCFC_BAD_LEN" 10 1;
    SwitchConfigEperm "OFPSCFC_EPERM" 10 2;
    RoleStale "OFPRRFC_STALE" 11 0;
    RoleUnsup "OFPRRFC_UNSUP" 11 1;
    BadRole "OFPRRFC_BAD_ROLE" 11 2;
    MeterModUnknown "OFPMMFC_UNKNOWN" 12 0;
    MeterExists "OFPMMFC_METER_EXISTS" 12 1;
    InvalidMeter "OFPMMFC_INVALID_METER" 12 2;
    UnknownMeter "OFPMMFC_UNKNOWN_METER" 12 3;
    BadMeterCommand "OFPMMFC_BAD_COMMAND" 12 4;
    BadMeterFlags "OFPMMFC_BAD_FLAGS" 12 5;
    BadRate "OFPMMFC_BAD_RATE" 12 6;
    BadBurst "OFPMMFC_BAD_BURST" 12 7;
    BadBand "OFPMMFC_BAD_BAND" 12 8;
    BadBandValue "OFPMMFC_BAD_BAND_VALUE" 12 9;
    OutOfMeters "OFPMMFC_OUT_OF_METERS" 12 10;
    OutOfBands "OFPMMFC_OUT_OF_BANDS" 12 11;
    TableFeaturesBadTable "OFPTFFC_BAD_TABLE" 13 0;
    TableFeaturesBadMetadata "OFPTFFC_BAD_METADATA" 13 1;
    TableFeaturesBadType "OFPTFFC_BAD_TYPE" 13 2;
    TableFeaturesBadLen "OFPTFFC_BAD_LEN" 13 3;
    TableFeaturesBadArgument "OFPTFFC_BAD_ARGUMENT" 13 4;
    TableFeaturesEperm "OFPTFFC_EPERM" 13 5;
    AsyncInvalid "OFPACFC_INVALID" 15 0;
    AsyncUnsupported "OFPACFC_UNSUPPORTED" 15 1;
    AsyncEperm "OFPACFC_EPERM" 15 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// How many codes each type has, numbered from zero without a gap (OpenFlow 1.3.5 7.5.4; the last from 1.4).
    const CODES: [(u16, u16); 15] = [
        (0, 2),
        (1, 14),
        (2, 16),
        (3, 10),
        (4, 12),
        (5, 8),
        (6, 15),
        (7, 5),
        (8, 3),
        (9, 3),
        (10, 3),
        (11, 3),
        (12, 12),
        (13, 6),
        (15, 3),
    ];

    #[test]
    fn every_code_of_the_specification_has_a_name_of_its_own() {
        let mut names = HashSet::new();
        for (kind, count) in CODES {
            for code in 0..count {
                let named = ErrorKind::from_type_and_code(kind, code);
                assert!(
                    !matches!(named, ErrorKind::Other { .. }),
                    "({kind},{code}) has no name"
                );
                assert_eq!(named.type_and_code(), (kind, code));
                assert!(names.insert(named.name()), "{} twice", named.name());
            }
        }
        assert_eq!(names.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn meters_have_the_numbers_of_the_specification() {
        for (kind, code) in [
            (ErrorKind::InvalidMeter, 2),
            (ErrorKind::UnknownMeter, 3),
            (ErrorKind::OutOfMeters, 10),
        ] {
            assert_eq!(kind.type_and_code(), (12, code));
        }
    }
}
