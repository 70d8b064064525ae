//! The file that a capture thread writes: by io_uring where the kernel gives it, else by plain
//! system calls.
//!
//! io_uring is used for what it is good at here, large writes at known places on a thread that has
//! nothing else to do; it brings no speed that a capture would notice, so nothing depends on it.

use std::fs::File;
use std::io::{self, Write};

use qlink_pfcp::TraceWriter;

/// Bytes gathered before they are written (chosen: some 40 packets, one write each 64 KiB).
const CHUNK: usize = 64 * 1024;

/// Entries of the ring (chosen: one write is under way at a time).
const RING_ENTRIES: u32 = 8;

/// Whether io_uring may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Where the kernel gives it.
    Automatic,
    /// Not at all.
    #[cfg(test)]
    Plain,
}

enum Kind {
    Uring {
        runtime: tokio_uring::Runtime,
        file: tokio_uring::fs::File,
    },
    Plain(File),
}

/// A file written in large pieces from its beginning.
pub(super) struct CaptureFile {
    kind: Kind,
    buffer: Vec<u8>,
    /// Bytes in the file.
    written: u64,
}

impl CaptureFile {
    /// Takes an empty file. To be called on the thread that writes it.
    pub(super) fn new(file: File, choice: Choice) -> Self {
        Self {
            kind: Kind::new(file, choice),
            buffer: Vec::with_capacity(CHUNK.saturating_mul(2)),
            written: 0,
        }
    }

    /// How it is written.
    pub(super) const fn writer(&self) -> TraceWriter {
        match self.kind {
            Kind::Uring { .. } => TraceWriter::Uring,
            Kind::Plain(_) => TraceWriter::Plain,
        }
    }

    /// Bytes written and gathered.
    pub(super) fn len(&self) -> u64 {
        self.written.saturating_add(self.buffer.len() as u64)
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    ///
    /// Those of the file.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        match self.kind {
            Kind::Uring { runtime, file } => runtime.block_on(async {
                file.sync_data().await?;
                file.close().await
            }),
            Kind::Plain(file) => file.sync_data(),
        }
    }
}

impl Kind {
    /// The kernel may be too old for io_uring, or its administrator may have forbidden it
    /// (`kernel.io_uring_disabled`, seccomp): making the ring tells.
    fn new(file: File, choice: Choice) -> Self {
        let ring = match choice {
            Choice::Automatic => {
                tokio_uring::Runtime::new(tokio_uring::builder().entries(RING_ENTRIES))
            }
            #[cfg(test)]
            Choice::Plain => Err(io::ErrorKind::Unsupported.into()),
        };
        match ring {
            Ok(runtime) => {
                let file = runtime.block_on(async { tokio_uring::fs::File::from_std(file) });
                Self::Uring { runtime, file }
            }
            Err(error) => {
                tracing::info!(%error, "no io_uring; the capture is written by plain calls");
                Self::Plain(file)
            }
        }
    }
}

impl Write for CaptureFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let at = self.written;
        let length = self.buffer.len() as u64;
        match &mut self.kind {
            Kind::Uring { runtime, file } => {
                let buffer = std::mem::take(&mut self.buffer);
                let (result, buffer) = runtime.block_on(file.write_all_at(buffer, at));
                self.buffer = buffer;
                result?;
            }
            Kind::Plain(file) => file.write_all(&self.buffer)?,
        }
        self.written = at.saturating_add(length);
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(choice: Choice) -> (TraceWriter, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = CaptureFile::new(File::create_new(&path).unwrap(), choice);
        let writer = file.writer();
        for number in 0..40_000_u32 {
            file.write_all(&number.to_le_bytes()).unwrap();
            if number % 9_999 == 0 {
                file.flush().unwrap();
            }
        }
        assert_eq!(file.len(), 160_000);
        file.finish().unwrap();
        (writer, std::fs::read(&path).unwrap())
    }

    #[test]
    fn both_ways_of_writing_leave_the_same_file() {
        let (plain, bytes) = written(Choice::Plain);
        let (uring, same) = written(Choice::Automatic);

        assert_eq!(plain, TraceWriter::Plain);
        assert_eq!(bytes.len(), 160_000);
        assert!(bytes == same);
        if uring == TraceWriter::Plain {
            println!("skipped: this kernel gives no io_uring");
        }
    }
}
