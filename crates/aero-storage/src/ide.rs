//! The PIIX3's IDE function: two channels of two devices, with bus-master DMA.
//!
//! The guest writes a command's parameters into a channel's registers, which both devices of the cable see,
//! and the command; the selected device executes it. **Status is a protocol.** BSY means that the registers
//! are the device's; DRQ that it waits for words at the data port (or for the bus master); a device that
//! wants attention asserts INTRQ, and reading the status register, but not the alternate status, takes it
//! back. Data into the host interrupts *before* each block, data out of the host *after* each, and a packet
//! device says in its sector count register what it expects: command or data, in or out.
//!
//! **The bus master** moves what a device offers through a table of physical regions (PRD): address, length
//! up to 64 KiB, and a mark on the last. Either the guest starts it first or the device is ready first; data
//! moves when both are. If the table is longer than the data, the master stays active and the interrupt tells
//! the end; if it is shorter, the master stops without an interrupt and the device waits.
//!
//! A cable without devices reads as 7Fh (a resistor pulls bit 7 down), so that software does not wait for BSY
//! to clear; a device 1 that is not there reads as 0 beside a device 0.
//!
//! Regions: 0 the primary command block (8 ports), 1 the primary control port (1 port), 2 and 3 those of the
//! secondary channel, 4 the bus master's 16 ports (BAR 4). (Intel 290550, 82371SB; ATA/ATAPI-7 vol. 2;
//! SFF-8038i for the bus master.)

use crate::ata::{Ending, Plan, TaskFile, Way, spec as ata};
use crate::unit::{Job, Step, Unit};
use aero_bus::block::{Completion, Operation, RequestId};
use aero_bus::pci::{Bar, ConfigSpace, Identity, PciFunction};
use aero_bus::{At, Cx, Device, IoError, IrqLine, PortIo, Width};
use aero_mem::Gpa;
use serde::{Deserialize, Serialize};

/// Register facts.
mod spec {
    /// Command block.
    pub const DATA: u64 = 0;
    pub const FEATURES: u64 = 1;
    pub const COUNT: u64 = 2;
    pub const LBA_LOW: u64 = 3;
    pub const LBA_HIGH: u64 = 5;
    pub const DEVICE: u64 = 6;
    pub const COMMAND: u64 = 7;

    /// Device control: no interrupt, software reset, read the previous contents.
    pub const NIEN: u8 = 2;
    pub const SRST: u8 = 4;
    pub const HOB: u8 = 0x80;

    /// Interrupt reason of a packet device, in its sector count register: command, to the host.
    pub const REASON_COMMAND: u8 = 1;
    pub const REASON_IN: u8 = 2;
    /// What a cable without devices reads as.
    pub const FLOATING: u8 = 0x7f;

    /// Bus master command: start, and to memory.
    pub const BM_START: u8 = 1;
    pub const BM_TO_MEMORY: u8 = 8;
    /// Bus master status: active, error, interrupt, and storage that says which devices are set up for DMA.
    pub const BM_ACTIVE: u8 = 1;
    pub const BM_ERROR: u8 = 2;
    pub const BM_INTERRUPT: u8 = 4;
    pub const BM_CAPABLE: u8 = 0x60;
    /// Regions of the master: 64 KiB, and the mark on the last.
    pub const PRD_BYTES: u32 = 0x1_0000;
    pub const PRD_END: u32 = 1 << 31;

    /// IDETIM of each channel; its bit 15 turns the channel's decoding on.
    pub const IDETIM: [u8; 2] = [0x40, 0x42];
    pub const IDETIM_DECODE: u16 = 0x8000;
    pub const COMMAND_STATUS: usize = 0x04;
    /// Medium DEVSEL#, fast back-to-back.
    pub const STATUS_RESET: [u8; 2] = [0x80, 0x02];
}

use spec::*;

/// A device's registers; each has its current and its previous contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Registers {
    feature: [u8; 2],
    count: [u8; 2],
    lba: [[u8; 2]; 3],
    device: u8,
    status: u8,
    error: u8,
    interrupt: bool,
}

impl Registers {
    fn write(&mut self, offset: u64, value: u8) {
        let register = match offset {
            FEATURES => &mut self.feature,
            COUNT => &mut self.count,
            LBA_LOW..=LBA_HIGH => &mut self.lba[(offset - LBA_LOW) as usize],
            _ => {
                self.device = value;
                return;
            }
        };
        *register = [value, register[0]];
    }

    fn read(&self, offset: u64, previous: bool) -> u8 {
        let which = usize::from(previous);
        match offset {
            FEATURES => self.error,
            COUNT => self.count[which],
            LBA_LOW..=LBA_HIGH => self.lba[(offset - LBA_LOW) as usize][which],
            DEVICE => self.device | 0xa0,
            _ => self.status,
        }
    }

    fn task(&self, command: u8) -> TaskFile {
        let [low, mid, high] = self.lba;
        TaskFile {
            command,
            feature: u16::from_le_bytes(self.feature),
            count: u16::from_le_bytes(self.count),
            lba: u64::from_le_bytes([low[0], mid[0], high[0], low[1], mid[1], high[1], 0, 0]),
            device: self.device,
        }
    }

    fn set_lba(&mut self, lba: u64) {
        let b = lba.to_le_bytes();
        self.lba = [[b[0], b[3]], [b[1], b[4]], [b[2], b[5]]];
    }

    fn set_count(&mut self, count: u16) {
        self.count = count.to_le_bytes();
    }

    /// The byte count of a packet's data, in LBA mid and high.
    fn byte_count(&self) -> u16 {
        u16::from_le_bytes([self.lba[1][0], self.lba[2][0]])
    }

    fn set_byte_count(&mut self, bytes: u16) {
        [self.lba[1][0], self.lba[2][0]] = bytes.to_le_bytes();
    }
}

/// What a channel waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Phase {
    /// A command.
    Idle,
    /// A drive.
    Drive,
    /// The guest, to read words; or to write them; or to write a packet.
    PioIn,
    PioOut,
    Packet {
        dma: bool,
    },
    /// The bus master.
    DmaIn,
    DmaOut,
}

/// The bus master of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Master {
    command: u8,
    status: u8,
    table: u32,
    /// The next entry of the table, and what is left of the current region: address and bytes; and whether it
    /// is the last.
    next: u32,
    address: u32,
    left: u32,
    last: bool,
}

/// How a transfer by the bus master went.
#[derive(PartialEq, Eq, Debug)]
enum Moved {
    /// All of it.
    All,
    /// The table ended first, or it or its regions are not memory.
    Stopped,
}

impl Master {
    fn start(&mut self) {
        self.status |= BM_ACTIVE;
        (self.next, self.left, self.last) = (self.table, 0, false);
    }

    fn ready(&self, to_memory: bool) -> bool {
        self.status & BM_ACTIVE != 0 && (self.command & BM_TO_MEMORY != 0) == to_memory
    }

    /// The rest of the current region, or the next one; `None` at the end of the table.
    fn region(&mut self, cx: &Cx<'_>) -> Option<(u32, u32)> {
        if self.left == 0 {
            if self.last {
                return None;
            }
            let mut entry = [0; 8];
            if cx.dma_read(Gpa(self.next.into()), &mut entry).is_err() {
                self.status |= BM_ERROR;
                return None;
            }
            let entry = u64::from_le_bytes(entry);
            // The table does not cross 64 KiB: the counter's upper half stands still.
            self.next = self.next & 0xffff_0000 | self.next.wrapping_add(8) & 0xffff;
            self.address = entry as u32 & !1;
            self.left = (entry >> 32) as u32 & 0xfffe;
            self.last = (entry >> 32) as u32 & PRD_END != 0;
            if self.left == 0 {
                self.left = PRD_BYTES;
            }
        }
        Some((self.address, self.left))
    }

    /// Moves `bytes` through the table; `copy` gets an address and the range of bytes, and says whether that
    /// was memory.
    fn transfer(
        &mut self,
        cx: &mut Cx<'_>,
        bytes: usize,
        mut copy: impl FnMut(&mut Cx<'_>, Gpa, core::ops::Range<usize>) -> bool,
    ) -> Moved {
        let mut done = 0;
        while done < bytes {
            let Some((address, left)) = self.region(cx) else { return self.stopped() };
            let n = (bytes - done).min(left as usize);
            if !copy(cx, Gpa(address.into()), done..done + n) {
                self.status |= BM_ERROR;
                return self.stopped();
            }
            self.address = self.address.wrapping_add(n as u32);
            self.left -= n as u32;
            done += n;
        }
        if self.last && self.left == 0 {
            self.status &= !BM_ACTIVE;
        }
        Moved::All
    }

    fn stopped(&mut self) -> Moved {
        self.status &= !BM_ACTIVE;
        Moved::Stopped
    }
}

/// One cable.
struct Channel {
    /// Its number, part of its requests' numbers.
    index: u32,
    irq: IrqLine,
    units: [Option<Unit>; 2],
    registers: [Registers; 2],
    control: u8,
    selected: usize,
    /// The level of INTRQ as the controller sees it.
    line: bool,
    phase: Phase,
    job: Option<Job>,
    /// Counts commands abandoned with requests under way, so that the ends of those are known.
    sequence: u32,
    /// What moves between host and device: all of it, how far that has come, and where the current block
    /// ends.
    buffer: Vec<u8>,
    at: usize,
    block_end: usize,
    master: Master,
    /// Whether the function may be a bus master.
    may_master: bool,
}

impl Channel {
    fn new(index: u32, irq: IrqLine, units: [Option<Unit>; 2]) -> Self {
        let mut channel = Self {
            index,
            irq,
            units,
            registers: [Registers::default(); 2],
            control: 0,
            selected: 0,
            line: false,
            phase: Phase::Idle,
            job: None,
            sequence: 0,
            buffer: Vec::new(),
            at: 0,
            block_end: 0,
            master: Master::default(),
            may_master: false,
        };
        channel.show_signatures();
        channel
    }

    fn is_empty(&self) -> bool {
        self.units.iter().all(Option::is_none)
    }

    fn regs(&mut self) -> &mut Registers {
        &mut self.registers[self.selected]
    }

    // Resets.

    fn power_on(&mut self, cx: &mut Cx<'_>) {
        self.units.iter_mut().flatten().for_each(Unit::power_on);
        (self.control, self.master, self.may_master) = (0, Master::default(), false);
        self.abandon();
        self.show_signatures();
        self.drive_line(cx);
    }

    /// Forgets the command under way; the ends of its requests will be strangers.
    fn abandon(&mut self) {
        if self.phase == Phase::Drive {
            self.sequence = self.sequence.wrapping_add(1) & 0x7fff_ffff;
        }
        (self.phase, self.job) = (Phase::Idle, None);
        self.drop_buffer();
    }

    fn drop_buffer(&mut self) {
        self.buffer = Vec::new();
        (self.at, self.block_end) = (0, 0);
    }

    /// Every device shows what it is, and device 0 is selected (ATA/ATAPI-7 vol. 1, section 5.15).
    fn show_signatures(&mut self) {
        self.selected = 0;
        for n in 0..2 {
            self.show_signature(n);
            self.registers[n].device = 0;
        }
    }

    fn show_signature(&mut self, n: usize) {
        let Some(unit) = &self.units[n] else {
            self.registers[n] = Registers::default();
            return;
        };
        let mut registers = Registers { device: self.registers[n].device, ..Registers::default() };
        registers.set_lba(unit.signature());
        registers.set_count(1);
        registers.error = ata::DIAGNOSTIC_PASSED;
        registers.status = unit.status_after_reset();
        self.registers[n] = registers;
    }

    fn write_control(&mut self, cx: &mut Cx<'_>, value: u8) {
        let before = core::mem::replace(&mut self.control, value);
        if value & SRST != 0 && before & SRST == 0 {
            self.abandon();
            for (unit, registers) in self.units.iter_mut().zip(&mut self.registers) {
                if let Some(unit) = unit {
                    unit.soft_reset();
                    *registers = Registers { status: ata::BSY, ..Registers::default() };
                }
            }
        } else if value & SRST == 0 && before & SRST != 0 {
            self.show_signatures();
        }
        self.drive_line(cx);
    }

    // Registers.

    fn read_register(&mut self, cx: &mut Cx<'_>, offset: u64) -> u8 {
        if self.is_empty() {
            return FLOATING;
        }
        if self.units[self.selected].is_none() {
            return if offset == DEVICE { self.registers[self.selected].device | 0xa0 } else { 0 };
        }
        let previous = self.control & HOB != 0;
        let value = self.regs().read(offset, previous);
        if offset == COMMAND {
            self.regs().interrupt = false;
            self.drive_line(cx);
        }
        value
    }

    fn alternate_status(&self) -> u8 {
        match &self.units[self.selected] {
            _ if self.is_empty() => FLOATING,
            None => 0,
            Some(_) => self.registers[self.selected].status,
        }
    }

    fn write_register(&mut self, cx: &mut Cx<'_>, offset: u64, value: u8) {
        if self.is_empty() {
            return;
        }
        self.control &= !HOB;
        if offset == COMMAND {
            self.write_command(cx, value);
            return;
        }
        // While a device has the registers, writing to them has no defined outcome; here it has none.
        if self.registers.iter().any(|r| r.status & (ata::BSY | ata::DRQ) != 0) {
            return;
        }
        self.registers.iter_mut().for_each(|r| r.write(offset, value));
        if offset == DEVICE {
            self.selected = usize::from(value & ata::DEVICE_1 != 0);
            self.drive_line(cx);
        }
    }

    /// INTRQ is the selected device's, unless the guest has disconnected it. The bus master notes when it
    /// rises.
    fn drive_line(&mut self, cx: &mut Cx<'_>) {
        let level = self.registers[self.selected].interrupt && self.control & NIEN == 0;
        if level && !self.line {
            self.master.status |= BM_INTERRUPT;
        }
        if level != self.line {
            self.line = level;
            cx.set_irq(self.irq, level);
        }
    }

    fn interrupt(&mut self, cx: &mut Cx<'_>) {
        self.regs().interrupt = true;
        self.drive_line(cx);
    }

    // Commands.

    fn write_command(&mut self, cx: &mut Cx<'_>, command: u8) {
        let busy = self.phase != Phase::Idle || self.registers[self.selected].status & ata::BSY != 0;
        if command == ata::EXECUTE_DIAGNOSTIC && self.units[self.selected].is_none() {
            // Both devices test themselves, whichever is selected, and device 0 answers for a device 1 that
            // is not there.
            self.selected ^= 1;
        }
        let Some(unit) = &mut self.units[self.selected] else { return };
        // DEVICE RESET gets a packet device out of anything; else a busy device has no ears.
        if busy && !(command == ata::DEVICE_RESET && unit.cd().is_some() && self.control & SRST == 0) {
            return;
        }
        let task = self.registers[self.selected].task(command);
        let plan = unit.command(&task);
        self.abandon();
        self.regs().interrupt = false;
        self.regs().error = 0;
        self.drive_line(cx);
        match plan {
            Plan::Packet { dma } => self.want_packet(dma),
            Plan::Diagnostic => {
                self.show_signatures();
                self.interrupt(cx);
            }
            Plan::Reset => {
                self.units[self.selected].iter_mut().for_each(Unit::soft_reset);
                self.show_signature(self.selected);
            }
            plan => {
                let (job, step) = Job::start(plan);
                self.job = Some(job);
                self.take(cx, step, true);
            }
        }
    }

    fn want_packet(&mut self, dma: bool) {
        self.phase = Phase::Packet { dma };
        self.buffer = vec![0; 12];
        (self.at, self.block_end) = (0, 12);
        self.regs().count[0] = REASON_COMMAND;
        self.regs().status = ata::DRDY | ata::DRQ;
    }

    fn packet(&mut self, cx: &mut Cx<'_>, dma: bool) {
        let mut cdb = [0; 12];
        cdb.copy_from_slice(&self.buffer[..12]);
        self.drop_buffer();
        let limit = self.registers[self.selected].byte_count();
        let Some(cd) = self.units[self.selected].as_mut().and_then(Unit::cd) else { return };
        let way = if dma { Way::Dma } else { Way::Pio(pio_limit(limit)) };
        let (job, step) = Job::packet(cd.packet(&cdb), way);
        self.job = Some(job);
        self.take(cx, step, true);
    }

    /// Takes a job's next step. `first` is whether nothing of the command's data has moved yet.
    fn take(&mut self, cx: &mut Cx<'_>, step: Step, first: bool) {
        match step {
            Step::Submit(operations) => self.submit(cx, operations),
            Step::Offer(data) => self.offer(cx, data),
            Step::Ask(bytes) => self.ask(cx, bytes, first),
            Step::End(ending) => self.end(cx, ending),
        }
    }

    fn submit(&mut self, cx: &mut Cx<'_>, operations: Vec<Operation>) {
        let id = RequestId(self.sequence << 1 | self.index);
        let Some(drive) = self.units[self.selected].as_ref().map(Unit::drive) else { return };
        self.phase = Phase::Drive;
        self.regs().status = ata::BSY;
        for operation in operations {
            cx.submit(drive, id, operation);
        }
    }

    fn completed(&mut self, cx: &mut Cx<'_>, done: Completion) {
        let stranger = done.id.0 >> 1 != self.sequence || self.phase != Phase::Drive;
        let (Some(mut job), Some(unit)) = (self.job, &mut self.units[self.selected]) else { return };
        if stranger {
            return;
        }
        let step = job.completed(unit, done.result);
        self.job = Some(job);
        self.take(cx, step, false);
    }

    fn way(&self) -> (Way, bool) {
        self.job.map_or((Way::Dma, false), |job| (job.way, job.packet))
    }

    fn offer(&mut self, cx: &mut Cx<'_>, data: Vec<u8>) {
        self.buffer = data;
        (self.at, self.block_end) = (0, 0);
        match self.way() {
            (Way::Pio(block), packet) => {
                self.phase = Phase::PioIn;
                self.begin_block(block, packet, REASON_IN);
                self.interrupt(cx);
            }
            (_, packet) => self.want_master(cx, Phase::DmaIn, packet, REASON_IN),
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>, bytes: u32, first: bool) {
        self.buffer = vec![0; bytes as usize];
        (self.at, self.block_end) = (0, 0);
        match self.way() {
            (Way::Pio(block), packet) => {
                self.phase = Phase::PioOut;
                self.begin_block(block, packet, 0);
                // A disk does not interrupt for the first block that it wants, a packet device does.
                if !first || packet {
                    self.interrupt(cx);
                }
            }
            (_, packet) => self.want_master(cx, Phase::DmaOut, packet, 0),
        }
    }

    /// Sets up the next block of the buffer at the data port.
    fn begin_block(&mut self, block: u32, packet: bool, reason: u8) {
        self.block_end = self.buffer.len().min(self.at + block as usize);
        let bytes = self.block_end - self.at;
        let registers = self.regs();
        registers.status = ata::READY | ata::DRQ;
        if packet {
            registers.status = ata::DRDY | ata::DRQ;
            registers.count[0] = reason;
            registers.set_byte_count(bytes.min(0xffff) as u16);
        }
    }

    /// The block at the data port has been read or written to its end.
    fn end_block(&mut self, cx: &mut Cx<'_>) {
        if let Phase::Packet { dma } = self.phase {
            self.packet(cx, dma);
            return;
        }
        let reading = self.phase == Phase::PioIn;
        let (way, packet) = self.way();
        if let Way::Pio(block) = way
            && self.at < self.buffer.len()
        {
            self.begin_block(block, packet, if reading { REASON_IN } else { 0 });
            self.interrupt(cx);
            return;
        }
        self.end_buffer(cx, reading);
    }

    /// All of the buffer has moved.
    fn end_buffer(&mut self, cx: &mut Cx<'_>, reading: bool) {
        let data = core::mem::take(&mut self.buffer);
        self.drop_buffer();
        let (Some(mut job), Some(unit)) = (self.job, &mut self.units[self.selected]) else { return };
        let step = if reading { job.offered() } else { job.given(unit, data) };
        self.job = Some(job);
        self.take(cx, step, false);
    }

    /// The end of a command. Data to the host by PIO ends without an interrupt: the last block's was the
    /// last.
    fn end(&mut self, cx: &mut Cx<'_>, ending: Ending) {
        let (way, packet) = self.way();
        let quiet = self.phase == Phase::PioIn && matches!(way, Way::Pio(_)) && !packet && ending.error == 0;
        (self.phase, self.job) = (Phase::Idle, None);
        self.drop_buffer();
        let registers = self.regs();
        registers.error = ending.error;
        registers.status = ending.status();
        if let Some(lba) = ending.lba {
            registers.show_lba(lba);
        }
        if let Some(count) = ending.count {
            registers.set_count(count);
        }
        if packet {
            registers.status &= !ata::DSC;
            registers.count[0] = REASON_COMMAND | REASON_IN;
        }
        if !quiet {
            self.interrupt(cx);
        }
    }

    // The data port.

    fn read_data(&mut self, cx: &mut Cx<'_>, bytes: usize) -> u64 {
        if self.phase != Phase::PioIn {
            return if self.is_empty() { u64::MAX } else { 0 };
        }
        let end = self.block_end.min(self.at + bytes);
        let value = little_endian(&self.buffer[self.at..end]);
        self.at = end;
        if end == self.block_end {
            self.end_block(cx);
        }
        value
    }

    fn write_data(&mut self, cx: &mut Cx<'_>, bytes: usize, value: u64) {
        if !matches!(self.phase, Phase::PioOut | Phase::Packet { .. }) {
            return;
        }
        let end = self.block_end.min(self.at + bytes);
        self.buffer[self.at..end].copy_from_slice(&value.to_le_bytes()[..end - self.at]);
        self.at = end;
        if end == self.block_end {
            self.end_block(cx);
        }
    }

    // The bus master.

    fn want_master(&mut self, cx: &mut Cx<'_>, phase: Phase, packet: bool, reason: u8) {
        self.phase = phase;
        let registers = self.regs();
        registers.status = if packet { ata::DRDY | ata::DRQ } else { ata::READY | ata::DRQ };
        if packet {
            registers.count[0] = reason;
        }
        self.run_master(cx);
    }

    /// Moves data, if the device and the master both want to.
    fn run_master(&mut self, cx: &mut Cx<'_>) {
        let reading = self.phase == Phase::DmaIn;
        let waits = reading || self.phase == Phase::DmaOut;
        if !waits || !self.may_master || !self.master.ready(reading) {
            return;
        }
        let mut buffer = core::mem::take(&mut self.buffer);
        let moved = self.master.transfer(cx, buffer.len(), |cx, gpa, range| {
            if reading {
                cx.dma_write(gpa, &buffer[range]).is_ok()
            } else {
                cx.dma_read(gpa, &mut buffer[range]).is_ok()
            }
        });
        self.buffer = buffer;
        if moved == Moved::All {
            self.end_buffer(cx, reading);
        }
    }

    fn read_master(&self, offset: u64) -> u8 {
        match offset {
            0 => self.master.command,
            2 => self.master.status,
            4..=7 => self.master.table.to_le_bytes()[(offset - 4) as usize],
            _ => 0,
        }
    }

    fn write_master(&mut self, cx: &mut Cx<'_>, offset: u64, value: u8) {
        match offset {
            0 => self.write_master_command(cx, value),
            2 => {
                let cleared = value & (BM_INTERRUPT | BM_ERROR);
                self.master.status = self.master.status & !cleared & !BM_CAPABLE | value & BM_CAPABLE;
            }
            4..=7 => {
                let mut table = self.master.table.to_le_bytes();
                table[(offset - 4) as usize] = value;
                self.master.table = u32::from_le_bytes(table) & !3;
            }
            _ => {}
        }
    }

    fn write_master_command(&mut self, cx: &mut Cx<'_>, value: u8) {
        let started = value & !self.master.command & BM_START != 0;
        let stopped = self.master.command & !value & BM_START != 0;
        self.master.command = value & (BM_START | BM_TO_MEMORY);
        if stopped {
            self.master.status &= !BM_ACTIVE;
        }
        if started {
            self.master.start();
            self.run_master(cx);
        }
    }
}

impl Registers {
    /// Shows the address of an error or an answer: 48 bits in the LBA registers and their previous contents.
    fn show_lba(&mut self, lba: u64) {
        if self.device & ata::DEVICE_LBA != 0 && lba < 1 << 28 {
            self.device = self.device & 0xf0 | (lba >> 24) as u8;
        }
        self.set_lba(lba);
    }
}

/// Bytes of a block that a packet device moves by PIO at most: even, and 0 means all there can be.
fn pio_limit(byte_count: u16) -> u32 {
    match byte_count & !1 {
        0 => 0xfffe,
        even => even.into(),
    }
}

#[inline]
fn little_endian(bytes: &[u8]) -> u64 {
    match *bytes {
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
        _ => bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)),
    }
}

/// The PCI function.
pub struct Ide {
    config: ConfigSpace,
    channels: [Channel; 2],
}

impl Ide {
    /// The function with its units (master and slave of the primary channel, then of the secondary) and the
    /// lines of the two channels, IRQ 14 and 15 on a PC.
    pub fn new(irqs: [IrqLine; 2], units: [[Option<Unit>; 2]; 2]) -> Self {
        let [primary, secondary] = units;
        let channels = [Channel::new(0, irqs[0], primary), Channel::new(1, irqs[1], secondary)];
        Self { config: config(), channels }
    }

    /// The drive for removable media at `unit` (0 master, 1 slave) of `channel`, for the host to change its
    /// medium.
    pub fn cd(&mut self, channel: usize, unit: usize) -> Option<&mut crate::atapi::Cd> {
        self.channels.get_mut(channel)?.units.get_mut(unit)?.as_mut()?.cd()
    }

    /// Whether no request to a drive is under way.
    pub fn is_idle(&self) -> bool {
        self.channels.iter().all(|c| c.phase != Phase::Drive)
    }

    fn decodes(&self, channel: usize) -> bool {
        self.config.word(IDETIM[channel]) & IDETIM_DECODE != 0
    }

    /// The channel and whether it is the command block, for regions 0 to 3.
    fn channel(&mut self, region: u8) -> Option<(&mut Channel, bool)> {
        let n = usize::from(region >> 1);
        (region < 4 && self.decodes(n)).then(|| (&mut self.channels[n], region & 1 == 0))
    }
}

fn config() -> ConfigSpace {
    let id = Identity {
        vendor: 0x8086,
        device: 0x7010,
        class: 0x01_01_80,
        revision: 0,
        multifunction: false,
        interrupt_pin: 0,
    };
    let mut config = ConfigSpace::new(id).with_bar(4, Bar::Io { size: 16 });
    config.set(COMMAND_STATUS + 2, &STATUS_RESET);
    config.allow(COMMAND_STATUS, &[0x05, 0x00]);
    // Both channels are decoded from the start: a machine without firmware has no one else to turn them on.
    for at in IDETIM {
        config.set(usize::from(at), &IDETIM_DECODE.to_le_bytes());
        config.allow(usize::from(at), &[0xff, 0xf3]);
    }
    // SIDETIM; UDMACTL and UDMATIM, which the PIIX4 has: storage.
    config.allow(0x44, &[0xff]);
    config.allow(0x48, &[0x0f]);
    config.allow(0x4a, &[0x33, 0x33]);
    config
}

impl Device for Ide {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.config = config();
        self.channels.iter_mut().for_each(|c| c.power_on(cx));
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }

    fn pci(&mut self) -> Option<&mut dyn PciFunction> {
        Some(self)
    }

    fn complete(&mut self, cx: &mut Cx<'_>, done: Completion) {
        self.channels[(done.id.0 & 1) as usize].completed(cx, done);
    }
}

impl PciFunction for Ide {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_written(&mut self, cx: &mut Cx<'_>, _at: u8) {
        let may = self.config.is_master();
        for channel in &mut self.channels {
            channel.may_master = may;
            channel.run_master(cx);
        }
    }
}

impl PortIo for Ide {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        if at.region == 4 {
            return self.read_master(at.offset, width);
        }
        let (channel, commands) = self.channel(at.region).ok_or(IoError::Unclaimed)?;
        match (commands, at.offset) {
            (true, DATA) => Ok(channel.read_data(cx, width.bytes() as usize)),
            (true, FEATURES..=COMMAND) => Ok(wide(channel.read_register(cx, at.offset), width)),
            (false, 0) => Ok(wide(channel.alternate_status(), width)),
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        if at.region == 4 {
            return self.write_master(cx, at.offset, width, value);
        }
        let (channel, commands) = self.channel(at.region).ok_or(IoError::Unclaimed)?;
        match (commands, at.offset) {
            (true, DATA) => channel.write_data(cx, width.bytes() as usize, value),
            (true, FEATURES..=COMMAND) => channel.write_register(cx, at.offset, value as u8),
            (false, 0) => channel.write_control(cx, value as u8),
            _ => return Err(IoError::Unclaimed),
        }
        Ok(())
    }
}

/// A byte register read by a wider access: the rest of the bus is all-ones.
fn wide(value: u8, width: Width) -> u64 {
    width.ones() & !0xff | u64::from(value)
}

impl Ide {
    fn read_master(&self, offset: u64, width: Width) -> Result<u64, IoError> {
        if offset + width.bytes() > 16 {
            return Err(IoError::Unclaimed);
        }
        let byte = |at: u64| u64::from(self.channels[(at >> 3) as usize].read_master(at & 7));
        Ok((0..width.bytes()).rev().fold(0, |value, i| value << 8 | byte(offset + i)))
    }

    fn write_master(
        &mut self,
        cx: &mut Cx<'_>,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), IoError> {
        if offset + width.bytes() > 16 {
            return Err(IoError::Unclaimed);
        }
        for (i, byte) in (0..width.bytes()).zip(value.to_le_bytes()) {
            let at = offset + i;
            self.channels[(at >> 3) as usize].write_master(cx, at & 7, byte);
        }
        Ok(())
    }
}

mod saved {
    use super::{Channel, Ide, Job, Master, Phase, Registers, Unit};
    use crate::ata::CHUNK;
    use crate::unit::UnitStateV1;
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "piix3-ide";

    #[derive(Serialize, Deserialize)]
    struct ChannelStateV1 {
        units: [Option<UnitStateV1>; 2],
        registers: [Registers; 2],
        control: u8,
        selected: bool,
        line: bool,
        phase: Phase,
        job: Option<Job>,
        sequence: u32,
        buffer: Vec<u8>,
        at: u32,
        block_end: u32,
        master: Master,
        may_master: bool,
    }

    #[derive(Serialize, Deserialize)]
    struct IdeStateV1 {
        config: Vec<u8>,
        channels: [ChannelStateV1; 2],
    }

    impl ChannelStateV1 {
        fn of(channel: &Channel) -> Self {
            let Channel {
                index: _,
                irq: _,
                units,
                registers,
                control,
                selected,
                line,
                phase,
                job,
                sequence,
                buffer,
                at,
                block_end,
                master,
                may_master,
            } = channel;
            Self {
                units: [0, 1].map(|n| units[n].as_ref().map(Unit::save)),
                registers: *registers,
                control: *control,
                selected: *selected == 1,
                line: *line,
                phase: *phase,
                job: *job,
                sequence: *sequence,
                buffer: buffer.clone(),
                at: *at as u32,
                block_end: *block_end as u32,
                master: *master,
                may_master: *may_master,
            }
        }

        /// Whether it is of such a channel and nothing in it points outside of its buffer.
        fn fits(&self, channel: &Channel) -> bool {
            let units = (0..2).all(|n| Unit::fits(channel.units[n].as_ref(), self.units[n].as_ref()));
            let end = self.block_end as usize;
            let inside = self.at <= self.block_end && end <= self.buffer.len();
            let packet = !matches!(self.phase, Phase::Packet { .. }) || self.buffer.len() == 12;
            units && inside && packet && self.buffer.len() as u64 <= 2 * CHUNK
        }

        fn restore(self, channel: &mut Channel) {
            for (unit, state) in channel.units.iter_mut().zip(self.units) {
                if let (Some(unit), Some(state)) = (unit, state) {
                    unit.restore(state);
                }
            }
            (channel.registers, channel.control) = (self.registers, self.control);
            (channel.selected, channel.line) = (usize::from(self.selected), self.line);
            (channel.phase, channel.job, channel.sequence) = (self.phase, self.job, self.sequence);
            (channel.buffer, channel.at) = (self.buffer, self.at as usize);
            (channel.block_end, channel.master) = (self.block_end as usize, self.master);
            channel.may_master = self.may_master;
        }
    }

    impl Saved for Ide {
        fn save(&self) -> Section {
            let Self { config, channels: [primary, secondary] } = self;
            let state = IdeStateV1 {
                config: config.bytes().to_vec(),
                channels: [ChannelStateV1::of(primary), ChannelStateV1::of(secondary)],
            };
            Section::new(KIND, 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let state: IdeStateV1 = section.decode(KIND, 1)?;
            let damaged = RestoreError::Damaged { kind: KIND };
            let bytes: [u8; 256] = state.config.try_into().map_err(|_| damaged)?;
            if !state.channels.iter().zip(&self.channels).all(|(state, channel)| state.fits(channel)) {
                return Err(RestoreError::Damaged { kind: KIND });
            }
            self.config.restore(&bytes);
            for (state, channel) in state.channels.into_iter().zip(&mut self.channels) {
                state.restore(channel);
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ata::Disk;
    use crate::atapi::Cd;
    use aero_bus::bench::{TestBoard, conformance};
    use aero_bus::block::{BlockBackend, MemoryDisk};
    use aero_state::Saved;

    const TABLE: u64 = 0x1000;
    const DISK_BYTES: usize = 4 << 20;
    const DISC_SECTORS: usize = 20;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8 ^ (i / 512) as u8).collect()
    }

    struct Rig {
        board: TestBoard,
        ide: Ide,
        irqs: [IrqLine; 2],
    }

    fn build(board: &mut TestBoard) -> (Ide, [IrqLine; 2]) {
        let disk = MemoryDisk::new(pattern(DISK_BYTES), false);
        let disc = MemoryDisk::new(pattern(DISC_SECTORS * 2048), true);
        let (disk_medium, disc_medium) = (disk.medium(), disc.medium());
        let (a, b) = (board.attach(disk), board.attach(disc));
        let irqs = [board.line(), board.line()];
        let units = [
            [Some(Unit::Disk(Disk::new(a, disk_medium, "AR1"))), None],
            [None, Some(Unit::Cd(Cd::new(b, Some(disc_medium), "AR2")))],
        ];
        (Ide::new(irqs, units), irqs)
    }

    impl Rig {
        fn new() -> Self {
            let mut board = TestBoard::new();
            let (mut ide, irqs) = build(&mut board);
            ide.reset(&mut board.cx());
            ide.config().write(4, 5, 0xf);
            ide.config_written(&mut board.cx(), 4);
            Self { board, ide, irqs }
        }

        fn out(&mut self, region: u8, offset: u64, value: u8) {
            self.board.outb(&mut self.ide, region, offset, value);
        }

        fn inb(&mut self, region: u8, offset: u64) -> u8 {
            self.board.inb(&mut self.ide, region, offset)
        }

        fn raised(&self, channel: usize) -> bool {
            self.board.fabric.level(self.irqs[channel])
        }

        fn serve(&mut self) {
            self.board.serve(&mut self.ide);
        }

        /// A command with a 28-bit address on the primary master.
        fn command(&mut self, command: u8, lba: u32, count: u8) {
            for offset in 2..6 {
                self.out(0, offset, 0);
            }
            self.out(0, 2, count);
            for (offset, shift) in [(3, 0), (4, 8), (5, 16)] {
                self.out(0, offset, (lba >> shift) as u8);
            }
            self.out(0, 6, 0x40 | (lba >> 24) as u8);
            self.out(0, 7, command);
        }

        fn read_data(&mut self, region: u8, bytes: usize, width: Width) -> Vec<u8> {
            let step = width.bytes() as usize;
            let mut data = Vec::new();
            for _ in 0..bytes / step {
                let at = At::new(region, 0);
                let value = PortIo::read(&mut self.ide, &mut self.board.cx(), at, width).unwrap();
                data.extend_from_slice(&value.to_le_bytes()[..step]);
            }
            data
        }

        fn write_data(&mut self, region: u8, data: &[u8]) {
            for word in data.as_chunks::<2>().0 {
                let value = u16::from_le_bytes(*word).into();
                let at = At::new(region, 0);
                PortIo::write(&mut self.ide, &mut self.board.cx(), at, Width::B2, value).unwrap();
            }
        }

        /// A packet command on the secondary slave, up to the end of the packet.
        fn packet(&mut self, cdb: [u8; 12], limit: u16, dma: bool) {
            self.out(2, 6, 0x10);
            self.out(2, 1, dma.into());
            self.out(2, 4, limit as u8);
            self.out(2, 5, (limit >> 8) as u8);
            self.out(2, 7, 0xa0);
            assert_eq!((self.inb(2, 7), self.inb(2, 2)), (0x48, 1), "waits for a packet");
            self.write_data(2, &cdb);
            self.serve();
        }

        fn table(&mut self, regions: &[(u32, u32)]) {
            for (i, (address, bytes)) in regions.iter().enumerate() {
                let last = if i + 1 == regions.len() { PRD_END } else { 0 };
                let entry = u64::from(*address) | u64::from(bytes & 0xffff | last) << 32;
                self.board.memory.write(Gpa(TABLE + 8 * i as u64), &entry.to_le_bytes()).unwrap();
            }
        }

        fn start_master(&mut self, channel: u64, to_memory: bool) {
            let at = At::new(4, channel * 8 + 4);
            PortIo::write(&mut self.ide, &mut self.board.cx(), at, Width::B4, TABLE).unwrap();
            self.out(4, channel * 8 + 2, 0x06);
            self.out(4, channel * 8, if to_memory { 9 } else { 1 });
        }

        fn memory(&self, at: u64, len: usize) -> Vec<u8> {
            let mut bytes = vec![0; len];
            self.board.memory.read(Gpa(at), &mut bytes).unwrap();
            bytes
        }
    }

    #[test]
    fn function_passes_the_conformance_suite() {
        conformance(&[0, 1, 2, 3, 4], |board| build(board).0);
    }

    // checklist: 55
    #[test]
    fn absent_devices_read_as_quiet_at_once() {
        let mut board = TestBoard::new();
        let irqs = [board.line(), board.line()];
        let mut ide = Ide::new(irqs, [[None, None], [None, None]]);
        assert_eq!((board.inb(&mut ide, 0, 7), board.inb(&mut ide, 1, 0)), (0x7f, 0x7f));
        let mut rig = Rig::new();
        rig.out(0, 6, 0x10);
        rig.out(0, 2, 0x55);
        assert_eq!((rig.inb(0, 7), rig.inb(1, 0), rig.inb(0, 2)), (0, 0, 0));
        rig.out(0, 7, 0xec);
        assert_eq!((rig.inb(0, 7), rig.raised(0)), (0, false));
        rig.out(0, 6, 0);
        assert_eq!(rig.inb(0, 7), 0x50, "the master is there");
    }

    // checklist: 55
    #[test]
    fn pio_read_interrupts_before_each_block_and_not_at_the_end() {
        let mut rig = Rig::new();
        rig.command(0x20, 3, 2);
        assert_eq!((rig.inb(1, 0), rig.raised(0)), (0x80, false), "busy with the drive");
        rig.serve();
        assert_eq!((rig.inb(1, 0), rig.raised(0)), (0x58, true));
        assert_eq!(rig.inb(0, 7), 0x58);
        assert!(!rig.raised(0), "reading the status takes the interrupt back");
        assert_eq!(rig.read_data(0, 512, Width::B2), pattern(DISK_BYTES)[1536..2048]);
        assert_eq!((rig.inb(1, 0), rig.raised(0)), (0x58, true), "the alternate status does not");
        rig.inb(0, 7);
        assert_eq!(rig.read_data(0, 512, Width::B4), pattern(DISK_BYTES)[2048..2560]);
        assert_eq!((rig.inb(1, 0), rig.raised(0)), (0x50, false));
    }

    #[test]
    fn pio_write_interrupts_after_each_block() {
        let mut rig = Rig::new();
        rig.command(0x30, 7, 2);
        assert_eq!((rig.inb(0, 7), rig.raised(0)), (0x58, false), "wants the first block without a word");
        rig.write_data(0, &[1; 512]);
        assert!(rig.raised(0));
        assert_eq!(rig.inb(0, 7), 0x58);
        rig.write_data(0, &[2; 512]);
        assert_eq!(rig.inb(1, 0), 0x80);
        rig.serve();
        assert_eq!((rig.raised(0), rig.inb(0, 7)), (true, 0x50));
        let bytes = &rig.board.disks[0].bytes()[7 * 512..9 * 512];
        assert_eq!((bytes[0], bytes[511], bytes[512], bytes[1023]), (1, 1, 2, 2));
    }

    #[test]
    fn multiple_moves_blocks_of_several_sectors() {
        let mut rig = Rig::new();
        rig.command(0xc6, 0, 4);
        rig.inb(0, 7);
        rig.command(0xc4, 10, 6);
        rig.serve();
        for (bytes, from) in [(2048, 10), (1024, 14)] {
            assert!(rig.raised(0));
            assert_eq!(rig.inb(0, 7), 0x58);
            assert_eq!(rig.read_data(0, bytes, Width::B2), pattern(DISK_BYTES)[from * 512..][..bytes]);
        }
        assert_eq!((rig.inb(0, 7), rig.raised(0)), (0x50, false));
    }

    // checklist: 55
    #[test]
    fn dma_read_fills_the_regions_of_the_table() {
        let mut rig = Rig::new();
        rig.table(&[(0x2000, 512), (0x8000, 1536)]);
        rig.start_master(0, true);
        rig.command(0xc8, 5, 4);
        rig.serve();
        assert_eq!((rig.inb(4, 2), rig.raised(0)), (0x04, true), "inactive, interrupt");
        assert_eq!(rig.memory(0x2000, 512), pattern(DISK_BYTES)[2560..3072]);
        assert_eq!(rig.memory(0x8000, 1536), pattern(DISK_BYTES)[3072..4608]);
        assert_eq!(rig.inb(0, 7), 0x50);
        rig.out(4, 2, 0x64);
        assert_eq!(
            rig.inb(4, 2),
            0x60,
            "the interrupt is cleared by writing it, the capabilities are stored"
        );
    }

    #[test]
    fn dma_started_after_the_device_is_ready_moves_the_same() {
        let mut rig = Rig::new();
        rig.table(&[(0x2000, 0)]);
        rig.command(0xc8, 0, 128);
        rig.serve();
        assert_eq!((rig.inb(1, 0), rig.raised(0)), (0x58, false));
        rig.start_master(0, true);
        assert_eq!((rig.inb(4, 2), rig.raised(0)), (4, true), "64 KiB are written as 0");
        assert_eq!(rig.memory(0x2000, 65_536), pattern(DISK_BYTES)[..65_536]);
    }

    // checklist: 55
    #[test]
    fn table_longer_than_the_data_leaves_the_master_active() {
        let mut rig = Rig::new();
        rig.table(&[(0x2000, 4096)]);
        rig.start_master(0, true);
        rig.command(0xc8, 0, 1);
        rig.serve();
        assert_eq!((rig.inb(4, 2), rig.raised(0)), (0x05, true));
        rig.out(4, 0, 8);
        assert_eq!(rig.inb(4, 2), 0x04);
    }

    // checklist: 55
    #[test]
    fn table_shorter_than_the_data_stops_without_an_interrupt() {
        let mut rig = Rig::new();
        rig.table(&[(0x2000, 512)]);
        rig.start_master(0, true);
        rig.command(0xc8, 0, 2);
        rig.serve();
        assert_eq!((rig.inb(4, 2), rig.raised(0), rig.inb(1, 0)), (0, false, 0x58));
        rig.out(1, 0, 4);
        rig.out(1, 0, 0);
        assert_eq!(rig.inb(0, 7), 0x50, "a reset ends it");
    }

    #[test]
    fn dma_to_what_is_not_memory_sets_the_error_bit() {
        let mut rig = Rig::new();
        rig.table(&[(0xf000_0000, 512)]);
        rig.start_master(0, true);
        rig.command(0xc8, 0, 1);
        rig.serve();
        assert_eq!((rig.inb(4, 2), rig.raised(0)), (0x02, false));
    }

    #[test]
    fn dma_waits_for_leave_to_be_master() {
        let mut rig = Rig::new();
        rig.ide.config().write(4, 1, 0xf);
        rig.ide.config_written(&mut rig.board.cx(), 4);
        rig.table(&[(0x2000, 512)]);
        rig.start_master(0, true);
        rig.command(0xc8, 0, 1);
        rig.serve();
        assert!(!rig.raised(0));
        rig.ide.config().write(4, 5, 0xf);
        rig.ide.config_written(&mut rig.board.cx(), 4);
        assert!(rig.raised(0));
    }

    #[test]
    fn dma_write_gathers_and_a_forced_one_is_flushed() {
        let mut rig = Rig::new();
        rig.board.memory.write(Gpa(0x2000), &pattern(1024)).unwrap();
        rig.table(&[(0x2000, 2), (0x2002, 1022)]);
        rig.start_master(0, false);
        rig.command(0xca, 100, 2);
        rig.serve();
        assert_eq!((rig.inb(4, 2), rig.raised(0), rig.inb(0, 7)), (4, true, 0x50));
        assert_eq!(rig.board.disks[0].bytes()[51_200..52_224], pattern(1024));
        rig.out(4, 0, 0);
        rig.start_master(0, false);
        rig.command(0x3d, 100, 2);
        rig.serve();
        assert_eq!((rig.inb(0, 7), rig.board.disks[0].flushes), (0x50, 1));
    }

    #[test]
    fn longest_transfer_comes_in_bounded_requests() {
        let mut board = TestBoard::new();
        let disk = MemoryDisk::new(vec![9; 40 << 20], false);
        let medium = disk.medium();
        let drive = board.attach(disk);
        let irqs = [board.line(), board.line()];
        let unit = Some(Unit::Disk(Disk::new(drive, medium, "")));
        let mut ide = Ide::new(irqs, [[unit, None], [None, None]]);
        let mut largest = 0;
        for offset in [2, 2, 3, 3, 4, 4, 5, 5] {
            board.outb(&mut ide, 0, offset, 0);
        }
        board.outb(&mut ide, 0, 6, 0x40);
        board.outb(&mut ide, 0, 7, 0x42);
        let mut requests = 0;
        while board.fabric.has_transfers() {
            for (_, request) in board.fabric.take_transfers() {
                requests += 1;
                let (_, len) = request.operation.extent().unwrap();
                largest = largest.max(len);
                let result = Ok(vec![0; len as usize]);
                let done = Completion { drive, id: request.id, result };
                ide.complete(&mut board.cx(), done);
            }
        }
        assert_eq!((requests, largest), (8, 4 << 20), "32 MiB are verified");
        assert_eq!(board.inb(&mut ide, 0, 7), 0x50);
    }

    #[test]
    fn software_reset_shows_signatures() {
        let mut rig = Rig::new();
        rig.command(0xc8, 0, 1);
        rig.out(1, 0, 4);
        assert_eq!(rig.inb(1, 0), 0x80);
        rig.serve();
        rig.out(1, 0, 0);
        let disk = [1, 2, 3, 4, 5, 7].map(|offset| rig.inb(0, offset));
        assert_eq!(disk, [1, 1, 1, 0, 0, 0x50]);
        rig.out(3, 0, 4);
        rig.out(3, 0, 0);
        rig.out(2, 6, 0x10);
        let disc = [1, 2, 3, 4, 5, 7].map(|offset| rig.inb(2, offset));
        assert_eq!(disc, [1, 1, 1, 0x14, 0xeb, 0]);
        assert!(!rig.raised(0) && !rig.raised(1));
    }

    #[test]
    fn disconnected_interrupt_comes_when_it_is_connected() {
        let mut rig = Rig::new();
        rig.out(1, 0, 2);
        rig.command(0xe7, 0, 0);
        rig.serve();
        assert_eq!((rig.raised(0), rig.inb(1, 0), rig.board.disks[0].flushes), (false, 0x50, 1));
        rig.out(1, 0, 0);
        assert!(rig.raised(0));
        rig.inb(0, 7);
        assert!(!rig.raised(0));
    }

    #[test]
    fn previous_contents_are_read_under_hob() {
        let mut rig = Rig::new();
        for value in [0x12, 0x34] {
            rig.out(0, 3, value);
        }
        assert_eq!(rig.inb(0, 3), 0x34);
        rig.out(1, 0, 0x80);
        assert_eq!(rig.inb(0, 3), 0x12);
        rig.out(0, 2, 0);
        assert_eq!(rig.inb(0, 3), 0x34, "a write to the command block clears the bit");
    }

    #[test]
    fn sector_that_is_not_there_is_named_with_its_error() {
        let mut rig = Rig::new();
        let first_missing = (DISK_BYTES / 512) as u32;
        rig.command(0xc8, first_missing - 1, 3);
        assert!(rig.raised(0));
        assert_eq!((rig.inb(0, 7), rig.inb(0, 1)), (0x51, 0x10));
        assert_eq!([3, 4, 5].map(|at| rig.inb(0, at)), [0x00, 0x20, 0x00]);
        rig.command(0xff, 0, 0);
        assert_eq!((rig.inb(0, 7), rig.inb(0, 1)), (0x51, 0x04));
    }

    // checklist: 56
    #[test]
    fn packet_data_comes_in_blocks_of_the_byte_count() {
        let mut rig = Rig::new();
        let mut cdb = [0; 12];
        (cdb[0], cdb[5], cdb[8]) = (0x28, 2, 2);
        rig.packet(cdb, 3000, false);
        let disc = pattern(DISC_SECTORS * 2048);
        let mut at = 2 * 2048;
        for bytes in [3000usize, 1096] {
            assert!(rig.raised(1));
            assert_eq!((rig.inb(2, 7), rig.inb(2, 2)), (0x48, 2), "data, to the host");
            assert_eq!(usize::from(rig.inb(2, 4)) | usize::from(rig.inb(2, 5)) << 8, bytes);
            assert_eq!(rig.read_data(2, bytes, Width::B2), disc[at..at + bytes]);
            at += bytes;
        }
        assert!(rig.raised(1));
        assert_eq!((rig.inb(2, 7), rig.inb(2, 2), rig.inb(2, 1)), (0x40, 3, 0));
    }

    // checklist: 56
    #[test]
    fn packet_data_comes_by_dma_if_asked() {
        let mut rig = Rig::new();
        rig.table(&[(0x4000, 4096)]);
        rig.start_master(1, true);
        let mut cdb = [0; 12];
        (cdb[0], cdb[5], cdb[9]) = (0xa8, 1, 2);
        rig.packet(cdb, 0, true);
        assert_eq!((rig.inb(4, 10), rig.raised(1), rig.inb(2, 7)), (4, true, 0x40));
        assert_eq!(rig.memory(0x4000, 4096), pattern(DISC_SECTORS * 2048)[2048..6144]);
    }

    #[test]
    fn packet_that_fails_tells_its_sense_key() {
        let mut rig = Rig::new();
        rig.packet([0xff; 12], 0, false);
        assert!(rig.raised(1));
        assert_eq!((rig.inb(2, 7), rig.inb(2, 1), rig.inb(2, 2)), (0x41, 0x54, 3));
        let mut sense = [0; 12];
        (sense[0], sense[4]) = (0x03, 18);
        rig.packet(sense, 18, false);
        let data = rig.read_data(2, 18, Width::B2);
        assert_eq!((data[2], data[12], data[13]), (5, 0x20, 0));
    }

    #[test]
    fn host_gives_mode_select_its_page() {
        let mut rig = Rig::new();
        let mut cdb = [0; 12];
        (cdb[0], cdb[1], cdb[8]) = (0x55, 0x10, 16);
        rig.packet(cdb, 16, false);
        assert_eq!((rig.inb(2, 7), rig.inb(2, 2)), (0x48, 0), "data, from the host");
        rig.write_data(2, &[0, 0, 0, 0, 0, 0, 0, 0, 1, 6, 0, 9, 0, 0, 0, 0]);
        assert_eq!((rig.inb(2, 7), rig.inb(2, 2)), (0x40, 3));
    }

    #[test]
    fn identify_of_a_disc_drive_aborts_with_its_signature() {
        let mut rig = Rig::new();
        rig.out(2, 6, 0x10);
        rig.out(2, 7, 0xec);
        assert_eq!([7, 1, 4, 5].map(|at| rig.inb(2, at)), [0x51, 4, 0x14, 0xeb]);
        rig.out(2, 7, 0xa1);
        assert_eq!(rig.inb(2, 7), 0x58);
        assert_eq!(rig.read_data(2, 512, Width::B2)[..2], [0xc0, 0x85]);
    }

    #[test]
    fn saved_state_continues_in_the_middle_of_a_block_and_of_a_request() {
        let mut rig = Rig::new();
        rig.command(0x20, 3, 2);
        let asked = rig.ide.save();
        assert!(!rig.ide.is_idle());
        let mut twin = Rig::new();
        twin.ide.restore(&asked).unwrap();
        for (_, request) in rig.board.fabric.take_transfers() {
            twin.board.cx().submit(request.drive, request.id, request.operation);
        }
        twin.serve();
        assert_eq!(twin.read_data(0, 100, Width::B2), pattern(DISK_BYTES)[1536..1636]);
        let halfway = twin.ide.save();
        let mut third = Rig::new();
        third.ide.restore(&halfway).unwrap();
        assert_eq!(third.read_data(0, 924, Width::B2), pattern(DISK_BYTES)[1636..2560]);
        assert_eq!(third.inb(0, 7), 0x50);
    }

    #[test]
    fn state_of_another_set_of_units_is_refused() {
        let mut board = TestBoard::new();
        let irqs = [board.line(), board.line()];
        let mut bare = Ide::new(irqs, [[None, None], [None, None]]);
        assert!(bare.restore(&Rig::new().ide.save()).is_err());
    }

    #[test]
    fn channel_that_is_not_decoded_is_silent() {
        let mut rig = Rig::new();
        assert_eq!((rig.ide.config().read(0), rig.ide.config().read(8) >> 8), (0x7010_8086, 0x01_0180));
        rig.ide.config().write(0x40, 0, 0x3);
        let at = At::new(0, 7);
        let read = PortIo::read(&mut rig.ide, &mut rig.board.cx(), at, Width::B1);
        assert_eq!(read, Err(IoError::Unclaimed));
        assert_eq!(rig.inb(2, 7), 0, "the other one is");
    }

    #[test]
    fn diagnostic_is_run_by_both_devices_whichever_is_selected() {
        let mut rig = Rig::new();
        rig.out(0, 6, 0x10);
        rig.out(0, 7, 0x90);
        assert!(rig.raised(0));
        assert_eq!([7, 1, 2, 3, 4, 5].map(|at| rig.inb(0, at)), [0x50, 1, 1, 1, 0, 0]);
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
        const WIDTHS: [Width; 4] = [Width::B1, Width::B2, Width::B4, Width::B8];
        let seed = &mut 0x1234_5678_9abc_def1;
        let mut rig = Rig::new();
        for _ in 0..200_000 {
            let (a, b, c) = (random(seed), random(seed), random(seed));
            let at = At::new((b % 5) as u8, (b >> 8 & 15).into());
            match a % 8 {
                0 => rig.table(&[((c & 0x1f_ffff), b >> 16), (0x3000, c >> 16)]),
                1 => rig.start_master((b & 1).into(), b & 2 != 0),
                2 => rig.serve(),
                3 => rig.command(c as u8, b & 0x3fff, (c >> 8) as u8 & 15),
                4 => {
                    rig.out(3, 0, 0);
                    rig.out(2, 6, 0x10);
                    rig.out(2, 1, (b & 1) as u8);
                    rig.out(2, 7, 0xa0);
                    rig.write_data(
                        2,
                        &[c as u8, 0, 0, 0, (b >> 8) as u8 & 31, c as u8, 0, 0, 2, b as u8, 0, 0],
                    );
                }
                5 => {
                    for (_, request) in rig.board.fabric.take_transfers() {
                        let result = Err(aero_bus::block::BlockError::Medium);
                        let done = Completion { drive: request.drive, id: request.id, result };
                        rig.ide.complete(&mut rig.board.cx(), done.clone());
                        rig.ide.complete(&mut rig.board.cx(), done);
                    }
                }
                6 => {
                    let width = WIDTHS[(a >> 8) as usize & 3];
                    let value = u64::from(c) & width.ones();
                    let _ = PortIo::write(&mut rig.ide, &mut rig.board.cx(), at, width, value);
                }
                _ => {
                    let width = WIDTHS[(a >> 8) as usize & 3];
                    let _ = PortIo::read(&mut rig.ide, &mut rig.board.cx(), at, width);
                }
            }
        }
        let saved = rig.ide.save();
        let mut twin = Rig::new();
        twin.ide.restore(&saved).unwrap();
        assert_eq!(twin.ide.save(), saved);
        rig.out(1, 0, 4);
        rig.out(1, 0, 0);
        rig.command(0xec, 0, 0);
        assert_eq!((rig.inb(0, 7), rig.read_data(0, 2, Width::B2)), (0x58, vec![0x40, 0]), "it still works");
    }
}
