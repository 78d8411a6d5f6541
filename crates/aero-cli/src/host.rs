//! Files, standard input and output, signals and the clock of the host.

use crate::options::Sink;
use aero_machine::WallClock;
use anyhow::{Context as _, bail};
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// The host's monotonic clock, from when the run began.
pub struct HostClock(pub Instant);

impl WallClock for HostClock {
    fn now_ns(&mut self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Reads the file that `option` names, unless it has more than `limit` bytes.
///
/// # Errors
/// One line that names the option, the file and the cure.
pub fn read_file(option: &str, file: &Path, limit: u64, too_large: &str) -> anyhow::Result<Vec<u8>> {
    let name = || format!("{option} {}", file.display());
    let about = match std::fs::metadata(file) {
        Ok(about) => about,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            bail!("{}: there is no such file; check the path", name())
        }
        Err(e) => return Err(e).with_context(name),
    };
    if about.is_dir() {
        bail!("{}: this is a directory; give a file", name());
    }
    if about.is_file() && about.len() == 0 {
        bail!("{}: the file is empty", name());
    }
    if about.len() > limit {
        bail!("{}: {} MiB {too_large}", name(), about.len().div_ceil(1 << 20));
    }
    std::fs::read(file).with_context(name)
}

/// Where the guest's bytes go.
pub struct Output {
    name: String,
    to: Box<dyn Write>,
}

/// Nobody reads standard output any more.
#[derive(Debug)]
pub struct Closed;

impl Output {
    /// Opens `sink`, which `option` names.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn open(option: &str, sink: &Sink) -> anyhow::Result<Self> {
        Ok(match sink {
            Sink::Stdio => Self { name: format!("{option} stdio"), to: Box::new(std::io::stdout()) },
            Sink::File(file) => {
                let name = format!("{option} {}", file.display());
                let to = File::create(file).with_context(|| name.clone())?;
                Self { name, to: Box::new(to) }
            }
        })
    }

    /// Writes `bytes` at once.
    ///
    /// # Errors
    /// When the disk is full or the like; `Ok(Err(Closed))` when the reader has gone.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<Result<(), Closed>> {
        if bytes.is_empty() {
            return Ok(Ok(()));
        }
        match self.to.write_all(bytes).and_then(|()| self.to.flush()) {
            Ok(()) => Ok(Ok(())),
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(Err(Closed)),
            Err(e) => Err(e).with_context(|| self.name.clone()),
        }
    }
}

/// What comes from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Standard input.
    Typed(Vec<u8>),
    /// A drive has finished a request.
    Drive,
    /// Standard input has ended.
    InputEnded,
    /// The host asks the program to end.
    Signal(u8),
}

/// Standard input and signals, collected by threads of their own.
pub struct Events {
    queue: Receiver<Event>,
    /// Keeps the queue open when no thread has its other end.
    open: Sender<Event>,
}

impl Events {
    /// Starts to listen: to signals, and to standard input if `input`.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn listen(input: bool) -> anyhow::Result<Self> {
        let (open, queue) = mpsc::channel();
        listen_to_signals(open.clone())?;
        if input {
            let to = open.clone();
            std::thread::Builder::new().name("stdin".into()).spawn(move || read_input(&to))?;
        }
        Ok(Self { queue, open })
    }

    /// The other end, for more threads.
    pub fn sender(&self) -> Sender<Event> {
        self.open.clone()
    }

    /// What has come already.
    pub fn poll(&self) -> Option<Event> {
        self.queue.try_recv().ok()
    }

    /// Sleeps until something comes, `limit` at most.
    pub fn wait(&self, limit: Duration) -> Option<Event> {
        self.queue.recv_timeout(limit).ok()
    }
}

fn read_input(to: &Sender<Event>) {
    let mut buffer = [0; 4096];
    loop {
        let event = match std::io::stdin().lock().read(&mut buffer) {
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => Event::InputEnded,
            Ok(count) => Event::Typed(buffer[..count].to_vec()),
        };
        let ended = event == Event::InputEnded;
        if to.send(event).is_err() || ended {
            return;
        }
    }
}

/// A signal that would kill the program becomes an event, so that the terminal is restored and the statistics
/// written.
#[cfg(unix)]
fn listen_to_signals(to: Sender<Event>) -> anyhow::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if to.send(Event::Signal(signal as u8)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

#[cfg(not(unix))]
fn listen_to_signals(_to: Sender<Event>) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_files_are_named_with_the_option() {
        let folder = tempfile::tempdir().expect("a folder");
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").expect("a file");
        let full = folder.path().join("full");
        std::fs::write(&full, b"abc").expect("a file");
        let error = |file: &Path| read_file("--kernel", file, 2, "is too much").map_err(|e| e.to_string());
        for (file, part) in [
            (Path::new("no/such"), "no such file"),
            (folder.path(), "directory"),
            (&empty, "empty"),
            (&full, "is too much"),
        ] {
            let message = error(file).expect_err("a bad file");
            assert!(message.starts_with("--kernel ") && message.contains(part), "{message}");
        }
        assert_eq!(read_file("--kernel", &full, 3, "").expect("a good file"), b"abc");
    }
}
