//! Who has which block of ports: told to the log, and kept where a kill does not reach it.
//!
//! ```text
//! file   header 8 words: layout version | one row of 8 words per block of the pool
//! row    state | address, first and last port | identity 2 | inside: family, address 2 | unix time
//! ```
//!
//! **After a kill** mappings and connections are gone with the process that held them: a subscriber
//! opens its connections anew (a segment of an old one is `nat_tcp_without_syn`, a datagram gets a
//! new mapping at once). Blocks are not forgotten: one that a subscriber had is logged as released
//! when the next process starts and rests for the whole hold time from then; one that was resting
//! rests for what is left of its time. So nobody has a public port of somebody else within the hold
//! time, and every change of hands is in the log. A row is written before the event is in the queue
//! of the exporter: of the events of the last 50 ms before a kill a collector may see the release
//! alone, which states block, subscriber and time as well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::channel::Sender;
use qlink_forward::nat::{BlockChange, BlockEvent, BlockLog, Inherited, Past};
use qlink_io::arena::{Arena, ArenaError, ArenaView};
use qlink_io::clock;
use qlink_types::ids::SessionId;

use crate::export::ipfix::{PortBlockEvent, PortBlockRecord};

/// Version of the rows.
const LAYOUT: u64 = 1;
const HEADER_WORDS: usize = 8;
const ROW_WORDS: usize = 8;

/// States of a row; 0: nobody ever had the block, or long ago.
const HELD: u64 = 1;
const RELEASED: u64 = 2;

/// Why the blocks of an earlier process cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file is not usable.
    #[error("the file of port blocks is not usable")]
    Arena(#[from] ArenaError),
    /// A newer release wrote it.
    #[error("the file of port blocks has layout {found}, this release knows {LAYOUT}")]
    NewerLayout {
        /// Its layout.
        found: u64,
    },
    /// The file cannot be put in its place.
    #[error("the file of port blocks {path} cannot be written")]
    System {
        /// Where it shall be.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// The last that is known of a block, with the time of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    state: u64,
    address: Ipv4Addr,
    ports: (u16, u16),
    identity: u128,
    inside: IpAddr,
    unix_ns: u64,
}

impl Row {
    fn words(&self) -> [u64; ROW_WORDS] {
        let [a, b, c, d] = self.address.octets();
        let ([e, f], [g, h]) = (self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes());
        let (high, low) = halves(self.identity);
        let (family, inside) = match self.inside {
            IpAddr::V4(inside) => (4, u128::from(inside.to_bits())),
            IpAddr::V6(inside) => (6, inside.to_bits()),
        };
        let (inside_high, inside_low) = halves(inside);
        [
            self.state,
            u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            high,
            low,
            family,
            inside_high,
            inside_low,
            self.unix_ns,
        ]
    }

    fn of_words(words: &[u64; ROW_WORDS]) -> Option<Self> {
        let [
            state,
            place,
            high,
            low,
            family,
            inside_high,
            inside_low,
            unix_ns,
        ] = *words;
        let [a, b, c, d, e, f, g, h] = place.to_be_bytes();
        let inside = u128::from(inside_high) << 64 | u128::from(inside_low);
        let inside = match family {
            4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(inside).ok()?)),
            6 => IpAddr::V6(Ipv6Addr::from_bits(inside)),
            _ => return None,
        };
        (state == HELD || state == RELEASED).then_some(Self {
            state,
            address: Ipv4Addr::new(a, b, c, d),
            ports: (u16::from_be_bytes([e, f]), u16::from_be_bytes([g, h])),
            identity: u128::from(high) << 64 | u128::from(low),
            inside,
            unix_ns,
        })
    }

    /// As a translator takes it over at time `now`, monotonic and of the machine.
    fn inherited(&self, (now_ns, unix_ns): (u64, u64)) -> Inherited {
        let ago = unix_ns.saturating_sub(self.unix_ns);
        Inherited {
            address: self.address,
            first_port: self.ports.0,
            past: match self.state {
                HELD => Past::Held {
                    identity: self.identity,
                    inside: self.inside,
                },
                _ => Past::Released {
                    at_ns: now_ns.saturating_sub(ago),
                },
            },
        }
    }
}

/// Upper and lower half.
fn halves(value: u128) -> (u64, u64) {
    let low = u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0);
    (u64::try_from(value >> 64).unwrap_or(0), low)
}

/// The rows of one worker.
#[derive(Debug)]
pub(crate) struct Ledger {
    arena: Arena,
    pool: Vec<Ipv4Addr>,
    block_ports: u16,
}

impl Ledger {
    /// Opens the file at `path` for a pool, and gives what stood in it.
    ///
    /// It is written anew under another name and put in its place, so that another pool than
    /// before is no special case and a kill meanwhile loses nothing.
    ///
    /// # Errors
    ///
    /// A [`LedgerError`].
    pub(super) fn open(
        path: &Path,
        mut pool: Vec<Ipv4Addr>,
        block_ports: u16,
    ) -> Result<(Self, Vec<Inherited>), LedgerError> {
        let rows = if path.exists() {
            read(path)?
        } else {
            Vec::new()
        };
        let failed = |source| LedgerError::System {
            path: path.to_owned(),
            source,
        };
        pool.sort_unstable();
        let blocks = 65_536_usize.div_ceil(usize::from(block_ports.max(1)));
        let words = blocks
            .saturating_mul(pool.len())
            .saturating_mul(ROW_WORDS)
            .saturating_add(HEADER_WORDS);
        let new = path.with_extension("new");
        if new.exists() {
            std::fs::remove_file(&new).map_err(failed)?;
        }
        let ledger = Self {
            arena: Arena::create(&new, words)?,
            pool,
            block_ports,
        };
        if let Some(version) = ledger.arena.words().first() {
            version.store(LAYOUT, Ordering::Release);
        }
        for row in &rows {
            ledger.write(row);
        }
        ledger.arena.sync().map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)?;
        let now = (clock::now_ns(), clock::unix_ns());
        let inherited = rows.iter().map(|row| row.inherited(now)).collect();
        Ok((ledger, inherited))
    }

    /// Writes a row. A kill in between leaves an assignment that nobody used yet unknown, and a
    /// released block held.
    fn write(&self, row: &Row) {
        let Some(place) = self.place(row.address, row.ports.0) else {
            return;
        };
        let Some([state, rest @ ..]) = self.arena.words().get(place..) else {
            return;
        };
        let [is, values @ ..] = row.words();
        if is == HELD {
            state.store(0, Ordering::Release);
        }
        for (word, value) in rest.iter().zip(values) {
            word.store(value, Ordering::Release);
        }
        state.store(is, Ordering::Release);
    }

    fn place(&self, address: Ipv4Addr, port: u16) -> Option<usize> {
        let address = self.pool.binary_search(&address).ok()?;
        let blocks = 65_536_usize.checked_div(usize::from(self.block_ports))?;
        let block = usize::from(port).checked_div(usize::from(self.block_ports))?;
        let row = address.checked_mul(blocks)?.checked_add(block)?;
        row.checked_mul(ROW_WORDS)?.checked_add(HEADER_WORDS)
    }
}

/// The rows of a file.
fn read(path: &Path) -> Result<Vec<Row>, LedgerError> {
    let view = ArenaView::open(path)?;
    let load = |word: &AtomicU64| word.load(Ordering::Acquire);
    let found = view.words().first().map_or(0, load);
    if found > LAYOUT {
        return Err(LedgerError::NewerLayout { found });
    }
    let rows = view.words().get(HEADER_WORDS..).unwrap_or_default();
    let rows = rows.chunks_exact(ROW_WORDS).filter_map(|words| {
        let mut row = [0; ROW_WORDS];
        for (to, from) in row.iter_mut().zip(words) {
            *to = load(from);
        }
        Row::of_words(&row)
    });
    let mut rows: Vec<Row> = rows.collect();
    // Translators give blocks in the order of their release.
    rows.sort_by_key(|row| row.unix_ns);
    Ok(rows)
}

/// Takes a translator's events: to the file, then to the exporter.
#[derive(Debug, Default)]
pub(super) struct BlockLine {
    pub(super) ledger: Option<Ledger>,
    pub(super) line: Option<Sender<PortBlockRecord>>,
    /// Blocks given and taken back since the last count.
    pub(super) assigned: u64,
    pub(super) released: u64,
}

impl BlockLog for BlockLine {
    fn offer(&mut self, event: &BlockEvent) -> bool {
        // The only one that sends: what is free now is free below.
        if self.line.as_ref().is_some_and(Sender::is_full) {
            return false;
        }
        let unix_ns = clock::unix_ns();
        let ports = (event.first_port, event.last_port);
        let (state, what) = match event.change {
            BlockChange::Assigned => (HELD, PortBlockEvent::Allocated),
            BlockChange::Released => (RELEASED, PortBlockEvent::Released),
        };
        if let Some(ledger) = &self.ledger {
            ledger.write(&Row {
                state,
                address: event.address,
                ports,
                identity: event.identity,
                inside: event.inside,
                unix_ns,
            });
        }
        match event.change {
            BlockChange::Assigned => self.assigned = self.assigned.saturating_add(1),
            BlockChange::Released => self.released = self.released.saturating_add(1),
        }
        let Some(line) = &self.line else {
            return true;
        };
        let record = PortBlockRecord {
            observed_ms: unix_ns / 1_000_000,
            event: what,
            ue: event.inside,
            outside: event.address,
            ports,
            session: SessionId::new(event.identity.to_be_bytes()),
        };
        // The exporter is gone only when the process ends.
        let _ = line.try_send(record);
        true
    }
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
