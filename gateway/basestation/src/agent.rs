//! Session set-up and close: what is signed, in which order, and what a repetition does.
//!
//! Open: sign, post, then install the forwarding entry; so nothing is forwarded that the gateway
//! does not know. Close: remove the entry, sign its final counters, then post; the signed receipt is
//! kept until the gateway has it, so a repeated close sends the same statement.
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qlink_api::session::{CloseSessionRequest, OpenSessionRequest};
use qlink_types::codec::Encode as _;
use qlink_types::ids::{BaseStationId, GatewayId, Hash32, PackageId, SessionId, Teid, ViewerKey};
use qlink_types::receipt::{ByteClasses, Receipt, ReceiptSigner, SignedReceipt};
use qlink_types::session::{SessionOpen, SignedAcceptance};
use qlink_types::signature::{ChainId, Domain, SecretKey};
use qlink_types::units::{Bytes, Incarnation, PackageEpoch, TimeMs};
use serde::{Deserialize, Serialize};

use crate::forward::{InstallError, NetworkCount, Tunnel};
use crate::gateway_api::{GatewayApi, GatewayError};
use crate::worker::{RadioKind, WorkerGone, WorkerHandle};

/// How long a signed request may be used.
const REQUEST_VALID: Duration = Duration::from_secs(60);

/// Why a session was not opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The gateway refused or did not answer.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The gateway's answer holds an address that is none.
    #[error("gateway answered with address {0:?}")]
    Address(String),
    /// The entry cannot be installed; the session was closed again.
    #[error("session cannot be forwarded: {0}")]
    Install(#[from] InstallError),
    /// The request does not fit the radio side.
    #[error("{0}")]
    Radio(&'static str),
    /// No such session here.
    #[error("no session {0} here")]
    UnknownSession(SessionId),
    /// The forwarding thread is gone.
    #[error(transparent)]
    Worker(#[from] WorkerGone),
    /// The system has no random bytes.
    #[error("no random bytes")]
    Random(#[from] std::io::Error),
}

/// A subscriber's wish for a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// Where the subscriber's device is reached on a radio side of UDP; absent on an interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radio: Option<SocketAddr>,
    /// The viewer's acceptance of the sponsoring package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptance: Option<SignedAcceptance>,
    /// The owner's acceptance of the personal package that pays `user_charged` bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<SignedAcceptance>,
}

/// An open session as the subscriber needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its id.
    pub session: SessionId,
    /// The subscriber's inner address.
    pub ue_address: IpAddr,
    /// The gateway's N3 address.
    pub gateway: SocketAddr,
    /// The gateway's TEID.
    pub teid: Teid,
    /// Our TEID.
    pub downlink_teid: Teid,
    /// Content bytes reserved of the sponsoring package.
    pub reserved_bytes: Bytes,
}

/// A closed session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// What this BaseStation signed.
    pub receipt: SignedReceipt,
    /// What the gateway answered.
    pub gateway: serde_json::Value,
}

/// Who this BaseStation is.
#[derive(Debug)]
pub struct Identity {
    /// The chain that signatures are for.
    pub chain: ChainId,
    /// Its registered id.
    pub basestation: BaseStationId,
    /// Its gateway.
    pub gateway: GatewayId,
    /// Its device key.
    pub key: SecretKey,
    /// Its N3 address as the gateway sees it at the start.
    pub n3: SocketAddr,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sponsored {
    package: PackageId,
    viewer: ViewerKey,
}

/// The control side of a BaseStation.
pub struct Agent {
    identity: Identity,
    api: Box<dyn GatewayApi>,
    worker: WorkerHandle,
    /// Our N3 address now: a gateway that assigns it may assign another.
    n3: Mutex<SocketAddr>,
    next_teid: AtomicU32,
    open: Mutex<HashMap<SessionId, Sponsored>>,
    unsent: Mutex<HashMap<SessionId, SignedReceipt>>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// An agent without sessions.
    ///
    /// # Errors
    ///
    /// The system's, when it has no random bytes.
    pub fn new(
        identity: Identity,
        api: Box<dyn GatewayApi>,
        worker: WorkerHandle,
    ) -> std::io::Result<Self> {
        let [a, b, c, d, ..] = *random()?.as_bytes();
        Ok(Self {
            n3: Mutex::new(identity.n3),
            identity,
            api,
            worker,
            // A random start: after a restart no TEID of the time before comes back soon.
            next_teid: AtomicU32::new(u32::from_be_bytes([a, b, c, d])),
            open: Mutex::new(HashMap::new()),
            unsent: Mutex::new(HashMap::new()),
        })
    }

    /// The forwarding thread.
    #[must_use]
    pub const fn worker(&self) -> &WorkerHandle {
        &self.worker
    }

    /// Who this BaseStation is.
    pub(crate) const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its gateway.
    pub(crate) fn api(&self) -> &dyn GatewayApi {
        &*self.api
    }

    /// Sessions are opened with this N3 address from now on.
    pub(crate) fn move_to(&self, n3: SocketAddr) {
        *lock(&self.n3) = n3;
    }

    /// Opens a session and starts forwarding for it.
    ///
    /// # Errors
    ///
    /// [`AgentError`]; no session is left open then, unless the gateway did not answer.
    pub fn open(&self, request: OpenRequest) -> Result<Opened, AgentError> {
        match (self.worker.radio(), request.radio) {
            (RadioKind::Udp, Some(_)) | (RadioKind::Interface, None) => {}
            (RadioKind::Udp, None) => {
                return Err(AgentError::Radio(
                    "request.radio is missing: radio is UDP here",
                ));
            }
            (RadioKind::Interface, Some(_)) => {
                return Err(AgentError::Radio(
                    "request.radio is not used: radio is an interface here",
                ));
            }
        }
        let nonce = random()?;
        let downlink_teid = self.next_teid();
        let sponsored = request.acceptance.as_ref().map(|signed| Sponsored {
            package: signed.acceptance.package,
            viewer: signed.acceptance.viewer,
        });
        let body = self.sign_open(request.acceptance, request.personal, downlink_teid, nonce);
        let opened = self.api.open(&nonce.to_string(), &body)?;
        let session = opened.session;
        lock(&self.open).insert(session, sponsored.unwrap_or_default());
        match self.install(&opened, downlink_teid, request.radio) {
            Ok(tunnel) => Ok(Opened {
                session,
                ue_address: tunnel.ue,
                gateway: tunnel.gateway,
                teid: tunnel.uplink_teid,
                downlink_teid,
                reserved_bytes: opened.reserved_bytes,
            }),
            Err(error) => {
                // The reason of the failure is told; a failing close keeps its receipt for later.
                if let Err(close) = self.close(session, None) {
                    tracing::warn!(%session, %close, "session that cannot be forwarded stays open");
                }
                Err(error)
            }
        }
    }

    fn sign_open(
        &self,
        acceptance: Option<SignedAcceptance>,
        personal: Option<SignedAcceptance>,
        downlink_teid: Teid,
        nonce: Hash32,
    ) -> OpenSessionRequest {
        let hash = |signed: &SignedAcceptance| Domain::Acceptance.hash(&signed.to_bytes());
        let open = SessionOpen {
            basestation: self.identity.basestation,
            gateway: self.identity.gateway,
            downlink_teid,
            acceptance_hash: acceptance.as_ref().map_or(Hash32::ZERO, hash),
            personal_package: personal
                .as_ref()
                .map_or(PackageId::ZERO, |signed| signed.acceptance.package),
            valid_until: now(REQUEST_VALID),
            nonce,
        };
        let signature = open.sign(&self.identity.key, &self.identity.chain);
        let peer = lock(&self.n3).to_string();
        OpenSessionRequest {
            open,
            signature,
            acceptance,
            personal,
            peer,
        }
    }

    fn install(
        &self,
        opened: &qlink_api::session::OpenedSession,
        downlink_teid: Teid,
        radio: Option<SocketAddr>,
    ) -> Result<Tunnel, AgentError> {
        let tunnel = Tunnel {
            session: opened.session,
            ue: parse_address(&opened.ue_address)?,
            radio,
            gateway: parse_address(&opened.n3)?,
            uplink_teid: opened.teid,
            downlink_teid,
        };
        match self.worker.install(tunnel)? {
            Err(InstallError::AddressTaken(ue)) => {
                // The gateway gives an address to one session at a time: the other has ended there,
                // which it does by itself when it denies us. Its receipt waits for who closes it.
                if let Some(ended) = self.worker.holder(ue)? {
                    tracing::info!(session = %ended, "the gateway has ended it");
                    self.final_receipt(ended)?;
                }
                self.worker.install(tunnel)??;
            }
            installed => installed?,
        }
        Ok(tunnel)
    }

    fn next_teid(&self) -> Teid {
        loop {
            let teid = self.next_teid.fetch_add(1, Ordering::Relaxed);
            if teid != 0 {
                return Teid::new(teid);
            }
        }
    }

    /// Stops forwarding for a session and hands the gateway its signed network bytes. Repeating it
    /// after a failure sends the same statement again.
    ///
    /// # Errors
    ///
    /// [`AgentError`]. After [`AgentError::Gateway`] the session is no longer forwarded, and the
    /// receipt waits for the repetition.
    pub fn close(
        &self,
        session: SessionId,
        viewer_receipt: Option<SignedReceipt>,
    ) -> Result<Closed, AgentError> {
        let kept = lock(&self.unsent).get(&session).cloned();
        let receipt = match kept {
            Some(receipt) => receipt,
            None => self.final_receipt(session)?,
        };
        let request = CloseSessionRequest {
            basestation_receipt: receipt.clone(),
            viewer_receipt,
        };
        let gateway = self
            .api
            .close(&format!("close-{session}"), session, &request)?;
        lock(&self.unsent).remove(&session);
        Ok(Closed { receipt, gateway })
    }

    fn final_receipt(&self, session: SessionId) -> Result<SignedReceipt, AgentError> {
        let sponsored = lock(&self.open).remove(&session);
        let sponsored = sponsored.ok_or(AgentError::UnknownSession(session))?;
        let count = self
            .worker
            .remove(session)?
            .map(|(_, count)| count)
            .unwrap_or_default();
        let receipt = self.receipt(session, sponsored, count);
        lock(&self.unsent).insert(session, receipt.clone());
        Ok(receipt)
    }

    fn receipt(
        &self,
        session: SessionId,
        sponsored: Sponsored,
        count: NetworkCount,
    ) -> SignedReceipt {
        let receipt = Receipt {
            session,
            gateway: self.identity.gateway,
            // The gateway's own numbers; a BaseStation does not know and does not state them.
            incarnation: Incarnation::ZERO,
            package_epoch: PackageEpoch::ZERO,
            sequence: 1,
            package: sponsored.package,
            viewer: sponsored.viewer,
            uplink_network_bytes: Bytes::new(count.uplink_bytes),
            downlink_network_bytes: Bytes::new(count.downlink_bytes),
            classes: ByteClasses::default(),
            stated_at: now(Duration::ZERO),
        };
        let Identity { key, chain, .. } = &self.identity;
        SignedReceipt::sign(receipt, ReceiptSigner::BaseStation, key, chain)
    }
}

fn parse_address<T: std::str::FromStr>(text: &str) -> Result<T, AgentError> {
    text.parse()
        .map_err(|_| AgentError::Address(text.to_owned()))
}

/// A poisoned map is still a map: every change to it is one call.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The wall clock, so much ahead.
pub(crate) fn now(ahead: Duration) -> TimeMs {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    TimeMs::new(u64::try_from(now.saturating_add(ahead).as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn random() -> std::io::Result<Hash32> {
    use std::io::Read as _;
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Hash32::new(bytes))
}
