//! From the configuration to what each worker is made of.

use std::net::IpAddr;

use crossbeam::channel::{Receiver, Sender, bounded};
use qlink_meter::{process_secret, shard_path};

use super::mtu::IPV4_DUMMY;
use super::nat::{NatLog, WorkerShare};
use super::state::ForwardingSetup;
use super::translation::NatSetup;
use crate::config::DataplaneConfig;
use crate::export::ipfix::PortBlockRecord;

/// Port blocks that wait for the exporter of a worker (chosen: some 80 KB; more are given only when
/// there is room).
const BLOCKS_WAITING: usize = 1024;

/// The way of port blocks from a worker to its exporter.
pub(crate) type BlockWay = (Sender<PortBlockRecord>, Receiver<PortBlockRecord>);

/// A way for each worker whose port blocks are logged.
pub(crate) fn block_ways(config: &DataplaneConfig) -> Vec<BlockWay> {
    let logged = |nat: &&super::NatTable| nat.log == NatLog::Ipfix;
    match config.nat.as_ref().filter(logged) {
        Some(_) => (0..config.workers)
            .map(|_| bounded(BLOCKS_WAITING))
            .collect(),
        None => Vec::new(),
    }
}

impl ForwardingSetup {
    /// What the worker `worker` is made of, whose blocks go to `way`; `None`: packets leave as they
    /// were judged.
    pub(crate) fn of(
        config: &DataplaneConfig,
        n3: IpAddr,
        worker: u8,
        way: Option<&BlockWay>,
    ) -> Option<Self> {
        if config.mtu.is_none() && config.nat.is_none() {
            return None;
        }
        let workers = config.workers;
        let nat = config.nat.as_ref().map(|table| NatSetup {
            table: table.clone(),
            share: WorkerShare {
                worker,
                workers,
                sessions: config.max_sessions.div_ceil(workers.max(1).into()),
                secret: process_secret(),
            },
            blocks: Some(shard_path(&config.arena.with_extension("nat"), worker)),
            log: way.map(|(sender, _)| sender.clone()),
        });
        let mut mtu = config.mtu.unwrap_or_default();
        if config.n6_tun.is_some() {
            mtu.gateway_v4 = mtu.gateway_v4.or(Some(IPV4_DUMMY));
        }
        if let Some(tunnel) = &config.tunnel {
            // A BaseStation in the tunnel has this much less of the link; the others are few there,
            // and nobody's packet becomes a fragment.
            mtu.n3 = mtu.n3.saturating_sub(tunnel.overhead());
        }
        Some(Self { mtu, n3, nat })
    }
}
