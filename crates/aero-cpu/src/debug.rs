//! Debug registers: breakpoints, watchpoints and #DB (Intel SDM vol. 3, 18.2 and 18.3).
//!
//! A [`Watch`] is what DR0 to DR3, DR7 and CR4.DE come to. Nothing on the fast path looks at it: while an instruction
//! breakpoint is set the run loop takes one instruction at a time, and while a data breakpoint is set the TLB withholds
//! the pages that it watches, so that accesses to them come to the slow path. Traps are collected as DR6 bits in
//! [`Core::pending_debug`](crate::vcpu::Core::pending_debug) and delivered between two instructions.

use crate::exception::{Exception, Vector};
use crate::state::{CpuState, cr4};
use crate::vcpu::Vcpu;

/// DR6 bits.
pub mod dr6 {
    /// B0 to B3: a breakpoint was met.
    pub const POINTS: u64 = 0xf;
    /// BD: the next instruction accesses a debug register while DR7.GD is set.
    pub const BD: u64 = 1 << 13;
    /// BS: single step.
    pub const BS: u64 = 1 << 14;
    /// BT: the T flag of a new task's TSS.
    pub const BT: u64 = 1 << 15;
    /// Bits that read as ones.
    pub const FIXED: u64 = 0xffff_0ff0;
    /// Bits that software can set.
    pub const WRITABLE: u64 = POINTS | BD | BS | BT;
}

/// DR7 bits.
pub mod dr7 {
    /// L0 to L3 and LE: a task switch clears them.
    pub const LOCAL: u64 = 0x155;
    /// GD: accesses to debug registers fault.
    pub const GD: u64 = 1 << 13;
    /// A bit that reads as one.
    pub const FIXED: u64 = 1 << 10;
    /// Bits that software can set.
    pub const WRITABLE: u64 = 0xffff_23ff;
}

/// IA32_DEBUGCTL bits (Intel SDM vol. 3, 18.4.1).
pub mod debugctl {
    /// BTF: TF traps after branches only.
    pub const BTF: u64 = 1 << 1;
    /// LBR, BTF and TR: a debug exception clears them.
    pub const CLEARED: u64 = 1 << 0 | BTF | 1 << 6;
}

/// What a breakpoint waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Kind {
    #[default]
    Off,
    Execute,
    Write,
    Port,
    Access,
}

/// One of DR0 to DR3 with its bits of DR7.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Point {
    kind: Kind,
    at: u64,
    len: u64,
}

impl Point {
    fn of(st: &CpuState, n: usize) -> Self {
        let dr7 = st.dr[7];
        if dr7 >> (2 * n) & 3 == 0 {
            return Self::default();
        }
        let kind = match dr7 >> (16 + 4 * n) & 3 {
            0 => Kind::Execute,
            1 => Kind::Write,
            2 if st.cr4 & cr4::DE != 0 => Kind::Port,
            2 => Kind::Off,
            _ => Kind::Access,
        };
        let len = [1, 2, 8, 4][(dr7 >> (18 + 4 * n) & 3) as usize];
        let aligned = if kind == Kind::Execute { st.dr[n] } else { st.dr[n] & !(len - 1) };
        Self { kind, at: aligned, len }
    }

    fn is_data(&self) -> bool {
        matches!(self.kind, Kind::Write | Kind::Access)
    }

    fn overlaps(&self, at: u64, len: u64) -> bool {
        at < self.at.wrapping_add(self.len) && self.at < at.wrapping_add(len)
    }
}

/// The breakpoints that are enabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watch {
    points: [Point; 4],
    /// An instruction breakpoint is set.
    pub execute: bool,
    /// A data breakpoint is set.
    pub data: bool,
    /// An I/O breakpoint is set.
    pub ports: bool,
}

impl Watch {
    /// What the debug registers of `st` say.
    pub fn of(st: &CpuState) -> Self {
        if st.dr[7] & 0xff == 0 {
            return Self::default();
        }
        let points: [Point; 4] = core::array::from_fn(|n| Point::of(st, n));
        Self {
            points,
            execute: points.iter().any(|p| p.kind == Kind::Execute),
            data: points.iter().any(Point::is_data),
            ports: points.iter().any(|p| p.kind == Kind::Port),
        }
    }

    /// The B bits of the breakpoints that `test` picks.
    fn bits(&self, test: impl Fn(&Point) -> bool) -> u64 {
        self.points.iter().enumerate().filter(|(_, p)| test(p)).map(|(n, _)| 1 << n).sum()
    }

    /// The instruction breakpoints at `la`.
    pub fn on_instruction(&self, la: u64) -> u64 {
        self.bits(|p| p.kind == Kind::Execute && p.at == la)
    }

    fn on_data(&self, la: u64, len: u64, write: bool) -> u64 {
        self.bits(|p| p.is_data() && (write || p.kind == Kind::Access) && p.overlaps(la, len))
    }

    fn on_port(&self, port: u64, len: u64) -> u64 {
        self.bits(|p| p.kind == Kind::Port && p.overlaps(port, len))
    }

    /// Whether a data breakpoint lies in the page of `la`: the TLB must not hold it.
    pub fn watches_page(&self, la: u64) -> bool {
        self.data && self.points.iter().any(|p| p.is_data() && p.overlaps(la & !0xfff, 0x1000))
    }
}

impl Exception {
    /// #DB for the reasons in `bits` of DR6, which is set on delivery.
    pub fn debug(bits: u64) -> Self {
        Self { vector: Vector::DEBUG, code: None, address: bits }
    }
}

impl Vcpu<'_> {
    /// Re-derives the breakpoints. Call after changing a debug register or CR4.DE.
    pub(crate) fn update_watch(&mut self) {
        let watch = Watch::of(self.st);
        if (watch.data || self.core.watch.data) && watch != self.core.watch {
            self.tlb.flush_all();
        }
        self.core.watch = watch;
        self.attention = true;
    }

    /// Notes the data breakpoints that an access meets: it is done, the trap follows the instruction.
    #[cold]
    pub(crate) fn watch_access(&mut self, la: u64, len: u32, write: bool) {
        let bits = self.core.watch.on_data(la, len.into(), write);
        self.pend_debug(bits);
    }

    /// As [`Vcpu::watch_access`], for ports.
    #[cold]
    pub(crate) fn watch_port(&mut self, port: u16, len: u32) {
        let bits = self.core.watch.on_port(port.into(), len.into());
        self.pend_debug(bits);
    }

    /// Makes a debug trap for the reasons in `bits` follow this instruction.
    pub(crate) fn pend_debug(&mut self, bits: u64) {
        self.core.pending_debug |= bits;
        self.attention |= bits != 0;
    }

    /// Enters the reasons of a #DB into DR6. B0 to B3 tell of this one only; the others stay until software clears
    /// them. DR7.GD goes, so that the handler may use the registers; so does what traces branches.
    pub(crate) fn record_debug(&mut self, bits: u64) {
        self.st.dr[6] = self.st.dr[6] & !dr6::POINTS | bits;
        self.st.dr[7] &= !dr7::GD;
        self.st.msr.debugctl &= !debugctl::CLEARED;
    }

    /// A task switch turns local breakpoints off.
    pub(crate) fn drop_local_breakpoints(&mut self) {
        if self.st.dr[7] & dr7::LOCAL != 0 {
            self.st.dr[7] &= !dr7::LOCAL;
            self.update_watch();
        }
    }
}
