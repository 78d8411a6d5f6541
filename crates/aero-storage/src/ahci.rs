//! The ICH9's AHCI function: six serial ports.
//!
//! A port has no registers for a command's parameters. The guest writes the registers' contents as a message,
//! a **FIS**, into a command table in memory, with a list of regions for the data (PRDT), and sets the slot's
//! bit in PxCI. The port answers with FISes too, each in its place in a receive area, and the task file
//! register PxTFD shows what the last one said: not the state of the device, but what it has told. So status,
//! FIS and bits of PxCI change together, in the order of a real link, and the interrupt comes last: **a
//! driver that polls after an interrupt finds the slot's bit cleared.**
//!
//! What ends a command depends on its protocol. Data to the host by PIO ends with the PIO Setup FIS of its
//! last block; DMA, PIO from the host, packets and commands without data with a Register FIS (D2H); a queued
//! command with a Set Device Bits FIS, which clears its bit in PxSACT. A queued command gives its slot's bit
//! in PxCI back at once, and its data may come in any order. An error sets PxIS.TFES, keeps
//! PxCI, and holds the port until the guest has turned PxCMD.ST off and on.
//!
//! **Link.** Ports spin up one by one (CAP.SSS): PxCMD.SUD, or PxSCTL.DET going from 1 to 0, brings the link
//! up, and the device sends its signature as a D2H FIS, which waits until the guest receives FISes
//! (PxCMD.FRE); until then PxTFD is 7Fh.
//!
//! Region 5: 4 KiB of registers. (Serial ATA AHCI 1.3.1; Intel 316972, ICH9; SATA 3.0 for the FISes.)

use crate::ata::{Ending, Plan, TaskFile, Way, spec as ata};
use crate::atapi::Cd;
use crate::unit::{Job, Step, Unit};
use aero_bus::block::{Completion, Operation, RequestId};
use aero_bus::pci::{Bar, ConfigSpace, Identity, Msi, PciFunction};
use aero_bus::{At, Cx, Device, IoError, IrqLine, Mmio, Width};
use aero_mem::Gpa;
use serde::{Deserialize, Serialize};

/// Ports of the function.
pub const PORTS: usize = 6;

/// Register facts, by their names in the specification.
mod spec {
    use super::PORTS;

    pub const BAR: u8 = 5;
    pub const BAR_BYTES: u32 = 0x1000;

    pub const CAP: u64 = 0x00;
    pub const GHC: u64 = 0x04;
    pub const IS: u64 = 0x08;
    pub const PI: u64 = 0x0c;
    pub const VS: u64 = 0x10;
    pub const PORT_BASE: u64 = 0x100;
    pub const PORT_BYTES: u64 = 0x80;

    /// 64-bit addresses, queued commands, staggered spin-up, command list override, 3 Gbit/s, AHCI only, PIO
    /// with several blocks, 32 slots. No port multiplier, no coalescing, no notification, no power states of
    /// the link.
    pub const CAP_VALUE: u32 =
        1 << 31 | 1 << 30 | 1 << 27 | 1 << 24 | 2 << 20 | 1 << 18 | 1 << 15 | 31 << 8 | (PORTS as u32 - 1);
    pub const PI_VALUE: u32 = (1 << PORTS) - 1;
    pub const VS_VALUE: u32 = 0x0001_0200;
    pub const GHC_HR: u32 = 1;
    pub const GHC_IE: u32 = 2;
    /// Set for ever, since there is no other mode (CAP.SAM).
    pub const GHC_AE: u32 = 1 << 31;

    pub const PX_CLB: u64 = 0x00;
    pub const PX_CLBU: u64 = 0x04;
    pub const PX_FB: u64 = 0x08;
    pub const PX_FBU: u64 = 0x0c;
    pub const PX_IS: u64 = 0x10;
    pub const PX_IE: u64 = 0x14;
    pub const PX_CMD: u64 = 0x18;
    pub const PX_TFD: u64 = 0x20;
    pub const PX_SIG: u64 = 0x24;
    pub const PX_SSTS: u64 = 0x28;
    pub const PX_SCTL: u64 = 0x2c;
    pub const PX_SERR: u64 = 0x30;
    pub const PX_SACT: u64 = 0x34;
    pub const PX_CI: u64 = 0x38;
    pub const PX_SNTF: u64 = 0x3c;

    /// PxIS: D2H, PIO Setup, DMA Setup, Set Device Bits.
    pub const DHRS: u32 = 1;
    pub const PSS: u32 = 1 << 1;
    pub const SDBS: u32 = 1 << 3;
    /// PxIS: a region of a PRDT with its I bit has been moved.
    pub const DPS: u32 = 1 << 5;
    /// PxIS: these show bits of PxSERR: connect change (X), PhyRdy change (N).
    pub const PCS: u32 = 1 << 6;
    pub const PRCS: u32 = 1 << 22;
    /// PxIS: overflow, interface fatal, host bus data and fatal, task file error.
    pub const OFS: u32 = 1 << 24;
    pub const IFS: u32 = 1 << 27;
    pub const HBDS: u32 = 1 << 28;
    pub const HBFS: u32 = 1 << 29;
    pub const TFES: u32 = 1 << 30;
    /// PxIS: what can be written to clear it.
    pub const IS_CLEARS: u32 = DHRS | PSS | 1 << 2 | SDBS | DPS | OFS | IFS | HBDS | HBFS | TFES;
    pub const IE_MASK: u32 = 0xfdc0_00ff;

    pub const CMD_ST: u32 = 1;
    pub const CMD_SUD: u32 = 1 << 1;
    pub const CMD_POD: u32 = 1 << 2;
    pub const CMD_CLO: u32 = 1 << 3;
    pub const CMD_FRE: u32 = 1 << 4;
    pub const CMD_CCS: u32 = 8;
    pub const CMD_FR: u32 = 1 << 14;
    pub const CMD_CR: u32 = 1 << 15;
    /// ATAPI, its light, power management and its kind: storage.
    pub const CMD_STORAGE: u32 = 0xf << 24;

    pub const TFD_RESET: u32 = 0x7f;
    pub const SERR_N: u32 = 1 << 16;
    pub const SERR_X: u32 = 1 << 26;
    /// PxSSTS of a link that is up: active, its speed, device and link.
    pub const SSTS_UP: u32 = 0x103;
    pub const SSTS_OFFLINE: u32 = 4;
    pub const SCTL_MASK: u32 = 0xfff;

    /// Places in the receive area.
    pub const AREA_DMA_SETUP: u64 = 0x00;
    pub const AREA_PIO_SETUP: u64 = 0x20;
    pub const AREA_D2H: u64 = 0x40;
    pub const AREA_SET_BITS: u64 = 0x58;
    pub const FIS_H2D: u8 = 0x27;
    pub const FIS_D2H: u8 = 0x34;
    pub const FIS_DMA_SETUP: u8 = 0x41;
    pub const FIS_PIO_SETUP: u8 = 0x5f;
    pub const FIS_SET_BITS: u8 = 0xa1;
    /// FIS: to the host, interrupt; in an H2D FIS, a command.
    pub const FIS_IN: u8 = 0x20;
    pub const FIS_INTERRUPT: u8 = 0x40;
    pub const FIS_COMMAND: u8 = 0x80;
    /// Device control in an H2D FIS: software reset.
    pub const SRST: u8 = 4;

    /// Command header: bytes, clear BSY when the FIS has been received.
    pub const HEADER_BYTES: u64 = 32;
    pub const HEADER_CLEAR_BUSY: u32 = 1 << 10;
    /// Command table: packet, regions.
    pub const TABLE_PACKET: u64 = 0x40;
    pub const TABLE_REGIONS: u64 = 0x80;
    pub const REGION_BYTES: u64 = 16;
    pub const REGION_INTERRUPT: u32 = 1 << 31;
    pub const REGION_LENGTH: u32 = 0x3f_ffff;
    /// Interrupt reason: command, to the host.
    pub const REASON_END: u16 = 3;
}

use spec::*;

/// A command in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Slot {
    /// Where the command table is, and how many regions it has.
    table: u64,
    regions: u16,
    /// Bytes moved so far.
    moved: u64,
    /// The tag of a queued command.
    tag: Option<u8>,
    job: Job,
    /// Its last data went to the host by PIO.
    pio_in: bool,
}

/// A port's registers and what is under way: plain data.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct PortState {
    list: u64,
    area: u64,
    is: u32,
    ie: u32,
    cmd: u32,
    current: u8,
    tfd: u32,
    sig: u32,
    ssts: u32,
    sctl: u32,
    serr: u32,
    sact: u32,
    ci: u32,
    /// Slots whose command has been fetched and has not ended.
    issued: u32,
    /// The signature waits to be received.
    signature_waits: bool,
    /// An error holds the port.
    halted: bool,
    /// SRST has been sent and not yet taken back.
    in_reset: bool,
    slots: Vec<Option<Slot>>,
    /// Counts abandoned sets of commands, so that the ends of their requests are known.
    sequence: u32,
}

impl PortState {
    fn new() -> Self {
        Self {
            list: 0,
            area: 0,
            is: 0,
            ie: 0,
            cmd: CMD_POD,
            current: 0,
            tfd: TFD_RESET,
            sig: u32::MAX,
            ssts: 0,
            sctl: 0,
            serr: 0,
            sact: 0,
            ci: 0,
            issued: 0,
            signature_waits: false,
            halted: false,
            in_reset: false,
            slots: vec![None; 32],
            sequence: 0,
        }
    }

    /// PxIS with the bits that show PxSERR's.
    fn causes(&self) -> u32 {
        let shown = |bit: u32, cause: u32| if self.serr & bit != 0 { cause } else { 0 };
        self.is | shown(SERR_X, PCS) | shown(SERR_N, PRCS)
    }

    fn busy(&self) -> bool {
        self.tfd as u8 & (ata::BSY | ata::DRQ) != 0
    }

    fn runs(&self) -> bool {
        self.cmd & (CMD_ST | CMD_FRE) == CMD_ST | CMD_FRE && self.ssts & 0xf == 3 && !self.halted
    }

    /// Forgets what is under way.
    fn abandon(&mut self) {
        if self.slots.iter().any(Option::is_some) {
            self.sequence = self.sequence.wrapping_add(1) & 0xff_ffff;
        }
        self.slots.fill(None);
        self.issued = 0;
    }
}

/// One port.
struct Port {
    index: u32,
    unit: Option<Unit>,
    state: PortState,
}

/// How far data came through a PRDT.
struct Moved {
    bytes: usize,
    /// A region was not memory.
    fault: bool,
    /// A region with its I bit is done.
    interrupt: bool,
}

impl Port {
    // Registers.

    fn read(&self, offset: u64) -> u32 {
        let s = &self.state;
        match offset {
            PX_CLB => s.list as u32,
            PX_CLBU => (s.list >> 32) as u32,
            PX_FB => s.area as u32,
            PX_FBU => (s.area >> 32) as u32,
            PX_IS => s.causes(),
            PX_IE => s.ie,
            PX_CMD => s.cmd | u32::from(s.current) << CMD_CCS,
            PX_TFD => s.tfd,
            PX_SIG => s.sig,
            PX_SSTS => s.ssts,
            PX_SCTL => s.sctl,
            PX_SERR => s.serr,
            PX_SACT => s.sact,
            PX_CI => s.ci,
            // Notification is not supported.
            PX_SNTF => 0,
            _ => 0,
        }
    }

    fn write(&mut self, cx: &mut Cx<'_>, offset: u64, value: u32) {
        let s = &mut self.state;
        let (low, high) = (u64::from(value), u64::from(value) << 32);
        match offset {
            PX_CLB => s.list = s.list & !0xffff_ffff | low & !0x3ff,
            PX_CLBU => s.list = s.list & 0xffff_ffff | high,
            PX_FB => s.area = s.area & !0xffff_ffff | low & !0xff,
            PX_FBU => s.area = s.area & 0xffff_ffff | high,
            PX_IS => s.is &= !(value & IS_CLEARS),
            PX_IE => s.ie = value & IE_MASK,
            PX_CMD => self.write_cmd(cx, value),
            PX_SCTL => self.write_sctl(cx, value),
            PX_SERR => s.serr &= !value,
            PX_SACT if s.cmd & CMD_ST != 0 => s.sact |= value,
            PX_CI if s.cmd & CMD_ST != 0 => s.ci |= value,
            _ => {}
        }
    }

    fn write_cmd(&mut self, cx: &mut Cx<'_>, value: u32) {
        let before = self.state.cmd;
        let started = before & CMD_ST != 0;
        let mut cmd = value & (CMD_ST | CMD_SUD | CMD_FRE | CMD_STORAGE) | CMD_POD;
        if started && value & CMD_ST != 0 {
            // Receiving cannot be turned off while the list runs.
            cmd |= before & CMD_FRE;
        }
        cmd |= if cmd & CMD_ST != 0 { CMD_CR } else { 0 };
        cmd |= if cmd & CMD_FRE != 0 { CMD_FR } else { 0 };
        self.state.cmd = cmd;
        if started && cmd & CMD_ST == 0 {
            self.stop();
        }
        if value & CMD_CLO != 0 && cmd & CMD_ST == 0 {
            self.state.tfd &= !u32::from(ata::BSY | ata::DRQ);
        }
        if cmd & !before & CMD_SUD != 0 {
            self.link_up();
        } else if before & !cmd & CMD_SUD != 0 {
            self.link_down(0);
        }
        self.receive_signature(cx);
    }

    /// PxCMD.ST was turned off: commands are forgotten, and an error no longer holds the port.
    fn stop(&mut self) {
        self.state.abandon();
        (self.state.ci, self.state.sact, self.state.current) = (0, 0, 0);
        self.state.halted = false;
    }

    // Link and resets.

    fn write_sctl(&mut self, cx: &mut Cx<'_>, value: u32) {
        let before = self.state.sctl;
        self.state.sctl = value & SCTL_MASK;
        match (before & 0xf, value & 0xf) {
            (1, 0) | (4, 0) => self.link_up(),
            (0 | 4, 1) => self.link_down(0),
            (0 | 1, 4) => self.link_down(SSTS_OFFLINE),
            _ => {}
        }
        self.receive_signature(cx);
    }

    fn link_down(&mut self, ssts: u32) {
        self.state.abandon();
        (self.state.ssts, self.state.tfd, self.state.sig) = (ssts, TFD_RESET, u32::MAX);
        (self.state.signature_waits, self.state.in_reset) = (false, false);
    }

    /// COMRESET has ended. At the speed that PxSCTL allows, 3 Gbit/s at most.
    fn link_up(&mut self) {
        let allowed = self.state.cmd & CMD_SUD != 0 && self.state.sctl & 0xf == 0;
        self.link_down(0);
        let Some(unit) = self.unit.as_mut().filter(|_| allowed) else { return };
        unit.soft_reset();
        let speed = if self.state.sctl >> 4 & 0xf == 1 { 1 } else { 2 };
        self.state.ssts = SSTS_UP | speed << 4;
        self.state.serr |= SERR_X | SERR_N;
        self.state.signature_waits = true;
    }

    /// The device's first D2H, once the guest receives.
    fn receive_signature(&mut self, cx: &mut Cx<'_>) {
        if self.state.cmd & CMD_FRE == 0 || !core::mem::take(&mut self.state.signature_waits) {
            return;
        }
        self.send_signature(cx, false);
    }

    fn send_signature(&mut self, cx: &mut Cx<'_>, interrupt: bool) {
        let Some(unit) = &self.unit else { return };
        let lba = unit.signature();
        let ending = Ending { error: ata::DIAGNOSTIC_PASSED, lba: Some(lba), count: Some(1) };
        let status = unit.status_after_reset();
        self.state.sig = (lba as u32) << 8 | 1;
        self.send_d2h(cx, status, ending, interrupt);
    }

    /// What GHC.HR does to a port: only the addresses stay.
    fn hba_reset(&mut self) {
        self.state.abandon();
        let PortState { list, area, sequence, .. } = self.state;
        self.state = PortState { list, area, sequence, ..PortState::new() };
    }

    fn power_on(&mut self) {
        self.state.abandon();
        let sequence = self.state.sequence;
        self.state = PortState { sequence, ..PortState::new() };
        self.unit.iter_mut().for_each(Unit::power_on);
    }

    // FISes to the host.

    /// Stores a FIS in its place, if there is memory there.
    fn store_fis(&mut self, cx: &mut Cx<'_>, at: u64, fis: &[u8]) {
        if self.state.cmd & CMD_FRE == 0 {
            return;
        }
        if cx.dma_write(Gpa(self.state.area.wrapping_add(at)), fis).is_err() {
            self.fatal(HBFS);
        }
    }

    fn fatal(&mut self, cause: u32) {
        self.state.is |= cause;
        self.state.halted = true;
    }

    fn send_d2h(&mut self, cx: &mut Cx<'_>, status: u8, ending: Ending, interrupt: bool) {
        let mut fis = [0; 20];
        let flags = if interrupt { FIS_INTERRUPT } else { 0 };
        fis[..4].copy_from_slice(&[FIS_D2H, flags, status, ending.error]);
        task_file(&mut fis, ending);
        self.state.tfd = u32::from(ending.error) << 8 | u32::from(status);
        self.store_fis(cx, AREA_D2H, &fis);
        if status & ata::ERR != 0 {
            self.fatal(TFES);
        }
        // The chip goes to its error state before it looks at the FIS's I bit, so an error is no DHRS (AHCI 1.3.1,
        // 5.3.13.1). SeaBIOS up to 1.16.2 waits for DHRS alone, half a minute, and other drivers look at TFES first.
        if interrupt {
            self.state.is |= DHRS;
        }
    }

    /// Announces `bytes` of PIO. `after` is the status once they have moved.
    fn send_pio_setup(&mut self, cx: &mut Cx<'_>, bytes: u32, reading: bool, interrupt: bool, after: u8) {
        let mut fis = [0; 20];
        let flags = if reading { FIS_IN } else { 0 } | if interrupt { FIS_INTERRUPT } else { 0 };
        fis[..4].copy_from_slice(&[FIS_PIO_SETUP, flags, ata::READY | ata::DRQ, 0]);
        fis[15] = after;
        fis[16..18].copy_from_slice(&(bytes as u16).to_le_bytes());
        self.state.tfd = after.into();
        self.store_fis(cx, AREA_PIO_SETUP, &fis);
        if interrupt {
            self.state.is |= PSS;
        }
    }

    fn send_dma_setup(&mut self, cx: &mut Cx<'_>, tag: u8, bytes: u32, reading: bool) {
        let mut fis = [0; 28];
        fis[..2].copy_from_slice(&[FIS_DMA_SETUP, if reading { FIS_IN } else { 0 }]);
        fis[4] = tag;
        fis[20..24].copy_from_slice(&bytes.to_le_bytes());
        self.store_fis(cx, AREA_DMA_SETUP, &fis);
    }

    fn send_set_bits(&mut self, cx: &mut Cx<'_>, ending: Ending, done: u32) {
        let status = ending.status() & 0x77;
        let mut fis = [0; 8];
        fis[..4].copy_from_slice(&[FIS_SET_BITS, FIS_INTERRUPT, status, ending.error]);
        fis[4..].copy_from_slice(&done.to_le_bytes());
        self.state.tfd = u32::from(ending.error) << 8 | self.state.tfd & 0x88 | u32::from(status);
        self.state.sact &= !done;
        self.store_fis(cx, AREA_SET_BITS, &fis);
        self.state.is |= SDBS;
    }

    // Commands.

    /// Fetches commands as long as the device takes them.
    fn run(&mut self, cx: &mut Cx<'_>) {
        while self.state.runs() && !self.state.busy() && !self.state.signature_waits {
            let waiting = self.state.ci & !self.state.issued;
            if waiting == 0 {
                return;
            }
            // Round robin, from the slot behind the last.
            let from = (u32::from(self.state.current) + 1) & 31;
            let slot = ((waiting.rotate_right(from).trailing_zeros() + from) & 31) as u8;
            if !self.fetch(cx, slot) {
                return;
            }
        }
    }

    /// Fetches the command of `slot` and begins it; false if it has to wait.
    fn fetch(&mut self, cx: &mut Cx<'_>, slot: u8) -> bool {
        let Some((flags, table, fis)) = self.read_command(cx, slot) else {
            self.fatal(HBFS);
            return false;
        };
        let queued = matches!(fis[2], ata::READ_FPDMA_QUEUED | ata::WRITE_FPDMA_QUEUED);
        if self.state.slots.iter().any(Option::is_some) && !queued {
            // A command that is not queued waits for the queue to be empty.
            return false;
        }
        self.state.current = slot;
        self.state.issued |= 1 << slot;
        if fis[0] != FIS_H2D {
            self.fatal(IFS);
        } else if fis[1] & FIS_COMMAND == 0 {
            self.device_control(cx, slot, fis[15], flags & HEADER_CLEAR_BUSY != 0);
        } else {
            self.begin(cx, slot, (flags >> 16) as u16, table, &fis);
        }
        true
    }

    /// The header's flags, the table's address and the FIS in it.
    fn read_command(&self, cx: &Cx<'_>, slot: u8) -> Option<(u32, u64, [u8; 20])> {
        let mut header = [0; 16];
        let mut fis = [0; 20];
        let at = self.state.list.wrapping_add(u64::from(slot) * HEADER_BYTES);
        cx.dma_read(Gpa(at), &mut header).ok()?;
        let header = u128::from_le_bytes(header);
        let table = (header >> 64) as u64 & !0x7f;
        cx.dma_read(Gpa(table), &mut fis).ok()?;
        Some((header as u32, table, fis))
    }

    /// A FIS that is no command but writes the device control register: SRST on, then off.
    fn device_control(&mut self, cx: &mut Cx<'_>, slot: u8, control: u8, clear_busy: bool) {
        let was_in_reset = core::mem::replace(&mut self.state.in_reset, control & SRST != 0);
        self.state.tfd |= u32::from(ata::BSY);
        if self.state.in_reset {
            self.unit.iter_mut().for_each(Unit::soft_reset);
        } else if was_in_reset {
            self.send_signature(cx, false);
        }
        if clear_busy || !was_in_reset && !self.state.in_reset {
            self.state.tfd &= !u32::from(ata::BSY);
        }
        self.forget(slot);
    }

    /// The slot is free again.
    fn forget(&mut self, slot: u8) {
        self.state.ci &= !(1 << slot);
        self.state.issued &= !(1 << slot);
        self.state.slots[usize::from(slot)] = None;
    }

    fn begin(&mut self, cx: &mut Cx<'_>, slot: u8, regions: u16, table: u64, fis: &[u8; 20]) {
        let task = TaskFile {
            command: fis[2],
            feature: u16::from_le_bytes([fis[3], fis[11]]),
            count: u16::from_le_bytes([fis[12], fis[13]]),
            lba: u64::from_le_bytes([fis[4], fis[5], fis[6], fis[8], fis[9], fis[10], 0, 0]),
            device: fis[7],
        };
        let Some(unit) = &mut self.unit else { return };
        self.state.tfd = u32::from(ata::BSY | ata::DRDY);
        let plan = unit.command(&task);
        let queued = matches!(task.command, ata::READ_FPDMA_QUEUED | ata::WRITE_FPDMA_QUEUED);
        let tag = queued.then_some((task.count >> 3) as u8 & 31);
        let (job, step) = match plan {
            Plan::Diagnostic | Plan::Reset => {
                unit.soft_reset();
                self.forget(slot);
                self.send_signature(cx, true);
                return;
            }
            Plan::Packet { dma } => match self.packet(cx, table, dma, task.lba) {
                Some(begun) => begun,
                None => return self.fatal(HBFS),
            },
            plan => Job::start(plan),
        };
        let entry = Slot { table, regions, moved: 0, tag, job, pio_in: false };
        self.state.slots[usize::from(slot)] = Some(entry);
        if queued && !matches!(step, Step::End(_)) {
            self.release(cx, slot);
        }
        self.advance(cx, slot, step);
    }

    /// The device has taken a queued command and is ready for the next: its slot's bit is the guest's again,
    /// but not the slot, whose bit in PxSACT is still set.
    fn release(&mut self, cx: &mut Cx<'_>, slot: u8) {
        self.state.ci &= !(1 << slot);
        self.send_d2h(cx, ata::READY, Ending::GOOD, false);
    }

    /// Takes the packet from the command table.
    fn packet(&mut self, cx: &mut Cx<'_>, table: u64, dma: bool, lba: u64) -> Option<(Job, Step)> {
        let mut cdb = [0; 12];
        cx.dma_read(Gpa(table + TABLE_PACKET), &mut cdb).ok()?;
        self.send_pio_setup(cx, 12, false, false, ata::BSY | ata::DRDY);
        let limit = (lba >> 8) as u16 & !1;
        let way = if dma { Way::Dma } else { Way::Pio(if limit == 0 { 0xfffe } else { limit.into() }) };
        let reply = self.unit.as_mut().and_then(Unit::cd).map(|cd: &mut Cd| cd.packet(&cdb))?;
        Some(Job::packet(reply, way))
    }

    fn completed(&mut self, cx: &mut Cx<'_>, done: Completion) {
        let slot = (done.id.0 & 31) as u8;
        let stranger = done.id.0 >> 8 != self.state.sequence;
        let (Some(entry), Some(unit)) = (&mut self.state.slots[usize::from(slot)], &mut self.unit) else {
            return;
        };
        if stranger {
            return;
        }
        let step = entry.job.completed(unit, done.result);
        self.advance(cx, slot, step);
    }

    /// Takes the steps of the command in `slot` until it waits for a drive, or ends.
    fn advance(&mut self, cx: &mut Cx<'_>, slot: u8, first: Step) {
        let mut step = first;
        loop {
            step = match step {
                Step::Submit(operations) => return self.submit(cx, slot, operations),
                Step::End(ending) => return self.end(cx, slot, ending),
                Step::Offer(data) => match self.offer(cx, slot, &data) {
                    Some(step) => step,
                    None => return,
                },
                Step::Ask(bytes) => match self.ask(cx, slot, bytes) {
                    Some(step) => step,
                    None => return,
                },
            };
        }
    }

    fn submit(&mut self, cx: &mut Cx<'_>, slot: u8, operations: Vec<Operation>) {
        let id = RequestId(self.state.sequence << 8 | self.index << 5 | u32::from(slot));
        let Some(drive) = self.unit.as_ref().map(Unit::drive) else { return };
        for operation in operations {
            cx.submit(drive, id, operation);
        }
    }

    // Data.

    /// Moves data to the host. More than the regions hold is lost, and said.
    fn offer(&mut self, cx: &mut Cx<'_>, slot: u8, data: &[u8]) -> Option<Step> {
        let mut entry = self.state.slots[usize::from(slot)]?;
        if let Some(tag) = entry.tag {
            self.send_dma_setup(cx, tag, data.len() as u32, true);
        }
        let moved = walk(cx, &entry, data.len(), |cx, gpa, range| cx.dma_write(gpa, &data[range]).is_ok());
        entry.moved += moved.bytes as u64;
        self.note(&moved)?;
        if moved.bytes < data.len() {
            self.state.is |= OFS;
        }
        let step = entry.job.offered();
        if let Way::Pio(block) = entry.job.way {
            let ends = matches!(step, Step::End(_)) && !entry.job.packet;
            entry.pio_in = ends;
            let last_block = (data.len() as u32).saturating_sub(1) % block.max(1) + 1;
            let after = if ends { ata::READY } else { ata::BSY | ata::DRDY };
            self.send_pio_setup(cx, last_block, true, true, after);
        }
        self.state.slots[usize::from(slot)] = Some(entry);
        Some(step)
    }

    /// Gets data from the host. Fewer than the command needs abort it.
    fn ask(&mut self, cx: &mut Cx<'_>, slot: u8, bytes: u32) -> Option<Step> {
        let mut entry = self.state.slots[usize::from(slot)]?;
        if let Some(tag) = entry.tag {
            self.send_dma_setup(cx, tag, bytes, false);
        }
        if let Way::Pio(block) = entry.job.way {
            self.send_pio_setup(cx, bytes.min(block), false, false, ata::BSY | ata::DRDY);
        }
        let mut data = vec![0; bytes as usize];
        let moved = walk(cx, &entry, data.len(), |cx, gpa, range| cx.dma_read(gpa, &mut data[range]).is_ok());
        entry.moved += moved.bytes as u64;
        self.note(&moved)?;
        let unit = self.unit.as_mut()?;
        let step =
            if moved.bytes < data.len() { Step::End(Ending::ABORTED) } else { entry.job.given(unit, data) };
        self.state.slots[usize::from(slot)] = Some(entry);
        Some(step)
    }

    /// Notes what a walk through a PRDT tells; `None` if it was not memory, and the port stands.
    fn note(&mut self, moved: &Moved) -> Option<()> {
        if moved.interrupt {
            self.state.is |= DPS;
        }
        if moved.fault {
            self.state.abandon();
            self.fatal(HBDS);
            return None;
        }
        Some(())
    }

    // Ends.

    fn end(&mut self, cx: &mut Cx<'_>, slot: u8, ending: Ending) {
        let Some(entry) = self.state.slots[usize::from(slot)] else { return };
        match entry.tag {
            Some(tag) if ending.error == 0 => {
                self.state.slots[usize::from(slot)] = None;
                self.state.issued &= !(1 << slot);
                self.send_set_bits(cx, ending, 1 << tag);
            }
            Some(tag) => self.end_queue(cx, tag, ending),
            None => self.end_single(cx, slot, entry, ending),
        }
    }

    /// A queued command failed: the device forgets the others too, until its log has been read.
    fn end_queue(&mut self, cx: &mut Cx<'_>, tag: u8, ending: Ending) {
        if let Some(Unit::Disk(disk)) = &mut self.unit {
            disk.queued_failed(tag, ending);
        }
        self.state.abandon();
        self.state.tfd &= !u32::from(ata::BSY);
        self.send_set_bits(cx, ending, 0);
        self.fatal(TFES);
    }

    fn end_single(&mut self, cx: &mut Cx<'_>, slot: u8, entry: Slot, ending: Ending) {
        let count = self.state.list.wrapping_add(u64::from(slot) * HEADER_BYTES + 4);
        if cx.dma_write(Gpa(count), &(entry.moved as u32).to_le_bytes()).is_err() {
            self.fatal(HBFS);
        }
        self.state.slots[usize::from(slot)] = None;
        if ending.error == 0 {
            self.forget(slot);
        }
        if entry.pio_in && ending.error == 0 {
            return;
        }
        let (status, ending) = if entry.job.packet {
            (ending.status() & !ata::DSC, Ending { count: Some(REASON_END), ..ending })
        } else {
            (ending.status(), ending)
        };
        self.send_d2h(cx, status, ending, true);
    }
}

/// Puts the registers into a D2H FIS.
fn task_file(fis: &mut [u8; 20], ending: Ending) {
    let lba = ending.lba.unwrap_or_default().to_le_bytes();
    fis[4..7].copy_from_slice(&lba[..3]);
    fis[8..11].copy_from_slice(&lba[3..6]);
    fis[12..14].copy_from_slice(&ending.count.unwrap_or_default().to_le_bytes());
}

/// Goes through the regions behind what has been moved, for `bytes`; `copy` gets an address and a range of
/// the bytes, and says whether that was memory.
fn walk(
    cx: &mut Cx<'_>,
    slot: &Slot,
    bytes: usize,
    mut copy: impl FnMut(&mut Cx<'_>, Gpa, core::ops::Range<usize>) -> bool,
) -> Moved {
    let mut moved = Moved { bytes: 0, fault: false, interrupt: false };
    let mut skip = slot.moved;
    for n in 0..u64::from(slot.regions) {
        if moved.bytes == bytes {
            break;
        }
        let mut entry = [0; REGION_BYTES as usize];
        let at = slot.table + TABLE_REGIONS + n * REGION_BYTES;
        if cx.dma_read(Gpa(at), &mut entry).is_err() {
            moved.fault = true;
            break;
        }
        let entry = u128::from_le_bytes(entry);
        let (address, flags) = (entry as u64, (entry >> 96) as u32);
        let len = u64::from(flags & REGION_LENGTH) + 1;
        if skip >= len {
            skip -= len;
            continue;
        }
        let room = (len - skip).min((bytes - moved.bytes) as u64) as usize;
        let range = moved.bytes..moved.bytes + room;
        if !copy(cx, Gpa(address.wrapping_add(skip)), range) {
            moved.fault = true;
            break;
        }
        moved.interrupt |= flags & REGION_INTERRUPT != 0 && room as u64 == len - skip;
        moved.bytes += room;
        skip = 0;
    }
    moved
}

/// The PCI function.
pub struct Ahci {
    config: ConfigSpace,
    msi: Msi,
    line: IrqLine,
    ghc: u32,
    is: u32,
    /// Bits of IS that a message has told.
    told: u32,
    ports: Vec<Port>,
}

impl Ahci {
    /// The function, with `line` for its pin INTA and its ports' units.
    pub fn new(line: IrqLine, units: [Option<Unit>; PORTS]) -> Self {
        let (config, msi) = config();
        let ports = units.into_iter().zip(0..).map(|(unit, index)| Port {
            index,
            unit: unit.map(Unit::on_serial_cable),
            state: PortState::new(),
        });
        Self { config, msi, line, ghc: GHC_AE, is: 0, told: 0, ports: ports.collect() }
    }

    /// The drive for removable media at `port`, for the host to change its medium.
    pub fn cd(&mut self, port: usize) -> Option<&mut Cd> {
        self.ports.get_mut(port)?.unit.as_mut()?.cd()
    }

    /// Whether no request to a drive is under way.
    pub fn is_idle(&self) -> bool {
        self.ports.iter().all(|p| p.state.slots.iter().all(Option::is_none))
    }

    fn read_dword(&self, offset: u64) -> u32 {
        match offset {
            CAP => CAP_VALUE,
            GHC => self.ghc,
            IS => self.is,
            PI => PI_VALUE,
            VS => VS_VALUE,
            _ => self.port_of(offset).map_or(0, |(n, register)| self.ports[n].read(register)),
        }
    }

    fn port_of(&self, offset: u64) -> Option<(usize, u64)> {
        let from = offset.checked_sub(PORT_BASE)?;
        let n = (from / PORT_BYTES) as usize;
        (n < self.ports.len()).then_some((n, from % PORT_BYTES))
    }

    fn write_dword(&mut self, cx: &mut Cx<'_>, offset: u64, value: u32) {
        match offset {
            GHC => self.write_ghc(value),
            IS => {
                self.is &= !value;
                // What is left is told again.
                self.told = 0;
            }
            _ => {
                let Some((n, register)) = self.port_of(offset) else { return };
                self.ports[n].write(cx, register, value);
                self.run(cx, n);
            }
        }
    }

    fn write_ghc(&mut self, value: u32) {
        if value & GHC_HR != 0 {
            self.ports.iter_mut().for_each(Port::hba_reset);
            (self.ghc, self.is, self.told) = (GHC_AE, 0, 0);
            return;
        }
        self.ghc = value & GHC_IE | GHC_AE;
    }

    /// Lets a port go on, if the function may be a bus master.
    fn run(&mut self, cx: &mut Cx<'_>, n: usize) {
        if self.config.is_master() {
            self.ports[n].run(cx);
        }
    }

    /// Collects the ports' causes, and drives the pin or sends the message. A port whose causes remain sets
    /// its bit again.
    fn update_interrupt(&mut self, cx: &mut Cx<'_>) {
        for (n, port) in self.ports.iter().enumerate() {
            if port.state.causes() & port.state.ie != 0 {
                self.is |= 1 << n;
            }
        }
        let asked = self.ghc & GHC_IE != 0 && self.is != 0;
        let pin = self.config.set_interrupt(asked);
        let message = self.msi.message(&self.config);
        cx.set_irq(self.line, pin && message.is_none());
        self.told = if asked { self.told & self.is } else { 0 };
        match message {
            Some(message) if asked && self.is & !self.told != 0 => {
                self.told = self.is;
                cx.message(message);
            }
            _ => {}
        }
    }
}

fn config() -> (ConfigSpace, Msi) {
    let id = Identity {
        vendor: 0x8086,
        device: 0x2922,
        class: 0x01_06_01,
        revision: 2,
        multifunction: false,
        interrupt_pin: 1,
    };
    let mut config = ConfigSpace::new(id).with_bar(usize::from(BAR), Bar::Memory { size: BAR_BYTES });
    let msi = Msi::add(&mut config);
    (config, msi)
}

impl Device for Ahci {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.config = config().0;
        self.ports.iter_mut().for_each(Port::power_on);
        (self.ghc, self.is, self.told) = (GHC_AE, 0, 0);
        self.update_interrupt(cx);
    }

    fn mmio(&mut self) -> Option<&mut dyn Mmio> {
        Some(self)
    }

    fn pci(&mut self) -> Option<&mut dyn PciFunction> {
        Some(self)
    }

    fn complete(&mut self, cx: &mut Cx<'_>, done: Completion) {
        let n = (done.id.0 >> 5 & 7) as usize;
        if let Some(port) = self.ports.get_mut(n) {
            port.completed(cx, done);
            self.run(cx, n);
            self.update_interrupt(cx);
        }
    }
}

impl PciFunction for Ahci {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_written(&mut self, cx: &mut Cx<'_>, _at: u8) {
        (0..self.ports.len()).for_each(|n| self.run(cx, n));
        self.update_interrupt(cx);
    }
}

/// Registers whose bits a write clears or sets one by one: the bytes that a narrow write leaves out are zeros
/// there.
fn is_bitwise(offset: u64) -> bool {
    let in_port = offset.checked_sub(PORT_BASE).map(|from| from % PORT_BYTES);
    offset == IS || matches!(in_port, Some(PX_IS | PX_SERR | PX_SACT | PX_CI | PX_SNTF))
}

impl Mmio for Ahci {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        if at.region != BAR || at.offset + width.bytes() > BAR_BYTES.into() {
            return Err(IoError::Unclaimed);
        }
        let aligned = at.offset & !3;
        let low = u64::from(self.read_dword(aligned));
        let pair = low | u64::from(self.read_dword(aligned + 4)) << 32;
        Ok(pair >> ((at.offset & 3) * 8) & width.ones())
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        if at.region != BAR || at.offset + width.bytes() > BAR_BYTES.into() {
            return Err(IoError::Unclaimed);
        }
        let (aligned, shift) = (at.offset & !3, (at.offset & 3) * 8);
        let mask = u128::from(width.ones()) << shift;
        let value = u128::from(value) << shift;
        for n in 0..3 {
            let (mask, value) = ((mask >> (32 * n)) as u32, (value >> (32 * n)) as u32);
            let offset = aligned + 4 * n;
            if mask != 0 {
                let rest = if is_bitwise(offset) { 0 } else { self.read_dword(offset) & !mask };
                self.write_dword(cx, offset, value & mask | rest);
            }
        }
        self.update_interrupt(cx);
        Ok(())
    }
}

mod saved {
    use super::{Ahci, GHC_AE, GHC_IE, Port, PortState, Unit};
    use crate::unit::UnitStateV1;
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "ich9-ahci";

    #[derive(Serialize, Deserialize)]
    struct PortStateV1 {
        unit: Option<UnitStateV1>,
        registers: PortState,
    }

    #[derive(Serialize, Deserialize)]
    struct AhciStateV1 {
        config: Vec<u8>,
        ghc: u32,
        is: u32,
        told: u32,
        ports: Vec<PortStateV1>,
    }

    impl PortStateV1 {
        fn of(port: &Port) -> Self {
            let Port { index: _, unit, state } = port;
            Self { unit: unit.as_ref().map(Unit::save), registers: state.clone() }
        }

        fn fits(&self, port: &Port) -> bool {
            let numbers = self.registers.slots.len() == 32 && self.registers.current < 32;
            numbers && Unit::fits(port.unit.as_ref(), self.unit.as_ref())
        }

        fn restore(self, port: &mut Port) {
            if let (Some(unit), Some(state)) = (&mut port.unit, self.unit) {
                unit.restore(state);
            }
            port.state = self.registers;
        }
    }

    impl Saved for Ahci {
        fn save(&self) -> Section {
            let Self { config, msi: _, line: _, ghc, is, told, ports } = self;
            let state = AhciStateV1 {
                config: config.bytes().to_vec(),
                ghc: *ghc,
                is: *is,
                told: *told,
                ports: ports.iter().map(PortStateV1::of).collect(),
            };
            Section::new(KIND, 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let state: AhciStateV1 = section.decode(KIND, 1)?;
            let damaged = || RestoreError::Damaged { kind: KIND };
            let config: [u8; 256] = state.config.try_into().map_err(|_| damaged())?;
            let same = state.ports.len() == self.ports.len();
            if !same || !state.ports.iter().zip(&self.ports).all(|(state, port)| state.fits(port)) {
                return Err(damaged());
            }
            self.config.restore(&config);
            self.ghc = state.ghc & GHC_IE | GHC_AE;
            (self.is, self.told) = (state.is, state.told);
            for (state, port) in state.ports.into_iter().zip(&mut self.ports) {
                state.restore(port);
            }
            // The bit of the status register is not software's to write, so it is not in what was restored.
            self.config.set_interrupt(self.ghc & GHC_IE != 0 && self.is != 0);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ata::Disk;
    use aero_bus::bench::{TestBoard, conformance};
    use aero_bus::block::{BlockBackend, BlockError, MemoryDisk};
    use aero_bus::pci::COMMAND_INTX_DISABLE;
    use aero_state::Saved;

    const LIST: u64 = 0x1000;
    const AREA: u64 = 0x2000;
    const TABLES: u64 = 0x4000;
    const DATA: u64 = 0x10_0000;
    const DISK_BYTES: usize = 16 << 20;
    const DISC_SECTORS: usize = 20;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8 ^ (i / 512) as u8).collect()
    }

    fn build(board: &mut TestBoard) -> (Ahci, IrqLine) {
        let disk = MemoryDisk::new(pattern(DISK_BYTES), false);
        let disc = MemoryDisk::new(pattern(DISC_SECTORS * 2048), true);
        let (disk_medium, disc_medium) = (disk.medium(), disc.medium());
        let (a, b) = (board.attach(disk), board.attach(disc));
        let line = board.line();
        let mut units = [const { None }; PORTS];
        units[0] = Some(Unit::Disk(Disk::new(a, disk_medium, "AR1")));
        units[1] = Some(Unit::Cd(Cd::new(b, Some(disc_medium), "AR2")));
        (Ahci::new(line, units), line)
    }

    struct Rig {
        board: TestBoard,
        ahci: Ahci,
        line: IrqLine,
    }

    /// What a driver puts into a slot.
    struct Command {
        fis: [u8; 20],
        packet: [u8; 12],
        regions: Vec<(u64, u32)>,
        flags: u32,
    }

    fn command(command: u8, lba: u64, count: u16, regions: &[(u64, u32)]) -> Command {
        let b = lba.to_le_bytes();
        let [low, high] = count.to_le_bytes();
        let fis = [
            0x27, 0x80, command, 0, b[0], b[1], b[2], 0x40, b[3], b[4], b[5], 0, low, high, 0, 0, 0, 0, 0, 0,
        ];
        Command { fis, packet: [0; 12], regions: regions.to_vec(), flags: 5 }
    }

    /// A queued command: the count goes into the feature registers.
    fn queued(code: u8, tag: u8, lba: u64, count: u16, regions: &[(u64, u32)]) -> Command {
        let mut queued = command(code, lba, u16::from(tag) << 3, regions);
        [queued.fis[3], queued.fis[11]] = count.to_le_bytes();
        queued
    }

    fn packet(cdb: [u8; 12], regions: &[(u64, u32)], dma: bool) -> Command {
        let mut packet = Command { packet: cdb, ..command(0xa0, 0, 0, regions) };
        packet.fis[3] = dma.into();
        packet
    }

    impl Rig {
        /// Both ports are up, run, and may interrupt; what their start told is cleared.
        fn new() -> Self {
            let mut rig = Self::cold();
            for port in 0..2 {
                rig.start_port(port);
            }
            rig.write(IS, u32::MAX);
            rig.write(GHC, GHC_IE | GHC_AE);
            rig
        }

        fn cold() -> Self {
            let mut board = TestBoard::new();
            let (mut ahci, line) = build(&mut board);
            ahci.reset(&mut board.cx());
            ahci.config().write(4, 6, 0xf);
            ahci.config_written(&mut board.cx(), 4);
            Self { board, ahci, line }
        }

        fn start_port(&mut self, port: usize) {
            self.set(port, PX_CLB, (LIST + 0x400 * port as u64) as u32);
            self.set(port, PX_FB, (AREA + 0x100 * port as u64) as u32);
            self.set(port, PX_CLBU, 0);
            self.set(port, PX_FBU, 0);
            self.set(port, PX_CMD, CMD_FRE | CMD_SUD);
            self.set(port, PX_SERR, u32::MAX);
            self.set(port, PX_IS, u32::MAX);
            self.set(port, PX_IE, u32::MAX);
            self.set(port, PX_CMD, CMD_FRE | CMD_SUD | CMD_ST);
        }

        fn write(&mut self, offset: u64, value: u32) {
            let at = At::new(5, offset);
            Mmio::write(&mut self.ahci, &mut self.board.cx(), at, Width::B4, value.into()).unwrap();
        }

        fn read(&mut self, offset: u64) -> u32 {
            let at = At::new(5, offset);
            Mmio::read(&mut self.ahci, &mut self.board.cx(), at, Width::B4).unwrap() as u32
        }

        fn set(&mut self, port: usize, register: u64, value: u32) {
            self.write(0x100 + 0x80 * port as u64 + register, value);
        }

        fn get(&mut self, port: usize, register: u64) -> u32 {
            self.read(0x100 + 0x80 * port as u64 + register)
        }

        fn put(&mut self, port: usize, slot: u8, command: &Command) {
            let table = TABLES + 0x8000 * port as u64 + 0x400 * u64::from(slot);
            let flags = command.flags | (command.regions.len() as u32) << 16;
            let header = u128::from(flags) | u128::from(table) << 64;
            let at = LIST + 0x400 * port as u64 + 32 * u64::from(slot);
            self.board.memory.write(Gpa(at), &header.to_le_bytes()).unwrap();
            self.board.memory.write(Gpa(table), &command.fis).unwrap();
            self.board.memory.write(Gpa(table + 0x40), &command.packet).unwrap();
            for (i, (address, bytes)) in (0..).zip(&command.regions) {
                let region = u128::from(*address) | u128::from(bytes - 1) << 96;
                self.board.memory.write(Gpa(table + 0x80 + 16 * i), &region.to_le_bytes()).unwrap();
            }
        }

        fn issue(&mut self, port: usize, slot: u8, command: &Command) {
            self.put(port, slot, command);
            self.set(port, PX_CI, 1 << slot);
        }

        fn serve(&mut self) {
            self.board.serve(&mut self.ahci);
        }

        fn raised(&self) -> bool {
            self.board.fabric.level(self.line)
        }

        fn memory(&self, at: u64, len: usize) -> Vec<u8> {
            let mut bytes = vec![0; len];
            self.board.memory.read(Gpa(at), &mut bytes).unwrap();
            bytes
        }

        fn moved(&self, slot: u8) -> u32 {
            let bytes = self.memory(LIST + 32 * u64::from(slot) + 4, 4);
            u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        }
    }

    #[test]
    fn function_passes_the_conformance_suite() {
        conformance(&[5], |board| build(board).0);
    }

    #[test]
    fn function_shows_what_it_can() {
        let mut rig = Rig::cold();
        assert_eq!((rig.ahci.config().read(0), rig.ahci.config().read(8) >> 8), (0x2922_8086, 0x01_0601));
        let cap = rig.read(0);
        assert_eq!((cap & 0x1f, cap >> 8 & 0x1f, cap >> 30), (5, 31, 3), "6 ports, 32 slots, queue, 64 bits");
        assert_eq!((rig.read(4), rig.read(0x0c), rig.read(0x10)), (0x8000_0000, 0x3f, 0x0001_0200));
        rig.write(4, 0);
        assert_eq!(rig.read(4), 0x8000_0000, "AE is sticky");
        assert_eq!((rig.read(0x24), rig.read(0xffc)), (0, 0));
    }

    // checklist: 57
    #[test]
    fn spin_up_brings_the_signature_once_the_port_receives() {
        let mut rig = Rig::cold();
        assert_eq!((rig.get(0, PX_SSTS), rig.get(0, PX_TFD), rig.get(0, PX_SIG)), (0, 0x7f, u32::MAX));
        rig.set(0, PX_FB, AREA as u32);
        rig.set(0, PX_CMD, CMD_SUD);
        assert_eq!((rig.get(0, PX_SSTS), rig.get(0, PX_TFD)), (0x123, 0x7f));
        assert_eq!(rig.get(0, PX_IS), PCS | PRCS);
        rig.set(0, PX_CMD, CMD_SUD | CMD_FRE);
        assert_eq!((rig.get(0, PX_TFD), rig.get(0, PX_SIG)), (0x150, 0x101));
        assert_eq!(rig.memory(AREA + 0x40, 6), [0x34, 0, 0x50, 1, 1, 0]);
        rig.set(0, PX_SERR, SERR_X | SERR_N);
        assert_eq!(rig.get(0, PX_IS), 0, "connect changes are cleared where they come from");
        rig.set(1, PX_CMD, CMD_SUD | CMD_FRE);
        assert_eq!((rig.get(1, PX_TFD), rig.get(1, PX_SIG)), (0x100, 0xeb14_0101));
        rig.set(2, PX_CMD, CMD_SUD | CMD_FRE);
        assert_eq!((rig.get(2, PX_SSTS), rig.get(2, PX_TFD)), (0, 0x7f), "nothing there");
    }

    // checklist: 57
    #[test]
    fn comreset_brings_the_signature_again() {
        let mut rig = Rig::new();
        rig.set(0, PX_CMD, CMD_FRE | CMD_SUD);
        rig.set(0, PX_SCTL, 0x311);
        assert_eq!((rig.get(0, PX_SSTS), rig.get(0, PX_TFD), rig.get(0, PX_SIG)), (0, 0x7f, u32::MAX));
        rig.set(0, PX_SCTL, 0x310);
        assert_eq!((rig.get(0, PX_SSTS), rig.get(0, PX_TFD)), (0x113, 0x150), "at the speed allowed");
        assert_eq!((rig.get(0, PX_SIG), rig.get(0, PX_SERR)), (0x101, SERR_X | SERR_N));
        rig.set(0, PX_SCTL, 4);
        assert_eq!(rig.get(0, PX_SSTS), 4);
    }

    // checklist: 57
    #[test]
    fn identify_posts_a_pio_setup_and_clears_the_slot_before_the_interrupt() {
        let mut rig = Rig::new();
        rig.issue(0, 3, &command(0xec, 0, 0, &[(DATA, 512)]));
        assert!(rig.raised());
        assert_eq!((rig.get(0, PX_CI), rig.get(0, PX_IS), rig.get(0, PX_TFD)), (0, PSS, 0x50));
        let fis = rig.memory(AREA + 0x20, 20);
        assert_eq!((fis[0], fis[1], fis[2], fis[15]), (0x5f, 0x60, 0x58, 0x50));
        assert_eq!((u16::from_le_bytes([fis[16], fis[17]]), rig.moved(3)), (512, 512));
        let words = rig.memory(DATA, 512);
        assert_eq!((words[150], words[153] & 1), (31, 1), "queue depth, queued commands");
        assert_eq!(rig.read(IS), 1);
        rig.set(0, PX_IS, PSS);
        assert!(rig.raised(), "IS has yet to be cleared");
        rig.write(IS, 1);
        assert!(!rig.raised());
    }

    // checklist: 57
    #[test]
    fn set_features_posts_a_register_fis() {
        let mut rig = Rig::new();
        let mut set = command(0xef, 0, 0x45, &[]);
        set.fis[3] = 3;
        rig.issue(0, 0, &set);
        assert_eq!((rig.get(0, PX_CI), rig.get(0, PX_IS)), (0, DHRS));
        assert_eq!(rig.memory(AREA + 0x40, 4), [0x34, 0x40, 0x50, 0]);
    }

    #[test]
    fn dma_read_scatters_over_odd_regions() {
        let mut rig = Rig::new();
        rig.issue(0, 0, &command(0x25, 9, 3, &[(DATA, 1), (DATA + 0x1001, 1000), (DATA + 0x2000, 4096)]));
        assert_eq!((rig.get(0, PX_CI), rig.get(0, PX_TFD) & 0x80, rig.raised()), (1, 0x80, false));
        rig.serve();
        let expected = &pattern(DISK_BYTES)[9 * 512..12 * 512];
        assert_eq!(rig.memory(DATA, 1), expected[..1]);
        assert_eq!(rig.memory(DATA + 0x1001, 1000), expected[1..1001]);
        assert_eq!(rig.memory(DATA + 0x2000, 535), expected[1001..]);
        assert_eq!(rig.memory(DATA + 0x2000 + 535, 1), [0], "nothing behind");
        assert_eq!((rig.get(0, PX_CI), rig.get(0, PX_IS), rig.moved(0)), (0, DHRS, 1536));
    }

    #[test]
    fn long_read_is_one_request_up_to_its_bound_and_several_regions() {
        let mut rig = Rig::new();
        let same_place = [(DATA, 0x8_0000); 12];
        rig.issue(0, 0, &command(0x25, 0, 12_288, &same_place));
        let mut lengths = Vec::new();
        while rig.board.fabric.has_transfers() {
            for (_, request) in rig.board.fabric.take_transfers() {
                lengths.push(request.operation.extent().unwrap());
                rig.board.disks[0].submit(0, request.operation);
                let (_, result) = rig.board.disks[0].poll().unwrap();
                let done = Completion { drive: request.drive, id: request.id, result };
                rig.ahci.complete(&mut rig.board.cx(), done);
            }
        }
        assert_eq!(lengths, [(0, 4 << 20), (4 << 20, 2 << 20)]);
        let last = &pattern(DISK_BYTES)[(6 << 20) - 0x8_0000..6 << 20];
        assert_eq!(rig.memory(DATA, 0x8_0000), last);
        assert_eq!((rig.moved(0), rig.get(0, PX_CI)), (6 << 20, 0));
    }

    #[test]
    fn dma_write_and_pio_write_gather() {
        let mut rig = Rig::new();
        rig.board.memory.write(Gpa(DATA), &[5; 1024]).unwrap();
        rig.issue(0, 0, &command(0x35, 8, 2, &[(DATA, 1000), (DATA + 1000, 24)]));
        rig.issue(0, 1, &command(0x34, 20, 1, &[(DATA, 512)]));
        rig.serve();
        let disk = rig.board.disks[0].bytes();
        assert_eq!((&disk[4096..5120], &disk[10_240..10_752]), (&[5; 1024][..], &[5; 512][..]));
        assert_eq!((rig.get(0, PX_CI), rig.get(0, PX_IS)), (0, DHRS));
    }

    // checklist: 57
    #[test]
    fn queued_commands_end_in_any_order_with_set_device_bits() {
        let mut rig = Rig::new();
        for tag in 0..32u8 {
            let place = DATA + 512 * u64::from(tag);
            rig.put(0, tag, &queued(0x60, tag, u64::from(tag) * 7, 1, &[(place, 512)]));
        }
        rig.set(0, PX_SACT, u32::MAX);
        rig.set(0, PX_CI, u32::MAX);
        assert_eq!((rig.get(0, PX_CI), rig.get(0, PX_SACT), rig.get(0, PX_TFD)), (0, u32::MAX, 0x50));
        let mut requests = rig.board.fabric.take_transfers();
        assert_eq!(requests.len(), 32, "all of them at once");
        requests.reverse();
        let mut left = u32::MAX;
        for (_, request) in requests {
            let tag = request.id.0 & 31;
            rig.board.disks[0].submit(0, request.operation);
            let (_, result) = rig.board.disks[0].poll().unwrap();
            let done = Completion { drive: request.drive, id: request.id, result };
            rig.ahci.complete(&mut rig.board.cx(), done);
            left &= !(1 << tag);
            assert_eq!((rig.get(0, PX_SACT), rig.get(0, PX_IS)), (left, SDBS));
            let fis = rig.memory(AREA + 0x58, 8);
            assert_eq!(fis[..4], [0xa1, 0x40, 0x50, 0]);
            assert_eq!(fis[4..], (1u32 << tag).to_le_bytes());
        }
        for tag in 0..32usize {
            assert_eq!(rig.memory(DATA + 512 * tag as u64, 512), pattern(DISK_BYTES)[tag * 7 * 512..][..512]);
        }
        assert!(rig.raised());
    }

    // checklist: 57
    #[test]
    fn failed_queued_command_holds_the_port_until_it_restarts() {
        let mut rig = Rig::new();
        for tag in [2u8, 5] {
            rig.put(0, tag, &queued(0x60, tag, u64::from(tag), 1, &[(DATA, 512)]));
        }
        rig.set(0, PX_SACT, 0x24);
        rig.set(0, PX_CI, 0x24);
        let requests = rig.board.fabric.take_transfers();
        for (_, request) in &requests {
            let done = Completion { drive: request.drive, id: request.id, result: Err(BlockError::Medium) };
            rig.ahci.complete(&mut rig.board.cx(), done);
        }
        assert_eq!((rig.get(0, PX_SACT), rig.get(0, PX_TFD)), (0x24, 0x4051), "UNC");
        assert_eq!(rig.get(0, PX_IS), SDBS | TFES);
        rig.set(0, PX_CI, 1);
        assert_eq!(rig.get(0, PX_CI), 1, "held");
        rig.set(0, PX_CMD, CMD_FRE | CMD_SUD);
        assert_eq!((rig.get(0, PX_SACT), rig.get(0, PX_CI), rig.get(0, PX_CMD) & CMD_CR), (0, 0, 0));
        rig.set(0, PX_CMD, CMD_FRE | CMD_SUD | CMD_ST);
        rig.issue(0, 0, &command(0x2f, 0x10, 1, &[(DATA, 512)]));
        let log = rig.memory(DATA, 5);
        assert_eq!(log[2..4], [0x51, 0x40]);
        assert_eq!(u64::from(log[0]), u64::from(log[4]), "tag and address of the first to fail");
        rig.set(0, PX_SACT, 4);
        rig.set(0, PX_CI, 4);
        rig.serve();
        assert_eq!((rig.get(0, PX_SACT), rig.get(0, PX_TFD)), (0, 0x50));
    }

    // checklist: 57
    #[test]
    fn error_sets_tfes_and_keeps_the_slot() {
        let mut rig = Rig::new();
        rig.issue(0, 4, &command(0x25, (DISK_BYTES / 512) as u64, 1, &[(DATA, 512)]));
        assert_eq!((rig.get(0, PX_CI), rig.get(0, PX_IS), rig.get(0, PX_TFD)), (16, TFES | DHRS, 0x1051));
        assert_eq!(rig.get(0, PX_CMD) >> 8 & 31, 4, "the slot that failed");
        let fis = rig.memory(AREA + 0x40, 7);
        assert_eq!(fis, [0x34, 0x40, 0x51, 0x10, 0, 0x80, 0]);
        rig.issue(0, 5, &command(0xe7, 0, 0, &[]));
        rig.serve();
        assert_eq!(rig.get(0, PX_CI), 0x30);
        rig.set(0, PX_CMD, CMD_FRE | CMD_SUD);
        rig.set(0, PX_CMD, CMD_FRE | CMD_SUD | CMD_ST);
        rig.set(0, PX_IS, TFES | DHRS);
        rig.set(0, PX_CI, 0x20);
        rig.serve();
        assert_eq!((rig.get(0, PX_CI), rig.get(0, PX_IS), rig.board.disks[0].flushes), (0, DHRS, 1));
    }

    #[test]
    fn stopped_port_forgets_its_commands_and_clo_clears_busy() {
        let mut rig = Rig::new();
        rig.issue(0, 0, &command(0x25, 0, 1, &[(DATA, 512)]));
        rig.set(0, PX_CMD, CMD_FRE | CMD_SUD);
        rig.serve();
        assert_eq!((rig.get(0, PX_CI), rig.get(0, PX_IS), rig.get(0, PX_TFD)), (0, 0, 0xc0));
        rig.set(0, PX_CMD, CMD_FRE | CMD_SUD | CMD_CLO);
        assert_eq!((rig.get(0, PX_TFD), rig.get(0, PX_CMD) & CMD_CLO), (0x40, 0));
        rig.set(0, PX_CMD, CMD_FRE | CMD_SUD | CMD_ST);
        rig.issue(0, 0, &command(0x25, 1, 1, &[(DATA, 512)]));
        rig.serve();
        assert_eq!(
            rig.memory(DATA, 512),
            pattern(DISK_BYTES)[512..1024],
            "the new one's data, not the old one's"
        );
    }

    #[test]
    fn software_reset_takes_two_fises() {
        let mut rig = Rig::new();
        let mut on = command(0, 0, 0, &[]);
        (on.fis[1], on.fis[15], on.flags) = (0, 4, 5 | HEADER_CLEAR_BUSY | 1 << 8);
        let mut off = command(0, 0, 0, &[]);
        off.fis[1] = 0;
        rig.issue(1, 0, &on);
        assert_eq!((rig.get(1, PX_CI), rig.get(1, PX_TFD) & 0x80), (0, 0));
        rig.issue(1, 1, &off);
        assert_eq!((rig.get(1, PX_CI), rig.get(1, PX_TFD), rig.get(1, PX_SIG)), (0, 0x100, 0xeb14_0101));
        assert_eq!(rig.memory(AREA + 0x140, 4), [0x34, 0, 0, 1]);
    }

    // checklist: 57
    #[test]
    fn packet_command_moves_its_data_by_dma() {
        let mut rig = Rig::new();
        let mut cdb = [0; 12];
        (cdb[0], cdb[5], cdb[8]) = (0x28, 3, 2);
        rig.issue(1, 0, &packet(cdb, &[(DATA, 4096)], true));
        rig.serve();
        assert_eq!(rig.memory(DATA, 4096), pattern(DISC_SECTORS * 2048)[6144..10_240]);
        assert_eq!((rig.get(1, PX_CI), rig.get(1, PX_IS), rig.get(1, PX_TFD)), (0, DHRS, 0x40));
        assert_eq!(rig.memory(AREA + 0x140 + 12, 1), [3], "interrupt reason");
        rig.set(1, PX_IS, u32::MAX);
        rig.issue(1, 0, &packet([0xff; 12], &[], true));
        assert_eq!((rig.get(1, PX_IS), rig.get(1, PX_TFD), rig.get(1, PX_CI)), (TFES | DHRS, 0x5441, 1));
    }

    #[test]
    fn packet_command_by_pio_announces_its_data_and_ends_with_a_register_fis() {
        let mut rig = Rig::new();
        let mut cdb = [0; 12];
        (cdb[0], cdb[4]) = (0x12, 36);
        rig.issue(1, 0, &packet(cdb, &[(DATA, 36)], false));
        assert_eq!((rig.get(1, PX_IS), rig.get(1, PX_TFD), rig.get(1, PX_CI)), (PSS | DHRS, 0x40, 0));
        assert_eq!(rig.memory(DATA + 8, 4), *b"AERO");
        let fis = rig.memory(AREA + 0x120, 18);
        assert_eq!((fis[0], fis[16]), (0x5f, 36));
    }

    #[test]
    fn data_beyond_the_regions_is_lost_and_said() {
        let mut rig = Rig::new();
        rig.issue(0, 0, &command(0x25, 0, 2, &[(DATA, 512)]));
        rig.serve();
        assert_eq!((rig.get(0, PX_IS), rig.moved(0)), (DHRS | OFS, 512));
    }

    #[test]
    fn regions_that_are_not_memory_hold_the_port() {
        let mut rig = Rig::new();
        rig.issue(0, 0, &command(0x25, 0, 1, &[(0xf000_0000, 512)]));
        rig.serve();
        assert_eq!((rig.get(0, PX_IS), rig.get(0, PX_CI)), (HBDS, 1));
        rig.set(0, PX_CMD, CMD_FRE | CMD_SUD);
        rig.set(0, PX_CMD, CMD_FRE | CMD_SUD | CMD_CLO);
        rig.set(0, PX_CLB, 0xf000_0000);
        rig.set(0, PX_CMD, CMD_FRE | CMD_SUD | CMD_ST);
        rig.set(0, PX_CI, 1);
        assert_eq!(rig.get(0, PX_IS), HBDS | HBFS);
    }

    #[test]
    fn trim_reaches_the_drive() {
        let mut rig = Rig::new();
        rig.board.memory.write(Gpa(DATA), &[0; 512]).unwrap();
        rig.board.memory.write(Gpa(DATA), &(6u64 | 2 << 48).to_le_bytes()).unwrap();
        let mut trim = command(0x06, 0, 1, &[(DATA, 512)]);
        trim.fis[3] = 1;
        rig.issue(0, 0, &trim);
        rig.serve();
        assert_eq!(rig.board.disks[0].bytes()[3072..4096], [0; 1024]);
        assert_eq!((rig.get(0, PX_IS), rig.get(0, PX_CI)), (DHRS, 0));
    }

    #[test]
    fn message_is_sent_in_place_of_the_pin() {
        let mut rig = Rig::new();
        let at = rig.ahci.config().byte(0x34);
        rig.ahci.config().write(at + 4, 0xfee0_1000, 0xf);
        rig.ahci.config().write(at + 12, 0x41, 0xf);
        rig.ahci.config().write(at, 1 << 16, 0xc);
        rig.issue(0, 0, &command(0xe7, 0, 0, &[]));
        rig.serve();
        assert!(!rig.raised());
        assert_eq!(rig.board.fabric.take_messages().len(), 1);
        rig.issue(0, 0, &command(0xe7, 0, 0, &[]));
        rig.serve();
        assert!(rig.board.fabric.take_messages().is_empty(), "it has been told");
        rig.write(IS, 1);
        assert_eq!(rig.board.fabric.take_messages().len(), 1, "what is left is told again");
        rig.set(0, PX_IS, u32::MAX);
        rig.write(IS, 1);
        assert!(rig.board.fabric.take_messages().is_empty());
        rig.issue(0, 0, &command(0xe7, 0, 0, &[]));
        rig.serve();
        assert_eq!(rig.board.fabric.take_messages().len(), 1);
    }

    #[test]
    fn pin_is_not_driven_while_it_is_disabled() {
        let mut rig = Rig::new();
        rig.issue(0, 0, &command(0xe7, 0, 0, &[]));
        rig.serve();
        assert!(rig.raised());
        rig.ahci.config().write(4, 6 | u32::from(COMMAND_INTX_DISABLE), 0x3);
        rig.ahci.config_written(&mut rig.board.cx(), 4);
        assert!(!rig.raised());
        assert_eq!(rig.ahci.config().read(4) >> 16 & 8, 8, "the status register still shows it");
    }

    #[test]
    fn hba_reset_takes_the_links_down_and_keeps_the_addresses() {
        let mut rig = Rig::new();
        rig.issue(0, 0, &command(0x25, 0, 1, &[(DATA, 512)]));
        rig.write(GHC, GHC_HR | GHC_IE);
        assert_eq!((rig.read(GHC), rig.read(IS)), (GHC_AE, 0));
        assert_eq!((rig.get(0, PX_CLB), rig.get(0, PX_SSTS), rig.get(0, PX_CI)), (LIST as u32, 0, 0));
        rig.serve();
        assert_eq!((rig.get(0, PX_IS), rig.raised()), (0, false));
        rig.start_port(0);
        assert_eq!(rig.get(0, PX_TFD), 0x150);
    }

    #[test]
    fn nothing_is_fetched_without_leave_to_be_master() {
        let mut rig = Rig::new();
        rig.ahci.config().write(4, 2, 0x3);
        rig.issue(0, 0, &command(0xec, 0, 0, &[(DATA, 512)]));
        assert_eq!(rig.get(0, PX_CI), 1);
        rig.ahci.config().write(4, 6, 0x3);
        rig.ahci.config_written(&mut rig.board.cx(), 4);
        assert_eq!(rig.get(0, PX_CI), 0);
    }

    #[test]
    fn narrow_and_wide_accesses_reach_the_same_registers() {
        let mut rig = Rig::new();
        let (wide, narrow) = (At::new(5, 0x100), At::new(5, 0x101));
        let base = 0x1234_0000_0000_1400;
        Mmio::write(&mut rig.ahci, &mut rig.board.cx(), wide, Width::B8, base).unwrap();
        assert_eq!((rig.get(0, PX_CLB), rig.get(0, PX_CLBU)), (0x1400, 0x1234_0000));
        assert_eq!(Mmio::read(&mut rig.ahci, &mut rig.board.cx(), wide, Width::B8), Ok(base));
        assert_eq!(Mmio::read(&mut rig.ahci, &mut rig.board.cx(), narrow, Width::B1), Ok(0x14));
        Mmio::write(&mut rig.ahci, &mut rig.board.cx(), narrow, Width::B1, 0x18).unwrap();
        assert_eq!(rig.get(0, PX_CLB), 0x1800);
    }

    #[test]
    fn saved_state_continues_with_requests_under_way() {
        let mut rig = Rig::new();
        for tag in 0..4u8 {
            let place = DATA + 512 * u64::from(tag);
            rig.put(0, tag, &queued(0x60, tag, u64::from(tag), 1, &[(place, 512)]));
        }
        rig.set(0, PX_SACT, 0xf);
        rig.set(0, PX_CI, 0xf);
        let saved = rig.ahci.save();
        assert!(!rig.ahci.is_idle());
        let tables = rig.memory(0, 0x8_0000);
        let mut twin = Rig::cold();
        twin.board.memory.write(Gpa(0), &tables).unwrap();
        twin.ahci.restore(&saved).unwrap();
        assert_eq!(twin.ahci.save(), saved);
        for (_, request) in rig.board.fabric.take_transfers() {
            twin.board.cx().submit(request.drive, request.id, request.operation);
        }
        twin.serve();
        assert_eq!((twin.get(0, PX_SACT), twin.get(0, PX_IS)), (0, SDBS));
        assert_eq!(twin.memory(DATA, 2048), pattern(DISK_BYTES)[..2048]);
        assert!(twin.ahci.is_idle() && twin.raised());
    }

    /// Numbers without a pattern (xorshift64*).
    fn random(state: &mut u64) -> u32 {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    #[test]
    fn garbage_in_registers_and_tables_does_no_harm() {
        let seed = &mut 0x1234_5678_9abc_def1;
        let mut rig = Rig::new();
        for _ in 0..40_000 {
            let (a, b, c) = (random(seed), random(seed), random(seed));
            match a % 8 {
                0 => rig.set((b % 2) as usize, u64::from(b >> 8) & 0x7c, c),
                1 => rig.start_port((b % 2) as usize),
                2 => {
                    let mut garbage = command(c as u8, (c >> 8).into(), (b >> 16) as u16 & 0x3ff, &[]);
                    garbage.fis[3] = (b >> 8) as u8;
                    garbage.packet[..4].copy_from_slice(&c.to_le_bytes());
                    garbage.packet[4..8].copy_from_slice(&(b & 0x00ff_0f0f).to_le_bytes());
                    let place = (DATA + u64::from(c & 0xffff), b & 0xffff | 1);
                    garbage.regions = vec![place; (a >> 8) as usize % 5];
                    rig.issue((a >> 16) as usize & 1, (a >> 24) as u8 & 31, &garbage);
                }
                3 => rig.serve(),
                4 => rig.write(u64::from(b & 0x1c), c),
                5 => {
                    for (_, request) in rig.board.fabric.take_transfers() {
                        let result = Err(BlockError::Medium);
                        let done = Completion { drive: request.drive, id: request.id, result };
                        rig.ahci.complete(&mut rig.board.cx(), done.clone());
                        rig.ahci.complete(&mut rig.board.cx(), done);
                    }
                }
                6 if b.is_multiple_of(16) => {
                    let medium = aero_bus::block::Medium { bytes: u64::from(c & 15) * 2048, read_only: true };
                    rig.ahci.cd(1).unwrap().insert(medium);
                }
                _ => drop(rig.get((b % 6) as usize, u64::from(c) & 0x7c)),
            }
        }
        let saved = rig.ahci.save();
        let mut twin = Rig::cold();
        twin.ahci.restore(&saved).unwrap();
        assert_eq!(twin.ahci.save(), saved);
        rig.write(GHC, GHC_HR);
        rig.start_port(0);
        rig.issue(0, 0, &command(0xec, 0, 0, &[(DATA, 512)]));
        assert_eq!((rig.get(0, PX_CI), rig.memory(DATA, 2)), (0, vec![0x40, 0]), "it still works");
    }
}
