//! A node from its records, and records from a node.

use std::time::Duration;

use super::config::NodeConfig;
use super::machine::{Node, Peer};
use super::record::{Record, SessionRecord};
use super::session::Session;
use crate::model::{Endpoints, Environment, Networks, Rejection, Seid, SessionModel};
use crate::wire::ApplicationPfds;

/// Why records do not make a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The rules of a session cannot stand (any more).
    #[error("session {} cannot stand", seid.get())]
    Session {
        /// Which.
        seid: Seid,
        /// Why.
        #[source]
        rejection: Rejection,
    },
}

impl Node {
    /// The node that persisted `records`, in their order, at the time `now`. Peers are taken to be
    /// there until a heartbeat shows otherwise; commands to the data plane are the caller's, see
    /// [`Self::sessions`].
    ///
    /// # Errors
    ///
    /// [`RestoreError`] when the endpoints of a session are not free, or limits are lower now.
    pub fn restore(
        config: NodeConfig,
        records: impl IntoIterator<Item = Record>,
        now: Duration,
        endpoints: &mut dyn Endpoints,
    ) -> Result<Self, RestoreError> {
        let mut node = Self::new(config);
        let mut sessions = std::collections::BTreeMap::new();
        let (mut ends, mut last_words) = (Vec::new(), std::collections::BTreeMap::new());
        for record in records {
            match record {
                Record::Association(record) => {
                    let heartbeat = now.saturating_add(node.config.timers.heartbeat);
                    node.peers
                        .insert(record.node.clone(), Peer::new(&record, heartbeat));
                }
                Record::AssociationGone(name) => {
                    node.peers.remove(&name);
                    sessions.retain(|_, session: &mut SessionRecord| session.owner != name);
                }
                Record::Session(record) => {
                    sessions.insert(record.seid, *record);
                }
                Record::SessionGone(seid) => {
                    sessions.remove(&seid);
                }
                Record::Ended(seid, answer) => {
                    sessions.remove(&seid);
                    ends.push((seid, answer));
                }
                Record::LastWord(last) => {
                    sessions.remove(&last.session);
                    last_words.insert(last.session, last);
                }
                Record::Said(seid) => {
                    last_words.remove(&seid);
                }
                Record::Application(named) if named.pfds.is_empty() => {
                    node.applications.remove(&named.application);
                }
                Record::Application(named) => {
                    node.applications.insert(named.application, named.pfds);
                }
            }
        }
        for record in sessions.into_values() {
            node.restore_session(record, endpoints)?;
        }
        // Of those that no one waits for any more only the newest cost room, for a while.
        let newest = ends.len().saturating_sub(node.config.limits.responses);
        for (seid, answer) in ends.into_iter().skip(newest) {
            node.remember_end(now, seid, answer);
        }
        for last in last_words.into_values() {
            node.farewells.add(&last);
        }
        Ok(node)
    }

    fn restore_session(
        &mut self,
        record: SessionRecord,
        endpoints: &mut dyn Endpoints,
    ) -> Result<(), RestoreError> {
        let seid = record.seid;
        let Some(peer) = self.peers.get_mut(&record.owner) else {
            return Ok(());
        };
        // An application whose filters went since the session was changed last is no obstacle, nor
        // is a network instance that is served no more.
        let mut environment = Environment {
            session: seid,
            endpoints,
            knows_application: &|_| true,
            networks: &Networks::Any,
        };
        let limits = &self.config.limits.model;
        let (model, _) = SessionModel::default()
            .changed(&record.rules, limits, &mut environment)
            .map_err(|rejection| RestoreError::Session { seid, rejection })?;
        let mut session = Session::new(record.owner, record.remote);
        session.model = model;
        session.inactivity_s = record.inactivity_s;
        session.sets = record.sets;
        peer.sessions.insert(seid);
        self.index_tunnels(&SessionModel::default(), &session.model);
        self.sessions.insert(seid, session);
        Ok(())
    }

    /// Records that make this node again: associations, then sessions, then applications, then the
    /// last usage of sessions that are gone. What is in work and what is not reported yet of
    /// sessions that stand is not in them.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Record> {
        let associations = self.peers.iter();
        let associations = associations.map(|(name, peer)| Record::Association(peer.record(name)));
        let sessions = self.sessions.iter();
        let sessions = sessions
            .filter(|(_, session)| session.is_established())
            .filter(|(_, session)| session.fate == super::session::Fate::Stays)
            .map(|(seid, session)| Record::Session(Box::new(session.record(*seid))));
        let applications = self.applications.iter().map(|(application, pfds)| {
            Record::Application(ApplicationPfds {
                application: application.clone(),
                pfds: pfds.clone(),
            })
        });
        let ends = self.ends.iter();
        let ends = ends.map(|(_, seid, answer)| Record::Ended(*seid, answer.clone()));
        let last_words = self.farewells.left().into_iter();
        let last_words = last_words.map(|last| Record::LastWord(Box::new(last)));
        let beside = applications.chain(ends).chain(last_words);
        associations.chain(sessions).chain(beside).collect()
    }
}
