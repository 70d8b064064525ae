//! Information elements and templates of the export.
//!
//! Standard elements where IANA has one; beside them our own, under the enterprise number that the
//! configuration states. The reverse direction of a session carries the standard elements under
//! the reverse enterprise number.
//!
//! Source: RFC 7012 (information model), RFC 5103 §6 (reverse elements), RFC 5610 (types of
//! enterprise elements), RFC 8158 (NAT events).

/// Enterprise number of reverse elements. Source: RFC 5103 §6.1.
pub const REVERSE_PEN: u32 = 29_305;

/// Length of a field whose records state their own length. Source: RFC 7011 §7.
pub(super) const VARIABLE: u16 = u16::MAX;

/// Who defines an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// IANA.
    Standard,
    /// IANA, for the other direction of a biflow.
    Reverse,
    /// Us, under the configured enterprise number.
    Own,
}

/// One field of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Who defines it.
    pub owner: Owner,
    /// Number of the element.
    pub element: u16,
    /// Octets of a value; 65535: each record states it.
    pub length: u16,
}

const fn standard(element: u16, length: u16) -> Field {
    Field {
        owner: Owner::Standard,
        element,
        length,
    }
}

const fn reverse(element: u16, length: u16) -> Field {
    Field {
        owner: Owner::Reverse,
        element,
        length,
    }
}

/// Abstract data types. Source: RFC 5610 §3.1.
mod data_type {
    pub(super) const OCTETS: u8 = 0;
    pub(super) const U8: u8 = 1;
    pub(super) const U16: u8 = 2;
    pub(super) const U32: u8 = 3;
    pub(super) const U64: u8 = 4;
    pub(super) const STRING: u8 = 13;
}

/// Semantics. Source: RFC 5610 §3.6.
mod semantics {
    pub(super) const DEFAULT: u8 = 0;
    pub(super) const QUANTITY: u8 = 1;
    pub(super) const TOTAL: u8 = 2;
    pub(super) const IDENTIFIER: u8 = 4;
}

/// Units. Source: RFC 5610 §3.7.
mod units {
    pub(super) const NONE: u16 = 0;
    pub(super) const OCTETS: u16 = 2;
}

/// What a collector is told about one of our own elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnElement {
    /// Its field.
    pub field: Field,
    /// Its name.
    pub name: &'static str,
    pub(super) data_type: u8,
    pub(super) semantics: u8,
    pub(super) units: u16,
}

macro_rules! own_elements {
    ($($(#[$doc:meta])* $constant:ident = $id:literal $name:literal
        $length:expr, $data_type:ident, $semantics:ident, $units:ident;)*) => {
        $($(#[$doc])* pub(super) const $constant: Field = Field {
            owner: Owner::Own,
            element: $id,
            length: $length,
        };)*

        /// Our own elements in the order of their numbers. A number never changes its meaning.
        pub const OWN_ELEMENTS: &[OwnElement] = &[$(OwnElement {
            field: $constant,
            name: $name,
            data_type: data_type::$data_type,
            semantics: semantics::$semantics,
            units: units::$units,
        }),*];
    };
}

own_elements! {
    /// The session's id.
    SESSION_ID = 1 "qlinkSessionId" 16, OCTETS, IDENTIFIER, NONE;
    /// Our uplink tunnel endpoint.
    TEID = 2 "qlinkTeid" 4, U32, IDENTIFIER, NONE;
    /// The sponsor's package; zeros: no sponsor.
    PACKAGE_ID = 3 "qlinkPackageId" 16, OCTETS, IDENTIFIER, NONE;
    /// Terms of the package.
    PACKAGE_EPOCH = 4 "qlinkPackageEpoch" 4, U32, IDENTIFIER, NONE;
    /// Who is rewarded; zeros: nobody.
    VIEWER_KEY = 5 "qlinkViewerKey" 32, OCTETS, IDENTIFIER, NONE;
    /// BLAKE3 root of a content.
    CONTENT_ID = 6 "qlinkContentId" 32, OCTETS, IDENTIFIER, NONE;
    /// Start of the counters: another value means that they began again.
    INCARNATION = 7 "qlinkIncarnation" 8, U64, IDENTIFIER, NONE;
    /// TCP and UDP payload, the sum of the seven classes behind it.
    WIRE_PAYLOAD = 8 "qlinkWirePayloadOctets" 8, U64, TOTAL, OCTETS;
    /// Content proven and acknowledged for the first time.
    VERIFIED_UNIQUE = 9 "qlinkVerifiedUniqueOctets" 8, U64, TOTAL, OCTETS;
    /// Copies of the same stream positions.
    RETRANSMIT = 10 "qlinkRetransmitOctets" 8, U64, TOTAL, OCTETS;
    /// Content proven and acknowledged again.
    VERIFIED_REPEAT = 11 "qlinkVerifiedRepeatOctets" 8, U64, TOTAL, OCTETS;
    /// Heads and framing within the allowance.
    OVERHEAD_ALLOWED = 12 "qlinkOverheadAllowedOctets" 8, U64, TOTAL, OCTETS;
    /// Proven bytes whose flow ended without an acknowledgement.
    UNDELIVERED = 13 "qlinkUndeliveredOctets" 8, U64, TOTAL, OCTETS;
    /// Everything that the sponsor does not pay.
    USER_CHARGED = 14 "qlinkUserChargedOctets" 8, U64, TOTAL, OCTETS;
    /// Proven bytes that wait for their acknowledgement: goes up and down.
    PENDING = 15 "qlinkPendingOctets" 8, U64, QUANTITY, OCTETS;
    /// What the personal payer is billed.
    PERSONAL = 16 "qlinkPersonalOctets" 8, U64, TOTAL, OCTETS;
    /// Network bytes that a kill may have left uncounted.
    UNCERTAIN = 17 "qlinkUncertainOctets" 8, U64, TOTAL, OCTETS;
    /// Times that the classes did not add up; zero in a sound build.
    VIOLATIONS = 18 "qlinkConservationViolations" 8, U64, TOTAL, NONE;
    /// Why packets were not forwarded.
    DROP_REASON = 19 "qlinkDropReason" VARIABLE, STRING, DEFAULT, NONE;
    /// Which worker counts.
    WORKER = 20 "qlinkWorker" 2, U16, IDENTIFIER, NONE;
    /// Who pays for the rest: 1 a personal package, 2 the operator, 3 nobody (it is blocked).
    PAYER = 21 "qlinkPayer" 1, U8, IDENTIFIER, NONE;
}

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Its number, 256 or above.
    pub id: u16,
    /// How many of its first fields are scope; 0: no options template.
    pub scopes: u16,
    /// Its fields in order.
    pub fields: &'static [Field],
}

const FLOW_START: Field = standard(152, 8);
const FLOW_END: Field = standard(153, 8);
const FLOW_END_REASON: Field = standard(136, 1);
const BIFLOW_DIRECTION: Field = standard(239, 1);
const SOURCE_V4: Field = standard(8, 4);
const SOURCE_V6: Field = standard(27, 16);
const OCTETS: Field = standard(85, 8);
const PACKETS: Field = standard(86, 8);
const OCTETS_BACK: Field = reverse(85, 8);
const PACKETS_BACK: Field = reverse(86, 8);
const OBSERVED: Field = standard(323, 8);

macro_rules! session_fields {
    ($address:expr) => {
        &[
            FLOW_START,
            FLOW_END,
            FLOW_END_REASON,
            BIFLOW_DIRECTION,
            $address,
            OCTETS,
            PACKETS,
            OCTETS_BACK,
            PACKETS_BACK,
            SESSION_ID,
            INCARNATION,
            TEID,
            PAYER,
            PACKAGE_ID,
            PACKAGE_EPOCH,
            VIEWER_KEY,
            WIRE_PAYLOAD,
            VERIFIED_UNIQUE,
            RETRANSMIT,
            VERIFIED_REPEAT,
            OVERHEAD_ALLOWED,
            UNDELIVERED,
            USER_CHARGED,
            PENDING,
            PERSONAL,
            UNCERTAIN,
            VIOLATIONS,
        ]
    };
}

/// A session whose subscriber has an IPv4 address.
pub const SESSION_V4: Template = Template {
    id: 256,
    scopes: 0,
    fields: session_fields!(SOURCE_V4),
};

/// A session whose subscriber has an IPv6 address.
pub const SESSION_V6: Template = Template {
    id: 257,
    scopes: 0,
    fields: session_fields!(SOURCE_V6),
};

/// A content in a session.
pub const CONTENT: Template = Template {
    id: 258,
    scopes: 0,
    // No time of its own: the message's will do, and a collector that knows element 323 from NAT
    // logs alone (nfdump 1.7) would take the record for such an event.
    fields: &[
        SESSION_ID,
        INCARNATION,
        CONTENT_ID,
        WIRE_PAYLOAD,
        VERIFIED_UNIQUE,
        RETRANSMIT,
        VERIFIED_REPEAT,
        OVERHEAD_ALLOWED,
        UNDELIVERED,
        USER_CHARGED,
        PENDING,
    ],
};

/// Packets dropped by one worker for one reason.
pub const DROPS: Template = Template {
    id: 259,
    scopes: 0,
    // droppedPacketTotalCount.
    fields: &[standard(135, 8), INCARNATION, WORKER, DROP_REASON],
};

/// A block of ports that NAT gave to a subscriber or took back. Source: RFC 8158 §5.6.1.
pub const PORT_BLOCK: Template = Template {
    id: 260,
    scopes: 0,
    fields: &[
        OBSERVED,
        standard(230, 1), // natEvent
        SOURCE_V4,
        standard(225, 4), // postNATSourceIPv4Address
        standard(361, 2), // portRangeStart
        standard(362, 2), // portRangeEnd
        SESSION_ID,
    ],
};

/// The same of a subscriber behind NAT64.
pub const PORT_BLOCK_V6: Template = Template {
    id: 262,
    scopes: 0,
    fields: &[
        OBSERVED,
        standard(230, 1), // natEvent
        SOURCE_V6,
        standard(225, 4), // postNATSourceIPv4Address
        standard(361, 2), // portRangeStart
        standard(362, 2), // portRangeEnd
        SESSION_ID,
    ],
};

/// Name and type of one of our elements. Source: RFC 5610 §3.9.
pub const TYPE_INFORMATION: Template = Template {
    id: 261,
    scopes: 2,
    fields: &[
        standard(346, 4), // privateEnterpriseNumber
        standard(303, 2), // informationElementId
        standard(339, 1), // informationElementDataType
        standard(344, 1), // informationElementSemantics
        standard(345, 2), // informationElementUnits
        standard(341, VARIABLE),
    ],
};

/// Every template, in the order of their numbers.
pub const TEMPLATES: &[Template] = &[
    SESSION_V4,
    SESSION_V6,
    CONTENT,
    DROPS,
    PORT_BLOCK,
    TYPE_INFORMATION,
    PORT_BLOCK_V6,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_elements_are_numbered_without_gaps_and_templates_too() {
        for (number, element) in (1..).zip(OWN_ELEMENTS) {
            assert_eq!(element.field.element, number, "{}", element.name);
        }
        for (id, template) in (256..).zip(TEMPLATES) {
            assert_eq!(template.id, id);
        }
    }
}
