//! GTP-U messages that this end sends of its own: answers, error indications, end markers.
//!
//! What strangers can provoke (error indications, notifications) is limited by a budget per second
//! and one per source and burst, so that nobody can make us flood a third party. After a start
//! error indications are held back: a BaseStation whose session is still being restored elsewhere
//! must not give it up.

use std::net::{IpAddr, SocketAddr};

use qlink_io::BURST_MAX;
use qlink_types::ids::Teid;
use qlink_wire::{
    ControlMessage, GTPU_PORT, echo_request, echo_response, end_marker, error_indication,
    supported_extensions_notification,
};

/// Messages per second that strangers can provoke (chosen: a BaseStation that lost its sessions
/// learns of a hundred of them each second).
const PROVOKED_PER_SECOND: u32 = 100;

/// How long error indications are held back after a start (chosen: an SMF sends its heartbeat and
/// restores sessions within it). Source: TS 23.527 §5.2.
pub(crate) const HOLD_NS: u64 = 30_000_000_000;

const SECOND_NS: u64 = 1_000_000_000;

/// Most messages that wait for the end of a burst.
const QUEUE_MAX: usize = 2 * BURST_MAX;

/// One message and its receiver.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signal {
    pub(crate) to: SocketAddr,
    body: Body,
}

#[derive(Debug, Clone, Copy)]
enum Body {
    Echo([u8; 14]),
    Ask([u8; 12]),
    EndMarker([u8; 8]),
    Control(ControlMessage),
}

impl Signal {
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::Echo(bytes) => bytes,
            Body::Ask(bytes) => bytes,
            Body::EndMarker(bytes) => bytes,
            Body::Control(message) => message,
        }
    }

    /// Whether it answers an echo request.
    pub(crate) const fn is_echo(&self) -> bool {
        matches!(self.body, Body::Echo(_))
    }
}

/// Messages that wait for the end of the burst, and the budget for provoked ones.
#[derive(Debug)]
pub(crate) struct Signals {
    queue: Vec<Signal>,
    left: u32,
    second: u64,
    hold_until_ns: u64,
}

/// Whether a message will be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queued {
    /// It will.
    Yes,
    /// It will not: held back, over the budget, or one of a burst from one source.
    No,
}

impl Signals {
    /// Error indications are held back until `hold_until_ns`.
    pub(crate) fn new(hold_until_ns: u64) -> Self {
        Self {
            queue: Vec::with_capacity(QUEUE_MAX),
            left: 0,
            second: u64::MAX,
            hold_until_ns,
        }
    }

    /// Answers an echo request, one of each source in a burst.
    pub(crate) fn echo(&mut self, sequence: u16, to: SocketAddr) -> Queued {
        let repeated = |queued: &Signal| queued.is_echo() && queued.to.ip() == to.ip();
        if self.queue.iter().any(repeated) {
            return Queued::No;
        }
        self.push(to, Body::Echo(echo_response(sequence)))
    }

    /// Asks a peer whether it is there. Source: TS 29.281 §7.2.1.
    pub(crate) fn ask(&mut self, sequence: u16, to: SocketAddr) -> Queued {
        self.push(to, Body::Ask(echo_request(sequence)))
    }

    /// Tells the end of a tunnel that nothing more comes. Source: TS 29.281 §7.3.2.
    pub(crate) fn end_marker(&mut self, teid: Teid, to: SocketAddr) -> Queued {
        self.push(to, Body::EndMarker(end_marker(teid.get())))
    }

    /// Tells `source` that we, at `own`, have no tunnel `teid`. Source: TS 29.281 §7.3.1.
    pub(crate) fn unknown_tunnel(
        &mut self,
        teid: Teid,
        (own, source): (IpAddr, IpAddr),
        now_ns: u64,
    ) -> Queued {
        if now_ns < self.hold_until_ns {
            return Queued::No;
        }
        let message = error_indication(teid.get(), own);
        self.provoked(source, message, now_ns)
    }

    /// Tells `source` which extension headers we understand. Source: TS 29.281 §7.2.3.
    pub(crate) fn supported_extensions(&mut self, source: IpAddr, now_ns: u64) -> Queued {
        self.provoked(source, supported_extensions_notification(), now_ns)
    }

    fn provoked(&mut self, source: IpAddr, message: ControlMessage, now_ns: u64) -> Queued {
        let second = now_ns.wrapping_div(SECOND_NS);
        if second != self.second {
            self.second = second;
            self.left = PROVOKED_PER_SECOND;
        }
        let repeated =
            |queued: &Signal| matches!(queued.body, Body::Control(_)) && queued.to.ip() == source;
        if self.left == 0 || self.queue.iter().any(repeated) {
            return Queued::No;
        }
        self.left = self.left.saturating_sub(1);
        // Source: TS 29.281 §4.4.2.5: such messages go to the registered port.
        self.push(SocketAddr::new(source, GTPU_PORT), Body::Control(message))
    }

    fn push(&mut self, to: SocketAddr, body: Body) -> Queued {
        if self.queue.len() >= QUEUE_MAX {
            return Queued::No;
        }
        self.queue.push(Signal { to, body });
        Queued::Yes
    }

    /// Whether nothing waits.
    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The messages that wait, in order.
    pub(crate) fn waiting(&self) -> &[Signal] {
        &self.queue
    }

    /// Forgets them.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(host: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, host])
    }

    fn provoke(signals: &mut Signals, host: u8, now_ns: u64) -> Queued {
        signals.unknown_tunnel(Teid::new(9), (source(1), source(host)), now_ns)
    }

    #[test]
    fn error_indications_are_held_back_after_a_start() {
        let mut signals = Signals::new(HOLD_NS);

        assert_eq!(provoke(&mut signals, 2, HOLD_NS - 1), Queued::No);
        assert_eq!(provoke(&mut signals, 2, HOLD_NS), Queued::Yes);
    }

    #[test]
    fn a_source_provokes_one_message_in_a_burst_and_all_together_a_hundred_in_a_second() {
        let mut signals = Signals::new(0);
        let mut sent = 0;
        for burst in 0..200_u64 {
            for _ in 0..3 {
                if provoke(&mut signals, 2, burst) == Queued::Yes {
                    sent += 1;
                }
            }
            signals.clear();
        }

        assert_eq!(sent, PROVOKED_PER_SECOND);
        assert_eq!(provoke(&mut signals, 2, SECOND_NS), Queued::Yes);
    }

    #[test]
    fn a_burst_of_echo_requests_from_one_address_is_answered_once() {
        let mut signals = Signals::new(0);
        let to = |port| SocketAddr::new(source(2), port);

        let first = signals.echo(1, to(1));
        let second = signals.echo(2, to(2));

        assert_eq!((first, second), (Queued::Yes, Queued::No));
        assert_eq!(signals.waiting().len(), 1);
    }
}
