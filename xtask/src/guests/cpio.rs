//! An initramfs archive: the "newc" cpio format that the Linux kernel unpacks at boot
//! (its `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! The same entries always give the same bytes: names are sorted, owner is root, every time is zero and
//! inode numbers count up. Archives stay uncompressed: the kernel then only copies, while inflating costs
//! an emulator tens of millions of guest instructions, and a browser's connection compresses by itself.

use std::collections::BTreeMap;

/// `mode` bits of the POSIX `stat` structure.
mod spec {
    pub const S_IFCHR: u32 = 0o020_000;
    pub const S_IFDIR: u32 = 0o040_000;
    pub const S_IFREG: u32 = 0o100_000;
    pub const S_IFLNK: u32 = 0o120_000;
    pub const MAGIC: &str = "070701";
    /// The name of the entry that ends an archive.
    pub const TRAILER: &str = "TRAILER!!!";
    /// Names and contents are padded so that the next part starts at a multiple of this.
    pub const ALIGN: usize = 4;
}

struct Entry {
    mode: u32,
    device: (u32, u32),
    content: Vec<u8>,
}

/// The files of an initramfs, by path without a leading slash.
#[derive(Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Adds a directory and the directories above it.
    pub fn directory(&mut self, path: &str) {
        self.parents(path);
        self.insert(path, spec::S_IFDIR | 0o755, (0, 0), Vec::new());
    }

    /// Adds a regular file with the given permission bits.
    pub fn file(&mut self, path: &str, permissions: u32, content: Vec<u8>) {
        self.parents(path);
        self.insert(path, spec::S_IFREG | permissions, (0, 0), content);
    }

    /// Adds a symbolic link at `path` that points to `target`.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.insert(path, spec::S_IFLNK | 0o777, (0, 0), target.as_bytes().to_vec());
    }

    /// Adds a character device node.
    pub fn char_device(&mut self, path: &str, major: u32, minor: u32) {
        self.parents(path);
        self.insert(path, spec::S_IFCHR | 0o600, (major, minor), Vec::new());
    }

    /// The archive's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (inode, (name, entry)) in (1..).zip(&self.entries) {
            write_entry(&mut out, name, entry, inode);
        }
        let trailer = Entry { mode: 0, device: (0, 0), content: Vec::new() };
        write_entry(&mut out, spec::TRAILER, &trailer, 0);
        out
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let parent = &path[..at];
            if !self.entries.contains_key(parent) {
                self.insert(parent, spec::S_IFDIR | 0o755, (0, 0), Vec::new());
            }
        }
    }

    fn insert(&mut self, path: &str, mode: u32, device: (u32, u32), content: Vec<u8>) {
        self.entries.insert(path.to_owned(), Entry { mode, device, content });
    }
}

fn write_entry(out: &mut Vec<u8>, name: &str, entry: &Entry, inode: u32) {
    let links = if entry.mode & spec::S_IFDIR != 0 { 2 } else { 1 };
    let length = |n: usize| u32::try_from(n).expect("newc holds files below 4 GiB");
    let (major, minor) = entry.device;
    out.extend_from_slice(spec::MAGIC.as_bytes());
    // inode, mode, uid, gid, links, mtime, size, device (2), device of the node (2), name size with its NUL,
    // checksum
    let fields = [
        inode,
        entry.mode,
        0,
        0,
        links,
        0,
        length(entry.content.len()),
        0,
        0,
        major,
        minor,
        length(name.len() + 1),
        0,
    ];
    for field in fields {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(spec::ALIGN), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn sample() -> Archive {
        let mut archive = Archive::default();
        archive.file("init", 0o755, b"#!/bin/sh\n".to_vec());
        archive.symlink("bin/sh", "busybox");
        archive.char_device("dev/console", 5, 1);
        archive
    }

    #[test]
    fn order_of_insertion_does_not_change_the_bytes() {
        let mut other = Archive::default();
        other.char_device("dev/console", 5, 1);
        other.symlink("bin/sh", "busybox");
        other.file("init", 0o755, b"#!/bin/sh\n".to_vec());
        assert_eq!(sample().bytes(), other.bytes());
    }

    #[test]
    fn parents_come_before_their_children() {
        let archive = sample();
        let names: Vec<_> = archive.entries.keys().map(String::as_str).collect();
        assert_eq!(names, ["bin", "bin/sh", "dev", "dev/console", "init"]);
    }

    #[test]
    fn header_of_a_file_follows_the_format() {
        let mut archive = Archive::default();
        archive.file("ab", 0o644, b"xyz".to_vec());
        let bytes = archive.bytes();
        assert_eq!(&bytes[..22], b"07070100000001000081A4");
        // 110 bytes of header and the name, then the content, each up to a multiple of four
        assert_eq!(&bytes[110..122], b"ab\0\0\0\0xyz\x0007");
    }

    #[test]
    fn cpio_lists_what_was_written() {
        let Ok(mut child) = Command::new("cpio")
            .args(["--list", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            return; // the tool is not on every machine; the other tests cover the format
        };
        let mut input = child.stdin.take().expect("stdin is piped");
        input.write_all(&sample().bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.stdout, b"bin\nbin/sh\ndev\ndev/console\ninit\n");
    }
}
