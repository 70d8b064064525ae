//! Where BaseStations were heard last, kept for the next start.
//!
//! A BaseStation that was not restarted still has keys of the process before, and behind a
//! translator only its old address leads to it: so the new process calls it there. The file is a
//! journal beside the control journal. A place that was not written yet, or is lost, costs the
//! BaseStation the 15 s in which it notices silence by itself.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use qlink_tunnel::{PublicKey, Tunnels};

use crate::journal::{Entry, Journal, JournalError, beside};

/// Lists of changes that wait for storage; further changes wait at the peers.
const WAITING: usize = 4;

/// A BaseStation's key and where it was heard last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Unchecked: it is only looked up.
    key: [u8; 32],
    endpoint: SocketAddr,
}

impl Entry for Place {
    const MAGIC: [u8; 8] = *b"QLPLACE\0";

    /// Key, port, family (4 or 6), address.
    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = self.key.to_vec();
        bytes.extend(self.endpoint.port().to_be_bytes());
        match self.endpoint.ip() {
            IpAddr::V4(ip) => {
                bytes.push(4);
                bytes.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                bytes.push(6);
                bytes.extend(ip.octets());
            }
        }
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<32>()?;
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let (family, address) = rest.split_first()?;
        let ip = match family {
            4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
            6 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
            _ => return None,
        };
        Some(Self {
            key: *key,
            endpoint: SocketAddr::new(ip, u16::from_be_bytes(*port)),
        })
    }
}

/// The file, before anything writes to it.
#[derive(Debug)]
pub(super) struct Places {
    journal: Journal<Place>,
    known: BTreeMap<[u8; 32], SocketAddr>,
}

/// The file that belongs to a control journal.
pub(super) fn places_path(journal: &Path) -> PathBuf {
    beside(journal, ".places")
}

impl Places {
    /// Opens or makes the file.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let (journal, places) = Journal::<Place>::open(path)?;
        let known = places.iter().map(|place| (place.key, place.endpoint));
        Ok(Self {
            known: known.collect(),
            journal,
        })
    }

    /// Tells `tunnels` where its peers were, and forgets who is none any more: so the file has as
    /// many places as the tunnel may have peers.
    pub(super) fn recall(&mut self, tunnels: &mut Tunnels) -> Result<(), JournalError> {
        let peers: Vec<PublicKey> = tunnels.peers().map(|peer| peer.key).collect();
        let mut known = BTreeMap::new();
        for key in peers {
            if let Some(endpoint) = self.known.get(&key.to_bytes()) {
                known.insert(key.to_bytes(), *endpoint);
                tunnels.recall(&key, *endpoint);
            }
        }
        self.known = known;
        self.rewrite()
    }

    fn rewrite(&mut self) -> Result<(), JournalError> {
        let places = self.known.iter().map(|(key, endpoint)| Place {
            key: *key,
            endpoint: *endpoint,
        });
        self.journal.rewrite(places)
    }

    /// Writes what is told until nobody can tell any more.
    pub(super) fn keep(mut self, told: &Receiver<Vec<Place>>) {
        for places in told {
            let kept = self.journal.append(&places);
            self.known
                .extend(places.iter().map(|place| (place.key, place.endpoint)));
            let kept = kept.map_err(|error| error.to_string());
            let kept = kept.and_then(|()| {
                if self.journal.is_overgrown() {
                    self.rewrite().map_err(|error| error.to_string())
                } else {
                    Ok(())
                }
            });
            if let Err(error) = kept {
                tracing::warn!(
                    error,
                    "where BaseStations are is not kept: a restart is noticed late"
                );
            }
        }
    }
}

/// Where the tunnel's thread tells what has changed.
#[derive(Debug)]
pub(super) struct Teller {
    places: Sender<Vec<Place>>,
    /// What found no room.
    left: Vec<Place>,
}

impl Teller {
    pub(super) fn new() -> (Self, Receiver<Vec<Place>>) {
        let (places, told) = bounded(WAITING);
        let left = Vec::new();
        (Self { places, left }, told)
    }

    /// Hands over what has changed since the last call; while storage is behind, nothing is asked.
    pub(super) fn tell(&mut self, tunnels: &mut Tunnels) {
        let mut changed = std::mem::take(&mut self.left);
        if changed.is_empty() {
            tunnels.moved(|key, endpoint| {
                changed.push(Place {
                    key: key.to_bytes(),
                    endpoint,
                });
            });
        }
        if changed.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(changed)) = self.places.try_send(changed) {
            self.left = changed;
        }
    }
}

#[cfg(test)]
mod tests {
    use qlink_tunnel::{Limits, PeerSetup, PrivateKey};

    use super::*;

    fn place(seed: u8, endpoint: &str) -> Place {
        let key = PrivateKey::from_bytes([seed; 32]).public();
        Place {
            key: key.to_bytes(),
            endpoint: endpoint.parse().unwrap(),
        }
    }

    /// A tunnel with the peers 2 and 3.
    fn tunnels() -> Tunnels {
        let key = |seed| PrivateKey::from_bytes([seed; 32]);
        let mut tunnels = Tunnels::new(key(1), [10, 99, 0, 1].into(), Limits::default());
        for seed in [2, 3] {
            let setup = PeerSetup {
                key: key(seed).public(),
                address: [10, 99, 0, seed].into(),
                endpoint: None,
                keepalive_s: None,
            };
            tunnels.add(setup).unwrap();
        }
        tunnels
    }

    fn endpoints(tunnels: &Tunnels) -> Vec<Option<SocketAddr>> {
        tunnels.peers().map(|peer| peer.endpoint).collect()
    }

    #[test]
    fn the_last_place_of_each_peer_is_recalled_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = places_path(&folder.path().join("journal"));
        let (teller, told) = Teller::new();
        let moves = vec![
            place(2, "192.0.2.7:40000"),
            place(3, "[2001:db8::7]:9"),
            place(4, "192.0.2.9:9"),
            place(2, "192.0.2.8:40001"),
        ];
        teller.places.send(moves).unwrap();
        drop(teller);
        Places::open(&path).unwrap().keep(&told);

        for _ in 0..2 {
            let mut tunnels = tunnels();
            Places::open(&path).unwrap().recall(&mut tunnels).unwrap();

            let expected = ["192.0.2.8:40001", "[2001:db8::7]:9"];
            assert_eq!(
                endpoints(&tunnels),
                expected.map(|at| Some(at.parse().unwrap()))
            );
        }
        // Who is no peer any more is forgotten.
        assert_eq!(Places::open(&path).unwrap().known.len(), 2);
    }

    #[test]
    fn a_place_of_a_newer_release_is_refused_and_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("places");
        drop(Places::open(&path).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[11] = 2;
        std::fs::write(&path, &bytes).unwrap();

        let refused = Places::open(&path);

        assert!(matches!(
            refused,
            Err(JournalError::NewerVersion { found: 2, .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn bytes_that_no_place_has_are_none() {
        let bytes = place(2, "192.0.2.7:40000").to_bytes().unwrap();
        for cut in 0..bytes.len() {
            assert_eq!(Place::from_bytes(&bytes[..cut]), None);
        }
        let mut other = bytes.clone();
        other[34] = 5;
        assert_eq!(Place::from_bytes(&other), None);
        assert!(Place::from_bytes(&bytes).is_some());
    }

    #[test]
    fn what_storage_has_no_room_for_is_told_later() {
        let (mut teller, told) = Teller::new();
        for _ in 0..WAITING {
            teller.places.try_send(Vec::new()).unwrap();
        }
        teller.left = vec![place(2, "192.0.2.7:1")];

        teller.tell(&mut tunnels());
        assert_eq!(teller.left.len(), 1);
        assert_eq!(told.try_iter().count(), WAITING);
        teller.tell(&mut tunnels());

        assert_eq!(told.recv().unwrap(), [place(2, "192.0.2.7:1")]);
        assert!(teller.left.is_empty());
    }
}
