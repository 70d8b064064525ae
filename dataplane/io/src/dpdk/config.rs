//! What DPDK's environment is started with.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::error::DpdkError;

/// Least and most memory, MiB (chosen: below, not even one small port fits).
const MEBIBYTES: RangeInclusive<u32> = 32..=1 << 20;

/// Most devices, virtual and cards together; DPDK itself is built for so many.
const DEVICES_MAX: usize = 32;

/// Longest name of a device, bytes, without the 0 behind it.
const NAME_MAX: usize = dpdk_sys::NAME_BYTES - 1;

/// Where packets and queues lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Huge pages, so many MiB, without files in a huge page file system; cards need them.
    HugePages(u32),
    /// The system's ordinary pages, so many MiB; enough for virtual devices, without privilege.
    Ordinary(u32),
}

impl Memory {
    /// So much, MiB.
    #[must_use]
    pub const fn mebibytes(self) -> u32 {
        match self {
            Self::HugePages(mebibytes) | Self::Ordinary(mebibytes) => mebibytes,
        }
    }
}

/// How DPDK's environment is set up; checked when it starts.
///
/// It is a closed list on purpose: no text goes to DPDK as it is, so that no setting can start a
/// second process, open a socket for statistics, or load a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalConfig {
    /// For packets and queues of all ports.
    pub memory: Memory,
    /// Virtual devices, each a name beginning with `net_` and its arguments, for example
    /// `net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap`.
    pub virtual_devices: Vec<String>,
    /// Cards by PCI address, for example `0000:01:00.0`. No other card is touched.
    pub cards: Vec<String>,
}

impl EalConfig {
    /// Virtual devices in 256 MiB of ordinary memory: runs without privilege.
    #[must_use]
    pub fn unprivileged<T: Into<String>>(virtual_devices: impl IntoIterator<Item = T>) -> Self {
        Self {
            memory: Memory::Ordinary(256),
            virtual_devices: virtual_devices.into_iter().map(Into::into).collect(),
            cards: Vec::new(),
        }
    }

    /// The arguments for DPDK; its one thread of its own is the caller's, on `processor`.
    ///
    /// # Errors
    ///
    /// [`DpdkError::Setting`].
    pub(super) fn arguments(&self, processor: usize) -> Result<Vec<String>, DpdkError> {
        self.check()?;
        let mebibytes = self.memory.mebibytes();
        let fixed = format!(
            "qlink --no-shconf --no-telemetry --log-level=*:5 -m {mebibytes} \
             --lcores=0@{processor}"
        );
        let mut arguments: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
        arguments.push(
            match self.memory {
                Memory::HugePages(_) => "--in-memory",
                Memory::Ordinary(_) => "--no-huge",
            }
            .to_owned(),
        );
        if self.cards.is_empty() {
            arguments.push("--no-pci".to_owned());
        }
        for card in &self.cards {
            arguments.push(format!("--allow={card}"));
        }
        for device in &self.virtual_devices {
            arguments.push(format!("--vdev={device}"));
        }
        Ok(arguments)
    }

    /// The devices named here of which there is none; a card with several ports has its address
    /// and more as their names.
    pub(super) fn missing_from(&self, present: &[String]) -> Vec<String> {
        let wanted = self.virtual_devices.iter().map(|device| name_of(device));
        let missing = wanted.filter(|name| present.iter().all(|found| found != name));
        let is_card = |card: &&String| present.iter().all(|found| !found.starts_with(*card));
        let cards = self.cards.iter().filter(is_card).map(String::as_str);
        missing.chain(cards).map(str::to_owned).collect()
    }

    fn check(&self) -> Result<(), DpdkError> {
        let mebibytes = self.memory.mebibytes();
        if !MEBIBYTES.contains(&mebibytes) {
            let allowed = "32 to 1048576 MiB";
            return Err(DpdkError::setting("memory", &mebibytes, allowed));
        }
        let devices = self.virtual_devices.len().saturating_add(self.cards.len());
        if !(1..=DEVICES_MAX).contains(&devices) {
            return Err(DpdkError::setting("number of devices", &devices, "1 to 32"));
        }
        let mut names = BTreeSet::new();
        for device in &self.virtual_devices {
            let name = name_of(device);
            if !is_device(device) || name.len() > NAME_MAX || !names.insert(name) {
                let allowed = "a name of its own that begins with net_, without blanks, at most 63 \
                               bytes, then arguments after commas";
                return Err(DpdkError::setting("virtual device", device, allowed));
            }
        }
        for card in &self.cards {
            if !is_pci_address(card) || !names.insert(card) {
                let allowed = "a PCI address like 0000:01:00.0, named once";
                return Err(DpdkError::setting("card", card, allowed));
            }
        }
        if !self.cards.is_empty() && matches!(self.memory, Memory::Ordinary(_)) {
            let allowed = "huge pages, because cards write to memory themselves";
            return Err(DpdkError::setting("memory", &"ordinary", allowed));
        }
        Ok(())
    }
}

/// What stands before the arguments.
fn name_of(device: &str) -> &str {
    device.split(',').next().unwrap_or_default()
}

fn is_device(device: &str) -> bool {
    device.starts_with("net_") && device.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether the text is `dddd:bb:dd.f` in hexadecimal digits.
fn is_pci_address(text: &str) -> bool {
    let shape = "xxxx:xx:xx.x";
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| {
            if wanted == b'x' {
                byte.is_ascii_hexdigit()
            } else {
                byte == wanted
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &EalConfig) -> &'static str {
        match config.arguments(0).unwrap_err() {
            DpdkError::Setting { setting, .. } => setting,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn virtual_devices_keep_away_from_cards_and_huge_pages() {
        let config = EalConfig::unprivileged(["net_null0,size=64"]);

        let arguments = config.arguments(3).unwrap();

        for wanted in [
            "--no-huge",
            "--no-pci",
            "--no-telemetry",
            "--no-shconf",
            "--lcores=0@3",
            "--vdev=net_null0,size=64",
        ] {
            assert!(
                arguments.iter().any(|argument| argument == wanted),
                "{wanted}"
            );
        }
    }

    #[test]
    fn only_the_cards_named_are_touched() {
        let config = EalConfig {
            memory: Memory::HugePages(1024),
            virtual_devices: Vec::new(),
            cards: vec!["0000:01:00.0".to_owned()],
        };

        let arguments = config.arguments(0).unwrap();

        assert!(arguments.contains(&"--allow=0000:01:00.0".to_owned()));
        assert!(arguments.contains(&"--in-memory".to_owned()));
        assert!(!arguments.iter().any(|argument| argument.contains("no-pci")));
    }

    #[test]
    fn devices_that_would_smuggle_arguments_are_refused() {
        for device in [
            "",
            "eth0",
            "net_null0 --proc-type=secondary",
            "net_null0\n",
            "net_\u{e4}",
        ] {
            let config = EalConfig::unprivileged([device]);
            assert_eq!(refused(&config), "virtual device", "{device:?}");
        }
    }

    #[test]
    fn a_device_is_named_once() {
        let config = EalConfig::unprivileged(["net_null0", "net_null0,size=64"]);

        assert_eq!(refused(&config), "virtual device");
    }

    #[test]
    fn cards_are_pci_addresses_in_huge_pages() {
        let mut config = EalConfig {
            memory: Memory::HugePages(512),
            virtual_devices: Vec::new(),
            cards: vec!["01:00.0".to_owned()],
        };
        assert_eq!(refused(&config), "card");
        config.cards = vec!["0000:01:00.0".to_owned(); 2];
        assert_eq!(refused(&config), "card");
        config.cards.truncate(1);
        config.memory = Memory::Ordinary(512);
        assert_eq!(refused(&config), "memory");
    }

    #[test]
    fn bounds_are_kept() {
        let mut config = EalConfig::unprivileged(Vec::<String>::new());
        assert_eq!(refused(&config), "number of devices");
        config.virtual_devices = (0..33).map(|number| format!("net_null{number}")).collect();
        assert_eq!(refused(&config), "number of devices");
        config.virtual_devices.truncate(32);
        config.memory = Memory::Ordinary(31);
        assert_eq!(refused(&config), "memory");
    }
}
