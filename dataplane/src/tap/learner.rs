//! Sessions that nobody told of, established and ended over the control socket as a gateway would.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use qlink_io::seqpacket::SeqConn;
use qlink_meter::{ArenaSet, ReaderError, SessionIdentity};
use qlink_pfcp::{
    Answer, DownlinkPath, MAX_MESSAGE_BYTES, Payer, Request, SessionRules, SessionUsage,
    decode_answer, encode_request,
};
use qlink_types::ids::{SessionId, Teid};

use super::silence::Silence;
use crate::process::IDLE;

/// Sessions that wait to be established; a worker asks again for what did not fit.
const WAITING_MAX: usize = 256;

/// How long an answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// A session as its first uplink packet shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Learned {
    /// The gateway's endpoint of the tunnel.
    pub(super) teid: Teid,
    /// The subscriber.
    pub(super) ue: IpAddr,
    /// The BaseStation.
    pub(super) peer: SocketAddr,
}

/// The same tunnel of the same subscriber is the same session, also after a restart. Nobody else
/// gives such an id, so it tells which sessions were learned.
fn learned_id(teid: Teid, ue: IpAddr) -> SessionId {
    let named = format!("tap {} {ue}", teid.get());
    let digest = blake3::hash(named.as_bytes());
    let bytes = digest.as_bytes().first_chunk::<16>();
    SessionId::new(bytes.copied().unwrap_or_default())
}

fn was_learned(identity: &SessionIdentity) -> bool {
    identity.session == learned_id(identity.teid, identity.ue)
}

impl Learned {
    fn request(&self) -> Request {
        Request::Establish {
            rules: SessionRules {
                session: learned_id(self.teid, self.ue),
                teid: Some(self.teid),
                ue: self.ue,
                path: DownlinkPath {
                    peer: self.peer,
                    // Not known from an uplink packet, and nothing is ever sent to it.
                    downlink_teid: self.teid,
                },
                basestation: None,
                sponsor: None,
                payer: Payer::Operator,
            },
        }
    }
}

/// A worker's end.
#[derive(Debug, Clone)]
pub(crate) struct LearnerLine(Sender<Learned>);

impl LearnerLine {
    /// Asks for a session; `false`: too many wait.
    pub(super) fn ask(&self, learned: Learned) -> bool {
        self.0.try_send(learned).is_ok()
    }
}

/// The thread's end.
#[derive(Debug)]
pub(crate) struct Learner {
    asked: Receiver<Learned>,
    control: ControlLine,
    arena: PathBuf,
    silence: Silence,
}

/// A learner that establishes sessions over the control socket at `socket`, and ends those whose
/// counters in the arena at `arena` stand still for `idle`.
pub(crate) fn learner(socket: PathBuf, arena: PathBuf, idle: Duration) -> (LearnerLine, Learner) {
    let (line, asked) = bounded(WAITING_MAX);
    let learner = Learner {
        asked,
        control: ControlLine {
            socket,
            connection: None,
            buffer: vec![0; MAX_MESSAGE_BYTES],
        },
        arena,
        silence: Silence::new(idle),
    };
    (LearnerLine(line), learner)
}

impl Learner {
    /// Establishes what workers ask for, and ends what has gone silent, until told to stop.
    pub(crate) fn run(mut self, stopped: &impl Fn() -> bool) {
        let start = Instant::now();
        let mut looked = Duration::ZERO;
        while !stopped() {
            match self.asked.recv_timeout(IDLE) {
                Ok(learned) => self.establish(&learned),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = start.elapsed();
            if now.saturating_sub(looked) >= self.silence.pause() {
                looked = now;
                if let Err(error) = self.end_silent(now) {
                    tracing::warn!(%error, "silent sessions of the tap stay");
                }
            }
        }
    }

    /// Where there is no answer, the session's packets ask again.
    fn establish(&mut self, learned: &Learned) {
        if let Some(Answer::Refused { refusal }) = self.control.ask(&learned.request()) {
            let (teid, cause) = (learned.teid.get(), refusal.cause);
            tracing::warn!(teid, ?cause, "a tunnel is not metered");
        }
    }

    /// Where there is no answer, the next look names the session again.
    fn end_silent(&mut self, now: Duration) -> Result<(), ReaderError> {
        let sessions = ArenaSet::open(&self.arena)?.sessions();
        let learned = sessions
            .iter()
            .filter(|session| session.is_live() && was_learned(&session.identity))
            .map(|of| (of.identity.session, network_bytes(&of.usage)));
        for session in self.silence.look(now, learned) {
            if let Some(Answer::Deleted { .. }) = self.control.ask(&Request::Delete { session }) {
                tracing::info!(%session, "a learned session was silent and has ended");
            }
        }
        Ok(())
    }
}

/// Both directions; they only grow.
const fn network_bytes(usage: &SessionUsage) -> u64 {
    let (up, down) = (usage.uplink.network_bytes, usage.downlink.network_bytes);
    up.get().saturating_add(down.get())
}

/// The connection to our own control socket, made anew when it is of no use any more.
#[derive(Debug)]
struct ControlLine {
    socket: PathBuf,
    connection: Option<SeqConn>,
    buffer: Vec<u8>,
}

impl ControlLine {
    /// The answer; `None`: there was none.
    fn ask(&mut self, request: &Request) -> Option<Answer> {
        let connection = self.connection.take();
        let connection = connection.or_else(|| SeqConn::connect(&self.socket).ok())?;
        connection.send(&encode_request(1, request).ok()?).ok()?;
        let length = connection
            .recv(&mut self.buffer, Some(ANSWER_PATIENCE))
            .ok()??;
        let (_, answer) = decode_answer(self.buffer.get(..length)?).ok()?;
        self.connection = Some(connection);
        Some(answer)
    }
}
