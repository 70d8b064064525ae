//! Messages about tunnels: what they ask of this end, and what it has to say of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use qlink_io::{Outgoing, PacketSink};
use qlink_meter::{DropReason, WorkerCounter};
use qlink_wire::{GtpuPacket, message_type, parse_error_indication};

use super::Parsed;
use crate::paths::{Answered, Expected};
use crate::plane::Plane;
use crate::signal::Queued;

/// A GTP-U message that this end acts on.
#[derive(Debug, Clone, Copy)]
pub(super) enum SignalIn {
    /// An echo request.
    Echo { sequence: u16, to: SocketAddr },
    /// The answer to one of ours.
    EchoAnswer { sequence: u16, from: SocketAddr },
    /// A G-PDU with an extension header that we would have to understand.
    Extension { from: IpAddr },
    /// A peer does not know a tunnel of ours.
    ErrorIndication { from: IpAddr, teid: u32 },
}

impl Plane {
    /// Acts on the messages of a burst; what they provoke is sent behind the burst's packets.
    pub(super) fn heed_signals(&mut self, parsed: &[Parsed<'_>], now_ns: u64) {
        for packet in parsed {
            let Parsed::Signal(signal) = packet else {
                continue;
            };
            match *signal {
                SignalIn::Echo { sequence, to } => self.heed_echo(sequence, to),
                SignalIn::EchoAnswer { sequence, from } => {
                    if self.answers.take((from, sequence)) == Answered::Refused {
                        self.arena.count_drop(DropReason::GtpuSignalling, 1);
                    }
                }
                SignalIn::Extension { from } => {
                    self.arena.count_drop(DropReason::GtpuExtensionUnknown, 1);
                    // Whether it is sent is counted where it is sent.
                    let _ = self.signals.supported_extensions(from, now_ns);
                }
                SignalIn::ErrorIndication { from, teid } => {
                    if !self.heed_error(from, teid) {
                        self.arena.count_drop(DropReason::GtpuSignalling, 1);
                    }
                }
            }
        }
    }

    /// Only BaseStations of sessions are answered, so that nobody can make us send to a third
    /// party.
    fn heed_echo(&mut self, sequence: u16, to: SocketAddr) {
        let ip = to.ip();
        if !self.sessions.is_peer(&ip) && !self.others.is_peer(&ip) {
            self.arena.count_drop(DropReason::PeerUnknown, 1);
        } else if self.signals.echo(sequence, to) == Queued::No {
            self.arena.count_drop(DropReason::GtpuSignalling, 1);
        }
    }

    /// Asks peers, and lets their answers through.
    pub(crate) fn ask_peers(&mut self, expected: Arc<[Expected]>, ask: &[Expected]) {
        self.answers.expect(expected);
        for (to, sequence) in ask {
            // One that finds no room is asked again, as one that got lost.
            let _ = self.signals.ask(*sequence, *to);
        }
    }

    /// Sends what this end has to say of its own.
    pub(crate) fn send_signals(&mut self, n3: &mut impl PacketSink) {
        for signal in self.signals.waiting() {
            let item = Outgoing {
                head: signal.bytes(),
                body: &[],
                to: signal.to,
            };
            let counter = if signal.is_echo() {
                WorkerCounter::EchoReplies
            } else {
                WorkerCounter::SignalsSent
            };
            match n3.send_burst(&[item]) {
                Ok(1) => self.arena.count(counter, 1),
                Ok(_) => self.arena.count_drop(DropReason::TransmitFull, 1),
                Err(_) => self.arena.count_drop(DropReason::TransmitRefused, 1),
            }
        }
        self.signals.clear();
    }
}

/// What a message that is no G-PDU asks of us.
pub(super) fn signal(from: SocketAddr, gtpu: &GtpuPacket<'_>) -> Result<SignalIn, DropReason> {
    match (gtpu.message_type, gtpu.sequence) {
        (message_type::ECHO_REQUEST, Some(sequence)) => Ok(SignalIn::Echo { sequence, to: from }),
        (message_type::ECHO_RESPONSE, Some(sequence)) => {
            Ok(SignalIn::EchoAnswer { sequence, from })
        }
        (message_type::ERROR_INDICATION, _) => {
            let about = parse_error_indication(gtpu.payload).map_err(DropReason::Wire)?;
            Ok(SignalIn::ErrorIndication {
                from: from.ip(),
                teid: about.teid,
            })
        }
        _ => Err(DropReason::GtpuSignalling),
    }
}
