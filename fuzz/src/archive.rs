//! Other people's archives: what is found in one lies in it, and what is refused is told in one sound line.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use sealift::content::tarball::Tarball;
use sealift::oci::{diff_ids, docker_index};

use crate::words::is_sound;

/// Names that are looked for.
const NAMES: [&str; 6] = ["oci-layout", "index.json", "manifest.json", "a", "a/b", ""];

/// A tar file, and the words of docker archives.
pub fn archive(bytes: &[u8]) {
    let file = File::from(memfd_create("archive", MemfdFlags::CLOEXEC).expect("a file in memory"));
    file.write_all_at(bytes, 0).expect("memory");
    match Tarball::open(&PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))) {
        Ok(tarball) => {
            let length = tarball.file().metadata().expect("a file").len();
            for name in NAMES {
                match tarball.find_linked(name) {
                    Ok(Some(stretch)) => assert!(stretch.offset + stretch.size <= length, "{name}"),
                    Ok(None) => {}
                    Err(error) => is_sound(&error),
                }
                if let Err(error) = tarball.read_small(name, "a file", 1000) {
                    is_sound(&error);
                }
            }
        }
        Err(error) => is_sound(&error),
    }
    if let Err(error) = docker_index(bytes) {
        is_sound(&error);
    }
    if let Err(error) = diff_ids(bytes) {
        is_sound(&error);
    }
}
