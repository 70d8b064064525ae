//! Which packets go to the socket: the two steering programs, as instructions.
//!
//! Everything that is not metered goes on to the kernel: ARP and neighbour discovery, ping,
//! routing protocols, the control plane, and every packet that the program does not understand.
//!
//! **N3**: UDP to port 2152 of one of our own endpoints, over IPv4 (options included) or IPv6
//! (no extension headers), with at most one VLAN tag. The endpoints are constants of the program.
//!
//! **N6**: IPv4 or IPv6 to a destination inside one of the subscribers' prefixes, with at most one
//! VLAN tag. The prefixes stand in a longest-prefix map and may change while packets flow.
//!
//! **Fragments on N3 go to the kernel, the first one too.** Only the first has a port, and whoever
//! gets it must get the rest. The kernel reassembles in bounded memory and delivers the datagram
//! to a UDP socket on port 2152: a worker keeps a [`UdpPort`](crate::udp::UdpPort) on the same
//! address next to its XDP port, and gets fragmented tunnel packets there. Giving the fragments to
//! the socket here instead would need our own reassembly per worker, and fragments of one datagram
//! may reach two queues, because a card cannot hash ports it does not see. Fragments on N6 are
//! whole IP packets to a subscriber and steered like any other.

use std::net::IpAddr;

use qlink_wire::{GTPU_PORT, protocol};

use super::assembler::{Assembler, Label, MAP_LOOKUP, REDIRECT_MAP, Reg, Size, Test};

/// What the program answers for a steered packet when no socket serves its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unserved {
    /// The kernel takes it, as if it were not steered.
    Pass = 2,
    /// It is dropped; lets a test see which packets are steered.
    #[cfg(test)]
    Drop = 1,
}

/// `XDP_PASS`.
const PASS: i32 = 2;

/// Offsets in the program's context, `struct xdp_md`.
const CONTEXT_DATA: i16 = 0;
const CONTEXT_DATA_END: i16 = 4;
const CONTEXT_QUEUE: i16 = 16;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

/// Bytes of the prefix map's key: prefix length, then an address with IPv4 in its IPv6 form.
pub(super) const PREFIX_KEY_BYTES: usize = 20;
/// Where the key lies on the program's stack; 4 bytes aligned.
const KEY_AT: i16 = -20;

/// Descriptors of the maps that a program uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProgramMaps {
    /// Queue to socket.
    pub(super) sockets: i32,
    /// Subscribers' prefixes; N6 alone.
    pub(super) prefixes: i32,
}

/// Steers UDP 2152 to `endpoints`.
pub(super) fn n3(endpoints: &[IpAddr], maps: ProgramMaps, unserved: Unserved) -> Vec<u64> {
    let mut code = Assembler::default();
    let (steer, pass, port) = (code.label(), code.label(), code.label());
    let (v4, v6): (Vec<&IpAddr>, Vec<&IpAddr>) =
        endpoints.iter().partition(|address| address.is_ipv4());
    // A family without an endpoint has no instructions: the verifier refuses unreachable ones.
    let ipv4 = if v4.is_empty() { pass } else { code.label() };
    let ipv6 = if v6.is_empty() { pass } else { code.label() };
    start(&mut code, (ipv4, ipv6), pass);
    if !v4.is_empty() {
        code.place(ipv4);
        match_ipv4(&mut code, &v4, port, pass);
    }
    if !v6.is_empty() {
        code.place(ipv6);
        match_ipv6(&mut code, &v6, port, pass);
    }
    code.place(port);
    require(&mut code, 8, pass);
    code.load(Size::Half, Reg::R2, Reg::R9, 2);
    code.jump_if(Reg::R2, Test::NotEqual, wire_half(GTPU_PORT), pass);
    finish(code, maps.sockets, steer, pass, unserved)
}

/// Goes to `port`, with `R9` behind the IPv4 header, for unfragmented UDP to an endpoint.
fn match_ipv4(code: &mut Assembler, endpoints: &[&IpAddr], port: Label, pass: Label) {
    require(code, 20, pass);
    code.load(Size::Byte, Reg::R2, Reg::R9, 9);
    code.jump_if(Reg::R2, Test::NotEqual, i32::from(protocol::UDP), pass);
    // More-fragments flag or a fragment offset.
    code.load(Size::Half, Reg::R2, Reg::R9, 6);
    code.jump_if(Reg::R2, Test::AnyBit, wire_half(0x3fff), pass);
    code.load(Size::Word, Reg::R3, Reg::R9, 16);
    let ours = code.label();
    for endpoint in endpoints {
        if let IpAddr::V4(address) = endpoint {
            code.jump_if(Reg::R3, Test::Equal, wire_word(address.octets()), ours);
        }
    }
    code.jump_always(pass);
    code.place(ours);
    code.load(Size::Byte, Reg::R2, Reg::R9, 0);
    code.and(Reg::R2, 0x0f);
    // One branch per header length: adding a variable to a packet pointer is allowed only with
    // CAP_PERFMON, a constant always.
    for words in 5..=15 {
        let next = code.label();
        code.jump_if(Reg::R2, Test::NotEqual, words, next);
        code.add(Reg::R9, words << 2);
        code.jump_always(port);
        code.place(next);
    }
    code.jump_always(pass);
}

/// Goes to `port`, with `R9` behind the IPv6 header, for UDP to an endpoint.
fn match_ipv6(code: &mut Assembler, endpoints: &[&IpAddr], port: Label, pass: Label) {
    require(code, 40, pass);
    code.load(Size::Byte, Reg::R2, Reg::R9, 6);
    code.jump_if(Reg::R2, Test::NotEqual, i32::from(protocol::UDP), pass);
    let ours = code.label();
    for endpoint in endpoints {
        if let IpAddr::V6(address) = endpoint {
            let next = code.label();
            let octets = address.octets();
            let (words, _) = octets.as_chunks::<4>();
            for (word, offset) in words.iter().zip([24, 28, 32, 36]) {
                code.load(Size::Word, Reg::R3, Reg::R9, offset);
                code.jump_if(Reg::R3, Test::NotEqual, wire_word(*word), next);
            }
            code.jump_always(ours);
            code.place(next);
        }
    }
    code.jump_always(pass);
    code.place(ours);
    code.add(Reg::R9, 40);
    code.jump_always(port);
}

/// Steers what goes to an address of the prefix map.
pub(super) fn n6(maps: ProgramMaps, unserved: Unserved) -> Vec<u64> {
    let mut code = Assembler::default();
    let (ipv4, ipv6) = (code.label(), code.label());
    let (steer, pass, lookup) = (code.label(), code.label(), code.label());
    start(&mut code, (ipv4, ipv6), pass);

    code.place(ipv4);
    require(&mut code, 20, pass);
    code.store_constant(Reg::R10, KEY_AT + 4, 0);
    code.store_constant(Reg::R10, KEY_AT + 8, 0);
    code.store_constant(Reg::R10, KEY_AT + 12, wire_word([0, 0, 0xff, 0xff]));
    code.load(Size::Word, Reg::R2, Reg::R9, 16);
    code.store(Reg::R10, KEY_AT + 16, Reg::R2);
    code.jump_always(lookup);

    code.place(ipv6);
    require(&mut code, 40, pass);
    for (from, to) in [(24, 4), (28, 8), (32, 12), (36, 16)] {
        code.load(Size::Word, Reg::R2, Reg::R9, from);
        code.store(Reg::R10, KEY_AT + to, Reg::R2);
    }

    code.place(lookup);
    code.store_constant(Reg::R10, KEY_AT, 128);
    code.load_map(Reg::R1, maps.prefixes);
    code.copy(Reg::R2, Reg::R10);
    code.add(Reg::R2, i32::from(KEY_AT));
    code.call(MAP_LOOKUP);
    code.jump_if_zero(Reg::R0, pass);
    finish(code, maps.sockets, steer, pass, unserved)
}

/// Passes everything; says whether this process may load programs at all.
pub(super) fn pass_all() -> Vec<u64> {
    let mut code = Assembler::default();
    code.set(Reg::R0, PASS);
    code.exit();
    code.finish()
}

/// The key of the prefix map for a network.
pub(super) fn prefix_key(network: IpAddr, prefix_len: u8) -> [u8; PREFIX_KEY_BYTES] {
    let (octets, len) = match network {
        IpAddr::V4(address) => (
            address.to_ipv6_mapped().octets(),
            u32::from(prefix_len) + 96,
        ),
        IpAddr::V6(address) => (address.octets(), u32::from(prefix_len)),
    };
    let mut key = [0; PREFIX_KEY_BYTES];
    let (front, back) = key.split_at_mut(4);
    front.copy_from_slice(&len.min(128).to_ne_bytes());
    back.copy_from_slice(&octets);
    key
}

/// Sets `R6` to the context, `R7` to the frame, `R8` to its end and `R9` to its IP header, and
/// goes to the label of the IP version.
fn start(code: &mut Assembler, (ipv4, ipv6): (Label, Label), pass: Label) {
    code.copy(Reg::R6, Reg::R1);
    code.load(Size::Word, Reg::R7, Reg::R6, CONTEXT_DATA);
    code.load(Size::Word, Reg::R8, Reg::R6, CONTEXT_DATA_END);
    code.copy(Reg::R9, Reg::R7);
    require(code, 14, pass);
    code.load(Size::Half, Reg::R2, Reg::R7, 12);
    code.add(Reg::R9, 14);
    let (tagged, untagged) = (code.label(), code.label());
    code.jump_if(Reg::R2, Test::Equal, wire_half(ETHERTYPE_VLAN), tagged);
    code.jump_if(
        Reg::R2,
        Test::NotEqual,
        wire_half(ETHERTYPE_SERVICE_VLAN),
        untagged,
    );
    code.place(tagged);
    require(code, 4, pass);
    code.load(Size::Half, Reg::R2, Reg::R9, 2);
    code.add(Reg::R9, 4);
    code.place(untagged);
    code.jump_if(Reg::R2, Test::Equal, wire_half(ETHERTYPE_IPV4), ipv4);
    code.jump_if(Reg::R2, Test::Equal, wire_half(ETHERTYPE_IPV6), ipv6);
    code.jump_always(pass);
}

/// Passes the packet unless `bytes` are there behind `R9`.
fn require(code: &mut Assembler, bytes: i32, pass: Label) {
    code.copy(Reg::R3, Reg::R9);
    code.add(Reg::R3, bytes);
    code.jump_if_greater(Reg::R3, Reg::R8, pass);
}

/// The two ends: to the socket of the packet's queue, or to the kernel.
fn finish(
    mut code: Assembler,
    sockets: i32,
    steer: Label,
    pass: Label,
    unserved: Unserved,
) -> Vec<u64> {
    code.place(steer);
    code.load(Size::Word, Reg::R2, Reg::R6, CONTEXT_QUEUE);
    code.load_map(Reg::R1, sockets);
    code.set(Reg::R3, unserved as i32);
    code.call(REDIRECT_MAP);
    code.exit();
    code.place(pass);
    code.set(Reg::R0, PASS);
    code.exit();
    code.finish()
}

/// A 16-bit field of a packet as a load of the machine sees it.
fn wire_half(value: u16) -> i32 {
    i32::from(value.to_be())
}

/// A 32-bit field of a packet as a load of the machine sees it.
const fn wire_word(octets: [u8; 4]) -> i32 {
    i32::from_ne_bytes(octets)
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
