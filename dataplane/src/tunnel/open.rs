//! The tunnel as a process begins with it.

use std::net::IpAddr;

use qlink_io::handover::Bell;

use super::port::Entrance;
use super::thread::{TunnelEnds, TunnelHandle, TunnelThread, open};
use crate::config::DataplaneConfig;
use crate::process::DataplaneError;
use crate::shard::{Inboxes, Others};
use crate::start::Start;

/// The tunnel's parts for the process, or none of them.
#[derive(Debug, Default)]
pub(crate) struct Tunnel {
    pub(crate) thread: Option<TunnelThread>,
    pub(crate) handle: Option<TunnelHandle>,
    pub(crate) entrance: Option<Entrance>,
}

impl Tunnel {
    /// Opens the tunnel where one is configured, with the BaseStations that `start` knows: each
    /// worker gets an inbox for it, and `own` the addresses that no subscriber may send to because of
    /// it.
    pub(crate) fn open(
        config: &DataplaneConfig,
        start: &Start,
        bells: &[Bell],
        (ways, own): (&mut [(Others, Inboxes)], &mut Vec<IpAddr>),
    ) -> Result<Self, DataplaneError> {
        let Some(settings) = &config.tunnel else {
            return Ok(Self::default());
        };
        let mut ends: TunnelEnds = open(
            settings,
            bells,
            config.udp_offload.into(),
            start.metrics.control.tunnel.series(),
        )?;
        for request in start.association.tunnel_members().requests() {
            // The configuration may have changed since; what it says now comes first.
            if let Err(refusal) = ends.restore(&request) {
                tracing::error!(?request, %refusal, "a BaseStation is shut out");
            }
        }
        ends.thread.recall(&config.journal)?;
        for ((_, inboxes), inbox) in ways.iter_mut().zip(ends.inboxes) {
            inboxes.tunnel = Some(inbox);
        }
        own.extend([ends.handle.gtpu.ip(), ends.handle.listen.ip()]);
        Ok(Self {
            thread: Some(ends.thread),
            handle: Some(ends.handle),
            entrance: Some(ends.entrance),
        })
    }
}
