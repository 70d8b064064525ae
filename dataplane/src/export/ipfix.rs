//! Records as IPFIX messages.
//!
//! ```text
//! message  u16 10 | u16 length | u32 export time | u32 sequence | u32 domain | sets
//! set      u16 2 (templates), 3 (options templates) or a template's number | u16 length | records
//! ```
//!
//! Pure: records in, messages of at most [`MESSAGE_MAX`] bytes out. Counters are cumulative
//! (`...TotalCount`), so a lost message costs a collector nothing but time. The sequence number
//! counts data records, not messages, and starts at zero with each exporter.
//!
//! Source: RFC 7011 §3 (formats), §8.4 (templates over UDP), §10.3.3 (message size).

use std::net::{IpAddr, Ipv4Addr};

use qlink_types::ids::{ContentId, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::receipt::ByteClasses;
use qlink_types::units::{Incarnation, PackageEpoch};

use super::elements::{
    CONTENT, DROPS, Field, OWN_ELEMENTS, OwnElement, Owner, PORT_BLOCK, PORT_BLOCK_V6, REVERSE_PEN,
    SESSION_V4, SESSION_V6, TEMPLATES, TYPE_INFORMATION, Template,
};

/// Longest message in bytes (chosen: with IP and UDP headers below the smallest usual path MTU).
pub const MESSAGE_MAX: usize = 1400;

/// Source: RFC 7011 §3.1.
const VERSION: u16 = 10;
const HEADER: usize = 16;
const SET_HEADER: usize = 4;
const TEMPLATE_SET: u16 = 2;
const OPTIONS_TEMPLATE_SET: u16 = 3;
/// Marks an element with an enterprise number. Source: RFC 7011 §3.2.
const ENTERPRISE_BIT: u16 = 1 << 15;

/// Why a session's record is sent. Source: IANA element 136 (flowEndReason).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EndReason {
    /// It goes on: the record is one of many.
    Active = 2,
    /// It is closed: these counters are final.
    Closed = 3,
}

/// Who pays for the rest of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PayerKind {
    /// A personal package.
    Personal = 1,
    /// The operator.
    Operator = 2,
    /// Nobody.
    Block = 3,
}

/// Packets of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Volume {
    /// Inner IP bytes that were forwarded.
    pub octets: u64,
    /// Packets that were forwarded.
    pub packets: u64,
}

/// A session's counters; uplink is the flow's direction, downlink its reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRecord {
    /// When it was first seen, milliseconds since the Unix epoch.
    pub start_ms: u64,
    /// When its counters last changed.
    pub end_ms: u64,
    /// Whether it is closed.
    pub end: EndReason,
    /// The subscriber.
    pub ue: IpAddr,
    /// From the subscriber.
    pub uplink: Volume,
    /// To the subscriber.
    pub downlink: Volume,
    /// Its id.
    pub session: SessionId,
    /// Start of the counters.
    pub incarnation: Incarnation,
    /// Our uplink tunnel endpoint.
    pub teid: Teid,
    /// Who pays for the rest.
    pub payer: PayerKind,
    /// The sponsor's package, its terms, and who is rewarded.
    pub sponsor: Option<(PackageId, PackageEpoch, ViewerKey)>,
    /// Payload by class.
    pub classes: ByteClasses,
    /// What a personal payer is billed, in bytes.
    pub personal: u64,
    /// Network bytes that a kill may have left uncounted.
    pub uncertain: u64,
    /// Broken conservation laws.
    pub violations: u64,
}

/// A content's bytes in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRecord {
    /// The session.
    pub session: SessionId,
    /// Start of the counters.
    pub incarnation: Incarnation,
    /// The content.
    pub content: ContentId,
    /// Bytes judged against it, by class.
    pub classes: ByteClasses,
}

/// Packets that one worker dropped for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropRecord<'a> {
    /// How many so far.
    pub packets: u64,
    /// Start of the counters.
    pub incarnation: Incarnation,
    /// The worker.
    pub worker: u16,
    /// The reason's name, at most 254 bytes.
    pub reason: &'a str,
}

/// What happened to a block of ports. Source: RFC 8158 §4.2 (natEvent).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PortBlockEvent {
    /// Given to a subscriber.
    Allocated = 16,
    /// Taken back.
    Released = 17,
}

/// A block of ports behind which a subscriber stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortBlockRecord {
    /// When it happened, milliseconds since the Unix epoch.
    pub observed_ms: u64,
    /// What happened.
    pub event: PortBlockEvent,
    /// The subscriber, with the address that asked for the block.
    pub ue: IpAddr,
    /// The address that the world sees.
    pub outside: Ipv4Addr,
    /// First and last port of the block.
    pub ports: (u16, u16),
    /// The session.
    pub session: SessionId,
}

/// Anything that is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A session.
    Session(&'a SessionRecord),
    /// A content in a session.
    Content(&'a ContentRecord),
    /// Drops.
    Drops(&'a DropRecord<'a>),
    /// A NAT port block.
    PortBlock(&'a PortBlockRecord),
}

/// Puts records into messages and hands full ones to a closure.
#[derive(Debug)]
pub struct MessageWriter {
    domain: u32,
    pen: u32,
    /// Data records in messages that were handed out.
    sequence: u32,
    export_s: u32,
    message: Vec<u8>,
    /// Number and place of the set that is open.
    set: Option<(u16, usize)>,
    /// Data records in `message`.
    records: u32,
    scratch: Vec<u8>,
}

impl MessageWriter {
    /// For an observation domain and our enterprise number.
    #[must_use]
    pub fn new(domain: u32, pen: u32) -> Self {
        Self {
            domain,
            pen,
            sequence: 0,
            export_s: 0,
            message: Vec::with_capacity(MESSAGE_MAX),
            set: None,
            records: 0,
            scratch: Vec::with_capacity(512),
        }
    }

    /// Export time of the messages from now on, seconds since the Unix epoch.
    pub const fn set_time(&mut self, export_s: u32) {
        self.export_s = export_s;
    }

    /// Data records handed out, modulo 2^32: the next message's sequence number.
    #[must_use]
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Writes every template and what our own elements are.
    pub fn templates(&mut self, out: &mut impl FnMut(&[u8])) {
        let mut scratch = std::mem::take(&mut self.scratch);
        for template in TEMPLATES {
            scratch.clear();
            template_record(template, self.pen, &mut scratch);
            let set = if template.scopes == 0 {
                TEMPLATE_SET
            } else {
                OPTIONS_TEMPLATE_SET
            };
            self.append(set, &scratch, 0, out);
        }
        for element in OWN_ELEMENTS {
            scratch.clear();
            type_record(element, self.pen, &mut scratch);
            self.append(TYPE_INFORMATION.id, &scratch, 1, out);
        }
        self.scratch = scratch;
    }

    /// Writes a record.
    pub fn record(&mut self, record: &Record<'_>, out: &mut impl FnMut(&[u8])) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let template = match record {
            Record::Session(record) => session_record(record, &mut scratch),
            Record::Content(record) => content_record(record, &mut scratch),
            Record::Drops(record) => drop_record(record, &mut scratch),
            Record::PortBlock(record) => port_block_record(record, &mut scratch),
        };
        self.append(template.id, &scratch, 1, out);
        self.scratch = scratch;
    }

    /// Hands out what is left.
    pub fn flush(&mut self, out: &mut impl FnMut(&[u8])) {
        if self.message.len() > HEADER {
            self.close_set();
            let length = field_u16(self.message.len());
            let mut header = Vec::with_capacity(HEADER);
            header.extend(VERSION.to_be_bytes());
            header.extend(length.to_be_bytes());
            header.extend(self.export_s.to_be_bytes());
            header.extend(self.sequence.to_be_bytes());
            header.extend(self.domain.to_be_bytes());
            overwrite(&mut self.message, 0, &header);
            out(&self.message);
            self.sequence = self.sequence.wrapping_add(self.records);
        }
        self.records = 0;
        self.set = None;
        self.message.clear();
    }

    /// Adds a record of `data` data records (0: a template) to its set.
    fn append(&mut self, set: u16, record: &[u8], data: u32, out: &mut impl FnMut(&[u8])) {
        let same = self.set.is_some_and(|(open, _)| open == set);
        let head = if same { 0 } else { SET_HEADER };
        let needed = self.message.len().max(HEADER).saturating_add(head);
        if needed.saturating_add(record.len()) > MESSAGE_MAX {
            self.flush(out);
        }
        if self.message.is_empty() {
            self.message.resize(HEADER, 0);
        }
        if self.set.is_none_or(|(open, _)| open != set) {
            self.close_set();
            self.set = Some((set, self.message.len()));
            self.message.extend(set.to_be_bytes());
            self.message.extend([0; 2]);
        }
        self.message.extend_from_slice(record);
        self.records = self.records.wrapping_add(data);
    }

    fn close_set(&mut self) {
        if let Some((_, at)) = self.set.take() {
            let length = field_u16(self.message.len().saturating_sub(at));
            overwrite(
                &mut self.message,
                at.saturating_add(2),
                &length.to_be_bytes(),
            );
        }
    }
}

/// Lengths of messages and sets are at most [`MESSAGE_MAX`].
fn field_u16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn overwrite(message: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in message.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// Source: RFC 7011 §3.4.1 and, with scopes, §3.4.2.2.
fn template_record(template: &Template, pen: u32, out: &mut Vec<u8>) {
    out.extend(template.id.to_be_bytes());
    out.extend(field_u16(template.fields.len()).to_be_bytes());
    if template.scopes > 0 {
        out.extend(template.scopes.to_be_bytes());
    }
    for field in template.fields {
        field_specifier(field, pen, out);
    }
}

fn field_specifier(field: &Field, pen: u32, out: &mut Vec<u8>) {
    let enterprise = match field.owner {
        Owner::Standard => None,
        Owner::Reverse => Some(REVERSE_PEN),
        Owner::Own => Some(pen),
    };
    let bit = enterprise.map_or(0, |_| ENTERPRISE_BIT);
    out.extend((field.element | bit).to_be_bytes());
    out.extend(field.length.to_be_bytes());
    if let Some(number) = enterprise {
        out.extend(number.to_be_bytes());
    }
}

fn type_record(element: &OwnElement, pen: u32, out: &mut Vec<u8>) {
    out.extend(pen.to_be_bytes());
    out.extend(element.field.element.to_be_bytes());
    out.push(element.data_type);
    out.push(element.semantics);
    out.extend(element.units.to_be_bytes());
    variable(element.name, out);
}

/// A value that states its own length in one octet. Source: RFC 7011 §7.
fn variable(text: &str, out: &mut Vec<u8>) {
    let text = text
        .get(..text.floor_char_boundary(254))
        .unwrap_or_default();
    out.push(u8::try_from(text.len()).unwrap_or(0));
    out.extend_from_slice(text.as_bytes());
}

fn session_record(record: &SessionRecord, out: &mut Vec<u8>) -> Template {
    out.extend(record.start_ms.to_be_bytes());
    out.extend(record.end_ms.to_be_bytes());
    out.push(record.end as u8);
    // biflowDirection: the source opened it (RFC 5103 §6.3); subscribers open sessions.
    out.push(1);
    let template = match record.ue {
        IpAddr::V4(ue) => {
            out.extend(ue.octets());
            SESSION_V4
        }
        IpAddr::V6(ue) => {
            out.extend(ue.octets());
            SESSION_V6
        }
    };
    for volume in [record.uplink, record.downlink] {
        out.extend(volume.octets.to_be_bytes());
        out.extend(volume.packets.to_be_bytes());
    }
    out.extend(record.session.as_bytes());
    out.extend(record.incarnation.get().to_be_bytes());
    out.extend(record.teid.get().to_be_bytes());
    out.push(record.payer as u8);
    let (package, epoch, viewer) = record.sponsor.unwrap_or_default();
    out.extend(package.as_bytes());
    out.extend(epoch.get().to_be_bytes());
    out.extend(viewer.as_bytes());
    classes(&record.classes, out);
    for value in [record.personal, record.uncertain, record.violations] {
        out.extend(value.to_be_bytes());
    }
    template
}

fn classes(classes: &ByteClasses, out: &mut Vec<u8>) {
    for value in [
        classes.wire_payload,
        classes.verified_unique,
        classes.retransmit,
        classes.verified_repeat,
        classes.overhead_allowed,
        classes.undelivered,
        classes.user_charged,
        classes.pending,
    ] {
        out.extend(value.get().to_be_bytes());
    }
}

fn content_record(record: &ContentRecord, out: &mut Vec<u8>) -> Template {
    out.extend(record.session.as_bytes());
    out.extend(record.incarnation.get().to_be_bytes());
    out.extend(record.content.as_bytes());
    classes(&record.classes, out);
    CONTENT
}

fn drop_record(record: &DropRecord<'_>, out: &mut Vec<u8>) -> Template {
    out.extend(record.packets.to_be_bytes());
    out.extend(record.incarnation.get().to_be_bytes());
    out.extend(record.worker.to_be_bytes());
    variable(record.reason, out);
    DROPS
}

fn port_block_record(record: &PortBlockRecord, out: &mut Vec<u8>) -> Template {
    out.extend(record.observed_ms.to_be_bytes());
    out.push(record.event as u8);
    let template = match record.ue {
        IpAddr::V4(ue) => {
            out.extend(ue.octets());
            PORT_BLOCK
        }
        IpAddr::V6(ue) => {
            out.extend(ue.octets());
            PORT_BLOCK_V6
        }
    };
    out.extend(record.outside.octets());
    out.extend(record.ports.0.to_be_bytes());
    out.extend(record.ports.1.to_be_bytes());
    out.extend(record.session.as_bytes());
    template
}

#[cfg(test)]
#[path = "ipfix_tests.rs"]
mod tests;
