//! Translation of addresses in one worker.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use crossbeam::channel::Sender;
use qlink_forward::Rewrite;
use qlink_forward::fragments::FragmentLimits;
use qlink_forward::mtu::Fit;
use qlink_forward::nat::{Nat, NatConfigError};
use qlink_forward::translate::{Downlinked, Translator, Uplinked};
use qlink_io::{BURST_MAX, Descriptor, clock};
use qlink_meter::{DropReason, SessionSlot, WorkerCounter};
use qlink_wire::strip_link;

use super::blocks::{BlockLine, Ledger, LedgerError};
use super::mtu::Paths;
use super::nat::{IPV6_MTU_MIN, NatIpv4, NatTable, WorkerShare};
use super::reason::of_translate;
use super::state::Forwarding;
use crate::config::ConfigError;
use crate::export::ipfix::PortBlockRecord;
use crate::pipeline::Arrival;
use crate::plane::Plane;
use crate::shard::Handed;

/// Places of each table looked at per burst, for what is over.
const SWEEP: u32 = 64;

/// Most fragments of a packet: 65,535 bytes in pieces of at least 1,232.
pub(super) const FRAGMENTS_MAX: usize = 64;

/// Room for a translated packet: the longest IPv4 packet as IPv6.
const FRAME_MAX: usize = 65_535 + 64;

/// How a worker's translation is set up.
#[derive(Debug, Clone)]
pub struct NatSetup {
    /// The configuration.
    pub table: NatTable,
    /// Which worker it is.
    pub share: WorkerShare,
    /// Where the blocks are kept over a restart; `None`: nowhere.
    pub blocks: Option<PathBuf>,
    /// Where blocks are logged.
    pub log: Option<Sender<PortBlockRecord>>,
}

/// Why a worker's forwarding cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ForwardingError {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The blocks of an earlier process are not readable.
    #[error(transparent)]
    Blocks(#[from] LedgerError),
}

impl From<NatConfigError> for ForwardingError {
    fn from(error: NatConfigError) -> Self {
        Self::Config(ConfigError::Nat(error))
    }
}

/// NAT44 and NAT64 of one worker.
#[derive(Debug)]
pub(super) struct Translation {
    pub(super) translator: Translator,
    pub(super) blocks: BlockLine,
    ipv4: NatIpv4,
    share: WorkerShare,
    /// Where translated packets of a burst are put together.
    pub(super) slab: Box<[u8]>,
}

/// What became of a packet from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// It is for nobody behind the pool.
    AsItIs,
    /// So many bytes of the slab are it now.
    Translated(usize),
    /// It is in [`Forwarding::rewrite`], and too long for one packet of the other family; it came
    /// behind so many bytes of its frame.
    TooLong {
        /// How many.
        at: usize,
    },
    /// Another worker has it.
    HandedOver,
}

impl Translation {
    pub(super) fn try_new(setup: &NatSetup, paths: &Paths) -> Result<Self, ForwardingError> {
        let (table, share) = (&setup.table, setup.share);
        let mut nat = Nat::try_new(&table.engine(share))?;
        let mut blocks = BlockLine {
            line: setup.log.clone(),
            ..BlockLine::default()
        };
        if let Some(path) = &setup.blocks {
            let pool: Vec<Ipv4Addr> = table.addresses().collect();
            let (ledger, inherited) = Ledger::open(path, pool, table.block_ports)?;
            blocks.ledger = Some(ledger);
            let now_ns = clock::now_ns();
            for block in &inherited {
                nat.inherit(block, now_ns, &mut blocks);
            }
        }
        let fragments = FragmentLimits::for_owners(share.sessions, share.secret);
        Ok(Self {
            translator: Translator::new(nat, fragments, table.nat64(paths)?),
            blocks,
            ipv4: table.ipv4,
            share,
            slab: vec![0; FRAME_MAX.saturating_mul(BURST_MAX)].into_boxed_slice(),
        })
    }
}

impl Plane {
    /// Gives a judged packet, which is loaded, its outside address.
    ///
    /// # Errors
    ///
    /// Why it must not leave.
    pub(super) fn translate_up(
        &mut self,
        forwarding: &mut Forwarding,
        (slot, packet): (SessionSlot, &[u8]),
        now_ns: u64,
    ) -> Result<(), DropReason> {
        let (Some(nat), rewrite) = (&mut forwarding.nat, &mut forwarding.rewrite) else {
            return Ok(());
        };
        let came_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
        if !came_v6 && nat.ipv4 == NatIpv4::Leave {
            return Ok(());
        }
        let (subscriber, translator) = (slot.get(), &mut nat.translator);
        if !translator.nat().is_open(subscriber) {
            let identity = self.arena.identity(slot);
            let session = identity.ok_or(DropReason::NatSubscriberUnknown)?.session;
            let identity = u128::from_be_bytes(*session.as_bytes());
            translator.nat_mut().open(subscriber, identity);
        }
        match translator.uplink(subscriber, rewrite, packet, now_ns, &mut nat.blocks) {
            Ok(Uplinked::Untouched) => Ok(()),
            // Another family has other infrastructure.
            Ok(_) if came_v6 && self.is_own(rewrite) => Err(DropReason::ToInfrastructure),
            Ok(Uplinked::Translated) => {
                self.arena.count(WorkerCounter::Translated, 1);
                Ok(())
            }
            Ok(Uplinked::Hairpin(_)) => Err(DropReason::TranslateHairpinRefused),
            Err(refusal) => Err(of_translate(refusal)),
        }
    }

    /// Whether a translated packet goes to our own network.
    fn is_own(&self, rewrite: &Rewrite) -> bool {
        let to = rewrite.head().get(16..20);
        to.and_then(|to| to.first_chunk::<4>())
            .is_none_or(|to| self.neighbours.own.contains(&(*to).into()))
    }

    /// Gives a packet from the network its inside address.
    ///
    /// # Errors
    ///
    /// Why it must not pass.
    pub(super) fn translate_down(
        &mut self,
        forwarding: &mut Option<Box<Forwarding>>,
        (descriptor, frame, arrival): (&Descriptor, &[u8], Arrival),
        room: &mut [u8],
        now_ns: u64,
    ) -> Result<Came, DropReason> {
        let Some(forwarding) = forwarding else {
            return Ok(Came::AsItIs);
        };
        let ipv6_max = forwarding.ipv6_max();
        let (Some(nat), rewrite) = (&mut forwarding.nat, &mut forwarding.rewrite) else {
            return Ok(Came::AsItIs);
        };
        let packet = match descriptor.peer {
            // Refused where neighbours are checked.
            Some(peer) if peer != self.neighbours.n6_peer => return Ok(Came::AsItIs),
            Some(_) => frame,
            None => match strip_link(descriptor.link, frame) {
                Ok(packet) => packet,
                Err(_) => return Ok(Came::AsItIs),
            },
        };
        let translator = &mut nat.translator;
        let to = match packet {
            [first, ..] if first >> 4 == 4 => packet.get(16..20),
            _ => None,
        };
        let to = to.and_then(|to| to.first_chunk::<4>());
        if !to.is_some_and(|to| translator.nat().is_external((*to).into())) {
            return Ok(Came::AsItIs);
        }
        if rewrite.load(packet).is_err() {
            return Err(DropReason::InnerMalformed);
        }
        if arrival == Arrival::Port && nat.share.workers > 1 {
            let owner = translator.owner_of(rewrite, now_ns).map_err(of_translate)?;
            if let Some(owner) = owner.filter(|owner| *owner != nat.share.worker) {
                return match self.others.hand_to_worker(owner, descriptor, frame) {
                    Handed::Over => Ok(Came::HandedOver),
                    Handed::Refused => Err(DropReason::HandoverFull),
                    Handed::Nobody => Err(DropReason::NatNoMapping),
                };
            }
        }
        match translator.downlink(rewrite, packet, now_ns) {
            Ok(Downlinked::Untouched) => return Ok(Came::AsItIs),
            Ok(Downlinked::Translated(_)) => {}
            Err(refusal) => return Err(of_translate(refusal)),
        }
        self.arena.count(WorkerCounter::Translated, 1);
        let may_be_cut = packet.get(6).is_some_and(|flags| flags & 0x40 == 0);
        let is_v6 = rewrite.head().first().is_some_and(|first| first >> 4 == 6);
        if is_v6 && may_be_cut && rewrite.total_len() > ipv6_max {
            let at = frame.len().saturating_sub(packet.len());
            return Ok(Came::TooLong { at });
        }
        let copied = rewrite.copy_to(packet, room);
        copied.map(Came::Translated).ok_or(DropReason::TooLong)
    }

    /// Ends what is over in the translation of addresses, a little at a time, and counts what
    /// became of port blocks.
    pub(crate) fn sweep_forwarding(&mut self, now_ns: u64) {
        let Some(nat) = self.forwarding.as_mut().and_then(|own| own.nat.as_mut()) else {
            return;
        };
        let translator = nat.translator.nat_mut();
        translator.sweep(SWEEP, now_ns, &mut nat.blocks);
        let assigned = std::mem::take(&mut nat.blocks.assigned);
        let released = std::mem::take(&mut nat.blocks.released);
        if assigned > 0 {
            self.arena
                .count(WorkerCounter::PortBlocksAssigned, assigned);
        }
        if released > 0 {
            self.arena
                .count(WorkerCounter::PortBlocksReleased, released);
        }
    }

    /// A session has ended: its mappings are gone, its blocks rest.
    pub(crate) fn close_translation(&mut self, slot: SessionSlot) {
        if let Some(nat) = self.forwarding.as_mut().and_then(|own| own.nat.as_mut()) {
            let translator = nat.translator.nat_mut();
            translator.close(slot.get(), clock::now_ns(), &mut nat.blocks);
        }
    }

    /// Whether packets from the network have to be translated.
    #[inline]
    pub(crate) fn translates(&self) -> bool {
        self.forwarding
            .as_ref()
            .is_some_and(|own| own.nat.is_some())
    }
}

impl Forwarding {
    /// Longest IPv6 packet that leaves through every tunnel.
    fn ipv6_max(&self) -> usize {
        let tunnel = self.paths.narrowest_tunnel().inner_mtu();
        tunnel.max(IPV6_MTU_MIN).into()
    }

    /// Puts the fragments of the packet in work, which came as `received`, one behind the other;
    /// the length of each, 0 behind the last.
    pub(super) fn cut(
        &mut self,
        received: &[u8],
        room: &mut [u8],
        now_ns: u64,
    ) -> [u32; FRAGMENTS_MAX] {
        let path = *self.paths.narrowest_tunnel();
        let (limit, piece) = (&mut self.to_origins, &mut self.answer);
        let mut lengths = [0; FRAGMENTS_MAX];
        let mut used = 0_usize;
        if let Fit::Fragments(mut fragments) =
            path.fit(&self.rewrite, received, limit, now_ns, piece)
        {
            for length in &mut lengths {
                if !fragments.next_into(piece) {
                    break;
                }
                let place = room.get_mut(used..).unwrap_or_default();
                let copied = piece.copy_to(received, place).unwrap_or(0);
                *length = u32::try_from(copied).unwrap_or(0);
                used = used.saturating_add(copied);
            }
        }
        lengths
    }
}
