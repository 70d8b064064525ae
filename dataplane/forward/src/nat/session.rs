//! One connection through a mapping. Source: RFC 6146 §3.5.2.2.

use qlink_wire::TcpFlags;

/// What is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6 echo; the identifier is the port.
    Icmp,
}

impl NatProtocol {
    /// Number of protocols.
    pub(crate) const COUNT: usize = 3;

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Tcp => 0,
            Self::Udp => 1,
            Self::Icmp => 2,
        }
    }

    pub(crate) const fn octet(self) -> u8 {
        match self {
            Self::Tcp => 0,
            Self::Udp => 1,
            Self::Icmp => 2,
        }
    }
}

/// What a packet says to the state of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A UDP datagram or an ICMP query: may open a mapping from inside.
    Datagram,
    /// An ICMP reply: never opens one.
    Reply,
    /// A TCP segment: opens one with SYN.
    Segment(TcpFlags),
    /// A later fragment: says nothing.
    LaterFragment,
}

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    In,
}

/// The states of RFC 6146 §3.5.2.2, whose IPv6 side is the inside here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TcpState {
    /// SYN from inside.
    InitOut,
    /// SYN from outside.
    InitIn,
    Established,
    /// FIN from inside.
    FinOut,
    /// FIN from outside.
    FinIn,
    FinBoth,
    /// Reset; a forged one must not end a connection, so data brings it back.
    Transitory,
}

/// Which of the two TCP times holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TcpTime {
    Established,
    Transitory,
}

impl TcpState {
    /// The state of a connection that a SYN opens.
    pub(crate) const fn opened(way: Way) -> Self {
        match way {
            Way::Out => Self::InitOut,
            Way::In => Self::InitIn,
        }
    }

    /// The state after a segment.
    pub(crate) const fn step(self, way: Way, flags: TcpFlags) -> Self {
        let opens = flags.syn() && !flags.ack() && !flags.rst();
        match (self, way) {
            (Self::InitOut, Way::In) | (Self::InitIn, Way::Out) if flags.syn() && !flags.rst() => {
                Self::Established
            }
            (Self::InitOut | Self::InitIn, _) => self,
            (Self::FinBoth | Self::Transitory, _) if opens => Self::opened(way),
            (Self::FinBoth, _) => self,
            (_, _) if flags.rst() => Self::Transitory,
            (Self::Transitory, _) => Self::Established,
            (Self::Established, Way::Out) if flags.fin() => Self::FinOut,
            (Self::Established, Way::In) if flags.fin() => Self::FinIn,
            (Self::FinOut, Way::In) | (Self::FinIn, Way::Out) if flags.fin() => Self::FinBoth,
            (Self::Established | Self::FinOut | Self::FinIn, _) => self,
        }
    }

    pub(crate) const fn time(self) -> TcpTime {
        match self {
            Self::Established | Self::FinOut | Self::FinIn => TcpTime::Established,
            Self::InitOut | Self::InitIn | Self::FinBoth | Self::Transitory => TcpTime::Transitory,
        }
    }

    /// Whether a segment starts the state's time anew. Once both ends are done nothing does; half
    /// open, only the end that opens does.
    pub(crate) const fn is_refreshed(self, way: Way) -> bool {
        !matches!(
            (self, way),
            (Self::FinBoth, _) | (Self::InitOut, Way::In) | (Self::InitIn, Way::Out)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: TcpFlags = TcpFlags::SYN;
    const ACK: TcpFlags = TcpFlags::ACK;
    const SYN_ACK: TcpFlags = TcpFlags::SYN.union(TcpFlags::ACK);
    const FIN: TcpFlags = TcpFlags::FIN.union(TcpFlags::ACK);
    const RST: TcpFlags = TcpFlags::RST;

    fn after(first: Way, steps: &[(Way, TcpFlags)]) -> TcpState {
        steps
            .iter()
            .fold(TcpState::opened(first), |state, (way, flags)| {
                state.step(*way, *flags)
            })
    }

    #[test]
    fn a_connection_is_established_by_a_syn_from_each_side() {
        assert_eq!(after(Way::Out, &[(Way::Out, ACK)]), TcpState::InitOut);
        assert_eq!(after(Way::Out, &[(Way::In, RST)]), TcpState::InitOut);
        assert_eq!(
            after(Way::Out, &[(Way::In, SYN_ACK)]),
            TcpState::Established
        );
        assert_eq!(
            after(Way::In, &[(Way::Out, SYN_ACK)]),
            TcpState::Established
        );
        assert_eq!(after(Way::Out, &[(Way::In, SYN)]), TcpState::Established);
    }

    #[test]
    fn a_connection_closes_when_both_sides_have_finished_and_opens_again() {
        let closing = [(Way::In, SYN_ACK), (Way::In, FIN), (Way::Out, ACK)];
        assert_eq!(after(Way::Out, &closing), TcpState::FinIn);
        let closed = [&closing[..], &[(Way::Out, FIN), (Way::In, ACK)]].concat();
        assert_eq!(after(Way::Out, &closed), TcpState::FinBoth);
        let again = [&closed[..], &[(Way::Out, SYN)]].concat();
        assert_eq!(after(Way::Out, &again), TcpState::InitOut);
    }

    #[test]
    fn a_reset_shortens_the_time_and_data_brings_it_back() {
        let reset = [(Way::In, SYN_ACK), (Way::In, RST)];
        assert_eq!(after(Way::Out, &reset), TcpState::Transitory);
        assert_eq!(after(Way::Out, &reset).time(), TcpTime::Transitory);
        let alive = [&reset[..], &[(Way::Out, ACK)]].concat();
        assert_eq!(after(Way::Out, &alive), TcpState::Established);
    }
}
