//! Sessions that nobody told of, established over the control socket as a gateway would.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use qlink_io::seqpacket::SeqConn;
use qlink_pfcp::{
    Answer, Cause, DownlinkPath, MAX_MESSAGE_BYTES, Payer, Request, SessionRules, decode_answer,
    encode_request,
};
use qlink_types::ids::{SessionId, Teid};

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

impl Learned {
    /// The same tunnel of the same subscriber is the same session, also after a restart.
    fn session(&self) -> SessionId {
        let named = format!("tap {} {}", self.teid.get(), self.ue);
        let digest = blake3::hash(named.as_bytes());
        let bytes = digest.as_bytes().first_chunk::<16>();
        SessionId::new(bytes.copied().unwrap_or_default())
    }

    fn request(&self) -> Request {
        Request::Establish {
            rules: SessionRules {
                session: self.session(),
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
    socket: PathBuf,
}

/// A learner that establishes sessions over the control socket at `socket`.
pub(crate) fn learner(socket: PathBuf) -> (LearnerLine, Learner) {
    let (line, asked) = bounded(WAITING_MAX);
    (LearnerLine(line), Learner { asked, socket })
}

impl Learner {
    /// Establishes what workers ask for until told to stop.
    pub(crate) fn run(self, stopped: &impl Fn() -> bool) {
        let mut connection = None;
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        while !stopped() {
            let learned = match self.asked.recv_timeout(IDLE) {
                Ok(learned) => learned,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if connection.is_none() {
                connection = SeqConn::connect(&self.socket).ok();
            }
            let refused = connection
                .as_ref()
                .map(|connection| establish(connection, &learned, &mut buffer));
            match refused {
                Some(Some(None)) => {}
                Some(Some(Some(cause))) => {
                    tracing::warn!(teid = learned.teid.get(), ?cause, "a tunnel is not metered");
                }
                // Its packets ask again.
                Some(None) | None => connection = None,
            }
        }
    }
}

/// Asks for one session: why it was refused, if it was; `None` when the connection is of no use.
fn establish(connection: &SeqConn, learned: &Learned, buffer: &mut [u8]) -> Option<Option<Cause>> {
    let request = encode_request(1, &learned.request()).ok()?;
    connection.send(&request).ok()?;
    let length = connection.recv(buffer, Some(ANSWER_PATIENCE)).ok()??;
    match decode_answer(buffer.get(..length)?).ok()? {
        (_, Answer::Refused { refusal }) => Some(Some(refusal.cause)),
        _ => Some(None),
    }
}
