//! Captures at the two points of the account: N3 at the BaseStation, N6 at the origin.
//!
//! Both files are pcapng of raw IP packets. N6 holds the inner packets as they are; for N3 the outer
//! IPv4 and UDP headers, which a UDP socket does not show, are written again around each GTP-U
//! message, so that tshark decodes the tunnel. A packet is recorded where it has passed the gateway
//! or is about to enter it, hence never a packet that the lossy link has eaten on its way in.
use std::fs::File;
use std::io::{self, BufWriter};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use qlink_io::clock::unix_ns;
use qlink_io::pcap::{InterfaceId, PcapngWriter};
use qlink_wire::LinkType;
use qlink_wire::build::udp_packet;

/// Why a capture could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write capture {path}")]
pub struct CaptureError {
    /// The file.
    pub path: PathBuf,
    /// The system's answer.
    #[source]
    pub source: io::Error,
}

#[derive(Debug)]
struct CaptureFile {
    path: PathBuf,
    writer: PcapngWriter<BufWriter<File>>,
    interface: InterfaceId,
}

impl CaptureFile {
    fn create(path: &Path, name: &str) -> Result<Self, CaptureError> {
        let open = || {
            let file = BufWriter::with_capacity(256 * 1024, File::create(path)?);
            let mut writer = PcapngWriter::new(file)?;
            let interface = writer.add_interface(LinkType::RawIp, name)?;
            Ok((writer, interface))
        };
        let failed = |source| CaptureError {
            path: path.to_owned(),
            source,
        };
        let (writer, interface) = open().map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            writer,
            interface,
        })
    }

    fn record(&mut self, packet: &[u8]) -> Result<(), CaptureError> {
        let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        let written = self.writer.write(self.interface, unix_ns(), packet, len);
        written.map_err(|source| self.failed(source))
    }

    fn flush(&mut self) -> Result<(), CaptureError> {
        self.writer.flush().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> CaptureError {
        CaptureError {
            path: self.path.clone(),
            source,
        }
    }
}

/// The capture of N6: inner packets.
#[derive(Debug)]
pub struct N6Capture(CaptureFile);

impl N6Capture {
    /// Creates the file.
    ///
    /// # Errors
    ///
    /// [`CaptureError`].
    pub fn create(path: &Path) -> Result<Self, CaptureError> {
        CaptureFile::create(path, "n6").map(Self)
    }

    /// Writes one inner packet.
    ///
    /// # Errors
    ///
    /// [`CaptureError`].
    pub fn record(&mut self, packet: &[u8]) -> Result<(), CaptureError> {
        self.0.record(packet)
    }

    /// Brings everything to the file.
    ///
    /// # Errors
    ///
    /// [`CaptureError`].
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        self.0.flush()
    }
}

/// The capture of N3: GTP-U in UDP in IPv4.
#[derive(Debug)]
pub struct N3Capture(CaptureFile);

impl N3Capture {
    /// Creates the file.
    ///
    /// # Errors
    ///
    /// [`CaptureError`].
    pub fn create(path: &Path) -> Result<Self, CaptureError> {
        CaptureFile::create(path, "n3").map(Self)
    }

    /// Writes one GTP-U message that went from one UDP endpoint to another.
    ///
    /// # Errors
    ///
    /// [`CaptureError`].
    pub fn record(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        message: &[u8],
    ) -> Result<(), CaptureError> {
        match udp_packet(from, to, message) {
            Ok(packet) => self.0.record(&packet),
            Err(error) => Err(self
                .0
                .failed(io::Error::new(io::ErrorKind::InvalidInput, error))),
        }
    }

    /// Brings everything to the file.
    ///
    /// # Errors
    ///
    /// [`CaptureError`].
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qlink_io::pcap::PcapSource;
    use qlink_io::{Burst, PacketSource};
    use qlink_wire::build::gpdu_packet;
    use qlink_wire::{parse_gtpu, parse_ip, parse_udp};

    fn frames(path: &Path) -> Vec<Vec<u8>> {
        let mut source = PcapSource::open(path).unwrap();
        let mut burst = Burst::new();
        let mut frames = Vec::new();
        while source.recv_burst(&mut burst).is_ok() {
            frames.extend(burst.iter().map(|d| source.frame(d).to_vec()));
        }
        frames
    }

    #[test]
    fn n3_capture_reads_back_as_gtpu_between_the_endpoints() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n3.pcapng");
        let (from, to) = (
            "127.1.0.2:2152".parse().unwrap(),
            "127.1.0.1:2152".parse().unwrap(),
        );
        let whole = gpdu_packet(from, to, 7, b"inner").unwrap();

        let mut capture = N3Capture::create(&path).unwrap();
        capture.record(from, to, &whole[28..]).unwrap();
        capture.flush().unwrap();

        let frames = frames(&path);
        let ip = parse_ip(&frames[0]).unwrap();
        let udp = parse_udp(ip.payload).unwrap();
        let gtpu = parse_gtpu(udp.payload).unwrap();
        assert_eq!((ip.src, udp.dst_port), (from.ip(), 2152));
        assert_eq!((gtpu.teid, gtpu.payload), (7, &b"inner"[..]));
    }

    #[test]
    fn n6_capture_holds_the_packet_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n6.pcapng");

        let mut capture = N6Capture::create(&path).unwrap();
        capture.record(&[0x45, 1, 2]).unwrap();
        capture.flush().unwrap();

        assert_eq!(frames(&path), vec![vec![0x45, 1, 2]]);
    }

    #[test]
    fn unwritable_path_is_named() {
        let error = N6Capture::create(Path::new("/nonexistent/n6.pcapng")).unwrap_err();

        assert!(error.to_string().contains("/nonexistent/n6.pcapng"));
    }
}
