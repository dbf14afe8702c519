//! A file system of its own, which can be full.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::Scratch;

/// A file system of its own on `stick`; gone when dropped.
pub struct Stick(pub PathBuf);

impl Stick {
    /// With so many bytes. Without the right to mount, the test says that it is skipped.
    pub fn plugged(scratch: &Scratch, size: usize) -> Option<Self> {
        let path = scratch.path("stick");
        fs::create_dir(&path).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(&path)
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Stick(path));
        }
        let required = std::env::var("SEALIFT_REQUIRE_PEERS").is_ok_and(|value| value == "1");
        assert!(!required, "a file system cannot be mounted, and SEALIFT_REQUIRE_PEERS=1 asks for it");
        eprintln!("skipped: no right to mount a file system");
        None
    }

    /// One on which files can share blocks: btrfs, in a file. Without what this takes, the test says
    /// that it is skipped.
    pub fn sharing(scratch: &Scratch) -> Option<Self> {
        let (path, image) = (scratch.path("stick"), scratch.path("stick.img"));
        fs::create_dir(&path).unwrap();
        fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        let works = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        if works(Command::new("mkfs.btrfs").arg("-q").arg(&image))
            && works(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path))
        {
            return Some(Stick(path));
        }
        eprintln!("skipped: no file system whose files share blocks (mkfs.btrfs, and the right to mount)");
        None
    }

    /// Makes it larger.
    pub fn grow(&self, size: usize) {
        let mount = Command::new("mount")
            .args(["-o", &format!("remount,size={size}"), "tmpfs"])
            .arg(&self.0)
            .status();
        assert!(mount.unwrap().success());
    }

    /// What is on it.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
