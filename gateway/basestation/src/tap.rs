//! A place to look at forwarded packets: captures, and the accounts of the simulated network.
use std::net::SocketAddr;

use serde_json::Value;

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapDirection {
    /// To the gateway, about to be sent.
    Uplink,
    /// From the gateway, just received.
    Downlink,
}

/// One G-PDU that is forwarded.
#[derive(Debug, Clone, Copy)]
pub struct TapPacket<'a> {
    /// Which way.
    pub direction: TapDirection,
    /// Outer source.
    pub from: SocketAddr,
    /// Outer destination.
    pub to: SocketAddr,
    /// The GTP-U header.
    pub head: &'a [u8],
    /// The inner IP packet.
    pub inner: &'a [u8],
}

/// Sees every forwarded packet, on the forwarding thread. It cannot change or delay anything but by
/// its own running time.
pub trait Tap: Send {
    /// One packet.
    fn packet(&mut self, packet: &TapPacket<'_>);

    /// Answers a question that came over the control socket under `tap`.
    ///
    /// # Errors
    ///
    /// The reason why there is no answer.
    fn ask(&mut self, question: Value) -> Result<Value, String>;
}

/// The tap of a BaseStation that nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTap;

impl Tap for NoTap {
    fn packet(&mut self, _: &TapPacket<'_>) {}

    fn ask(&mut self, _: Value) -> Result<Value, String> {
        Err("this BaseStation has no tap".to_owned())
    }
}
