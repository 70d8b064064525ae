//! Why a datagram or packet was refused, and how often.

/// Why the tunnel did not take a datagram or a packet. A closed list: the same words in counters,
/// metrics and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(usize)]
pub enum Refusal {
    /// No WireGuard message: its type or length is unknown.
    #[error("malformed")]
    Malformed,
    /// A handshake message whose sender does not know our public key.
    #[error("mac_invalid")]
    MacInvalid,
    /// More handshakes in this second than are worked on.
    #[error("handshake_limit")]
    HandshakeLimit,
    /// An initiation of a key that is no peer's.
    #[error("key_unknown")]
    KeyUnknown,
    /// An initiation of a key that was a peer's and was taken out, as a denied BaseStation's.
    #[error("key_removed")]
    KeyRemoved,
    /// An initiation that is not newer than the last one of its peer.
    #[error("handshake_replayed")]
    HandshakeReplayed,
    /// A response or cookie that nobody waits for.
    #[error("handshake_unexpected")]
    HandshakeUnexpected,
    /// The receiver index names no session, for example one from before a restart.
    #[error("index_unknown")]
    IndexUnknown,
    /// What should be authentic is not.
    #[error("unauthentic")]
    Unauthentic,
    /// The datagram was received before, or is older than the window.
    #[error("replayed")]
    Replayed,
    /// The message counter is beyond what one key may encrypt.
    #[error("counter_exhausted")]
    CounterExhausted,
    /// An authentic message that holds no whole IP packet.
    #[error("inner_malformed")]
    InnerMalformed,
    /// In the tunnel: a fragment. Its ends know its MTU and send whole datagrams.
    #[error("inner_fragment")]
    InnerFragment,
    /// In the tunnel: another protocol than UDP.
    #[error("inner_protocol")]
    InnerProtocol,
    /// In the tunnel: to another address or port than ours. The tunnel routes nothing.
    #[error("inner_destination")]
    InnerDestination,
    /// An authentic packet whose source is not its peer's tunnel address.
    #[error("source_foreign")]
    SourceForeign,
    /// To send: no peer has this tunnel address.
    #[error("address_unknown")]
    AddressUnknown,
    /// To send: the peer has not been heard, so nobody knows where it is.
    #[error("endpoint_unknown")]
    EndpointUnknown,
    /// To send: there are no keys yet; a handshake is under way.
    #[error("no_session")]
    NoSession,
    /// The caller's buffer is too short for the result.
    #[error("too_long")]
    TooLong,
}

impl Refusal {
    /// All reasons, in the order of the counters.
    pub const ALL: [Self; 20] = [
        Self::Malformed,
        Self::MacInvalid,
        Self::HandshakeLimit,
        Self::KeyUnknown,
        Self::KeyRemoved,
        Self::HandshakeReplayed,
        Self::HandshakeUnexpected,
        Self::IndexUnknown,
        Self::Unauthentic,
        Self::Replayed,
        Self::CounterExhausted,
        Self::InnerMalformed,
        Self::InnerFragment,
        Self::InnerProtocol,
        Self::InnerDestination,
        Self::SourceForeign,
        Self::AddressUnknown,
        Self::EndpointUnknown,
        Self::NoSession,
        Self::TooLong,
    ];
}

/// What a tunnel endpoint did since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TunnelCounts {
    /// Packets that came out.
    pub received: u64,
    /// Packets that went in.
    pub sent: u64,
    /// Handshakes that gave new keys, as initiator and as responder.
    pub handshakes: u64,
    /// Those of them with a peer whose keys were still in use.
    pub renewals: u64,
    /// How often a peer took an address with another key of its own.
    pub successions: u64,
    /// Cookies sent to handshakes instead of an answer, because there were many.
    pub cookies: u64,
    /// How often a peer was heard from another endpoint than before.
    pub roamed: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl TunnelCounts {
    /// Datagrams and packets refused for this reason.
    #[must_use]
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused.get(reason as usize).copied().unwrap_or(0)
    }

    /// Counts one refusal and gives it back.
    pub(crate) fn refuse(&mut self, reason: Refusal) -> Refusal {
        if let Some(count) = self.refused.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
        reason
    }
}

/// One more.
pub(crate) const fn bump(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        let mut counts = TunnelCounts::default();
        for (number, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);

            counts.refuse(reason);

            assert_eq!(counts.refused(reason), 1);
        }
    }
}
