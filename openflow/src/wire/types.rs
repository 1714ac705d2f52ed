//! The numbers of message types: what each version has, and what experimenters gave to which.
//!
//! One row a message: its name, and runs of wire versions (1 is OpenFlow 1.0, 6 is 1.5) in which it
//! has a number. Decoders, encoders and the table of what weir speaks read these rows.

macro_rules! types {
    ($(#[$doc:meta])* $table:ident; $($id:ident $name:literal $($first:literal - $last:literal $number:literal),+;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "each variant is documented by its row of the table")]
        pub enum $table { $($id,)* }

        impl $table {
            /// Every row.
            pub const ALL: &'static [$table] = &[$($table::$id,)*];

            /// The specification's or the experimenter's name.
            pub fn name(self) -> &'static str {
                match self { $($table::$id => $name,)* }
            }

            /// Runs of versions with the number it has in them: first, last, number.
            pub fn rows(self) -> &'static [(u8, u8, u32)] {
                match self { $($table::$id => &[$(($first, $last, $number),)+],)* }
            }

            /// Its number in a version, if that version has it.
            pub fn number(self, version: u8) -> Option<u32> {
                let row = self.rows().iter().find(|r| (r.0..=r.1).contains(&version));
                row.map(|r| r.2)
            }

            /// What a number stands for in a version.
            pub fn of(version: u8, number: u32) -> Option<$table> {
                $table::ALL.iter().copied().find(|t| t.number(version) == Some(number))
            }
        }
    };
}

types! {
    /// The specification's messages, `ofp_type`.
    MessageType;
    Hello "OFPT_HELLO" 1-6 0;
    Error "OFPT_ERROR" 1-6 1;
    EchoRequest "OFPT_ECHO_REQUEST" 1-6 2;
    EchoReply "OFPT_ECHO_REPLY" 1-6 3;
    Experimenter "OFPT_EXPERIMENTER" 1-6 4;
    FeaturesRequest "OFPT_FEATURES_REQUEST" 1-6 5;
    FeaturesReply "OFPT_FEATURES_REPLY" 1-6 6;
    GetConfigRequest "OFPT_GET_CONFIG_REQUEST" 1-6 7;
    GetConfigReply "OFPT_GET_CONFIG_REPLY" 1-6 8;
    SetConfig "OFPT_SET_CONFIG" 1-6 9;
    PacketIn "OFPT_PACKET_IN" 1-6 10;
    FlowRemoved "OFPT_FLOW_REMOVED" 1-6 11;
    PortStatus "OFPT_PORT_STATUS" 1-6 12;
    PacketOut "OFPT_PACKET_OUT" 1-6 13;
    FlowMod "OFPT_FLOW_MOD" 1-6 14;
    GroupMod "OFPT_GROUP_MOD" 2-6 15;
    PortMod "OFPT_PORT_MOD" 1-1 15, 2-6 16;
    TableMod "OFPT_TABLE_MOD" 2-6 17;
    MultipartRequest "OFPT_MULTIPART_REQUEST" 1-1 16, 2-6 18;
    MultipartReply "OFPT_MULTIPART_REPLY" 1-1 17, 2-6 19;
    BarrierRequest "OFPT_BARRIER_REQUEST" 1-1 18, 2-6 20;
    BarrierReply "OFPT_BARRIER_REPLY" 1-1 19, 2-6 21;
    QueueGetConfigRequest "OFPT_QUEUE_GET_CONFIG_REQUEST" 1-1 20, 2-4 22;
    QueueGetConfigReply "OFPT_QUEUE_GET_CONFIG_REPLY" 1-1 21, 2-4 23;
    RoleRequest "OFPT_ROLE_REQUEST" 3-6 24;
    RoleReply "OFPT_ROLE_REPLY" 3-6 25;
    GetAsyncRequest "OFPT_GET_ASYNC_REQUEST" 4-6 26;
    GetAsyncReply "OFPT_GET_ASYNC_REPLY" 4-6 27;
    SetAsync "OFPT_SET_ASYNC" 4-6 28;
    MeterMod "OFPT_METER_MOD" 4-6 29;
    RoleStatus "OFPT_ROLE_STATUS" 5-6 30;
    TableStatus "OFPT_TABLE_STATUS" 5-6 31;
    RequestForward "OFPT_REQUESTFORWARD" 5-6 32;
    BundleControl "OFPT_BUNDLE_CONTROL" 5-6 33;
    BundleAdd "OFPT_BUNDLE_ADD_MESSAGE" 5-6 34;
    ControllerStatus "OFPT_CONTROLLER_STATUS" 6-6 35;
}

types! {
    /// The specification's multipart messages (statistics before 1.3), `ofp_multipart_type`. Open
    /// vSwitch has port descriptions in every version.
    MultipartType;
    Desc "OFPMP_DESC" 1-6 0;
    Flow "OFPMP_FLOW" 1-6 1;
    Aggregate "OFPMP_AGGREGATE" 1-6 2;
    Table "OFPMP_TABLE" 1-6 3;
    PortStats "OFPMP_PORT_STATS" 1-6 4;
    Queue "OFPMP_QUEUE" 1-6 5;
    Group "OFPMP_GROUP" 2-6 6;
    GroupDesc "OFPMP_GROUP_DESC" 2-6 7;
    GroupFeatures "OFPMP_GROUP_FEATURES" 3-6 8;
    Meter "OFPMP_METER" 4-6 9;
    MeterConfig "OFPMP_METER_CONFIG" 4-6 10;
    MeterFeatures "OFPMP_METER_FEATURES" 4-6 11;
    TableFeatures "OFPMP_TABLE_FEATURES" 4-6 12;
    PortDesc "OFPMP_PORT_DESC" 1-6 13;
    TableDesc "OFPMP_TABLE_DESC" 5-6 14;
    QueueDesc "OFPMP_QUEUE_DESC" 5-6 15;
    FlowMonitor "OFPMP_FLOW_MONITOR" 5-6 16;
    FlowStats "OFPMP_FLOW_STATS" 6-6 17;
    ControllerStatus "OFPMP_CONTROLLER_STATUS" 6-6 18;
    BundleFeatures "OFPMP_BUNDLE_FEATURES" 6-6 19;
    Experimenter "OFPMP_EXPERIMENTER" 1-6 0xffff;
}

types! {
    /// Nicira's messages, `NXT_*`, in the versions in which Open vSwitch has them.
    NiciraType;
    RoleRequest "NXT_ROLE_REQUEST" 1-6 10;
    RoleReply "NXT_ROLE_REPLY" 1-6 11;
    SetFlowFormat "NXT_SET_FLOW_FORMAT" 1-1 12;
    FlowMod "NXT_FLOW_MOD" 1-1 13;
    FlowRemoved "NXT_FLOW_REMOVED" 1-1 14;
    FlowModTableId "NXT_FLOW_MOD_TABLE_ID" 1-6 15;
    SetPacketInFormat "NXT_SET_PACKET_IN_FORMAT" 1-6 16;
    PacketIn "NXT_PACKET_IN" 1-6 17;
    FlowAge "NXT_FLOW_AGE" 1-6 18;
    SetAsync "NXT_SET_ASYNC_CONFIG" 1-6 19;
    SetControllerId "NXT_SET_CONTROLLER_ID" 1-6 20;
    FlowMonitorCancel "NXT_FLOW_MONITOR_CANCEL" 1-3 21;
    FlowMonitorPaused "NXT_FLOW_MONITOR_PAUSED" 1-3 22;
    FlowMonitorResumed "NXT_FLOW_MONITOR_RESUMED" 1-3 23;
    TlvTableMod "NXT_TLV_TABLE_MOD" 1-6 24;
    TlvTableRequest "NXT_TLV_TABLE_REQUEST" 1-6 25;
    TlvTableReply "NXT_TLV_TABLE_REPLY" 1-6 26;
    SetAsync2 "NXT_SET_ASYNC_CONFIG2" 1-4 27;
    Resume "NXT_RESUME" 1-6 28;
    CtFlushZone "NXT_CT_FLUSH_ZONE" 1-6 29;
    PacketIn2 "NXT_PACKET_IN2" 1-6 30;
    GroupMod "NXT_GROUP_MOD" 1-1 31;
    RequestForward "NXT_REQUESTFORWARD" 1-3 132;
}

types! {
    /// The ONF's messages, `ONFT_*`: extensions of 1.3 that 1.4 took over.
    OnfType;
    FlowMonitorCancel "ONFT_FLOW_MONITOR_CANCEL" 4-4 1870;
    FlowMonitorPaused "ONFT_FLOW_MONITOR_PAUSED" 4-4 1871;
    FlowMonitorResumed "ONFT_FLOW_MONITOR_RESUMED" 4-4 1872;
    RoleStatus "ONFT_ROLE_STATUS" 4-4 1911;
    BundleControl "ONFT_BUNDLE_CONTROL" 4-4 2300;
    BundleAdd "ONFT_BUNDLE_ADD_MESSAGE" 4-4 2301;
    RequestForward "ONFT_REQUESTFORWARD" 4-4 2350;
}

types! {
    /// Nicira's multipart messages, `NXST_*`.
    NiciraMultipart;
    Flow "NXST_FLOW" 1-1 0;
    Aggregate "NXST_AGGREGATE" 1-1 1;
    FlowMonitor "NXST_FLOW_MONITOR" 1-3 2;
    IpfixBridge "NXST_IPFIX_BRIDGE" 1-6 3;
    IpfixFlow "NXST_IPFIX_FLOW" 1-6 4;
    Group "NXST_GROUP" 1-1 7;
    GroupDesc "NXST_GROUP_DESC" 1-1 8;
    GroupFeatures "NXST_GROUP_FEATURES" 1-2 9;
}

types! {
    /// The ONF's multipart messages, `ONFST_*`.
    OnfMultipart;
    FlowMonitor "ONFST_FLOW_MONITOR" 4-4 1870;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_stands_for_one_message() {
        for version in 1..=6 {
            for t in MessageType::ALL {
                if let Some(n) = t.number(version) {
                    assert_eq!(MessageType::of(version, n), Some(*t));
                }
            }
            for t in MultipartType::ALL {
                if let Some(n) = t.number(version) {
                    assert_eq!(MultipartType::of(version, n), Some(*t));
                }
            }
            for t in NiciraType::ALL {
                if let Some(n) = t.number(version) {
                    assert_eq!(NiciraType::of(version, n), Some(*t));
                }
            }
        }
        assert_eq!(MessageType::of(5, 22), None, "queue descriptions took over");
        assert_eq!(MessageType::of(1, 18), Some(MessageType::BarrierRequest));
    }
}
