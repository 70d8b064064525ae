//! Numbers of information elements and causes.

use std::fmt;

macro_rules! numbers {
    (
        $(#[$doc:meta])*
        $name:ident($inner:ty), $what:literal;
        $($constant:ident = $number:literal, $text:literal;)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name($inner);

        #[expect(missing_docs, reason = "the names of the standard")]
        impl $name {
            $(pub const $constant: Self = Self($number);)*

            /// Those that have a name here, in the order of their numbers.
            pub const NAMED: &[Self] = &[$(Self::$constant),*];
        }

        impl $name {
            /// From its number; every number is possible on the wire.
            #[must_use]
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// Its number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// Its name; `None` for a number without one here.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($text),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => write!(f, "{} {} ({name})", $what, self.0),
                    None => write!(f, "{} {}", $what, self.0),
                }
            }
        }
    };
}

numbers! {
    /// The type of an information element. Source: TS 29.244 §8.1.2, table 8.1.2-1.
    IeType(u16), "IE";
    RESERVED = 0, "reserved";
    CREATE_PDR = 1, "Create PDR";
    PDI = 2, "PDI";
    CREATE_FAR = 3, "Create FAR";
    FORWARDING_PARAMETERS = 4, "Forwarding Parameters";
    DUPLICATING_PARAMETERS = 5, "Duplicating Parameters";
    CREATE_URR = 6, "Create URR";
    CREATE_QER = 7, "Create QER";
    CREATED_PDR = 8, "Created PDR";
    UPDATE_PDR = 9, "Update PDR";
    UPDATE_FAR = 10, "Update FAR";
    UPDATE_FORWARDING_PARAMETERS = 11, "Update Forwarding Parameters";
    UPDATE_BAR_IN_REPORT_RESPONSE = 12, "Update BAR in Session Report Response";
    UPDATE_URR = 13, "Update URR";
    UPDATE_QER = 14, "Update QER";
    REMOVE_PDR = 15, "Remove PDR";
    REMOVE_FAR = 16, "Remove FAR";
    REMOVE_URR = 17, "Remove URR";
    REMOVE_QER = 18, "Remove QER";
    CAUSE = 19, "Cause";
    SOURCE_INTERFACE = 20, "Source Interface";
    F_TEID = 21, "F-TEID";
    NETWORK_INSTANCE = 22, "Network Instance";
    SDF_FILTER = 23, "SDF Filter";
    APPLICATION_ID = 24, "Application ID";
    GATE_STATUS = 25, "Gate Status";
    MBR = 26, "MBR";
    GBR = 27, "GBR";
    QER_CORRELATION_ID = 28, "QER Correlation ID";
    PRECEDENCE = 29, "Precedence";
    TRANSPORT_LEVEL_MARKING = 30, "Transport Level Marking";
    VOLUME_THRESHOLD = 31, "Volume Threshold";
    TIME_THRESHOLD = 32, "Time Threshold";
    MONITORING_TIME = 33, "Monitoring Time";
    SUBSEQUENT_VOLUME_THRESHOLD = 34, "Subsequent Volume Threshold";
    SUBSEQUENT_TIME_THRESHOLD = 35, "Subsequent Time Threshold";
    INACTIVITY_DETECTION_TIME = 36, "Inactivity Detection Time";
    REPORTING_TRIGGERS = 37, "Reporting Triggers";
    REDIRECT_INFORMATION = 38, "Redirect Information";
    REPORT_TYPE = 39, "Report Type";
    OFFENDING_IE = 40, "Offending IE";
    FORWARDING_POLICY = 41, "Forwarding Policy";
    DESTINATION_INTERFACE = 42, "Destination Interface";
    UP_FUNCTION_FEATURES = 43, "UP Function Features";
    APPLY_ACTION = 44, "Apply Action";
    DOWNLINK_DATA_SERVICE_INFORMATION = 45, "Downlink Data Service Information";
    DOWNLINK_DATA_NOTIFICATION_DELAY = 46, "Downlink Data Notification Delay";
    DL_BUFFERING_DURATION = 47, "DL Buffering Duration";
    DL_BUFFERING_SUGGESTED_PACKET_COUNT = 48, "DL Buffering Suggested Packet Count";
    PFCPSMREQ_FLAGS = 49, "PFCPSMReq-Flags";
    PFCPSRRSP_FLAGS = 50, "PFCPSRRsp-Flags";
    PDR_ID = 56, "PDR ID";
    F_SEID = 57, "F-SEID";
    APPLICATION_IDS_PFDS = 58, "Application ID's PFDs";
    PFD_CONTEXT = 59, "PFD context";
    NODE_ID = 60, "Node ID";
    PFD_CONTENTS = 61, "PFD contents";
    MEASUREMENT_METHOD = 62, "Measurement Method";
    USAGE_REPORT_TRIGGER = 63, "Usage Report Trigger";
    MEASUREMENT_PERIOD = 64, "Measurement Period";
    FQ_CSID = 65, "FQ-CSID";
    VOLUME_MEASUREMENT = 66, "Volume Measurement";
    DURATION_MEASUREMENT = 67, "Duration Measurement";
    TIME_OF_FIRST_PACKET = 69, "Time of First Packet";
    TIME_OF_LAST_PACKET = 70, "Time of Last Packet";
    QUOTA_HOLDING_TIME = 71, "Quota Holding Time";
    DROPPED_DL_TRAFFIC_THRESHOLD = 72, "Dropped DL Traffic Threshold";
    VOLUME_QUOTA = 73, "Volume Quota";
    TIME_QUOTA = 74, "Time Quota";
    START_TIME = 75, "Start Time";
    END_TIME = 76, "End Time";
    QUERY_URR = 77, "Query URR";
    USAGE_REPORT_IN_MODIFICATION_RESPONSE = 78, "Usage Report in Session Modification Response";
    USAGE_REPORT_IN_DELETION_RESPONSE = 79, "Usage Report in Session Deletion Response";
    USAGE_REPORT_IN_REPORT_REQUEST = 80, "Usage Report in Session Report Request";
    URR_ID = 81, "URR ID";
    LINKED_URR_ID = 82, "Linked URR ID";
    DOWNLINK_DATA_REPORT = 83, "Downlink Data Report";
    OUTER_HEADER_CREATION = 84, "Outer Header Creation";
    CREATE_BAR = 85, "Create BAR";
    UPDATE_BAR = 86, "Update BAR";
    REMOVE_BAR = 87, "Remove BAR";
    BAR_ID = 88, "BAR ID";
    CP_FUNCTION_FEATURES = 89, "CP Function Features";
    USAGE_INFORMATION = 90, "Usage Information";
    UE_IP_ADDRESS = 93, "UE IP Address";
    PACKET_RATE = 94, "Packet Rate";
    OUTER_HEADER_REMOVAL = 95, "Outer Header Removal";
    RECOVERY_TIME_STAMP = 96, "Recovery Time Stamp";
    HEADER_ENRICHMENT = 98, "Header Enrichment";
    ERROR_INDICATION_REPORT = 99, "Error Indication Report";
    MEASUREMENT_INFORMATION = 100, "Measurement Information";
    NODE_REPORT_TYPE = 101, "Node Report Type";
    USER_PLANE_PATH_FAILURE_REPORT = 102, "User Plane Path Failure Report";
    REMOTE_GTPU_PEER = 103, "Remote GTP-U Peer";
    UR_SEQN = 104, "UR-SEQN";
    UPDATE_DUPLICATING_PARAMETERS = 105, "Update Duplicating Parameters";
    ACTIVATE_PREDEFINED_RULES = 106, "Activate Predefined Rules";
    DEACTIVATE_PREDEFINED_RULES = 107, "Deactivate Predefined Rules";
    FAR_ID = 108, "FAR ID";
    QER_ID = 109, "QER ID";
    PFCP_ASSOCIATION_RELEASE_REQUEST = 111, "PFCP Association Release Request";
    GRACEFUL_RELEASE_PERIOD = 112, "Graceful Release Period";
    PDN_TYPE = 113, "PDN Type";
    FAILED_RULE_ID = 114, "Failed Rule ID";
    USER_PLANE_IP_RESOURCE_INFORMATION = 116, "User Plane IP Resource Information";
    USER_PLANE_INACTIVITY_TIMER = 117, "User Plane Inactivity Timer";
    AGGREGATED_URRS = 118, "Aggregated URRs";
    SUBSEQUENT_VOLUME_QUOTA = 121, "Subsequent Volume Quota";
    SUBSEQUENT_TIME_QUOTA = 122, "Subsequent Time Quota";
    QFI = 124, "QFI";
    QUERY_URR_REFERENCE = 125, "Query URR Reference";
    ADDITIONAL_USAGE_REPORTS_INFORMATION = 126, "Additional Usage Reports Information";
    CREATE_TRAFFIC_ENDPOINT = 127, "Create Traffic Endpoint";
    CREATED_TRAFFIC_ENDPOINT = 128, "Created Traffic Endpoint";
    UPDATE_TRAFFIC_ENDPOINT = 129, "Update Traffic Endpoint";
    REMOVE_TRAFFIC_ENDPOINT = 130, "Remove Traffic Endpoint";
    TRAFFIC_ENDPOINT_ID = 131, "Traffic Endpoint ID";
    ETHERNET_PACKET_FILTER = 132, "Ethernet Packet Filter";
    SUGGESTED_BUFFERING_PACKETS_COUNT = 140, "Suggested Buffering Packets Count";
    ETHERNET_PDU_SESSION_INFORMATION = 142, "Ethernet PDU Session Information";
    ADDITIONAL_MONITORING_TIME = 147, "Additional Monitoring Time";
    EVENT_QUOTA = 148, "Event Quota";
    EVENT_THRESHOLD = 149, "Event Threshold";
    PFCPSRREQ_FLAGS = 161, "PFCPSRReq-Flags";
    PFCPAUREQ_FLAGS = 162, "PFCPAUReq-Flags";
    ACTIVATION_TIME = 163, "Activation Time";
    DEACTIVATION_TIME = 164, "Deactivation Time";
    CREATE_MAR = 165, "Create MAR";
    REMOVE_MAR = 168, "Remove MAR";
    UPDATE_MAR = 169, "Update MAR";
    MAR_ID = 170, "MAR ID";
    ALTERNATIVE_SMF_IP_ADDRESS = 178, "Alternative SMF IP Address";
    SMF_SET_ID = 180, "SMF Set ID";
    QUOTA_VALIDITY_TIME = 181, "Quota Validity Time";
    USER_PLANE_PATH_RECOVERY_REPORT = 187, "User Plane Path Recovery Report";
    IP_MULTICAST_ADDRESSING_INFO = 188, "IP Multicast Addressing Info";
    CREATE_SRR = 212, "Create SRR";
    REDUNDANT_TRANSMISSION_PARAMETERS = 255, "Redundant Transmission Parameters";
    PFCP_SESSION_CHANGE_INFO = 290, "PFCP Session Change Info";
    GROUP_ID = 291, "Group ID";
    CP_IP_ADDRESS = 292, "CP IP Address";
    CONTENT_ROOT = 0x8001, "Qlink Content Root";
    VOLUME_KIND = 0x8002, "Qlink Volume Kind";
    PACKAGE = 0x8003, "Qlink Package";
}

impl IeType {
    /// Whether an enterprise number follows its length. Source: TS 29.244 §8.1.1.
    #[must_use]
    pub const fn is_vendor(self) -> bool {
        self.0 >= 0x8000
    }
}

numbers! {
    /// What came of a request; values below 64 say that it took effect, at least in part.
    ///
    /// Source: TS 29.244 §8.2.1, table 8.2.1-1.
    CauseCode(u8), "cause";
    REQUEST_ACCEPTED = 1, "request accepted";
    MORE_USAGE_REPORT_TO_SEND = 2, "more usage report to send";
    REQUEST_PARTIALLY_ACCEPTED = 3, "request partially accepted";
    REQUEST_REJECTED = 64, "request rejected";
    SESSION_CONTEXT_NOT_FOUND = 65, "session context not found";
    MANDATORY_IE_MISSING = 66, "mandatory IE missing";
    CONDITIONAL_IE_MISSING = 67, "conditional IE missing";
    INVALID_LENGTH = 68, "invalid length";
    MANDATORY_IE_INCORRECT = 69, "mandatory IE incorrect";
    INVALID_FORWARDING_POLICY = 70, "invalid forwarding policy";
    INVALID_F_TEID_ALLOCATION_OPTION = 71, "invalid F-TEID allocation option";
    NO_ESTABLISHED_ASSOCIATION = 72, "no established PFCP association";
    RULE_FAILURE = 73, "rule creation or modification failure";
    ENTITY_IN_CONGESTION = 74, "PFCP entity in congestion";
    NO_RESOURCES_AVAILABLE = 75, "no resources available";
    SERVICE_NOT_SUPPORTED = 76, "service not supported";
    SYSTEM_FAILURE = 77, "system failure";
    REDIRECTION_REQUESTED = 78, "redirection requested";
    ALL_DYNAMIC_ADDRESSES_OCCUPIED = 79, "all dynamic addresses are occupied";
    UNKNOWN_PREDEFINED_RULE = 80, "unknown predefined rule";
    UNKNOWN_APPLICATION_ID = 81, "unknown application id";
}

impl CauseCode {
    /// Whether the request took effect, at least in part.
    #[must_use]
    pub const fn is_accepted(self) -> bool {
        self.0 < 64
    }
}
