//! The forwarding decision, packet by packet: pure, no socket, no clock, no allocation.
//!
//! ```text
//! radio: raw inner IP  --uplink-->   GTP-U G-PDU + PDU session container   --> gateway
//! radio: raw inner IP  <--downlink-- GTP-U G-PDU, own TEID per session     <-- gateway
//! ```
//! Invariant: a packet leaves only for the session that its inner address, its TEID and both outer
//! addresses agree on; anything else is dropped under one [`DropReason`].
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use qlink_types::ids::{SessionId, Teid};
use qlink_wire::{
    PduSessionInfo, echo_response, gpdu_header_with_container, message_type, parse_gtpu, parse_ip,
};
use serde::{Deserialize, Serialize};

/// Bytes of GTP-U header in front of an uplink packet: header, options, PDU session container.
pub const UPLINK_HEAD: usize = 16;

/// Addresses of a gateway that changes them (chosen: sessions of the time before may still end).
const TRUSTED_MAX: usize = 8;

/// QoS flow of every packet: one flow per session, as a Wi-Fi link has it.
const QFI: u8 = 1;

/// Why a packet was not forwarded. A closed list: the same words in counters and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// From the radio: no whole IP packet.
    InnerMalformed,
    /// From the radio: no session has this source address (also: a spoofed one).
    SourceUnknown,
    /// From the radio: the session belongs to another radio peer.
    RadioPeerMismatch,
    /// From N3: the sender is no gateway of ours.
    GatewayUnknown,
    /// From N3: no GTP-U message, or one that needs an extension nobody here knows.
    GtpuMalformed,
    /// From N3: a message type that a BaseStation does not handle.
    GtpuUnsupported,
    /// From N3: no session has this TEID.
    TeidUnknown,
    /// From N3: the session belongs to another gateway address.
    GatewayMismatch,
    /// From N3: the inner destination is not the session's subscriber.
    DestinationMismatch,
    /// The system would not take the packet for sending.
    SendRefused,
}

impl DropReason {
    /// All reasons, in the order of the counters.
    pub const ALL: [Self; 10] = [
        Self::InnerMalformed,
        Self::SourceUnknown,
        Self::RadioPeerMismatch,
        Self::GatewayUnknown,
        Self::GtpuMalformed,
        Self::GtpuUnsupported,
        Self::TeidUnknown,
        Self::GatewayMismatch,
        Self::DestinationMismatch,
        Self::SendRefused,
    ];
}

/// Packets dropped, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DropCount([u64; DropReason::ALL.len()]);

impl DropCount {
    /// Counts one packet.
    pub fn add(&mut self, reason: DropReason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Packets dropped for this reason.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }
}

/// What a forwarding entry needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// The session.
    pub session: SessionId,
    /// The subscriber's inner address.
    pub ue: IpAddr,
    /// Where the subscriber's device is reached over UDP; `None`: through the radio interface.
    pub radio: Option<SocketAddr>,
    /// The gateway's N3 address.
    pub gateway: SocketAddr,
    /// The gateway's TEID, for uplink packets.
    pub uplink_teid: Teid,
    /// Our TEID, for downlink packets.
    pub downlink_teid: Teid,
}

/// Network bytes (inner IP lengths) and packets forwarded, by direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkCount {
    /// From the subscriber, bytes.
    pub uplink_bytes: u64,
    /// To the subscriber, bytes.
    pub downlink_bytes: u64,
    /// From the subscriber, packets.
    pub uplink_packets: u64,
    /// To the subscriber, packets.
    pub downlink_packets: u64,
}

/// Why a forwarding entry was not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// The table is full.
    #[error("session table holds its {limit} sessions")]
    TableFull {
        /// The table's bound.
        limit: usize,
    },
    /// Another session has this inner address.
    #[error("a session already has inner address {0}")]
    AddressTaken(IpAddr),
    /// Another session has this TEID, or it is 0.
    #[error("downlink TEID {0} is in use or zero")]
    TeidTaken(Teid),
    /// The gateway named an N3 address that is not among the trusted ones.
    #[error("gateway address {0} is not trusted")]
    GatewayUntrusted(SocketAddr),
}

/// What to do with a radio packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uplink {
    /// Which entry, for [`Forwarder::note_uplink`].
    pub entry: EntryIndex,
    /// GTP-U header to send in front.
    pub head: [u8; UPLINK_HEAD],
    /// Inner IP length; what lies behind it in the datagram is not sent.
    pub inner_len: u16,
    /// The gateway.
    pub to: SocketAddr,
}

/// What to do with an N3 datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downlink<'a> {
    /// Send the inner packet to the subscriber.
    Deliver {
        /// Which entry, for [`Forwarder::note_downlink`].
        entry: EntryIndex,
        /// The GTP-U header as received.
        head: &'a [u8],
        /// The inner packet.
        inner: &'a [u8],
        /// The subscriber's device; `None`: the radio interface knows by the packet.
        to: Option<SocketAddr>,
    },
    /// Send this answer back to the gateway.
    Answer([u8; 14]),
    /// A message that is read and needs no answer.
    Noted,
}

/// Names an entry between a decision and its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryIndex(usize);

#[derive(Debug)]
struct Entry {
    tunnel: Tunnel,
    count: NetworkCount,
}

/// The table of sessions and the decision per packet.
#[derive(Debug)]
pub struct Forwarder {
    trusted: Vec<SocketAddr>,
    limit: usize,
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    by_ue: HashMap<IpAddr, usize>,
    by_teid: HashMap<Teid, usize>,
    by_session: HashMap<SessionId, usize>,
    echoes: u64,
    error_indications: u64,
}

impl Forwarder {
    /// An empty table of at most `limit` sessions with the gateways at `trusted` N3 addresses.
    #[must_use]
    pub fn new(trusted: Vec<SocketAddr>, limit: usize) -> Self {
        Self {
            trusted,
            limit,
            entries: Vec::new(),
            free: Vec::new(),
            by_ue: HashMap::new(),
            by_teid: HashMap::new(),
            by_session: HashMap::new(),
            echoes: 0,
            error_indications: 0,
        }
    }

    /// A gateway has another N3 address too. The last [`TRUSTED_MAX`] are kept.
    pub(crate) fn trust(&mut self, gateway: SocketAddr) {
        if self.trusted.contains(&gateway) {
            return;
        }
        if self.trusted.len() >= TRUSTED_MAX {
            self.trusted.remove(0);
        }
        self.trusted.push(gateway);
    }

    /// The session with this inner address.
    pub(crate) fn holder(&self, ue: &IpAddr) -> Option<SessionId> {
        let entry = self.entries.get(*self.by_ue.get(ue)?)?.as_ref()?;
        Some(entry.tunnel.session)
    }

    /// Sessions installed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_session.len()
    }

    /// Whether no session is installed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_session.is_empty()
    }

    /// Echo requests answered.
    #[must_use]
    pub const fn echoes(&self) -> u64 {
        self.echoes
    }

    /// Error indications received: uplink packets that the gateway knew no session for.
    #[must_use]
    pub const fn error_indications(&self) -> u64 {
        self.error_indications
    }

    /// Installs a session. An entry of the same session is replaced and keeps its counters, so that
    /// a repeated answer of the gateway changes nothing.
    ///
    /// # Errors
    ///
    /// [`InstallError`]; the table is unchanged then.
    pub fn install(&mut self, tunnel: Tunnel) -> Result<(), InstallError> {
        if !self.trusted.contains(&tunnel.gateway) {
            return Err(InstallError::GatewayUntrusted(tunnel.gateway));
        }
        let own = self.by_session.get(&tunnel.session).copied();
        if self
            .by_ue
            .get(&tunnel.ue)
            .is_some_and(|at| Some(*at) != own)
        {
            return Err(InstallError::AddressTaken(tunnel.ue));
        }
        let teid = tunnel.downlink_teid;
        if teid == Teid::default() || self.by_teid.get(&teid).is_some_and(|at| Some(*at) != own) {
            return Err(InstallError::TeidTaken(teid));
        }
        if own.is_none() && self.len() >= self.limit {
            return Err(InstallError::TableFull { limit: self.limit });
        }
        let count = self
            .remove(&tunnel.session)
            .map(|(_, count)| count)
            .unwrap_or_default();
        let at = self.free.pop().unwrap_or(self.entries.len());
        if at == self.entries.len() {
            self.entries.push(None);
        }
        if let Some(place) = self.entries.get_mut(at) {
            *place = Some(Entry { tunnel, count });
        }
        self.by_ue.insert(tunnel.ue, at);
        self.by_teid.insert(teid, at);
        self.by_session.insert(tunnel.session, at);
        Ok(())
    }

    /// Removes a session; its tunnel and final counters come back.
    pub fn remove(&mut self, session: &SessionId) -> Option<(Tunnel, NetworkCount)> {
        let at = self.by_session.remove(session)?;
        let entry = self.entries.get_mut(at)?.take()?;
        self.by_ue.remove(&entry.tunnel.ue);
        self.by_teid.remove(&entry.tunnel.downlink_teid);
        self.free.push(at);
        Some((entry.tunnel, entry.count))
    }

    /// A session's counters.
    #[must_use]
    pub fn count(&self, session: &SessionId) -> Option<NetworkCount> {
        self.entry(*self.by_session.get(session)?)
            .map(|entry| entry.count)
    }

    fn entry(&self, at: usize) -> Option<&Entry> {
        self.entries.get(at)?.as_ref()
    }

    /// Decides about a packet from the radio; `from` is `None` on a radio interface.
    ///
    /// # Errors
    ///
    /// The [`DropReason`].
    pub fn uplink(&self, packet: &[u8], from: Option<SocketAddr>) -> Result<Uplink, DropReason> {
        let ip = parse_ip(packet).map_err(|_| DropReason::InnerMalformed)?;
        let inner_len = u16::try_from(ip.total_len)
            .ok()
            .filter(|len| usize::from(*len) <= packet.len())
            .ok_or(DropReason::InnerMalformed)?;
        let at = *self.by_ue.get(&ip.src).ok_or(DropReason::SourceUnknown)?;
        let tunnel = self.entry(at).ok_or(DropReason::SourceUnknown)?.tunnel;
        if tunnel.radio != from {
            return Err(DropReason::RadioPeerMismatch);
        }
        let container = PduSessionInfo {
            qfi: QFI,
            downlink: false,
        };
        let head = gpdu_header_with_container(tunnel.uplink_teid.get(), inner_len, container);
        Ok(Uplink {
            entry: EntryIndex(at),
            head,
            inner_len,
            to: tunnel.gateway,
        })
    }

    /// Decides about a datagram from N3.
    ///
    /// # Errors
    ///
    /// The [`DropReason`].
    pub fn downlink<'a>(
        &mut self,
        datagram: &'a [u8],
        from: SocketAddr,
    ) -> Result<Downlink<'a>, DropReason> {
        if !self.trusted.contains(&from) {
            return Err(DropReason::GatewayUnknown);
        }
        let gtpu = parse_gtpu(datagram).map_err(|_| DropReason::GtpuMalformed)?;
        if gtpu.unknown_required_extension.is_some()
            || usize::from(gtpu.payload_len) != gtpu.payload.len()
        {
            return Err(DropReason::GtpuMalformed);
        }
        match gtpu.message_type {
            message_type::G_PDU => self.deliver(datagram, gtpu.teid, gtpu.payload, from),
            message_type::ECHO_REQUEST => {
                self.echoes = self.echoes.saturating_add(1);
                Ok(Downlink::Answer(echo_response(gtpu.sequence.unwrap_or(0))))
            }
            message_type::ERROR_INDICATION => {
                self.error_indications = self.error_indications.saturating_add(1);
                Ok(Downlink::Noted)
            }
            message_type::ECHO_RESPONSE
            | message_type::END_MARKER
            | message_type::SUPPORTED_EXTENSIONS => Ok(Downlink::Noted),
            _ => Err(DropReason::GtpuUnsupported),
        }
    }

    fn deliver<'a>(
        &self,
        datagram: &'a [u8],
        teid: u32,
        payload: &'a [u8],
        from: SocketAddr,
    ) -> Result<Downlink<'a>, DropReason> {
        let at = *self
            .by_teid
            .get(&Teid::new(teid))
            .ok_or(DropReason::TeidUnknown)?;
        let tunnel = self.entry(at).ok_or(DropReason::TeidUnknown)?.tunnel;
        if tunnel.gateway != from {
            return Err(DropReason::GatewayMismatch);
        }
        let ip = parse_ip(payload).map_err(|_| DropReason::InnerMalformed)?;
        if ip.dst != tunnel.ue {
            return Err(DropReason::DestinationMismatch);
        }
        let inner = usize::try_from(ip.total_len)
            .ok()
            .and_then(|len| payload.get(..len))
            .ok_or(DropReason::InnerMalformed)?;
        // The payload ends where the message ends, which may be before the datagram's end.
        let head_len = payload
            .as_ptr()
            .addr()
            .saturating_sub(datagram.as_ptr().addr());
        let head = datagram.get(..head_len).unwrap_or_default();
        Ok(Downlink::Deliver {
            entry: EntryIndex(at),
            head,
            inner,
            to: tunnel.radio,
        })
    }

    /// Counts an uplink packet that was accepted for sending.
    pub fn note_uplink(&mut self, entry: EntryIndex, inner_len: u64) {
        if let Some(entry) = self.entries.get_mut(entry.0).and_then(Option::as_mut) {
            entry.count.uplink_bytes = entry.count.uplink_bytes.saturating_add(inner_len);
            entry.count.uplink_packets = entry.count.uplink_packets.saturating_add(1);
        }
    }

    /// Counts a downlink packet that was accepted for sending.
    pub fn note_downlink(&mut self, entry: EntryIndex, inner_len: u64) {
        if let Some(entry) = self.entries.get_mut(entry.0).and_then(Option::as_mut) {
            entry.count.downlink_bytes = entry.count.downlink_bytes.saturating_add(inner_len);
            entry.count.downlink_packets = entry.count.downlink_packets.saturating_add(1);
        }
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
