//! Denials take effect: the data plane forgets keys, sessions end. What did not get done is done
//! later, again and again, until it is.

use std::sync::{Arc, PoisonError};

use qlink_api::tunnel::{RuleTunnelRequest, RulingState, RulingView};
use qlink_pfcp::{Answer, Request};
use qlink_types::ids::{BaseStationId, Hash32, SessionId};
use qlink_types::ruling::{Subject, TunnelRuling};

use crate::rulings::{RulingRefusal, check_ruling};
use crate::service::{Service, ServiceError, now, unexpected};
use crate::session::{Session, Stage};

impl Service {
    /// Takes a ruling of this gateway's operator. It stands once this returns; the answer tells
    /// whether it is in effect already.
    ///
    /// # Errors
    ///
    /// [`ServiceError`]; nothing changes then.
    pub(crate) async fn rule(
        self: &Arc<Self>,
        request: RuleTunnelRequest,
    ) -> Result<RulingView, ServiceError> {
        let ruling = request.ruling;
        ruling
            .verify(&self.key().public(), &self.chain, &request.signature)
            .map_err(RulingRefusal::BadSignature)?;
        check_ruling(&ruling, self.gateway(), now())?;
        let service = Arc::clone(self);
        let ruled = tokio::task::spawn_blocking(move || service.rule_blocking(&ruling));
        ruled.await.map_err(|_| ServiceError::Task)?
    }

    fn rule_blocking(&self, ruling: &TunnelRuling) -> Result<RulingView, ServiceError> {
        let _turn = self
            .enrolling
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let denied = {
            let mut rulings = self.rulings();
            rulings.keep(ruling, now())??;
            i64::try_from(rulings.len()).unwrap_or(i64::MAX)
        };
        self.metrics.tunnel_denials.set(denied);
        tracing::info!(subject = %ruling.subject, denied = ?ruling.denied, "ruled");
        let ended = match ruling.denied {
            Some(_) => self.enforce(&ruling.subject),
            // What it had stands again; what is not there enrols.
            None => self.readmit(&ruling.subject).map(|()| 0),
        };
        let ended = ended.unwrap_or_else(|error| {
            tracing::warn!(subject = %ruling.subject, %error, "the ruling is not in effect yet");
            0
        });
        let mut view = self.ruling_view(ruling);
        view.sessions_ended = ended;
        Ok(view)
    }

    fn ruling_view(&self, ruling: &TunnelRuling) -> RulingView {
        RulingView {
            subject: ruling.subject,
            denied: ruling.denied,
            since: ruling.signed_at,
            state: self.ruling_state(&ruling.subject),
            sessions_ended: 0,
        }
    }

    /// How far a ruling on `subject` is.
    pub(crate) fn ruling_state(&self, subject: &Subject) -> RulingState {
        if self.rulings().pending().contains(subject) {
            RulingState::Pending
        } else {
            RulingState::InEffect
        }
    }

    /// Puts every denial into effect that is not, as far as the data plane answers. To be called
    /// while nobody enrols.
    fn enforce_pending(&self) {
        let pending: Vec<Subject> = self.rulings().pending().iter().copied().collect();
        for subject in pending {
            if let Err(error) = self.enforce(&subject) {
                tracing::warn!(%subject, %error, "a denial is not in effect yet");
                if error.is_unreachable() {
                    return;
                }
            }
        }
    }

    /// Brings the data plane to what stands here: denials first, then who may come. To be called at
    /// a start, whenever the data plane is reached anew, and while a denial is pending.
    pub(crate) fn reconcile_tunnel(&self, what: Reconcile) {
        let _turn = self
            .enrolling
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if what == Reconcile::All {
            self.rulings().renew();
        }
        self.enforce_pending();
        if what == Reconcile::All {
            self.enrol_again();
        }
        self.end_overlaps();
    }

    /// Whether the data plane is to be told something: a denial, or that a key was replaced.
    pub(crate) fn has_untold(&self) -> bool {
        !self.rulings().pending().is_empty() || self.has_overdue_keys()
    }

    /// Shuts a subject out; how many sessions ended.
    fn enforce(&self, subject: &Subject) -> Result<u64, ServiceError> {
        let mut ended = 0_u64;
        match subject {
            Subject::BaseStation { basestation } => {
                // The tunnel first: from then on nothing comes for the sessions.
                let keys = self.tunnels().of(basestation).map(|row| {
                    let mut keys = row.retired.to_vec();
                    keys.push(row.key);
                    keys
                });
                for key in keys.into_iter().flatten() {
                    self.forget_key(key)?;
                }
                for session in self.sessions_of(basestation) {
                    ended = ended.saturating_add(u64::from(self.end_session(&session)?));
                }
            }
            Subject::TunnelKey { key } => self.forget_key(*key)?,
        }
        self.rulings().settled(subject);
        Ok(ended)
    }

    /// Tells the data plane of what stands for a subject that may come again.
    fn readmit(&self, subject: &Subject) -> Result<(), ServiceError> {
        let rows: Vec<_> = {
            let tunnels = self.tunnels();
            let concerned = tunnels.rows().filter(|(id, row)| match subject {
                Subject::BaseStation { basestation } => *id == basestation,
                Subject::TunnelKey { key } => row.key == *key,
            });
            concerned.map(|(id, row)| (*id, row.clone())).collect()
        };
        rows.iter().try_for_each(|(id, row)| self.tell(*id, row))
    }

    pub(crate) fn forget_key(&self, key: Hash32) -> Result<(), ServiceError> {
        match self.link.request(Request::RemoveTunnelMember { key })? {
            Answer::TunnelMemberRemoved { .. } => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn sessions_of(&self, basestation: &BaseStationId) -> Vec<SessionId> {
        let registry = self.registry();
        let sessions = registry.open_sessions();
        let own = sessions.filter(|session| session.basestation == *basestation);
        own.map(|session| session.session).collect()
    }

    /// Ends a session whose BaseStation is denied; whether it was open. What was proven until then
    /// is paid as ever.
    fn end_session(&self, id: &SessionId) -> Result<bool, ServiceError> {
        let usage = self.delete(id)?;
        let mut registry = self.registry();
        let Some(session) = registry.session(id)? else {
            return Ok(false);
        };
        if session.stage.has_ended() {
            return Ok(false);
        }
        let ended = Session {
            stage: Stage::Denied,
            stated: session.usage.classes.verified_unique,
            usage: usage.unwrap_or(session.usage),
            ..session
        };
        registry.close(&ended)?;
        self.metrics.sessions_denied.inc();
        tracing::info!(session = %id, "ended: its BaseStation is denied");
        Ok(true)
    }
}

/// What of the data plane's knowledge is brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reconcile {
    /// Everything: nobody knows what it has kept.
    All,
    /// What is known to be missing.
    Pending,
}
