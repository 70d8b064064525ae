//! Message sockets between processes of one machine (`AF_UNIX`, `SOCK_SEQPACKET`).
//!
//! Messages keep their borders and their order and are never lost, so the control protocol needs
//! no framing. The socket file has mode 0600: only its owner (and root) may connect.

use std::fs::Metadata;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sys;

/// Longest message, bytes.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// How long [`SeqConn::send`] waits for a peer that does not read.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a message could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum SeqError {
    /// The peer has closed the connection or died.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer did not read for [`SEND_TIMEOUT`]; nothing was sent.
    #[error("the peer did not read for {} s", SEND_TIMEOUT.as_secs())]
    SendTimeout,
    /// A message is empty (which would read as "closed") or longer than [`MESSAGE_MAX`].
    #[error("a message of {len} bytes cannot be sent, 1 to {MESSAGE_MAX} can")]
    MessageLength {
        /// Its length.
        len: usize,
    },
    /// A received message did not fit the buffer and is lost; the connection still works.
    #[error("a message of {len} bytes does not fit a buffer of {capacity}")]
    BufferTooSmall {
        /// Its length.
        len: usize,
        /// The buffer's length.
        capacity: usize,
    },
    /// Another process listens at the path.
    #[error("{path} is in use by a running process")]
    InUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// Something that is not a socket stands at the path.
    #[error("{path} is not a socket")]
    NotASocket {
        /// What was to become the socket's path.
        path: PathBuf,
    },
    /// The path does not fit a socket address.
    #[error("the socket path {path} is longer than {PATH_BYTES_MAX} bytes")]
    PathTooLong {
        /// The socket's path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {operation}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// `sun_path` without the final zero byte.
const PATH_BYTES_MAX: usize = 107;

/// A listening message socket; its file is removed on drop.
#[derive(Debug)]
pub struct SeqListener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the socket file, so that a successor's file is never removed.
    file: Option<(u64, u64)>,
}

impl SeqListener {
    /// Listens at `path` with mode 0600. A socket file that nobody listens at, left by a killed
    /// predecessor, is replaced; anything else there is refused.
    ///
    /// # Errors
    ///
    /// [`SeqError::InUse`], [`SeqError::NotASocket`], [`SeqError::PathTooLong`],
    /// [`SeqError::System`].
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, SeqError> {
        let path = path.as_ref();
        let (address, length) = address(path)?;
        remove_stale(path)?;
        let socket = open_socket()?;
        // Before bind, the mode of the socket is the mode that its file will get (minus umask):
        // there is no moment at which others could connect.
        // SAFETY: the descriptor is open; the call touches no memory.
        let status = unsafe { libc::fchmod(socket.as_raw_fd(), 0o600) };
        check(status, "set the mode of the socket")?;
        // SAFETY: the descriptor is open and `address` is initialised for `length` bytes.
        let status = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        check(status, "bind the socket")?;
        let file = std::fs::symlink_metadata(path).ok().as_ref().map(identity);
        let listener = Self {
            socket,
            path: path.into(),
            file,
        };
        // SAFETY: the descriptor is open; the call touches no memory.
        let status = unsafe { libc::listen(listener.socket.as_raw_fd(), 16) };
        check(status, "listen")?;
        Ok(listener)
    }

    /// The next connection; `None` after `timeout` (`None` = wait for ever) or a signal.
    ///
    /// # Errors
    ///
    /// [`SeqError::System`].
    pub fn accept(&self, timeout: Option<Duration>) -> Result<Option<SeqConn>, SeqError> {
        if !is_ready(self.as_fd(), libc::POLLIN, timeout)? {
            return Ok(None);
        }
        let (flags, none) = (
            libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            std::ptr::null_mut(),
        );
        // SAFETY: the descriptor is open; null address and length mean that none is wanted.
        let accepted =
            unsafe { libc::accept4(self.as_raw_fd(), none, std::ptr::null_mut(), flags) };
        if accepted < 0 {
            let source = io::Error::last_os_error();
            return match source.raw_os_error() {
                // The peer went away between poll and accept.
                Some(libc::EAGAIN | libc::EINTR | libc::ECONNABORTED) => Ok(None),
                _ => Err(SeqError::System {
                    operation: "accept",
                    source,
                }),
            };
        }
        // SAFETY: accept4 has just returned this descriptor, and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(accepted) };
        Ok(Some(SeqConn { socket }))
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SeqListener {
    fn drop(&mut self) {
        let now = std::fs::symlink_metadata(&self.path)
            .ok()
            .as_ref()
            .map(identity);
        if now.is_some() && now == self.file {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// One end of a connection. Sending and receiving borrow it shared.
#[derive(Debug)]
pub struct SeqConn {
    socket: OwnedFd,
}

impl SeqConn {
    /// Connects to the listener at `path`.
    ///
    /// # Errors
    ///
    /// [`SeqError::System`] (`NotFound`, `ConnectionRefused`: nobody listens),
    /// [`SeqError::PathTooLong`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, SeqError> {
        let (address, length) = address(path.as_ref())?;
        let socket = open_socket()?;
        // SAFETY: the descriptor is open and `address` is initialised for `length` bytes.
        let status =
            unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) };
        check(status, "connect to the socket")?;
        Ok(Self { socket })
    }

    /// Sends one message, waiting at most [`SEND_TIMEOUT`] for room.
    ///
    /// # Errors
    ///
    /// [`SeqError::MessageLength`], [`SeqError::Closed`], [`SeqError::SendTimeout`],
    /// [`SeqError::System`].
    pub fn send(&self, message: &[u8]) -> Result<(), SeqError> {
        if message.is_empty() || message.len() > MESSAGE_MAX {
            return Err(SeqError::MessageLength { len: message.len() });
        }
        let started = Instant::now();
        loop {
            // SAFETY: the descriptor is open and the message readable for its length.
            let sent = unsafe {
                libc::send(
                    self.as_raw_fd(),
                    message.as_ptr().cast(),
                    message.len(),
                    libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT,
                )
            };
            if sent >= 0 {
                return Ok(()); // A message is sent whole or not at all.
            }
            let source = io::Error::last_os_error();
            match source.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => {}
                Some(libc::EPIPE | libc::ECONNRESET) => return Err(SeqError::Closed),
                _ => {
                    return Err(SeqError::System {
                        operation: "send a message",
                        source,
                    });
                }
            }
            let Some(left) = SEND_TIMEOUT.checked_sub(started.elapsed()) else {
                return Err(SeqError::SendTimeout);
            };
            is_ready(self.as_fd(), libc::POLLOUT, Some(left))?;
        }
    }

    /// Receives one message into `buffer` and returns its length; `None` when none came within
    /// `timeout` (`None` = wait for ever) or before a signal.
    ///
    /// # Errors
    ///
    /// [`SeqError::Closed`] after the peer's last message, [`SeqError::BufferTooSmall`],
    /// [`SeqError::System`].
    pub fn recv(
        &self,
        buffer: &mut [u8],
        timeout: Option<Duration>,
    ) -> Result<Option<usize>, SeqError> {
        if !is_ready(self.as_fd(), libc::POLLIN, timeout)? {
            return Ok(None);
        }
        // SAFETY: the descriptor is open and the buffer writable for its length; MSG_TRUNC makes
        // the result the message's own length and writes no byte more.
        let received = unsafe {
            libc::recv(
                self.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_TRUNC | libc::MSG_DONTWAIT,
            )
        };
        let Ok(len) = usize::try_from(received) else {
            let source = io::Error::last_os_error();
            return match source.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Ok(None),
                Some(libc::ECONNRESET) => Err(SeqError::Closed),
                _ => Err(SeqError::System {
                    operation: "receive a message",
                    source,
                }),
            };
        };
        match len {
            0 => Err(SeqError::Closed),
            _ if len > buffer.len() => Err(SeqError::BufferTooSmall {
                len,
                capacity: buffer.len(),
            }),
            _ => Ok(Some(len)),
        }
    }
}

impl AsFd for SeqListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for SeqListener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for SeqConn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for SeqConn {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn check(status: libc::c_int, operation: &'static str) -> Result<(), SeqError> {
    if status == 0 {
        return Ok(());
    }
    Err(SeqError::System {
        operation,
        source: io::Error::last_os_error(),
    })
}

fn open_socket() -> Result<OwnedFd, SeqError> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call touches no memory; the result is checked below.
    let socket = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if socket < 0 {
        let source = io::Error::last_os_error();
        return Err(SeqError::System {
            operation: "open a message socket",
            source,
        });
    }
    // SAFETY: `socket` has just been opened, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(socket) })
}

/// The system's form of a path and its length in bytes.
fn address(path: &Path) -> Result<(libc::sockaddr_un, libc::socklen_t), SeqError> {
    let bytes = path.as_os_str().as_bytes();
    let mut address = libc::sockaddr_un {
        sun_family: sys::family(libc::AF_UNIX),
        sun_path: [0; PATH_BYTES_MAX + 1],
    };
    if bytes.len() > PATH_BYTES_MAX {
        return Err(SeqError::PathTooLong { path: path.into() });
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    Ok((address, sys::length_of::<libc::sockaddr_un>()))
}

/// Removes a socket file that nobody listens at.
fn remove_stale(path: &Path) -> Result<(), SeqError> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(SeqError::System {
                operation: "look at the path",
                source,
            });
        }
    };
    if !metadata.file_type().is_socket() {
        return Err(SeqError::NotASocket { path: path.into() });
    }
    match SeqConn::connect(path) {
        Err(SeqError::System { source, .. })
            if source.kind() == io::ErrorKind::ConnectionRefused =>
        {
            std::fs::remove_file(path).map_err(|source| SeqError::System {
                operation: "remove a stale socket",
                source,
            })
        }
        // A connection, or "try again" of a full queue, or a socket of another kind: someone
        // is there.
        _ => Err(SeqError::InUse { path: path.into() }),
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn is_ready(
    socket: BorrowedFd<'_>,
    events: libc::c_short,
    timeout: Option<Duration>,
) -> Result<bool, SeqError> {
    let mut polled = [libc::pollfd {
        fd: socket.as_raw_fd(),
        events,
        revents: 0,
    }];
    sys::poll(&mut polled, timeout)
        .map(|ready| ready > 0)
        .map_err(|source| SeqError::System {
            operation: "wait for the socket",
            source,
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SECONDS: Option<Duration> = Some(Duration::from_secs(5));

    fn pair(folder: &tempfile::TempDir) -> (SeqListener, SeqConn, SeqConn) {
        let listener = SeqListener::bind(folder.path().join("control")).unwrap();
        let client = SeqConn::connect(listener.path()).unwrap();
        let server = listener.accept(SECONDS).unwrap().unwrap();
        (listener, client, server)
    }

    #[test]
    fn messages_keep_their_borders_in_both_directions() {
        let folder = tempfile::tempdir().unwrap();
        let (_listener, client, server) = pair(&folder);
        let mut buffer = vec![0; MESSAGE_MAX];
        let longest = vec![7; MESSAGE_MAX];

        client.send(b"one").unwrap();
        client.send(&longest).unwrap();
        server.send(b"back").unwrap();

        assert_eq!(server.recv(&mut buffer, SECONDS).unwrap(), Some(3));
        assert_eq!(&buffer[..3], b"one");
        assert_eq!(
            server.recv(&mut buffer, SECONDS).unwrap(),
            Some(MESSAGE_MAX)
        );
        assert_eq!(buffer, longest);
        assert_eq!(client.recv(&mut buffer, SECONDS).unwrap(), Some(4));
    }

    #[test]
    fn a_timeout_and_a_closed_peer_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (_listener, client, server) = pair(&folder);
        let mut buffer = [0; 16];

        let nothing = server.recv(&mut buffer, Some(Duration::from_millis(1)));
        client.send(b"last").unwrap();
        drop(client);
        let last = server.recv(&mut buffer, SECONDS);
        let closed = server.recv(&mut buffer, SECONDS);

        assert!(matches!(nothing, Ok(None)));
        assert!(matches!(last, Ok(Some(4))));
        assert!(matches!(closed, Err(SeqError::Closed)));
        assert!(matches!(server.send(b"x"), Err(SeqError::Closed)));
    }

    #[test]
    fn lengths_outside_the_limits_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (_listener, client, server) = pair(&folder);
        let mut small = [0; 4];

        let empty = client.send(b"");
        let too_long = client.send(&vec![0; MESSAGE_MAX + 1]);
        client.send(b"12345").unwrap();
        client.send(b"next").unwrap();
        let cut = server.recv(&mut small, SECONDS);

        assert!(matches!(empty, Err(SeqError::MessageLength { len: 0 })));
        assert!(matches!(too_long, Err(SeqError::MessageLength { .. })));
        assert!(matches!(
            cut,
            Err(SeqError::BufferTooSmall {
                len: 5,
                capacity: 4
            })
        ));
        assert_eq!(server.recv(&mut small, SECONDS).unwrap(), Some(4));
    }

    #[test]
    fn the_socket_file_is_private_and_removed_on_drop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = SeqListener::bind(&path).unwrap();

        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        drop(listener);

        assert_eq!(mode & 0o777, 0o600);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let mut killed = SeqListener::bind(&path).unwrap();
        killed.file = None; // as after SIGKILL: the file stays
        drop(killed);
        assert!(path.exists());

        let live = SeqListener::bind(&path).unwrap();
        let second = SeqListener::bind(&path);

        assert!(matches!(second, Err(SeqError::InUse { .. })));
        assert!(SeqConn::connect(live.path()).is_ok());
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        std::fs::write(&path, b"precious").unwrap();

        let bound = SeqListener::bind(&path);

        assert!(matches!(bound, Err(SeqError::NotASocket { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_path_too_long_and_an_absent_listener_are_refused() {
        let long = format!("/tmp/{}", "x".repeat(120));

        assert!(matches!(
            SeqListener::bind(&long),
            Err(SeqError::PathTooLong { .. })
        ));
        assert!(matches!(
            SeqConn::connect("/nonexistent/socket"),
            Err(SeqError::System { source, .. }) if source.kind() == io::ErrorKind::NotFound
        ));
    }

    #[test]
    fn accept_gives_up_after_its_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let listener = SeqListener::bind(folder.path().join("control")).unwrap();

        let accepted = listener.accept(Some(Duration::from_millis(1))).unwrap();

        assert!(accepted.is_none());
    }
}
