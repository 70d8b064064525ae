//! What `shim.c` defines. A status is 0 or a negative `errno`.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// Packets of one burst, `BURST` of the shim.
pub const BURST: usize = 32;

/// Bytes that [`qlink_dpdk_device_name`] may write.
pub const NAME_BYTES: usize = 64;

/// Numbers that [`qlink_dpdk_port_stats`] writes.
pub const STATS: usize = 8;

/// Where the bytes of a packet are; `struct view` of the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct View {
    /// The first byte. It stays there until the packet is released or sent.
    pub data: *mut u8,
    /// Received: bytes there. Allocated: bytes that may be written. To send: bytes written.
    pub len: u32,
    /// Received: bytes of the frame; more than `len` when they lie in several pieces. Else 0.
    pub whole: u32,
}

unsafe extern "C" {
    /// DPDK's version, a text that lives for ever.
    pub fn qlink_dpdk_version() -> *const c_char;

    /// Starts the environment (`rte_eal_init`); once per process, whatever it returns.
    ///
    /// # Safety
    ///
    /// `argv` holds `argc` texts ending in 0, and a null pointer behind them, all writable and
    /// alive for as long as the process. The calling thread becomes the main one, pinned to the
    /// processor that the arguments name.
    pub fn qlink_dpdk_start(argc: c_int, argv: *mut *mut c_char) -> c_int;

    /// Ends the environment; nothing else may be called after it.
    ///
    /// # Safety
    ///
    /// The environment runs, every port is stopped, and no other call is being made.
    pub fn qlink_dpdk_stop() -> c_int;

    /// Gives the calling thread a cache of its own in every pool.
    ///
    /// # Safety
    ///
    /// The environment runs, and this thread has not entered already.
    pub fn qlink_dpdk_thread_enter() -> c_int;

    /// Takes back what [`qlink_dpdk_thread_enter`] gave.
    ///
    /// # Safety
    ///
    /// The environment runs, and this thread has entered.
    pub fn qlink_dpdk_thread_leave();

    /// Writes the name of the device with this number; `-ENODEV` when there is none.
    ///
    /// # Safety
    ///
    /// The environment runs; `name` has [`NAME_BYTES`] writable bytes.
    pub fn qlink_dpdk_device_name(port: u16, name: *mut c_char) -> c_int;

    /// A pool of `packets` packets with `room` bytes each, near the device; null when there is no
    /// memory or the name is in use.
    ///
    /// # Safety
    ///
    /// The environment runs; `name` is a text ending in 0; the device exists.
    pub fn qlink_dpdk_pool_new(
        name: *const c_char,
        packets: c_uint,
        room: u16,
        port: u16,
    ) -> *mut c_void;

    /// Gives a pool's memory back.
    ///
    /// # Safety
    ///
    /// The pool is live, and neither a device nor a packet uses it.
    pub fn qlink_dpdk_pool_free(pool: *mut c_void);

    /// Packets outside the pool: received, to be sent, or waiting in a device.
    ///
    /// # Safety
    ///
    /// The pool is live.
    pub fn qlink_dpdk_pool_used(pool: *const c_void) -> c_uint;

    /// Configures and starts queue 0 of a device; `all` other than 0 takes frames for any address.
    ///
    /// # Safety
    ///
    /// The environment runs; the device exists and is used by nobody; the pool is live and stays
    /// so until the port is stopped.
    pub fn qlink_dpdk_port_start(
        port: u16,
        pool: *mut c_void,
        rx: u16,
        tx: u16,
        all: c_int,
    ) -> c_int;

    /// Writes a device's own address and the longest IP packet of its link.
    ///
    /// # Safety
    ///
    /// The environment runs; the device exists; `mac` has 6 writable bytes, `mtu` is writable.
    pub fn qlink_dpdk_port_facts(port: u16, mac: *mut u8, mtu: *mut u16) -> c_int;

    /// Writes received packets and bytes, missed, damaged, without memory; sent packets and bytes,
    /// not sent.
    ///
    /// # Safety
    ///
    /// The environment runs; the device exists; `out` has room for [`STATS`] numbers.
    pub fn qlink_dpdk_port_stats(port: u16, out: *mut u64) -> c_int;

    /// Stops and closes a device for good.
    ///
    /// # Safety
    ///
    /// The environment runs; the port was started, and no other call uses it.
    pub fn qlink_dpdk_port_stop(port: u16) -> c_int;

    /// Receives up to [`BURST`] packets, which the caller owns until it releases them.
    ///
    /// # Safety
    ///
    /// The port is started and no other thread receives from it; both arrays have room for
    /// [`BURST`] entries.
    pub fn qlink_dpdk_receive(port: u16, packets: *mut *mut c_void, views: *mut View) -> u16;

    /// Takes up to `count` empty packets from a pool; returns how many there were.
    ///
    /// # Safety
    ///
    /// The pool is live; both arrays have room for `count` entries.
    pub fn qlink_dpdk_allocate(
        pool: *mut c_void,
        packets: *mut *mut c_void,
        views: *mut View,
        count: u16,
    ) -> u16;

    /// Sends a prefix of `count` packets and returns its length; those belong to the device from
    /// then on, the others stay the caller's.
    ///
    /// # Safety
    ///
    /// The port is started and no other thread sends to it; both arrays hold `count` entries; the
    /// packets are owned by the caller and hold as many bytes as `views` says.
    pub fn qlink_dpdk_send(
        port: u16,
        packets: *mut *mut c_void,
        views: *const View,
        count: u16,
    ) -> u16;

    /// Gives packets back to their pools.
    ///
    /// # Safety
    ///
    /// `packets` holds `count` packets that the caller owns, and no longer owns afterwards.
    pub fn qlink_dpdk_release(packets: *mut *mut c_void, count: c_uint);
}
