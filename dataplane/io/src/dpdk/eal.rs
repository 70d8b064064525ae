//! DPDK's environment, one per process.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::marker::PhantomData;
use std::mem::{self, size_of};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::config::EalConfig;
use super::error::{DpdkError, check};

/// Most devices that are looked at; DPDK numbers them from 0, and Debian's build allows 32.
const PORTS_MAX: u16 = 64;

/// Set by the first start and never again cleared: DPDK can be started once.
static STARTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether this thread has a cache of its own in every pool.
    static ENTERED: Cell<bool> = const { Cell::new(false) };
}

/// The running environment. Ports and worker threads keep it alive; the last one ends it.
#[derive(Debug)]
pub struct Eal {
    /// A bit for each device that a port has been opened on.
    taken: AtomicU64,
}

impl Eal {
    /// Starts DPDK with exactly the devices of `config`. Call it once, on a thread that lives as
    /// long as the process; it counts as a worker thread. It runs on the processors that it ran on
    /// before (DPDK by itself would pin it to one).
    ///
    /// DPDK writes warnings and errors to standard error.
    ///
    /// # Errors
    ///
    /// [`DpdkError::Setting`], and nothing was started; [`DpdkError::AlreadyStarted`],
    /// [`DpdkError::Privilege`], [`DpdkError::Memory`], [`DpdkError::Start`],
    /// [`DpdkError::NotMade`], [`DpdkError::System`].
    pub fn start(config: &EalConfig) -> Result<Arc<Self>, DpdkError> {
        let affinity =
            Affinity::of_this_thread().map_err(failed("asking for this thread's processors"))?;
        let arguments = config.arguments(affinity.first())?;
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(DpdkError::AlreadyStarted);
        }
        // DPDK keeps pointers to its arguments, so they are never freed; this runs once.
        let texts = arguments
            .into_iter()
            .filter_map(|text| CString::new(text).ok());
        let mut pointers: Vec<*mut c_char> = texts.map(CString::into_raw).collect();
        let count = libc::c_int::try_from(pointers.len()).unwrap_or(0);
        pointers.push(ptr::null_mut());
        let pointers = pointers.leak();
        // SAFETY: the array holds `count` texts and a null, all leaked just now, and nobody else
        // has a pointer to them; the flag above makes this the only start.
        let status = unsafe { dpdk_sys::qlink_dpdk_start(count, pointers.as_mut_ptr()) };
        check(status).map_err(|source| DpdkError::start(source, config.memory.mebibytes()))?;
        ENTERED.set(true);
        let eal = Arc::new(Self {
            taken: AtomicU64::new(0),
        });
        affinity
            .restore()
            .map_err(failed("leaving this thread its processors"))?;
        // DPDK goes on without a device that it cannot make.
        let present = eal.devices();
        let devices = config.missing_from(&present);
        if devices.is_empty() {
            Ok(eal)
        } else {
            Err(DpdkError::NotMade { devices })
        }
    }

    /// The library's own name and version, for example `DPDK 22.11.11`.
    #[must_use]
    pub fn version() -> String {
        // SAFETY: needs no environment.
        let text = unsafe { dpdk_sys::qlink_dpdk_version() };
        // SAFETY: the function returns a text that ends in 0 and lives for ever.
        let text = unsafe { CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    }

    /// The names of all devices; a port opens one of them.
    #[must_use]
    pub fn devices(&self) -> Vec<String> {
        self.numbered().map(|(_, name)| name).collect()
    }

    fn numbered(&self) -> impl Iterator<Item = (u16, String)> {
        (0..PORTS_MAX).filter_map(|port| Some((port, self.device_name(port)?)))
    }

    fn device_name(&self, port: u16) -> Option<String> {
        let mut name = [0_u8; dpdk_sys::NAME_BYTES];
        // SAFETY: the environment runs while `self` exists; the array has the bytes required.
        let status =
            unsafe { dpdk_sys::qlink_dpdk_device_name(port, name.as_mut_ptr().cast::<c_char>()) };
        check(status).ok()?;
        let text = CStr::from_bytes_until_nul(&name).ok()?;
        Some(text.to_string_lossy().into_owned())
    }

    /// The number of a device, which from now on nobody else gets.
    pub(super) fn claim(&self, device: &str) -> Result<u16, DpdkError> {
        let found = self.numbered().find(|(_, name)| name == device);
        let Some((port, _)) = found else {
            return Err(DpdkError::NoDevice {
                device: device.to_owned(),
                present: self.devices(),
            });
        };
        let bit = 1_u64.checked_shl(port.into()).unwrap_or(0);
        // Nothing is read that another thread wrote: relaxed suffices.
        if self.taken.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return Err(DpdkError::Taken {
                device: device.to_owned(),
            });
        }
        Ok(port)
    }

    /// Makes the calling thread a worker: packets then come from and go to a cache of its own.
    /// Ports work on any thread, but on others each burst takes the pools' shared path, which is
    /// some 10 ns per packet slower.
    ///
    /// # Errors
    ///
    /// [`DpdkError::System`] when there are more than 128 such threads.
    pub fn enter_thread(self: &Arc<Self>) -> Result<WorkerThread, DpdkError> {
        let entered_here = !ENTERED.get();
        if entered_here {
            // SAFETY: the environment runs, and the flag says that this thread has not entered.
            let status = unsafe { dpdk_sys::qlink_dpdk_thread_enter() };
            check(status).map_err(failed("registering the thread"))?;
            ENTERED.set(true);
        }
        Ok(WorkerThread {
            entered_here,
            _eal: Arc::clone(self),
            _not_send: PhantomData,
        })
    }
}

impl Drop for Eal {
    fn drop(&mut self) {
        // SAFETY: the environment runs; ports and worker threads hold a reference to `self`, so
        // none is left.
        let status = unsafe { dpdk_sys::qlink_dpdk_stop() };
        // Nothing can be done about a refusal, and the process goes on without DPDK.
        let _ = status;
    }
}

/// A thread with a cache of its own in every pool, until this is dropped.
#[derive(Debug)]
pub struct WorkerThread {
    entered_here: bool,
    _eal: Arc<Eal>,
    /// It belongs to the thread.
    _not_send: PhantomData<*const ()>,
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        if self.entered_here {
            ENTERED.set(false);
            // SAFETY: the environment runs; this value is not `Send`, so it is dropped on the
            // thread that entered when it was made.
            unsafe { dpdk_sys::qlink_dpdk_thread_leave() }
        }
    }
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> DpdkError {
    move |source| DpdkError::System { operation, source }
}

/// The processors that a thread may run on.
struct Affinity(libc::cpu_set_t);

impl Affinity {
    fn of_this_thread() -> io::Result<Self> {
        // SAFETY: the set is an array of integers, for which all zero is valid.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        let bytes = size_of::<libc::cpu_set_t>();
        // SAFETY: thread 0 is the caller; the set is writable for `bytes` bytes.
        match unsafe { libc::sched_getaffinity(0, bytes, &raw mut set) } {
            0 => Ok(Self(set)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The first of them.
    fn first(&self) -> usize {
        let bits = size_of::<libc::cpu_set_t>().saturating_mul(8);
        // SAFETY: the number is below that of the bits in the set.
        let is_set = |processor: &usize| unsafe { libc::CPU_ISSET(*processor, &self.0) };
        (0..bits).find(is_set).unwrap_or(0)
    }

    fn restore(&self) -> io::Result<()> {
        let bytes = size_of::<libc::cpu_set_t>();
        // SAFETY: thread 0 is the caller; the set is readable for `bytes` bytes.
        match unsafe { libc::sched_setaffinity(0, bytes, &raw const self.0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
