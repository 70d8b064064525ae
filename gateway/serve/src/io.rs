//! A socket with a deadline for every phase of a connection.
//!
//! ```text
//! Head --request parsed--> Busy --response body dropped--> Idle --first byte--> Head
//! ```
//!
//! hyper's own header timer is not used: it also runs between requests, so a kept-alive
//! connection could not be allowed to rest longer than a header may take.

use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;

/// What a connection waits for. The low two bits name the phase, the rest counts transitions, so
/// that two visits to one phase are told apart. Written and read by the connection's own task
/// (hyper polls socket, service and body there), hence relaxed.
#[derive(Debug)]
pub(crate) struct Phase(AtomicU64);

impl Phase {
    /// A fresh connection owes us a request head.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(HEAD))
    }

    fn enter(&self, phase: u64) {
        let next = (self.0.load(Ordering::Relaxed) & !3).wrapping_add(4) | phase;
        self.0.store(next, Ordering::Relaxed);
    }

    pub(crate) fn busy(&self) {
        self.enter(BUSY);
    }

    pub(crate) fn idle(&self) {
        self.enter(IDLE);
    }

    fn state(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Deadlines of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadlines {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) write: Duration,
}

/// A TCP stream whose reads fail at the deadline of the phase and whose writes fail when the
/// peer takes nothing for the write deadline.
pub(crate) struct GuardedIo {
    inner: TcpStream,
    phase: Arc<Phase>,
    deadlines: Deadlines,
    armed_for: u64,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl GuardedIo {
    pub(crate) fn new(inner: TcpStream, phase: Arc<Phase>, deadlines: Deadlines) -> Self {
        let armed_for = phase.state();
        let read_timer = Box::pin(tokio::time::sleep(deadlines.head));
        Self {
            inner,
            phase,
            deadlines,
            armed_for,
            read_timer,
            write_timer: None,
        }
    }

    /// Arms the timer for a phase just entered, then says whether its deadline has passed.
    fn read_expired(&mut self, cx: &mut Context<'_>) -> bool {
        let state = self.phase.state();
        let allowed = match state & 3 {
            IDLE => self.deadlines.idle,
            HEAD => self.deadlines.head,
            _ => return false,
        };
        if state != self.armed_for {
            self.armed_for = state;
            self.read_timer.as_mut().reset(deadline_in(allowed));
        }
        self.read_timer.as_mut().poll(cx).is_ready()
    }

    fn after_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<Result<T>>,
    ) -> Poll<Result<T>> {
        if outcome.is_ready() {
            self.write_timer = None;
            return outcome;
        }
        let allowed = self.deadlines.write;
        let timer = self
            .write_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(allowed)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => {
                Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "peer reads nothing")))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A deadline that cannot overflow: an absurd duration becomes a day.
fn deadline_in(allowed: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(allowed)
        .or_else(|| now.checked_add(Duration::from_secs(86_400)))
        .unwrap_or(now)
}

impl AsyncRead for GuardedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        // Asked first: a peer that drips without pause must not outrun the timer.
        if self.read_expired(cx) {
            return Poll::Ready(Err(Error::new(
                ErrorKind::TimedOut,
                "peer sends nothing whole",
            )));
        }
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buf);
        if outcome.is_ready() && buf.filled().len() > before && self.phase.state() & 3 == IDLE {
            self.phase.enter(HEAD);
        }
        outcome
    }
}

impl AsyncWrite for GuardedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.after_write(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.after_write(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
