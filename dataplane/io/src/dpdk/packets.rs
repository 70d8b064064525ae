//! Packets of DPDK's memory and who owns them.

use std::ffi::{CString, c_void};
use std::io;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use dpdk_sys::View;

use super::eal::Eal;
use super::error::{DpdkError, check};
use super::port::{DestinationFilter, DpdkConfig};
use crate::burst::BURST_MAX;
use crate::frame::MacAddress;

const _: () = assert!(
    dpdk_sys::BURST == BURST_MAX,
    "the shim receives whole bursts"
);

/// The memory of one port's packets.
#[derive(Debug)]
pub(super) struct Pool {
    raw: NonNull<c_void>,
    /// Pools are gone when the environment ends.
    _eal: Arc<Eal>,
}

// SAFETY: DPDK's pools may be used by any thread, by several at a time.
unsafe impl Send for Pool {}

impl Pool {
    fn new(
        eal: &Arc<Eal>,
        number: u16,
        device: &str,
        config: &DpdkConfig,
    ) -> Result<Self, DpdkError> {
        let no_memory = || DpdkError::Pool {
            packets: config.packets,
            device: device.to_owned(),
        };
        let name = CString::new(format!("qlink{number}")).map_err(|_| no_memory())?;
        // SAFETY: the environment runs; the name ends in 0; the device was claimed, so it exists.
        let raw = unsafe {
            dpdk_sys::qlink_dpdk_pool_new(
                name.as_ptr(),
                config.packets,
                config.packet_bytes,
                number,
            )
        };
        Ok(Self {
            raw: NonNull::new(raw).ok_or_else(no_memory)?,
            _eal: Arc::clone(eal),
        })
    }

    /// Packets outside the pool.
    fn used(&self) -> u32 {
        // SAFETY: the pool is live.
        unsafe { dpdk_sys::qlink_dpdk_pool_used(self.raw.as_ptr()) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the pool is live; its `Device` was stopped before, and whoever holds `Packets`
        // holds the device too and drops it after them.
        unsafe { dpdk_sys::qlink_dpdk_pool_free(self.raw.as_ptr()) }
    }
}

/// Stops a device when dropped.
#[derive(Debug)]
struct Running(u16);

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: the device was started, and `Device` is dropped, so nobody uses it; the
        // environment runs, because the pool that is dropped after this keeps it.
        let status = unsafe { dpdk_sys::qlink_dpdk_port_stop(self.0) };
        // A device that refuses to stop is used by nobody any more.
        let _ = status;
    }
}

/// A started device and its pool; fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Device {
    running: Running,
    pool: Pool,
    pub(super) name: String,
}

impl Device {
    /// Claims and starts a device.
    pub(super) fn start(
        eal: &Arc<Eal>,
        name: &str,
        config: &DpdkConfig,
    ) -> Result<Self, DpdkError> {
        let number = eal.claim(name)?;
        let pool = Pool::new(eal, number, name, config)?;
        let all = match config.filter {
            DestinationFilter::Own => 0,
            DestinationFilter::Any => 1,
        };
        // SAFETY: the device exists and was claimed for this port alone; the pool is live and is
        // dropped after the device was stopped.
        let status = unsafe {
            dpdk_sys::qlink_dpdk_port_start(
                number,
                pool.raw.as_ptr(),
                config.receive_queue,
                config.send_queue,
                all,
            )
        };
        let device = Self {
            running: Running(number),
            pool,
            name: name.to_owned(),
        };
        check(status).map_err(|source| device.failed("starting", source))?;
        Ok(device)
    }

    /// The device's own address, and the longest IP packet of its link, bytes.
    pub(super) fn facts(&self) -> Result<(MacAddress, usize), DpdkError> {
        let (mut mac, mut mtu) = ([0; 6], 0_u16);
        // SAFETY: the device exists; six bytes and one number can be written.
        let status = unsafe {
            dpdk_sys::qlink_dpdk_port_facts(self.running.0, mac.as_mut_ptr(), &raw mut mtu)
        };
        check(status).map_err(|source| self.failed("asking for address and MTU", source))?;
        Ok((MacAddress::new(mac), mtu.into()))
    }

    /// The device's counters, in the order of `shim.c`.
    pub(super) fn stats(&self) -> Result<[u64; dpdk_sys::STATS], DpdkError> {
        let mut numbers = [0; dpdk_sys::STATS];
        // SAFETY: the device exists; there is room for all numbers.
        let status =
            unsafe { dpdk_sys::qlink_dpdk_port_stats(self.running.0, numbers.as_mut_ptr()) };
        check(status).map_err(|source| self.failed("asking for statistics", source))?;
        Ok(numbers)
    }

    pub(super) fn packets_in_use(&self) -> u32 {
        self.pool.used()
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> DpdkError {
        DpdkError::Device {
            operation,
            device: self.name.clone(),
            source,
        }
    }
}

/// Up to a burst of packets, owned by this value.
#[derive(Debug)]
pub(super) struct Packets {
    raw: [*mut c_void; BURST_MAX],
    /// The first `len` describe the packets.
    views: [View; BURST_MAX],
    len: usize,
}

// SAFETY: a packet is memory that belongs to this value alone, whatever thread has it.
unsafe impl Send for Packets {}

impl Packets {
    /// None.
    pub(super) const fn new() -> Self {
        Self {
            raw: [ptr::null_mut(); BURST_MAX],
            views: [View {
                data: ptr::null_mut(),
                len: 0,
                whole: 0,
            }; BURST_MAX],
            len: 0,
        }
    }

    /// What there is of each packet.
    pub(super) fn views(&self) -> &[View] {
        self.views.get(..self.len).unwrap_or_default()
    }

    /// Releases the packets and receives the next ones.
    #[inline]
    pub(super) fn receive(&mut self, device: &mut Device) {
        self.release();
        // SAFETY: the device is started and borrowed mutably, so no other thread receives from it;
        // both arrays have room for a burst.
        let count = unsafe {
            dpdk_sys::qlink_dpdk_receive(
                device.running.0,
                self.raw.as_mut_ptr(),
                self.views.as_mut_ptr(),
            )
        };
        self.len = usize::from(count).min(BURST_MAX);
    }

    /// Releases the packets and takes `count` empty ones, or fewer when the pool has no more.
    #[inline]
    pub(super) fn allocate(&mut self, device: &Device, count: usize) {
        self.release();
        let count = u16::try_from(count.min(BURST_MAX)).unwrap_or(0);
        // SAFETY: the pool is live; both arrays have room for `count` entries, a burst at most.
        let taken = unsafe {
            dpdk_sys::qlink_dpdk_allocate(
                device.pool.raw.as_ptr(),
                self.raw.as_mut_ptr(),
                self.views.as_mut_ptr(),
                count,
            )
        };
        self.len = usize::from(taken).min(BURST_MAX);
    }

    /// The first `len` bytes of a packet; empty when it has fewer.
    #[inline]
    pub(super) fn bytes(&self, place: usize, len: u32) -> &[u8] {
        match self.views().get(place) {
            // SAFETY: the packet is owned by this value, which is borrowed, and its first
            // `view.len` bytes were written by the device, which no longer has it.
            Some(view) if len <= view.len => unsafe {
                slice::from_raw_parts(view.data, len as usize)
            },
            _ => &[],
        }
    }

    /// Where the bytes of an allocated packet go.
    #[inline]
    pub(super) fn room(&mut self, place: usize) -> &mut [u8] {
        match self.views().get(place) {
            // SAFETY: the packet is owned by this value, which is borrowed mutably, and has room
            // for `view.len` bytes, which are initialised: DPDK maps zeroed memory.
            Some(view) => unsafe { slice::from_raw_parts_mut(view.data, view.len as usize) },
            None => &mut [],
        }
    }

    /// Says how many bytes of an allocated packet are to be sent; never more than it has room for.
    #[inline]
    pub(super) fn set_len(&mut self, place: usize, len: usize) {
        let view = self
            .views
            .get_mut(..self.len)
            .and_then(|views| views.get_mut(place));
        if let Some(view) = view {
            view.len = view.len.min(u32::try_from(len).unwrap_or(u32::MAX));
        }
    }

    /// Sends a prefix of the first `count` packets and returns its length; the device owns them
    /// then. All others are released.
    #[inline]
    pub(super) fn send(&mut self, device: &Device, count: usize) -> usize {
        let count = u16::try_from(count.min(self.len)).unwrap_or(0);
        // SAFETY: the device is started; a port is not `Sync` and sends through one `RefCell`, so
        // no other thread sends to it; the arrays hold at least `count` packets that this value
        // owns, and `set_len` keeps lengths within their room.
        let sent = unsafe {
            dpdk_sys::qlink_dpdk_send(
                device.running.0,
                self.raw.as_mut_ptr(),
                self.views.as_ptr(),
                count,
            )
        };
        let sent = usize::from(sent).min(count.into());
        self.release_from(sent);
        sent
    }

    #[inline]
    fn release(&mut self) {
        self.release_from(0);
    }

    /// Gives the packets from `first` on back to the pool; those before are owned by the device.
    #[inline]
    fn release_from(&mut self, first: usize) {
        let rest = self.raw.get_mut(first..self.len).unwrap_or_default();
        if let Ok(count @ 1..) = u32::try_from(rest.len()) {
            // SAFETY: `rest` holds `count` packets owned by this value, which forgets them below.
            unsafe { dpdk_sys::qlink_dpdk_release(rest.as_mut_ptr(), count) }
        }
        self.len = 0;
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        self.release();
    }
}
