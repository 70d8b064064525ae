//! The BaseStations that requests let into the tunnel: each address has one key, or two while the
//! second takes the place of the first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use qlink_types::ids::Hash32;

use crate::association::Novelty;
use crate::cause::{Cause, Refusal};
use crate::message::Request;
use crate::tunnel::{MAX_TUNNEL_MEMBERS, TunnelMember};

/// What stands for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    address: IpAddr,
    /// The key whose place it takes.
    old: Option<Hash32>,
}

/// Keys in the tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TunnelMembers {
    by_key: BTreeMap<Hash32, Standing>,
}

impl TunnelMembers {
    pub(crate) const fn new() -> Self {
        Self {
            by_key: BTreeMap::new(),
        }
    }

    /// Whether a key is in.
    #[must_use]
    pub fn contains(&self, key: &Hash32) -> bool {
        self.by_key.contains_key(key)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Every key with its address, in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = TunnelMember> {
        self.by_key.iter().map(|(key, standing)| TunnelMember {
            key: *key,
            address: standing.address,
        })
    }

    /// The requests after which an empty association has the same members: those that take another's
    /// place last.
    pub fn requests(&self) -> impl Iterator<Item = Request> {
        let with = |renewed: bool| {
            let members = self.by_key.iter();
            members.filter(move |(_, standing)| self.predecessor(standing).is_some() == renewed)
        };
        with(false).chain(with(true)).map(|(key, standing)| {
            let member = TunnelMember {
                key: *key,
                address: standing.address,
            };
            match self.predecessor(standing) {
                Some(old) => Request::RenewTunnelMember { member, old },
                None => Request::AddTunnelMember { member },
            }
        })
    }

    fn predecessor(&self, standing: &Standing) -> Option<Hash32> {
        standing.old.filter(|old| self.contains(old))
    }

    /// Whether a key may come in, for itself or in place of `old`.
    pub(crate) fn check(
        &self,
        member: &TunnelMember,
        old: Option<&Hash32>,
    ) -> Result<Novelty, Refusal> {
        let invalid = |detail: &str| Err(Refusal::new(Cause::RuleInvalid, detail));
        if let Some(standing) = self.by_key.get(&member.key) {
            let turns = old.is_some_and(|old| {
                let other = self.by_key.get(old);
                standing.old != Some(*old)
                    && *old != member.key
                    && other.is_some_and(|other| other.address == member.address)
            });
            return if standing.address == member.address {
                // The earlier key again: the two change their places.
                Ok(if turns {
                    Novelty::New
                } else {
                    Novelty::Repeated
                })
            } else {
                let address = standing.address;
                invalid(&format!("the key stands with tunnel address {address}"))
            };
        }
        let at = |standing: &&Standing| standing.address == member.address;
        let taken = self.by_key.values().filter(at).count();
        let is_its_own = old
            .and_then(|old| self.by_key.get(old))
            .is_some_and(|standing| standing.address == member.address);
        match (taken, is_its_own) {
            (0, _) | (1, true) => {}
            (1, false) => {
                return invalid(&format!("tunnel address {} is taken", member.address));
            }
            _ => {
                let address = member.address;
                return invalid(&format!("tunnel address {address} has two keys already"));
            }
        }
        if self.by_key.len() >= MAX_TUNNEL_MEMBERS {
            return Err(Refusal::new(Cause::NoResources, "the tunnel is full"));
        }
        Ok(Novelty::New)
    }

    pub(crate) fn add(&mut self, member: &TunnelMember, old: Option<&Hash32>) {
        let standing = Standing {
            address: member.address,
            old: old.copied().filter(|old| self.contains(old)),
        };
        if let Some(old) = standing.old.and_then(|old| self.by_key.get_mut(&old)) {
            old.old = None;
        }
        self.by_key.insert(member.key, standing);
    }

    pub(crate) fn remove(&mut self, key: &Hash32) {
        self.by_key.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Hash32 {
        Hash32::new([number; 32])
    }

    fn member(number: u8, last: u8) -> TunnelMember {
        TunnelMember {
            key: key(number),
            address: [10, 99, 0, last].into(),
        }
    }

    fn causes(result: Result<Novelty, Refusal>) -> Result<Novelty, Cause> {
        result.map_err(|refusal| refusal.cause)
    }

    #[test]
    fn an_address_has_two_keys_only_while_one_takes_the_place_of_the_other() {
        let mut members = TunnelMembers::default();
        members.add(&member(1, 2), None);

        let check = |members: &TunnelMembers, new, old: Option<u8>| {
            let old = old.map(key);
            causes(members.check(&member(new, 2), old.as_ref()))
        };
        assert_eq!(check(&members, 2, None), Err(Cause::RuleInvalid));
        assert_eq!(check(&members, 2, Some(9)), Err(Cause::RuleInvalid));
        assert_eq!(check(&members, 2, Some(1)), Ok(Novelty::New));

        members.add(&member(2, 2), Some(&key(1)));
        assert_eq!(check(&members, 2, Some(1)), Ok(Novelty::Repeated));
        assert_eq!(check(&members, 3, Some(2)), Err(Cause::RuleInvalid));

        members.remove(&key(1));
        assert_eq!(check(&members, 3, Some(2)), Ok(Novelty::New));
        // Of an old key that is gone already nothing is asked.
        members.remove(&key(2));
        assert_eq!(check(&members, 3, Some(2)), Ok(Novelty::New));
    }

    #[test]
    fn an_earlier_key_takes_its_place_back() {
        let mut members = TunnelMembers::default();
        members.add(&member(1, 2), None);
        members.add(&member(2, 2), Some(&key(1)));

        let back = members.check(&member(1, 2), Some(&key(2)));
        assert_eq!(causes(back), Ok(Novelty::New));
        members.add(&member(1, 2), Some(&key(2)));

        let again = members.check(&member(1, 2), Some(&key(2)));
        assert_eq!(causes(again), Ok(Novelty::Repeated));
        let requests: Vec<Request> = members.requests().collect();
        assert_eq!(
            requests,
            [
                Request::AddTunnelMember {
                    member: member(2, 2)
                },
                Request::RenewTunnelMember {
                    member: member(1, 2),
                    old: key(2)
                },
            ]
        );
    }

    #[test]
    fn requests_make_the_same_members_again_whatever_the_order_of_keys() {
        for [first, second] in [[1, 2], [2, 1]] {
            let mut members = TunnelMembers::default();
            members.add(&member(first, 2), None);
            members.add(&member(second, 2), Some(&key(first)));
            members.add(&member(3, 3), None);

            let mut again = TunnelMembers::default();
            for request in members.requests() {
                let (member, old) = match &request {
                    Request::AddTunnelMember { member } => (member, None),
                    Request::RenewTunnelMember { member, old } => (member, Some(old)),
                    other => panic!("{other:?}"),
                };
                assert_eq!(again.check(member, old), Ok(Novelty::New));
                again.add(member, old);
            }

            assert_eq!(again, members);
            // Once the first is gone, the second stands for itself.
            again.remove(&key(first));
            assert!(
                again
                    .requests()
                    .all(|request| matches!(request, Request::AddTunnelMember { .. }))
            );
        }
    }
}
