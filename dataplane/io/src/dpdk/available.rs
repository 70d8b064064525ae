//! What is missing for cards, found out without starting the environment: that happens once per
//! process, and changes it.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// What is missing. The first in this order is reported.
#[derive(Debug)]
pub(crate) enum Missing {
    /// `/dev/vfio/vfio` cannot be opened.
    Vfio(io::Error),
    /// No card is bound to VFIO.
    Card,
    /// No huge page is free.
    HugePages,
}

/// What is missing to drive a card here and now; nothing is for virtual devices.
pub(crate) fn missing_for_cards() -> Option<Missing> {
    look(
        Path::new("/dev/vfio"),
        Path::new("/sys/kernel/mm/hugepages"),
    )
}

fn look(vfio: &Path, huge_pages: &Path) -> Option<Missing> {
    let container = File::options()
        .read(true)
        .write(true)
        .open(vfio.join("vfio"));
    if let Err(error) = container {
        return Some(Missing::Vfio(error));
    }
    // Beside the container there is a file for each group of devices bound to VFIO.
    if names(vfio)
        .iter()
        .all(|name| !name.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Some(Missing::Card);
    }
    let is_free = |size: &String| {
        fs::read_to_string(huge_pages.join(size).join("free_hugepages"))
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
            .is_some_and(|pages| pages > 0)
    };
    if names(huge_pages).iter().any(is_free) {
        None
    } else {
        Some(Missing::HugePages)
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_part_is_named_in_the_order_of_mending() {
        let root = tempfile::tempdir().unwrap();
        let (vfio, huge) = (root.path().join("vfio"), root.path().join("hugepages"));
        let look = || look(&vfio, &huge);
        let pages = huge.join("hugepages-2048kB");
        fs::create_dir_all(&pages).unwrap();
        fs::write(pages.join("free_hugepages"), "0\n").unwrap();

        assert!(matches!(look(), Some(Missing::Vfio(_))));
        fs::create_dir(&vfio).unwrap();
        fs::write(vfio.join("vfio"), "").unwrap();
        assert!(matches!(look(), Some(Missing::Card)));
        fs::write(vfio.join("7"), "").unwrap();
        assert!(matches!(look(), Some(Missing::HugePages)));
        fs::write(pages.join("free_hugepages"), "512\n").unwrap();
        assert!(look().is_none());
    }
}
