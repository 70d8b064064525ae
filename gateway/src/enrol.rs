//! Enrolment for the tunnel: what is checked, kept and told to the data plane, in this order.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};

use qlink_api::tunnel::{EnrolTunnelRequest, EnrolledTunnel};
use qlink_pfcp::{Answer, Request, TunnelEnd, TunnelMember};
use qlink_types::ids::{BaseStationId, Hash32};
use qlink_types::transaction::Party;
use qlink_types::tunnel::{EndpointText, TunnelGrant, TunnelKey};

use crate::admission::OpenRefusal;
use crate::service::{Service, ServiceError, now, unexpected};
use crate::tunnels::{EnrolRefusal, Enrolled, TunnelConfig, check_statement};

impl Service {
    /// Lets a BaseStation into the tunnel.
    ///
    /// # Errors
    ///
    /// [`ServiceError`]; nothing changes when it is refused. When the data plane does not answer, the
    /// key stands and the repeated request goes on.
    pub(crate) async fn enrol(
        self: &Arc<Self>,
        basestation: BaseStationId,
        request: EnrolTunnelRequest,
    ) -> Result<EnrolledTunnel, ServiceError> {
        let config = self.config.tunnel.ok_or(EnrolRefusal::NotOffered)?;
        let statement = request.statement;
        if statement.basestation != basestation {
            return Err(EnrolRefusal::OtherPath {
                path: basestation,
                statement: statement.basestation,
            }
            .into());
        }
        let party = self.node.party(&Party::BaseStation { basestation }).await?;
        let party = party.ok_or(EnrolRefusal::UnknownBaseStation(basestation))?;
        statement
            .verify(&party.key, &self.chain, &request.signature)
            .map_err(EnrolRefusal::BadSignature)?;
        check_statement(&statement, self.gateway(), now())?;
        let service = Arc::clone(self);
        let enrolled =
            tokio::task::spawn_blocking(move || service.enrol_blocking(&config, statement));
        enrolled.await.map_err(|_| ServiceError::Task)?
    }

    /// Counts how an enrolment ended.
    pub(crate) fn count_enrolment(&self, result: &Result<EnrolledTunnel, ServiceError>) {
        let counter = match result {
            Ok(_) => &self.metrics.enrolments,
            Err(ServiceError::NotEnrolled(EnrolRefusal::Denied(_))) => {
                &self.metrics.enrolments_denied
            }
            Err(_) => &self.metrics.enrolments_refused,
        };
        counter.inc();
    }

    fn enrol_blocking(
        &self,
        config: &TunnelConfig,
        statement: TunnelKey,
    ) -> Result<EnrolledTunnel, ServiceError> {
        // One at a time: a row and what the data plane knows change together.
        let _turn = self
            .enrolling
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let basestation = statement.basestation;
        if let Some(denial) = self.rulings().denial_of(basestation, statement.key) {
            return Err(EnrolRefusal::Denied(denial.into()).into());
        }
        let (before, row) = {
            let mut tunnels = self.tunnels();
            let before = tunnels.of(&basestation).cloned();
            let row = tunnels.judge(config, &statement)?;
            tunnels.keep(basestation, Some(row.clone()))?;
            (before, row)
        };
        // Stating a key again says that it is in use: then the earlier one goes.
        let old = match &before {
            Some(before) if before.key != row.key => row.overlapping(now()),
            _ => None,
        };
        let end = match self.hand_over(&row, old) {
            Ok(end) => end,
            // It may have taken effect: the row stays.
            Err(error) if error.is_unreachable() => return Err(error),
            Err(error) => {
                let _unheard = before.as_ref().map(|row| self.hand_over(row, None));
                self.tunnels().keep(basestation, before)?;
                return Err(error);
            }
        };
        self.note_told(basestation, &row, old)?;
        self.grant(config, statement, &row, &end)
    }

    /// Tells the data plane of a row; telling it again changes nothing. `old` may come through
    /// beside the row's key, every other key that was replaced goes.
    fn hand_over(&self, row: &Enrolled, old: Option<Hash32>) -> Result<TunnelEnd, ServiceError> {
        for key in row.retired.iter().filter(|key| Some(**key) != old) {
            self.forget_key(*key)?;
        }
        let member = TunnelMember {
            key: row.key,
            address: row.address,
        };
        let request = match old {
            Some(old) => Request::RenewTunnelMember { member, old },
            None => Request::AddTunnelMember { member },
        };
        match self.link.request(request)? {
            Answer::TunnelMemberAdded { end } => Ok(end),
            other => Err(unexpected(other)),
        }
    }

    /// Keeps what the data plane still knows of a row's replaced keys.
    fn note_told(
        &self,
        basestation: BaseStationId,
        row: &Enrolled,
        old: Option<Hash32>,
    ) -> Result<(), ServiceError> {
        let left = match old {
            Some(_) => row.renewed(),
            None => row.settled(),
        };
        if left != *row {
            self.tunnels().keep(basestation, Some(left))?;
        }
        Ok(())
    }

    fn grant(
        &self,
        config: &TunnelConfig,
        asked: TunnelKey,
        row: &Enrolled,
        end: &TunnelEnd,
    ) -> Result<EnrolledTunnel, ServiceError> {
        // The longest address fits, so this never fails.
        let text =
            |text: String| EndpointText::try_from(text.as_str()).map_err(|_| ServiceError::Task);
        let grant = TunnelGrant {
            asked,
            gateway_key: end.key,
            endpoint: text(config.endpoint.to_string())?,
            gtpu: text(end.gtpu.to_string())?,
            address: text(row.address.to_string())?,
        };
        let signature = grant.sign(self.key(), &self.chain);
        Ok(EnrolledTunnel { grant, signature })
    }

    /// Tells the data plane of every row again: it may have lost its own state, and a request may
    /// have been cut off. To be called while nobody enrols.
    pub(crate) fn enrol_again(&self) {
        if self.config.tunnel.is_none() {
            return;
        }
        let rows: Vec<(BaseStationId, Enrolled)> = {
            let tunnels = self.tunnels();
            tunnels.rows().map(|(id, row)| (*id, row.clone())).collect()
        };
        for (basestation, row) in rows {
            if let Err(error) = self.tell(basestation, &row) {
                tracing::warn!(%basestation, %error, "the data plane has not let it into the tunnel");
                if error.is_unreachable() {
                    return;
                }
            }
        }
    }

    /// Tells the data plane of a row that stands, unless it is denied.
    pub(crate) fn tell(
        &self,
        basestation: BaseStationId,
        row: &Enrolled,
    ) -> Result<(), ServiceError> {
        if self.rulings().denial_of(basestation, row.key).is_some() {
            return Ok(());
        }
        let old = row.overlapping(now());
        self.hand_over(row, old)?;
        self.note_told(basestation, row, old)
    }

    /// Takes out keys that were replaced long enough ago. To be called while nobody enrols.
    pub(crate) fn end_overlaps(&self) {
        let overdue = self.tunnels().overdue(now());
        for (basestation, row) in overdue {
            if let Err(error) = self.tell(basestation, &row) {
                tracing::warn!(%basestation, %error, "an earlier tunnel key is not removed yet");
                return;
            }
        }
    }

    /// Whether a replaced key must go.
    pub(crate) fn has_overdue_keys(&self) -> bool {
        !self.tunnels().overdue(now()).is_empty()
    }

    /// Whether a session's downlink may go to `peer`: of a BaseStation in the tunnel that is its
    /// tunnel address, of any other no address that is given in the tunnel.
    ///
    /// # Errors
    ///
    /// [`OpenRefusal::PeerNotTunnel`] or [`OpenRefusal::PeerReserved`].
    pub(crate) fn check_peer(
        &self,
        basestation: &BaseStationId,
        peer: SocketAddr,
    ) -> Result<(), OpenRefusal> {
        let Some(config) = &self.config.tunnel else {
            return Ok(());
        };
        let own: Option<IpAddr> = self.tunnels().of(basestation).map(|row| row.address);
        match own {
            Some(expected) if expected != peer.ip() => {
                Err(OpenRefusal::PeerNotTunnel { peer, expected })
            }
            None if config.contains(peer.ip()) => Err(OpenRefusal::PeerReserved { peer }),
            _ => Ok(()),
        }
    }
}
