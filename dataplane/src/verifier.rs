//! Reads files whose bytes are said to be a content, beside the control thread.
//!
//! A film takes seconds to read and hash; meanwhile sessions come and go, and a control plane's
//! heartbeats are answered. Who asked waits for the answer, everybody else does not.

use std::io;

use crossbeam::channel::{Receiver, Sender, bounded};
use qlink_io::handover::Bell;
use qlink_pfcp::{ContentBinding, Refusal};

use crate::contents::Copy;

/// Finds a content's copy.
pub(crate) type OpenCopy = fn(&ContentBinding) -> Result<Copy, Refusal>;

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The number of the connection, never given twice.
    pub(crate) connection: u64,
    /// The request's sequence number.
    pub(crate) sequence: u32,
}

/// A binding whose file was read.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) asker: Asker,
    pub(crate) binding: ContentBinding,
    pub(crate) copy: Result<Copy, Refusal>,
}

/// The control thread's end of the thread that reads.
#[derive(Debug)]
pub(crate) struct Verifier {
    asked: Sender<(Asker, ContentBinding)>,
    verified: Receiver<Verified>,
}

impl Verifier {
    /// Starts the thread, which rings `bell` for each answer. It ends with this end of it, once it
    /// has read the file that it is at; nobody waits for that. At most `waiting` may ask at once.
    ///
    /// # Errors
    ///
    /// The system's reason when it gives no thread.
    pub(crate) fn start(bell: Bell, waiting: usize, open: OpenCopy) -> io::Result<Self> {
        let (asked, questions) = bounded::<(Asker, ContentBinding)>(waiting);
        let (answer, verified) = bounded(waiting);
        let thread = std::thread::Builder::new().name("qlink-verifier".into());
        thread.spawn(move || {
            for (asker, binding) in questions {
                let copy = open(&binding);
                let verified = Verified {
                    asker,
                    binding,
                    copy,
                };
                if answer.send(verified).is_err() {
                    return;
                }
                bell.ring();
            }
        })?;
        Ok(Self { asked, verified })
    }

    /// Has the file of a binding read; `false`: too many wait.
    pub(crate) fn ask(&self, asker: Asker, binding: ContentBinding) -> bool {
        self.asked.try_send((asker, binding)).is_ok()
    }

    /// Whether no answer waits to be taken.
    pub(crate) fn is_idle(&self) -> bool {
        self.verified.is_empty()
    }

    /// The next binding whose file was read.
    pub(crate) fn verified(&self) -> Option<Verified> {
        self.verified.try_recv().ok()
    }
}
