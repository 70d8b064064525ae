//! The control thread's part: sessions, workers, control planes and metrics around the machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use qlink_meter::process_secret;
use qlink_pfcp::wire::RemotePeer;

use super::answers::Expected;
use super::config::PathsConfig;
use super::machine::{PathEffect, Paths};
use super::sweep::{Party, Sweep};
use crate::control::{Command, Control, Shard};
use crate::metrics::PathMetrics;

/// Answers taken in one turn.
const ANSWERS_MAX: usize = 256;

/// Watches the paths of one data plane.
#[derive(Debug)]
pub(crate) struct PathWatch {
    paths: Paths,
    sweep: Sweep,
    parties: BTreeMap<SocketAddr, Party>,
    answers: Receiver<Expected>,
    /// What the workers were told last.
    expected: Vec<Expected>,
    metrics: PathMetrics,
}

/// What control planes are to know.
#[derive(Debug, Default)]
struct News {
    failures: Vec<RemotePeer>,
    recoveries: Vec<RemotePeer>,
}

impl PathWatch {
    pub(crate) fn new(
        config: PathsConfig,
        answers: Receiver<Expected>,
        metrics: PathMetrics,
    ) -> Self {
        let mut secret = [0; 32];
        for chunk in secret.chunks_mut(8) {
            let random = process_secret().to_le_bytes();
            chunk.copy_from_slice(random.get(..chunk.len()).unwrap_or_default());
        }
        Self {
            paths: Paths::new(config, secret),
            sweep: Sweep::default(),
            parties: BTreeMap::new(),
            answers,
            expected: Vec::new(),
            metrics,
        }
    }

    /// Takes in what came and does what is due; `now_ns` is monotonic.
    pub(crate) fn turn(&mut self, control: &mut Control, now_ns: u64) {
        if self.paths.bound() == 0 {
            return;
        }
        let now = Duration::from_nanos(now_ns);
        let mut changed = self.look(control, now);
        let mut effects = Vec::new();
        for _ in 0..ANSWERS_MAX {
            let Ok(answer) = self.answers.try_recv() else {
                break;
            };
            changed = true;
            effects.extend(self.paths.answered(now, answer));
        }
        effects.extend(self.paths.timer(now));
        self.tell_newcomers(control, now_ns);
        if effects.is_empty() && !changed {
            return;
        }
        let (mut ask, mut news) = (Vec::new(), News::default());
        for effect in effects {
            match effect {
                PathEffect::Ask(expected) => ask.push(expected),
                PathEffect::Failed(peer) => {
                    tracing::warn!(%peer, "a GTP-U peer does not answer: its path has failed");
                    news.failures.extend(self.reported(peer));
                }
                PathEffect::Recovered(peer) => {
                    tracing::info!(%peer, "a GTP-U peer answers again");
                    news.recoveries.extend(self.reported(peer));
                }
            }
        }
        self.tell_workers(control, ask);
        if !(news.failures.is_empty() && news.recoveries.is_empty())
            && let Some(mut n4) = control.n4.take()
        {
            n4.paths(control, now_ns, news.failures, news.recoveries);
            control.n4 = Some(n4);
        }
        self.metrics
            .stand(self.paths.standing(), self.paths.counts());
    }

    /// Control planes that came since the last turn are told what had failed before.
    fn tell_newcomers(&self, control: &mut Control, now_ns: u64) {
        let Some(mut n4) = control.n4.take() else {
            return;
        };
        let newcomers = n4.take_newcomers();
        if !newcomers.is_empty() {
            let failed = self.paths.failed().filter_map(|peer| self.reported(peer));
            let failed: Vec<RemotePeer> = failed.collect();
            n4.paths_known(control, now_ns, newcomers, &failed);
        }
        control.n4 = Some(n4);
    }

    /// Looks who the peers are; whether they are others than before.
    fn look(&mut self, control: &Control, now: Duration) -> bool {
        let node = control.n4.as_deref().map(|n4| n4.node.tunnel_peers());
        let known = |peer: &SocketAddr| self.paths.knows(peer);
        let room = (self.paths.bound(), &known);
        let gateways = control.association.peers();
        let Some(found) = self.sweep.look(now, (gateways, node), room) else {
            return false;
        };
        self.paths
            .watch(now, &found.peers.keys().copied().collect());
        self.parties = found.peers;
        self.metrics.unwatched(found.unwatched);
        true
    }

    /// The peer as control planes know it, where one does.
    fn reported(&self, peer: SocketAddr) -> Option<RemotePeer> {
        let (v4, v6) = match peer.ip() {
            IpAddr::V4(v4) => (Some(v4), None),
            IpAddr::V6(v6) => (None, Some(v6)),
        };
        (self.parties.get(&peer) == Some(&Party::ControlPlane)).then_some(RemotePeer {
            v4,
            v6,
            destination: None,
            network_instance: None,
        })
    }

    /// All workers learn what answers are waited for before the first one asks.
    fn tell_workers(&mut self, control: &Control, ask: Vec<Expected>) {
        let expected = self.paths.expected();
        if expected == self.expected && ask.is_empty() {
            return;
        }
        let shared: Arc<[Expected]> = expected.as_slice().into();
        self.expected = expected;
        let tell = |shard: &Shard, ask: Vec<Expected>| {
            let expected = Arc::clone(&shared);
            if let Err(refusal) = shard.worker.run(Command::Echo { expected, ask }) {
                tracing::debug!(%refusal, "a worker was not told of echo requests");
            }
        };
        if let Some((first, others)) = control.shards.split_first() {
            for shard in others {
                tell(shard, Vec::new());
            }
            tell(first, ask);
        }
    }
}
