//! What runs a ROM: Aero in this process, Bochs and QEMU as their own.

use super::case::{Case, Env};
use super::layout::{ROM, ROM_SIZE, var};
use super::outcome::{Outcome, parse};
use super::program::{self, BEGIN, DEBUG_PORT, EXIT_PORT};
use crate::processor::Maker;
use aero_cpu::state::seg;
use aero_cpu::{Bus, Cpu, Exit};
use aero_mem::{Gpa, GuestMemory};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A ROM: the program, the pristine window of an environment, and cases.
pub struct Rom {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How many cases are in it.
    pub cases: usize,
}

impl Rom {
    /// Packs as many cases as fit.
    ///
    /// # Errors
    /// When not even one fits.
    pub fn pack(env: Env, cases: &[Case]) -> Result<Self> {
        let mut bytes = program::image()?;
        let mut at = program::FREE.start;
        let mut put = |data: &[u8]| {
            let fits = at + data.len() < program::FREE.end;
            if fits {
                bytes[at..at + data.len()].copy_from_slice(data);
                at += data.len();
            }
            fits
        };
        put(&env.pristine().encoded());
        let packed = cases.iter().take_while(|case| put(&case.encoded())).count();
        if packed == 0 {
            bail!("a case does not fit into a ROM");
        }
        Ok(Self { bytes, cases: packed })
    }
}

/// Something that runs ROMs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Oracle {
    /// Bochs, the stricter one
    Bochs,
    /// QEMU's TCG
    Qemu,
    /// None: Aero alone
    None,
}

impl Oracle {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bochs => "bochs",
            Self::Qemu => "qemu",
            Self::None => "none",
        }
    }

    /// The program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-system-x86_64",
            _ => "bochs",
        }
    }

    /// What Debian calls it.
    pub fn package(self) -> &'static str {
        match self {
            Self::Qemu => "qemu-system-x86",
            _ => "bochs",
        }
    }

    /// Whether it is installed.
    pub fn is_here(self) -> bool {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|dir| dir.join(self.program()).is_file())
    }

    fn start(self, dir: &Path) -> Result<Child> {
        let mut command = Command::new(self.program());
        command.stdin(Stdio::null()).stderr(Stdio::null());
        match self {
            Self::Qemu => qemu(&mut command, dir),
            _ => bochs(&mut command, dir)?,
        }
        command.spawn().with_context(|| format!("{} does not start", self.program()))
    }
}

fn qemu(command: &mut Command, dir: &Path) {
    let output = format!("file,id=out,path={}", dir.join("output").display());
    command.args(["-M", "pc", "-m", "16", "-accel", "tcg", "-display", "none", "-nodefaults"]);
    command.args(["-cpu", "max,vendor=GenuineIntel,phys-bits=40,-la57"]);
    command.arg("-bios").arg(dir.join("rom")).args(["-chardev", &output]);
    command.args(["-device", &format!("isa-debugcon,iobase={DEBUG_PORT:#x},chardev=out")]);
    command.args(["-device", &format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=2")]);
    command.stdout(Stdio::null());
}

/// Debian's Bochs has its debugger built in, which wants to be told to go on, and no display for nobody: that for VNC
/// comes nearest. It insists on a video BIOS with a good checksum.
fn bochs(command: &mut Command, dir: &Path) -> Result<()> {
    let mut video = vec![0; 512];
    video[..4].copy_from_slice(&[0x55, 0xaa, 1, 0xcb]);
    let sum = video.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    video[511] = 0u8.wrapping_sub(sum);
    fs::write(dir.join("video"), video)?;
    // It stops at each reset, that is, at each triple fault.
    fs::write(dir.join("go"), "c\n".repeat(10_000))?;
    fs::write(dir.join("bochsrc"), BOCHSRC)?;
    command.args(["-q", "-f", "bochsrc"]).current_dir(dir).stdin(fs::File::open(dir.join("go"))?);
    command.stdout(fs::File::create(dir.join("output"))?);
    Ok(())
}

const BOCHSRC: &str = "\
config_interface: textconfig
display_library: rfb, options=\"timeout=0\"
romimage: file=rom, address=0xfffe0000
vgaromimage: file=video
cpu: model=corei7_icelake_u, count=1, ips=100000000, reset_on_triple_fault=1, ignore_bad_msrs=0
megs: 16
sound: driver=dummy
port_e9_hack: enabled=1
log: log
panic: action=report
error: action=report
info: action=ignore
debug: action=ignore
";

/// A run of an oracle that is under way.
struct Running {
    child: Child,
    output: PathBuf,
    /// When it last did anything.
    since: Instant,
    /// Processor time it had used then.
    worked: u64,
    /// Processor time it had used at its last output.
    busy: u64,
    /// Bytes of output.
    seen: u64,
}

/// How long an emulator may do nothing before it is taken to hang, by the clock on the wall. To be kept waiting by
/// other processes is to do nothing too, but not for so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may work in silence, in hundredths of a second of processor time: cases take milliseconds.
const BUSY: u64 = 40;
/// The same before the first output.
const START: u64 = 1000;

/// Processor time that a process has used, in hundredths of a second, where the system tells (proc(5)).
fn busy(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

impl Running {
    /// Waits for its end, for silence, or for a second beginning. What it wrote.
    fn output(mut self) -> Result<Vec<u8>> {
        let mut again = false;
        loop {
            if self.child.try_wait()?.is_some() {
                break;
            }
            let size = fs::metadata(&self.output).map_or(0, |m| m.len());
            let busy = busy(self.child.id());
            if size != self.seen {
                (self.seen, self.since) = (size, Instant::now());
                self.busy = busy;
                again = begins_again(&fs::read(&self.output)?);
            }
            if busy != self.worked {
                (self.worked, self.since) = (busy, Instant::now());
            }
            if size == 0 && busy < START {
                self.busy = busy;
            }
            if again || self.since.elapsed() > PATIENCE || busy.saturating_sub(self.busy) > BUSY {
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(fs::read(&self.output)?)
    }
}

/// Whether a ROM has begun more than once: a case that overwrites the driver's variables and then ends in a triple fault
/// makes it begin again, for ever.
fn begins_again(output: &[u8]) -> bool {
    output.windows(BEGIN.len()).filter(|bytes| *bytes == BEGIN).nth(1).is_some()
}

/// A folder for one oracle's files, gone with it.
pub struct Folder(PathBuf);

impl Folder {
    /// In the system's place for such things.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(oracle: Oracle) -> Result<Self> {
        let name = format!("aero-cpu-test-{}-{}", oracle.name(), std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs cases under an oracle: one outcome each.
///
/// # Errors
/// When the emulator does not start or its files cannot be written.
pub fn run_oracle(oracle: Oracle, folder: &Folder, env: Env, cases: &[Case]) -> Result<Vec<Outcome>> {
    run_all(env, cases, |rom| {
        let output = folder.0.join("output");
        fs::write(folder.0.join("rom"), &rom.bytes)?;
        fs::write(&output, [])?;
        let child = oracle.start(&folder.0)?;
        Running { child, output, since: Instant::now(), worked: 0, busy: 0, seen: 0 }.output()
    })
}

/// Packs ROMs of all cases and runs each; a case that hangs is lost, and those after it get a ROM of their own.
fn run_all(env: Env, cases: &[Case], mut run: impl FnMut(&Rom) -> Result<Vec<u8>>) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    while outcomes.len() < cases.len() {
        let rom = Rom::pack(env, &cases[outcomes.len()..])?;
        let parsed = parse(&run(&rom)?);
        let lost = parsed.outcomes.len() < rom.cases;
        if parsed.outcomes.len() > rom.cases || !lost && !parsed.complete {
            bail!("the output of a ROM does not fit its cases");
        }
        outcomes.extend(parsed.outcomes);
        if lost {
            outcomes.push(alone(env, &cases[outcomes.len()], &mut run)?);
        }
    }
    Ok(outcomes)
}

/// A case by itself: an emulator that hangs in one case may have kept the results of those before it.
fn alone(env: Env, case: &Case, mut run: impl FnMut(&Rom) -> Result<Vec<u8>>) -> Result<Outcome> {
    let rom = Rom::pack(env, std::slice::from_ref(case))?;
    let parsed = parse(&run(&rom)?);
    Ok(parsed.outcomes.into_iter().next().unwrap_or(Outcome::Lost))
}

/// Aero: a processor, RAM and a debug port.
pub struct Aero {
    mem: GuestMemory,
    cpu: Cpu,
}

/// Instructions without a byte of output after which a case hangs.
const SILENCE: u64 = 2_000_000;

impl Aero {
    /// A machine.
    ///
    /// # Errors
    /// When there is no memory or no engine for it.
    pub fn new(maker: Maker) -> Result<Self> {
        let (mem, cpu) = maker.make(16 << 20)?;
        Ok(Self { mem, cpu })
    }

    /// Runs cases: one outcome each.
    ///
    /// # Errors
    /// When a case does not fit into a ROM.
    pub fn run(&mut self, env: Env, cases: &[Case]) -> Result<Vec<Outcome>> {
        run_all(env, cases, |rom| self.output(&rom.bytes))
    }

    fn output(&mut self, rom: &[u8]) -> Result<Vec<u8>> {
        self.mem.write(Gpa(0), &[0; 0xa_0000])?;
        self.mem.write(Gpa(ROM.into()), &rom[rom.len() - ROM_SIZE..])?;
        self.mem.take_modified_code();
        self.reset();
        let mut board = Board::default();
        loop {
            let before = board.output.len();
            match self.cpu.run(&mut self.mem, &mut board, SILENCE) {
                Exit::Shutdown if self.driver_lives() => self.reset(),
                Exit::Budget if board.output.len() > before && !board.ended => {}
                Exit::Shutdown | Exit::Budget | Exit::Halted | Exit::Attention => return Ok(board.output),
            }
        }
    }

    /// Whether the driver would go on after a reset, rather than begin again.
    fn driver_lives(&self) -> bool {
        self.mem.read_array(Gpa(var::MAGIC.into())).is_ok_and(|word| u32::from_le_bytes(word) == var::ALIVE)
    }

    /// Power-on, but that the code segment reaches the ROM below 1 MiB: memory here ends long before 4 GiB.
    fn reset(&mut self) {
        self.cpu.reset(&mut self.mem);
        self.cpu.state_mut(&mut self.mem).segments[usize::from(seg::CS)].base = 0xf_0000;
    }
}

#[derive(Default)]
struct Board {
    output: Vec<u8>,
    ended: bool,
}

impl Bus for Board {
    fn read_memory(&mut self, _: &mut GuestMemory, _: u64, _: u64, len: u32) -> u64 {
        u64::MAX >> (64 - 8 * len)
    }
    fn write_memory(&mut self, _: &mut GuestMemory, _: u64, _: u64, _: u32, _: u64) {}
    fn read_port(&mut self, _: &mut GuestMemory, _: u64, _: u16, len: u32) -> u32 {
        u32::MAX >> (32 - 8 * len)
    }
    fn write_port(&mut self, _: &mut GuestMemory, _: u64, port: u16, _: u32, value: u32) {
        match port {
            DEBUG_PORT => self.output.push(value as u8),
            EXIT_PORT => self.ended = true,
            _ => {}
        }
    }
    fn now(&mut self, when: u64) -> u64 {
        when
    }
    fn interrupt_line(&self) -> bool {
        false
    }
    fn acknowledge_interrupt(&mut self, _: &mut GuestMemory, _: u64) -> u8 {
        0
    }
    fn needs_attention(&self) -> bool {
        self.ended
    }
    fn send_ipi(&mut self, _: aero_cpu::lapic::Icr) {}
    fn end_of_interrupt(&mut self, _: &mut GuestMemory, _: u64, _: u8) {}
}
