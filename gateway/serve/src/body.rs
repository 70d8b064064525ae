//! Request bodies with a size cap and a deadline, response bodies that end a request's phase.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body as AxumBody;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use crate::io::Phase;

/// Why a request body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyFault {
    /// More bytes than the server takes.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
    },
    /// The body did not arrive in time.
    #[error("the body did not arrive within {seconds} s")]
    Deadline {
        /// Seconds allowed, rounded down.
        seconds: u64,
    },
    /// The connection failed.
    #[error("the connection failed while the body was read")]
    Connection(#[source] hyper::Error),
}

/// A request body that ends in a [`BodyFault`] at its size cap or its deadline.
pub(crate) struct GuardedBody {
    inner: Incoming,
    left: u64,
    limit: u64,
    allowed: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl GuardedBody {
    pub(crate) fn new(inner: Incoming, limit: u64, allowed: Duration) -> Self {
        let deadline = Box::pin(tokio::time::sleep(allowed));
        Self {
            inner,
            left: limit,
            limit,
            allowed,
            deadline,
        }
    }
}

impl Body for GuardedBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        if this.deadline.as_mut().poll(cx).is_ready() {
            let seconds = this.allowed.as_secs();
            return Poll::Ready(Some(Err(BodyFault::Deadline { seconds })));
        }
        let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Err(source))) => {
                return Poll::Ready(Some(Err(BodyFault::Connection(source))));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        let bytes = frame
            .data_ref()
            .map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
        match this.left.checked_sub(bytes) {
            Some(left) => {
                this.left = left;
                Poll::Ready(Some(Ok(frame)))
            }
            None => Poll::Ready(Some(Err(BodyFault::TooLarge { limit: this.limit }))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Resolves when the server begins to drain.
pub(crate) type DrainSignal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A response body that returns its connection to the idle phase when it is dropped, and that
/// ends early on drain if it is an endless one (SSE).
pub(crate) struct TrackedBody {
    inner: AxumBody,
    phase: Arc<Phase>,
    end_on: Option<DrainSignal>,
}

impl TrackedBody {
    pub(crate) fn new(inner: AxumBody, phase: Arc<Phase>, end_on: Option<DrainSignal>) -> Self {
        Self {
            inner,
            phase,
            end_on,
        }
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        self.phase.idle();
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(signal) = &mut self.end_on
            && signal.as_mut().poll(cx).is_ready()
        {
            self.end_on = None;
            self.inner = AxumBody::empty();
            return Poll::Ready(None);
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
