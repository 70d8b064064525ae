//! The machine: time, peers and answers in, requests and verdicts out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::answers::Expected;
use super::config::PathsConfig;

/// Requests that leave at once (chosen: half of what a worker keeps of its own messages).
const ASKS_MAX: usize = 32;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathEffect {
    /// An echo request leaves.
    Ask(Expected),
    /// The peer no longer answers.
    Failed(SocketAddr),
    /// The peer answers again.
    Recovered(SocketAddr),
}

/// What is known of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// It has not answered yet, nor failed to.
    Unknown,
    Answers,
    Failed,
}

/// A request that was not answered yet.
#[derive(Debug, Clone, Copy)]
struct Asked {
    sequence: u16,
    /// How often it left.
    times: u8,
}

#[derive(Debug, Clone, Copy)]
struct Path {
    reach: Reach,
    asked: Option<Asked>,
    /// When something is to be done: ask, ask again, give up.
    due: Duration,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PathCounts {
    /// Requests sent, those sent again too.
    pub(crate) asked: u64,
    /// Requests answered.
    pub(crate) answered: u64,
    /// Requests that were not answered in time, each time.
    pub(crate) missed: u64,
    /// Answers that came when nobody waited for them any more.
    pub(crate) stray: u64,
    /// Times that a path failed.
    pub(crate) failed: u64,
    /// Times that a failed path came back.
    pub(crate) recovered: u64,
}

/// Every peer that is watched. See the [module](super).
#[derive(Debug)]
pub(crate) struct Paths {
    config: PathsConfig,
    /// Makes numbers and first times unforeseeable.
    secret: [u8; 32],
    drawn: u64,
    paths: BTreeMap<SocketAddr, Path>,
    /// The same, by time.
    due: BTreeSet<(Duration, SocketAddr)>,
    counts: PathCounts,
}

impl Paths {
    pub(crate) const fn new(config: PathsConfig, secret: [u8; 32]) -> Self {
        Self {
            config,
            secret,
            drawn: 0,
            paths: BTreeMap::new(),
            due: BTreeSet::new(),
            counts: PathCounts {
                asked: 0,
                answered: 0,
                missed: 0,
                stray: 0,
                failed: 0,
                recovered: 0,
            },
        }
    }

    /// These are the peers from now on; those beyond the bound are left out, new ones first. What
    /// is not named any more is forgotten.
    pub(crate) fn watch(&mut self, now: Duration, peers: &BTreeSet<SocketAddr>) {
        let gone: Vec<SocketAddr> = self
            .paths
            .keys()
            .filter(|peer| !peers.contains(peer))
            .copied()
            .collect();
        for peer in gone {
            if let Some(path) = self.paths.remove(&peer) {
                self.due.remove(&(path.due, peer));
            }
        }
        for peer in peers {
            if self.paths.len() >= self.bound() {
                return;
            }
            if !self.paths.contains_key(peer) {
                // Peers are found together and must not be asked together ever after.
                let due = now.saturating_add(self.first_pause());
                let path = Path {
                    reach: Reach::Unknown,
                    asked: None,
                    due,
                };
                self.paths.insert(*peer, path);
                self.due.insert((due, *peer));
            }
        }
    }

    /// An answer came.
    pub(crate) fn answered(
        &mut self,
        now: Duration,
        (from, sequence): Expected,
    ) -> Option<PathEffect> {
        let path = self.paths.get_mut(&from);
        let waits = |path: &&mut Path| path.asked.is_some_and(|asked| asked.sequence == sequence);
        let Some(path) = path.filter(waits) else {
            self.counts.stray = self.counts.stray.saturating_add(1);
            return None;
        };
        self.counts.answered = self.counts.answered.saturating_add(1);
        self.due.remove(&(path.due, from));
        let before = path.reach;
        *path = Path {
            reach: Reach::Answers,
            asked: None,
            due: now.saturating_add(self.config.interval.0),
        };
        self.due.insert((path.due, from));
        if before != Reach::Failed {
            return None;
        }
        self.counts.recovered = self.counts.recovered.saturating_add(1);
        Some(PathEffect::Recovered(from))
    }

    /// Does what is due; at most [`ASKS_MAX`] requests at once, the rest with the next call.
    pub(crate) fn timer(&mut self, now: Duration) -> Vec<PathEffect> {
        let mut effects = Vec::new();
        for _ in 0..ASKS_MAX {
            let Some((due, peer)) = self.due.first().copied().filter(|(due, _)| *due <= now) else {
                break;
            };
            self.due.remove(&(due, peer));
            let Some(path) = self.paths.get(&peer).copied() else {
                continue;
            };
            let next = self.step(now, peer, path, &mut effects);
            self.paths.insert(peer, next);
            self.due.insert((next.due, peer));
        }
        effects
    }

    /// What becomes of a path whose time has come.
    fn step(
        &mut self,
        now: Duration,
        peer: SocketAddr,
        path: Path,
        effects: &mut Vec<PathEffect>,
    ) -> Path {
        let again = path.asked.filter(|asked| asked.times < self.config.n3);
        if path.asked.is_some() {
            self.counts.missed = self.counts.missed.saturating_add(1);
            if again.is_none() {
                return self.give_up(now, peer, path.reach, effects);
            }
        }
        let asked = match again {
            Some(asked) => Asked {
                times: asked.times.saturating_add(1),
                ..asked
            },
            None => Asked {
                sequence: self.draw(),
                times: 1,
            },
        };
        self.counts.asked = self.counts.asked.saturating_add(1);
        effects.push(PathEffect::Ask((peer, asked.sequence)));
        Path {
            asked: Some(asked),
            due: now.saturating_add(self.config.t3.0),
            ..path
        }
    }

    fn give_up(
        &mut self,
        now: Duration,
        peer: SocketAddr,
        reach: Reach,
        effects: &mut Vec<PathEffect>,
    ) -> Path {
        if reach != Reach::Failed {
            self.counts.failed = self.counts.failed.saturating_add(1);
            effects.push(PathEffect::Failed(peer));
        }
        Path {
            reach: Reach::Failed,
            asked: None,
            due: now.saturating_add(self.config.interval.0),
        }
    }

    /// What answers are waited for, sorted.
    pub(crate) fn expected(&self) -> Vec<Expected> {
        let paths = self.paths.iter();
        paths
            .filter_map(|(peer, path)| Some((*peer, path.asked?.sequence)))
            .collect()
    }

    /// Whether a peer is watched.
    pub(crate) fn knows(&self, peer: &SocketAddr) -> bool {
        self.paths.contains_key(peer)
    }

    /// Most peers.
    pub(crate) const fn bound(&self) -> usize {
        self.config.max_peers as usize
    }

    /// The peers that do not answer.
    pub(crate) fn failed(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let failed = self.paths.iter();
        let failed = failed.filter(|(_, path)| path.reach == Reach::Failed);
        failed.map(|(peer, _)| *peer)
    }

    /// How many peers answer or were not asked yet, and how many have failed.
    pub(crate) fn standing(&self) -> (usize, usize) {
        let failed = self.paths.values();
        let failed = failed.filter(|path| path.reach == Reach::Failed).count();
        (self.paths.len().saturating_sub(failed), failed)
    }

    pub(crate) const fn counts(&self) -> PathCounts {
        self.counts
    }

    /// One to two intervals.
    fn first_pause(&mut self) -> Duration {
        let interval = u64::try_from(self.config.interval.0.as_millis()).unwrap_or(u64::MAX);
        let share = u64::from(self.draw()).saturating_mul(interval) >> 16;
        Duration::from_millis(interval.saturating_add(share))
    }

    /// A number that whoever knows those before cannot foresee.
    fn draw(&mut self) -> u16 {
        self.drawn = self.drawn.wrapping_add(1);
        let hash = blake3::keyed_hash(&self.secret, &self.drawn.to_be_bytes());
        let number = hash.as_bytes().first_chunk();
        u16::from_be_bytes(*number.unwrap_or(&[0, 0]))
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
