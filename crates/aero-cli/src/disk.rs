//! Image files as drives.
//!
//! Each file has a thread of its own that reads and writes it, so that the processor never waits for the host's disk; the thread
//! tells the loop when it has finished something. A file that is written to is locked, one that is only read is shared, and a file
//! that another process holds the other way is refused.

use crate::host::Event;
use crate::options::{DriveOption, Where};
use aero_bus::block::{BlockBackend, BlockError, Medium, Operation, Outcome, SECTOR};
use aero_machine::{Bus, Drive};
use aero_storage::overlay::Overlay;
use anyhow::{Context as _, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};

/// Opens the drives of the command line.
///
/// # Errors
/// One line that names the option, the file and the cure.
pub fn open_all(options: &[DriveOption], events: &Sender<Event>) -> anyhow::Result<Vec<Drive>> {
    options.iter().map(|option| open_drive(option, events)).collect()
}

fn open_drive(option: &DriveOption, events: &Sender<Event>) -> anyhow::Result<Drive> {
    let bus = match option.at {
        Where::Floppy => Bus::Floppy,
        Where::Disk(bus) | Where::Disc(bus) => bus,
    };
    let Some(file) = &option.file else { return Ok(Drive { bus, backend: None }) };
    let backend = open(option.name(), file, option.read_only, option.snapshot, events)?;
    Ok(Drive { bus, backend: Some(backend) })
}

/// Opens an image.
///
/// # Errors
/// One line that names the option, the file and the cure.
pub fn open(
    name: &str,
    file: &Path,
    read_only: bool,
    snapshot: bool,
    events: &Sender<Event>,
) -> anyhow::Result<Box<dyn BlockBackend>> {
    let name = format!("{name} {}", file.display());
    let disk = FileDisk::open(&name, file, read_only || snapshot, events.clone())?;
    Ok(if snapshot { Box::new(Overlay::new(Box::new(disk))) } else { Box::new(disk) })
}

/// A file as a drive.
struct FileDisk {
    medium: Medium,
    to_thread: Sender<(u64, Operation)>,
    from_thread: Receiver<Outcome>,
}

impl FileDisk {
    fn open(name: &str, path: &Path, read_only: bool, events: Sender<Event>) -> anyhow::Result<Self> {
        let file = match OpenOptions::new().read(true).write(!read_only).open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                bail!("{name}: there is no such file; check the path")
            }
            Err(e) if e.kind() == ErrorKind::IsADirectory => {
                bail!("{name}: this is a directory; give a file")
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied && !read_only => {
                bail!("{name}: it may not be written; add ,readonly, or ,snapshot to keep changes in memory")
            }
            Err(e) => return Err(e).context(name.to_owned()),
        };
        if file.metadata().is_ok_and(|about| about.is_dir()) {
            bail!("{name}: this is a directory; give a file");
        }
        lock(name, &file, read_only)?;
        let bytes = length(&file).with_context(|| name.to_owned())?;
        if bytes < SECTOR {
            bail!("{name}: {bytes} bytes are less than a sector of {SECTOR}; this is no image of a drive");
        }
        if !bytes.is_multiple_of(SECTOR) {
            bail!(
                "{name}: {bytes} bytes are not whole sectors of {SECTOR}; a raw image is expected, pad it to {}",
                bytes.next_multiple_of(SECTOR)
            );
        }
        let (to_thread, requests) = mpsc::channel();
        let (ended, from_thread) = mpsc::channel();
        let serve = move || serve(&file, &requests, &ended, &events);
        std::thread::Builder::new().name("drive".into()).spawn(serve)?;
        Ok(Self { medium: Medium { bytes, read_only }, to_thread, from_thread })
    }
}

/// Also right for a block device.
fn length(file: &File) -> std::io::Result<u64> {
    use std::io::Seek as _;
    let mut file = file;
    file.seek(std::io::SeekFrom::End(0))
}

fn lock(name: &str, file: &File, read_only: bool) -> anyhow::Result<()> {
    let locked = if read_only { file.try_lock_shared() } else { file.try_lock() };
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!(
            "{name}: another process uses this image; end it, or give both ,readonly or ,snapshot so that neither writes"
        ),
        // A file system without locks: as before there were any.
        Err(TryLockError::Error(_)) => Ok(()),
    }
}

impl BlockBackend for FileDisk {
    fn medium(&self) -> Medium {
        self.medium
    }

    fn submit(&mut self, ticket: u64, operation: Operation) {
        // The thread ends only when this is dropped.
        let _ = self.to_thread.send((ticket, operation));
    }

    fn poll(&mut self) -> Option<Outcome> {
        self.from_thread.try_recv().ok()
    }
}

fn serve(
    file: &File,
    requests: &Receiver<(u64, Operation)>,
    ended: &Sender<Outcome>,
    events: &Sender<Event>,
) {
    for (ticket, operation) in requests {
        let result = execute(file, operation);
        if ended.send((ticket, result.map_err(|e| told(&e)))).is_err() {
            return;
        }
        // Without a listener the run is over.
        let _ = events.send(Event::Drive);
    }
}

fn execute(file: &File, operation: Operation) -> std::io::Result<Vec<u8>> {
    static ZEROS: [u8; 65536] = [0; 65536];
    match operation {
        Operation::Read { offset, len } => {
            let mut bytes = vec![0; len as usize];
            file.read_exact_at(&mut bytes, offset)?;
            return Ok(bytes);
        }
        Operation::Write { offset, data } => file.write_all_at(&data, offset)?,
        Operation::WriteZeroes { offset, len } => {
            for at in (0..len).step_by(ZEROS.len()) {
                let count = (len - at).min(ZEROS.len() as u64);
                file.write_all_at(&ZEROS[..count as usize], offset + at)?;
            }
        }
        Operation::Flush => file.sync_data()?,
        // What was discarded may read as anything, so as what it was.
        Operation::Discard { .. } => {}
    }
    Ok(Vec::new())
}

fn told(error: &std::io::Error) -> BlockError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BlockError::NoSpace,
        ErrorKind::ReadOnlyFilesystem => BlockError::ReadOnly,
        _ => BlockError::Medium,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn wait(disk: &mut dyn BlockBackend, events: &Receiver<Event>) -> Result<Vec<u8>, BlockError> {
        assert_eq!(events.recv_timeout(Duration::from_secs(10)), Ok(Event::Drive));
        disk.poll().expect("ended").1
    }

    #[test]
    fn file_keeps_what_is_written_and_a_snapshot_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![7; 4096]).expect("a file");
        let (to, events) = mpsc::channel();
        let write = |byte| Operation::Write { offset: 512, data: vec![byte; 512] };
        let mut snapshot = open("--disk", &path, false, true, &to).expect("opens");
        snapshot.submit(1, write(1));
        assert_eq!(snapshot.poll(), Some((1, Ok(Vec::new()))));
        drop(snapshot);
        // The thread lets go of the file a moment later.
        std::thread::sleep(Duration::from_millis(200));
        let mut disk = open("--disk", &path, false, false, &to).expect("opens");
        disk.submit(2, Operation::Read { offset: 512, len: 512 });
        assert_eq!(wait(&mut *disk, &events), Ok(vec![7; 512]));
        disk.submit(3, write(2));
        assert_eq!(wait(&mut *disk, &events), Ok(Vec::new()));
        disk.submit(4, Operation::Flush);
        assert_eq!(wait(&mut *disk, &events), Ok(Vec::new()));
        assert_eq!(std::fs::read(&path).expect("a file")[512..1024], [2; 512]);
    }

    #[test]
    fn bad_images_are_refused_in_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let (to, _events) = mpsc::channel();
        let file = |name: &str, len: usize| {
            let path = folder.path().join(name);
            std::fs::write(&path, vec![0; len]).expect("a file");
            path
        };
        let held = file("held", 512);
        let _holder = open("--disk", &held, false, false, &to).expect("opens");
        for (path, part) in [
            (file("short", 100), "less than a sector"),
            (file("odd", 1000), "pad it to 1024"),
            (folder.path().to_owned(), "directory"),
            (folder.path().join("none"), "no such file"),
            (held, "another process"),
        ] {
            let error = open("--disk", &path, false, false, &to).err().expect("refused").to_string();
            assert!(error.starts_with("--disk ") && error.contains(part), "{error}");
        }
    }
}
