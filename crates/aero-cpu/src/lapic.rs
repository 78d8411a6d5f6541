//! The local APIC of one processor, in xAPIC and x2APIC form.
//!
//! Three sets of 256 bits say where an interrupt is. IRR: accepted, waiting. ISR: taken by the processor, not
//! yet ended. TMR: whether it was level-triggered, so that its end must be told to the I/O APIC. A vector's
//! upper four bits are its priority class. The processor takes the highest vector of IRR if its class is
//! above the processor priority, PPR, which is the higher of what the guest asks for (TPR, also CR8) and the
//! highest class in service. That answer is needed before every instruction and changes rarely, so it is kept
//! in `ready` and recomputed by whatever changes one of its inputs.
//!
//! The timer runs at [`BUS_HZ`] ticks of virtual time before its divider. It has no state that advances: only
//! the time at which the count reaches zero. The processor asks [`LocalApic::next_deadline`] how far it may
//! run and then calls [`LocalApic::tick`]. A masked timer gives no deadline, since nobody could see it end.
//!
//! Nothing here knows a bus: the machine maps the page of registers, carries messages, and routes
//! [`Action`]s. The registers keep their xAPIC offsets; an x2APIC register is MSR `800h + offset / 16`, so
//! that form is a second door to the same state, in [`x2apic`].
//!
//! Source: Intel SDM volume 3, chapter "Advanced programmable interrupt controller (APIC)" (sections named
//! below as SDM 11.x after its edition of 2023).

pub mod x2apic;

use aero_x86::{Feature, Features};
pub use spec::{BASE_BSP, BASE_ENABLE, BASE_X2APIC, BUS_HZ};

mod spec {
    //! Registers by their names in the manual.

    /// Ticks of the timer's clock in a second: one a virtual nanosecond.
    pub const BUS_HZ: u64 = 1_000_000_000;

    /// IA32_APIC_BASE: this is the bootstrap processor.
    pub const BASE_BSP: u64 = 1 << 8;
    /// IA32_APIC_BASE: the registers are MSRs.
    pub const BASE_X2APIC: u64 = 1 << 10;
    /// IA32_APIC_BASE: the APIC is enabled.
    pub const BASE_ENABLE: u64 = 1 << 11;
    /// IA32_APIC_BASE: the address of the registers.
    pub const BASE_ADDRESS: u64 = (1 << aero_x86::cpuid::PHYSICAL_BITS) - 0x1000;
    /// Where the registers are after reset.
    pub const BASE_DEFAULT: u64 = 0xfee0_0000;

    pub const ID: u32 = 0x020;
    pub const VERSION: u32 = 0x030;
    pub const TPR: u32 = 0x080;
    pub const APR: u32 = 0x090;
    pub const PPR: u32 = 0x0a0;
    pub const EOI: u32 = 0x0b0;
    pub const RRD: u32 = 0x0c0;
    pub const LDR: u32 = 0x0d0;
    pub const DFR: u32 = 0x0e0;
    pub const SVR: u32 = 0x0f0;
    pub const ISR: u32 = 0x100;
    pub const TMR: u32 = 0x180;
    pub const IRR: u32 = 0x200;
    pub const ESR: u32 = 0x280;
    pub const ICR_LOW: u32 = 0x300;
    pub const ICR_HIGH: u32 = 0x310;
    pub const LVT: u32 = 0x320;
    pub const LVT_LAST: u32 = 0x370;
    pub const INITIAL_COUNT: u32 = 0x380;
    pub const CURRENT_COUNT: u32 = 0x390;
    pub const DIVIDE: u32 = 0x3e0;
    /// In x2APIC form only.
    pub const SELF_IPI: u32 = 0x3f0;

    /// Version 14h, six LVT entries, no EOI broadcast suppression.
    pub const VERSION_VALUE: u32 = 0x0005_0014;

    /// LVT entries in the order of their registers.
    pub const TIMER: usize = 0;
    pub const LINT0: usize = 3;
    pub const LINT1: usize = 4;
    pub const ERROR: usize = 5;
    /// Bits of each LVT entry that can be written (figure "Local vector table").
    pub const LVT_WRITABLE: [u32; 6] = [0x7_00ff, 0x1_07ff, 0x1_07ff, 0x1_a7ff, 0x1_a7ff, 0x1_00ff];
    /// The timer counts in IA32_TSC_DEADLINE.
    pub const TIMER_TSC_DEADLINE: u32 = 1 << 18;
    pub const LVT_MASKED: u32 = 1 << 16;
    pub const LVT_EXTINT: u32 = 7 << 8;
    pub const LVT_NMI: u32 = 4 << 8;

    pub const SVR_ENABLE: u32 = 1 << 8;
    /// Vector, enable, focus checking.
    pub const SVR_WRITABLE: u32 = 0x3ff;

    /// ESR: an IPI was to be sent with a vector below 16.
    pub const ESR_SEND_ILLEGAL: u32 = 1 << 5;
    /// ESR: an interrupt with a vector below 16 came in.
    pub const ESR_RECEIVED_ILLEGAL: u32 = 1 << 6;
    /// ESR: access to a register that does not exist.
    pub const ESR_ILLEGAL_REGISTER: u32 = 1 << 7;

    pub const ICR_LOW_WRITABLE: u32 = 0x000c_cfff;
    pub const ICR_SELF: u32 = 1 << 18;
    pub const ICR_ASSERT: u32 = 1 << 14;
    pub const DIVIDE_WRITABLE: u32 = 0xb;
}

/// How an interrupt is to be delivered (ICR, LVT, I/O APIC and MSI use the same three bits).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryMode {
    /// The vector, to every destination.
    Fixed,
    /// The vector, to the destination that runs at the lowest priority.
    LowestPriority,
    /// System management.
    Smi,
    /// Not assigned.
    Reserved,
    /// Non-maskable.
    Nmi,
    /// Reset to the state after INIT.
    Init,
    /// Start a processor that waits after INIT.
    StartUp,
    /// The vector comes from the PIC.
    ExtInt,
}

impl DeliveryMode {
    /// From the three bits.
    pub fn from_bits(bits: u32) -> Self {
        [
            Self::Fixed,
            Self::LowestPriority,
            Self::Smi,
            Self::Reserved,
            Self::Nmi,
            Self::Init,
            Self::StartUp,
            Self::ExtInt,
        ][(bits & 7) as usize]
    }
}

/// To whom an inter-processor interrupt goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shorthand {
    /// The processors that match the destination.
    Destination,
    /// The sender.
    SelfOnly,
    /// All.
    All,
    /// All but the sender.
    Others,
}

/// The destination that names every APIC. (FFh in the eight bits of an xAPIC, the I/O APIC and MSI.)
pub const BROADCAST: u32 = u32::MAX;

/// An inter-processor interrupt, as the guest wrote it into ICR.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Icr {
    /// The vector; for a start-up IPI the page at which to start.
    pub vector: u8,
    /// How.
    pub mode: DeliveryMode,
    /// Whether `destination` is logical.
    pub logical: bool,
    /// To whom.
    pub shorthand: Shorthand,
    /// For [`LocalApic::matches`].
    pub destination: u32,
}

impl Icr {
    fn decode(raw: u64, destination: u32) -> Self {
        Self {
            vector: raw as u8,
            mode: DeliveryMode::from_bits((raw >> 8) as u32),
            logical: raw & 1 << 11 != 0,
            shorthand: match raw >> 18 & 3 {
                0 => Shorthand::Destination,
                1 => Shorthand::SelfOnly,
                2 => Shorthand::All,
                _ => Shorthand::Others,
            },
            destination,
        }
    }
}

/// An interrupt message in MSI form, taken apart (SDM 11.11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The vector.
    pub vector: u8,
    /// How.
    pub mode: DeliveryMode,
    /// Whether `destination` is logical.
    pub logical: bool,
    /// For [`LocalApic::matches`].
    pub destination: u32,
    /// Whether its end must be broadcast.
    pub level_triggered: bool,
}

impl Message {
    /// Takes the address (`FEEx_xxxx`) and data of a message apart.
    pub fn decode(address: u64, data: u32) -> Self {
        Self {
            vector: data as u8,
            mode: DeliveryMode::from_bits(data >> 8),
            logical: address & 1 << 2 != 0,
            destination: widen((address >> 12) as u8),
            level_triggered: data & 1 << 15 != 0,
        }
    }
}

/// A destination of eight bits.
fn widen(destination: u8) -> u32 {
    if destination == 0xff { BROADCAST } else { destination.into() }
}

/// What the machine has to do after a register was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// An interrupt has ended. If it was level-triggered, the I/O APIC must hear of it.
    Eoi {
        /// Which.
        vector: u8,
        /// As it was accepted.
        level_triggered: bool,
    },
    /// Send this to other processors, or to the sender itself.
    Ipi(Icr),
}

/// What the processor has to do with an interrupt that was delivered to its APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// It is in IRR; wake the processor.
    Accepted,
    /// The APIC is disabled, or the interrupt makes no sense: nothing happens.
    Ignored,
    /// Raise NMI.
    Nmi,
    /// Reset the processor and let it wait for a start-up IPI (the bootstrap processor starts again).
    Init,
    /// If it waits after INIT: start at physical address `page << 12`.
    StartUp {
        /// The page.
        page: u8,
    },
    /// Raise SMI.
    Smi,
    /// Fetch a vector from the PIC, as if INTR were raised.
    ExtInt,
}

/// The written value of IA32_APIC_BASE has reserved bits set or asks for a change of mode that does not exist:
/// general protection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidApicBase;

/// What IA32_APIC_BASE has made of the APIC (SDM 11.12.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Disabled,
    XApic,
    X2Apic,
}

impl Form {
    /// `None` for the pair of bits that is invalid.
    fn of(base: u64) -> Option<Self> {
        match (base & spec::BASE_ENABLE != 0, base & spec::BASE_X2APIC != 0) {
            (false, false) => Some(Self::Disabled),
            (true, false) => Some(Self::XApic),
            (true, true) => Some(Self::X2Apic),
            (false, true) => None,
        }
    }

    /// x2APIC is entered from xAPIC and left by disabling (SDM figure 11-27).
    fn may_become(self, next: Self) -> bool {
        !matches!((self, next), (Self::Disabled, Self::X2Apic) | (Self::X2Apic, Self::XApic))
    }
}

/// What the timer does at zero (LVT timer, bits 18:17).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TimerMode {
    OneShot,
    Periodic,
    TscDeadline,
}

/// 256 bits, one for each vector.
type Vectors = [u32; 8];

fn highest(set: &Vectors) -> Option<u8> {
    let word = set.iter().rposition(|w| *w != 0)?;
    Some((word as u32 * 32 + 31 - set[word].leading_zeros()) as u8)
}

fn assign(set: &mut Vectors, vector: u8, value: bool) {
    let (word, bit) = (usize::from(vector / 32), vector % 32);
    set[word] = set[word] & !(1 << bit) | u32::from(value) << bit;
}

fn holds(set: &Vectors, vector: u8) -> bool {
    set[usize::from(vector / 32)] >> (vector % 32) & 1 != 0
}

/// One local APIC.
#[derive(Clone, Debug)]
pub struct LocalApic {
    id: u8,
    /// Of the processor: whether there are an x2APIC and a TSC deadline.
    features: Features,
    base: u64,
    tpr: u8,
    ldr: u8,
    dfr: u32,
    svr: u32,
    irr: Vectors,
    isr: Vectors,
    tmr: Vectors,
    /// ESR as the guest reads it.
    esr: u32,
    /// Errors since ESR was last written.
    errors: u32,
    icr: u64,
    lvt: [u32; 6],
    initial: u32,
    divide: u32,
    /// When the timer reaches zero, in virtual nanoseconds.
    deadline: Option<u64>,
    /// IA32_TSC_DEADLINE as written, 0 when disarmed.
    tsc_deadline: u64,
    /// What [`LocalApic::pending_vector`] answers; derived from the rest.
    ready: Option<u8>,
}

impl LocalApic {
    /// The APIC of processor `id` after power-on. Processor 0 is the bootstrap processor.
    pub fn new(id: u8, features: Features) -> Self {
        let bsp = if id == 0 { spec::BASE_BSP } else { 0 };
        Self {
            id,
            features,
            base: spec::BASE_DEFAULT | spec::BASE_ENABLE | bsp,
            tpr: 0,
            ldr: 0,
            dfr: u32::MAX,
            svr: 0xff,
            irr: [0; 8],
            isr: [0; 8],
            tmr: [0; 8],
            esr: 0,
            errors: 0,
            icr: 0,
            lvt: [spec::LVT_MASKED; 6],
            initial: 0,
            divide: 0,
            deadline: None,
            tsc_deadline: 0,
            ready: None,
        }
    }

    /// Power-on or RESET.
    pub fn reset(&mut self) {
        *self = Self::new(self.id, self.features);
    }

    /// INIT: as reset, but IA32_APIC_BASE stays (SDM 11.4.7.3).
    pub fn init(&mut self) {
        *self = Self { base: self.base, ..Self::new(self.id, self.features) };
    }

    /// What firmware leaves behind on the bootstrap processor: enabled with spurious vector FFh, the PIC on
    /// LINT0, NMI on LINT1 ("virtual wire mode", MultiProcessor Specification 3.6.2.2). For a machine that
    /// boots without firmware.
    pub fn set_virtual_wire(&mut self) {
        self.svr = spec::SVR_ENABLE | 0xff;
        self.lvt[spec::LINT0] = spec::LVT_EXTINT;
        self.lvt[spec::LINT1] = spec::LVT_NMI;
        self.refresh();
    }

    /// Puts the PIC on LINT0 and leaves the rest as it is after a reset. Firmware does this as one of the first
    /// things; a test ROM that knows only the PIC does not. (QEMU's machines come up so.)
    pub fn connect_pic(&mut self) {
        self.lvt[spec::LINT0] = spec::LVT_EXTINT;
    }

    /// The identification.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// IA32_APIC_BASE.
    pub fn apic_base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE. Disabling the APIC loses its state (SDM 11.4.3).
    ///
    /// # Errors
    /// When a reserved bit is set (bit 10 too, where CPUID offers no x2APIC) or the mode cannot follow the present one.
    pub fn set_apic_base(&mut self, value: u64) -> Result<(), InvalidApicBase> {
        let x2apic = if self.features.has(Feature::X2apic) { spec::BASE_X2APIC } else { 0 };
        let known = spec::BASE_ADDRESS | spec::BASE_ENABLE | spec::BASE_BSP | x2apic;
        let next = Form::of(value).ok_or(InvalidApicBase)?;
        if value & !known != 0 || !self.form().may_become(next) {
            return Err(InvalidApicBase);
        }
        self.base = value;
        if !self.enabled() {
            self.init();
        }
        Ok(())
    }

    fn form(&self) -> Form {
        Form::of(self.base).unwrap_or(Form::Disabled)
    }

    /// Guest-physical address of the page of registers, if they are in a page.
    #[inline]
    pub fn mmio_base(&self) -> Option<u64> {
        (self.form() == Form::XApic).then_some(self.base & spec::BASE_ADDRESS)
    }

    /// Whether IA32_APIC_BASE enables the APIC.
    pub fn enabled(&self) -> bool {
        self.base & spec::BASE_ENABLE != 0
    }

    /// Whether the registers are MSRs.
    pub fn is_x2apic(&self) -> bool {
        self.form() == Form::X2Apic
    }

    fn software_enabled(&self) -> bool {
        self.svr & spec::SVR_ENABLE != 0
    }

    /// Whether the PIC's INTR reaches this processor: through LINT0, or directly past an APIC that is
    /// disabled.
    pub fn extint_enabled(&self) -> bool {
        const MODE_AND_MASK: u32 = spec::LVT_MASKED | 7 << 8;
        !self.enabled() || self.lvt[spec::LINT0] & MODE_AND_MASK == spec::LVT_EXTINT
    }

    /// CR8: the task priority's class.
    pub fn cr8(&self) -> u64 {
        (self.tpr >> 4).into()
    }

    /// Writes CR8; bits above 3 are the caller's to check.
    pub fn set_cr8(&mut self, value: u64) {
        self.tpr = (value as u8) << 4;
        self.refresh();
    }

    /// PPR. Among the destinations of a lowest-priority interrupt, the one with the lowest takes it.
    pub fn priority(&self) -> u8 {
        let served = highest(&self.isr).unwrap_or(0) & 0xf0;
        if self.tpr & 0xf0 >= served { self.tpr } else { served }
    }

    /// The vector that the processor should take now, if its interrupt flag allows.
    #[inline]
    pub fn pending_vector(&self) -> Option<u8> {
        self.ready
    }

    fn refresh(&mut self) {
        let waiting = if self.enabled() && self.software_enabled() { highest(&self.irr) } else { None };
        self.ready = waiting.filter(|vector| vector >> 4 > self.priority() >> 4);
    }

    /// The processor takes an interrupt: the vector moves from IRR to ISR. If it has gone meanwhile, this is
    /// the spurious vector, which has no end of interrupt.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(vector) = self.ready else { return self.svr as u8 };
        assign(&mut self.irr, vector, false);
        assign(&mut self.isr, vector, true);
        self.refresh();
        vector
    }

    /// Accepts a fixed or lowest-priority interrupt. False if the APIC is disabled or the vector is below 16.
    pub fn accept(&mut self, vector: u8, level: bool) -> bool {
        if !self.enabled() || !self.software_enabled() {
            return false;
        }
        if vector < 16 {
            self.error(spec::ESR_RECEIVED_ILLEGAL);
            return false;
        }
        self.request(vector, level);
        true
    }

    fn request(&mut self, vector: u8, level: bool) {
        assign(&mut self.irr, vector, true);
        assign(&mut self.tmr, vector, level);
        self.refresh();
    }

    /// Delivers an interrupt that was found to be for this APIC.
    pub fn deliver(&mut self, mode: DeliveryMode, vector: u8, level: bool) -> Delivery {
        if !self.enabled() {
            return Delivery::Ignored;
        }
        match mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority if self.accept(vector, level) => {
                Delivery::Accepted
            }
            DeliveryMode::Fixed | DeliveryMode::LowestPriority | DeliveryMode::Reserved => Delivery::Ignored,
            DeliveryMode::Smi => Delivery::Smi,
            DeliveryMode::Nmi => Delivery::Nmi,
            DeliveryMode::Init => Delivery::Init,
            DeliveryMode::StartUp => Delivery::StartUp { page: vector },
            DeliveryMode::ExtInt => Delivery::ExtInt,
        }
    }

    /// Whether a destination names this APIC (SDM 11.6.2, 11.12.10).
    pub fn matches(&self, destination: u32, logical: bool) -> bool {
        match (self.form(), logical) {
            (Form::Disabled, _) => false,
            _ if destination == BROADCAST => true,
            (_, false) => destination == u32::from(self.id),
            (Form::X2Apic, true) => {
                let own = self.x2apic_ldr();
                destination >> 16 == own >> 16 && destination & own & 0xffff != 0
            }
            (Form::XApic, true) => self.matches_logical(destination),
        }
    }

    fn matches_logical(&self, destination: u32) -> bool {
        let own = u32::from(self.ldr);
        match self.dfr >> 28 {
            0xf => destination & own != 0,
            // Clusters: the upper half names the cluster, the lower its members.
            0 => destination >> 4 == own >> 4 && destination & own & 0xf != 0,
            _ => false,
        }
    }

    /// Reads a register of the page. Offsets are multiples of 16.
    pub fn read(&mut self, offset: u32, now_ns: u64) -> u32 {
        self.tick(now_ns);
        let bank = |set: &Vectors, first: u32| set[((offset - first) / 16) as usize & 7];
        match offset & !0xf {
            _ if offset & 0xf != 0 => 0,
            spec::ID => u32::from(self.id) << 24,
            spec::VERSION => spec::VERSION_VALUE,
            spec::TPR => self.tpr.into(),
            spec::APR | spec::PPR => self.priority().into(),
            spec::EOI | spec::RRD => 0,
            spec::LDR => u32::from(self.ldr) << 24,
            spec::DFR => self.dfr,
            spec::SVR => self.svr,
            spec::ISR..spec::TMR => bank(&self.isr, spec::ISR),
            spec::TMR..spec::IRR => bank(&self.tmr, spec::TMR),
            spec::IRR..spec::ESR => bank(&self.irr, spec::IRR),
            spec::ESR => self.esr,
            spec::ICR_LOW => self.icr as u32,
            spec::ICR_HIGH => (self.icr >> 32) as u32,
            spec::LVT..=spec::LVT_LAST => self.lvt[((offset - spec::LVT) / 16) as usize],
            spec::INITIAL_COUNT => self.initial,
            spec::CURRENT_COUNT => self.current_count(now_ns),
            spec::DIVIDE => self.divide,
            _ => {
                self.error(spec::ESR_ILLEGAL_REGISTER);
                0
            }
        }
    }

    /// Writes a register of the page. Offsets are multiples of 16.
    #[must_use = "an end of interrupt or an IPI is the caller's to route"]
    pub fn write(&mut self, offset: u32, value: u32, now_ns: u64) -> Option<Action> {
        self.tick(now_ns);
        match offset {
            _ if offset & 0xf != 0 => {}
            spec::EOI => return self.end_of_interrupt(),
            spec::ICR_LOW => return self.send(value),
            spec::ICR_HIGH => self.icr = self.icr & 0xffff_ffff | u64::from(value & 0xff00_0000) << 32,
            spec::TPR => self.tpr = value as u8,
            spec::LDR => self.ldr = (value >> 24) as u8,
            spec::DFR => self.dfr = value | 0x0fff_ffff,
            spec::SVR => self.write_svr(value),
            // A write shows the errors since the write before it (SDM 11.5.3).
            spec::ESR => self.esr = core::mem::take(&mut self.errors),
            spec::LVT..=spec::LVT_LAST => self.write_lvt(((offset - spec::LVT) / 16) as usize, value),
            spec::INITIAL_COUNT => self.write_initial_count(value, now_ns),
            spec::DIVIDE => self.write_divide(value, now_ns),
            spec::ID | spec::VERSION | spec::APR | spec::PPR | spec::RRD | spec::CURRENT_COUNT => {}
            spec::ISR..spec::ESR => {}
            _ => self.error(spec::ESR_ILLEGAL_REGISTER),
        }
        self.refresh();
        None
    }

    fn end_of_interrupt(&mut self) -> Option<Action> {
        let vector = highest(&self.isr)?;
        assign(&mut self.isr, vector, false);
        self.refresh();
        Some(Action::Eoi { vector, level_triggered: holds(&self.tmr, vector) })
    }

    fn send(&mut self, low: u32) -> Option<Action> {
        self.icr = self.icr & 0xffff_ffff_0000_0000 | u64::from(low & spec::ICR_LOW_WRITABLE);
        self.command(widen((self.icr >> 56) as u8))
    }

    /// Does what ICR says.
    fn command(&mut self, destination: u32) -> Option<Action> {
        let icr = Icr::decode(self.icr, destination);
        let asserted = self.icr & 1 << 14 != 0;
        let level = self.icr & 1 << 15 != 0;
        match icr.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority if icr.vector < 16 => {
                self.error(spec::ESR_SEND_ILLEGAL);
                None
            }
            // INIT level de-assert does nothing since the Pentium 4 (SDM 11.6.1).
            DeliveryMode::Init if level && !asserted => None,
            DeliveryMode::Reserved | DeliveryMode::ExtInt => None,
            _ => Some(Action::Ipi(icr)),
        }
    }

    fn write_svr(&mut self, value: u32) {
        self.svr = value & spec::SVR_WRITABLE;
        if !self.software_enabled() {
            self.lvt.iter_mut().for_each(|entry| *entry |= spec::LVT_MASKED);
        }
    }

    fn write_lvt(&mut self, n: usize, value: u32) {
        let mode_before = self.timer_mode();
        let masked = if self.software_enabled() { 0 } else { spec::LVT_MASKED };
        self.lvt[n] = value & self.lvt_writable(n) | masked;
        let mode = self.timer_mode();
        // Going to or from TSC-deadline mode disarms the timer (SDM 11.5.4.1).
        if mode != mode_before && (mode == TimerMode::TscDeadline || mode_before == TimerMode::TscDeadline) {
            self.deadline = None;
            self.tsc_deadline = 0;
        }
    }

    fn lvt_writable(&self, n: usize) -> u32 {
        let no_deadline = n == spec::TIMER && !self.features.has(Feature::TscDeadline);
        spec::LVT_WRITABLE[n] & !if no_deadline { spec::TIMER_TSC_DEADLINE } else { 0 }
    }

    fn timer_mode(&self) -> TimerMode {
        match self.lvt[spec::TIMER] >> 17 & 3 {
            1 => TimerMode::Periodic,
            2 => TimerMode::TscDeadline,
            _ => TimerMode::OneShot,
        }
    }

    /// The divider as a shift: 0 divides by 1, 7 by 128. (Bits 3, 1 and 0 count from 2 up; 7 means 1.)
    fn divide_shift(&self) -> u32 {
        let code = self.divide & 3 | self.divide >> 1 & 4;
        (code + 1) & 7
    }

    fn period_ns(&self) -> u64 {
        u64::from(self.initial) << self.divide_shift()
    }

    fn current_count(&self, now_ns: u64) -> u32 {
        match self.deadline {
            Some(deadline) if self.timer_mode() != TimerMode::TscDeadline => {
                deadline.saturating_sub(now_ns).div_ceil(1 << self.divide_shift()) as u32
            }
            _ => 0,
        }
    }

    fn write_initial_count(&mut self, value: u32, now_ns: u64) {
        if self.timer_mode() == TimerMode::TscDeadline {
            return;
        }
        self.initial = value;
        self.deadline = (value != 0).then(|| now_ns.saturating_add(self.period_ns()));
    }

    fn write_divide(&mut self, value: u32, now_ns: u64) {
        let left = u64::from(self.current_count(now_ns));
        self.divide = value & spec::DIVIDE_WRITABLE;
        if self.timer_mode() != TimerMode::TscDeadline && self.deadline.is_some() {
            self.deadline = Some(now_ns.saturating_add(left << self.divide_shift()));
        }
    }

    /// IA32_TSC_DEADLINE as written, 0 if it is disarmed or has passed. Call [`LocalApic::tick`] first.
    pub fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    /// Writes IA32_TSC_DEADLINE: the value, and the virtual time at which the TSC reaches it (now, if it
    /// has). 0 disarms. Ignored in the other timer modes.
    pub fn set_tsc_deadline(&mut self, tsc: u64, at_ns: u64) {
        if self.timer_mode() == TimerMode::TscDeadline {
            self.tsc_deadline = tsc;
            self.deadline = (tsc != 0).then_some(at_ns);
        }
    }

    /// When the timer next interrupts, in virtual nanoseconds.
    #[inline]
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadline.filter(|_| self.lvt[spec::TIMER] & spec::LVT_MASKED == 0)
    }

    /// Lets the timer reach zero if its time has come. Periods that passed meanwhile are one interrupt, as
    /// IRR has one bit.
    pub fn tick(&mut self, now_ns: u64) {
        let Some(deadline) = self.deadline.filter(|at| *at <= now_ns) else { return };
        let period = self.period_ns();
        self.tsc_deadline = 0;
        self.deadline = (self.timer_mode() == TimerMode::Periodic && period != 0).then(|| {
            let periods = (now_ns - deadline) / period + 1;
            deadline.saturating_add(periods.saturating_mul(period))
        });
        self.raise(spec::TIMER);
    }

    /// An interrupt of the APIC's own.
    fn raise(&mut self, n: usize) {
        let entry = self.lvt[n];
        if entry & spec::LVT_MASKED != 0 {
            return;
        }
        match entry as u8 {
            // An error in the error entry itself only shows in ESR.
            0..16 if n == spec::ERROR => self.errors |= spec::ESR_RECEIVED_ILLEGAL,
            0..16 => self.error(spec::ESR_RECEIVED_ILLEGAL),
            vector => self.request(vector, false),
        }
    }

    fn error(&mut self, bit: u32) {
        self.errors |= bit;
        self.raise(spec::ERROR);
    }
}

mod saved {
    use super::{LocalApic, Vectors};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    const KIND: &str = "lapic";

    #[derive(Serialize, Deserialize)]
    struct LocalApicStateV1 {
        id: u8,
        base: u64,
        tpr: u8,
        ldr: u8,
        dfr: u32,
        svr: u32,
        irr: Vectors,
        isr: Vectors,
        tmr: Vectors,
        esr: u32,
        errors: u32,
        icr: u64,
        lvt: [u32; 6],
        initial: u32,
        divide: u32,
        deadline: Option<u64>,
        tsc_deadline: u64,
    }

    impl Saved for LocalApic {
        fn save(&self) -> Section {
            let Self {
                id,
                features: _,
                base,
                tpr,
                ldr,
                dfr,
                svr,
                irr,
                isr,
                tmr,
                esr,
                errors,
                icr,
                lvt,
                initial,
                divide,
                deadline,
                tsc_deadline,
                ready: _,
            } = *self;
            let state = LocalApicStateV1 {
                id,
                base,
                tpr,
                ldr,
                dfr,
                svr,
                irr,
                isr,
                tmr,
                esr,
                errors,
                icr,
                lvt,
                initial,
                divide,
                deadline,
                tsc_deadline,
            };
            Section::new(KIND, 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let s: LocalApicStateV1 = section.decode(KIND, 1)?;
            *self = Self {
                id: s.id,
                features: self.features,
                base: s.base,
                tpr: s.tpr,
                ldr: s.ldr,
                dfr: s.dfr,
                svr: s.svr,
                irr: s.irr,
                isr: s.isr,
                tmr: s.tmr,
                esr: s.esr,
                errors: s.errors,
                icr: s.icr,
                lvt: s.lvt,
                initial: s.initial,
                divide: s.divide,
                deadline: s.deadline,
                tsc_deadline: s.tsc_deadline,
                ready: None,
            };
            self.refresh();
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_state::Saved;

    const FIXED_SELF: u32 = 1 << 18 | 1 << 14;

    fn new(id: u8) -> LocalApic {
        LocalApic::new(id, Features::of(Feature::ALL))
    }

    /// Enabled by software, as Linux does it.
    fn apic() -> LocalApic {
        let mut apic = new(0);
        set(&mut apic, spec::SVR, 0x1ff, 0);
        apic
    }

    fn set(apic: &mut LocalApic, offset: u32, value: u32, now: u64) {
        assert_eq!(apic.write(offset, value, now), None);
    }

    #[test]
    fn power_on_state_is_the_manuals() {
        let mut a = new(0);
        assert_eq!(a.apic_base(), 0xfee0_0900);
        assert_eq!(new(1).apic_base(), 0xfee0_0800);
        let seen = [0x20, 0x30, 0xe0, 0xf0, 0x320, 0x350].map(|o| a.read(o, 0));
        assert_eq!(seen, [0, 0x0005_0014, u32::MAX, 0xff, 0x1_0000, 0x1_0000]);
    }

    #[test]
    fn highest_vector_is_taken_first_and_ends_in_order() {
        let mut a = apic();
        a.accept(0x31, false);
        a.accept(0x91, true);
        assert_eq!(a.acknowledge(), 0x91);
        assert_eq!(a.pending_vector(), None, "its class is below the one in service");
        a.accept(0xa0, false);
        assert_eq!(a.acknowledge(), 0xa0);
        assert_eq!(a.write(spec::EOI, 0, 0), Some(Action::Eoi { vector: 0xa0, level_triggered: false }));
        assert_eq!(a.write(spec::EOI, 0, 0), Some(Action::Eoi { vector: 0x91, level_triggered: true }));
        assert_eq!(a.acknowledge(), 0x31);
        assert_eq!(a.write(spec::EOI, 0, 0), Some(Action::Eoi { vector: 0x31, level_triggered: false }));
        assert_eq!(a.write(spec::EOI, 0, 0), None, "nothing was in service");
    }

    #[test]
    fn same_class_does_not_interrupt() {
        let mut a = apic();
        a.accept(0x41, false);
        a.acknowledge();
        a.accept(0x4f, false);
        assert_eq!(a.pending_vector(), None);
        a.accept(0x50, false);
        assert_eq!(a.pending_vector(), Some(0x50));
    }

    // checklist: 14
    #[test]
    fn task_priority_holds_back_its_class_and_mirrors_cr8() {
        let mut a = apic();
        a.accept(0x51, false);
        a.set_cr8(5);
        assert_eq!((a.pending_vector(), a.read(spec::TPR, 0)), (None, 0x50));
        set(&mut a, spec::TPR, 0x4f, 0);
        assert_eq!((a.pending_vector(), a.cr8()), (Some(0x51), 4));
    }

    #[test]
    fn processor_priority_is_the_higher_of_task_and_service() {
        let mut a = apic();
        set(&mut a, spec::TPR, 0x23, 0);
        assert_eq!(a.read(spec::PPR, 0), 0x23);
        a.accept(0x45, false);
        a.acknowledge();
        assert_eq!(a.read(spec::PPR, 0), 0x40);
    }

    #[test]
    fn banks_show_the_vector() {
        let mut a = apic();
        a.accept(0x51, true);
        assert_eq!([a.read(0x220, 0), a.read(0x1a0, 0), a.read(0x120, 0)], [1 << 17, 1 << 17, 0]);
        a.acknowledge();
        assert_eq!([a.read(0x220, 0), a.read(0x1a0, 0), a.read(0x120, 0)], [0, 1 << 17, 1 << 17]);
    }

    #[test]
    fn acknowledge_with_nothing_pending_is_spurious() {
        let mut a = apic();
        assert_eq!(a.acknowledge(), 0xff);
        assert_eq!(a.write(spec::EOI, 0, 0), None);
    }

    #[test]
    fn software_disable_masks_entries_and_holds_requests() {
        let mut a = apic();
        set(&mut a, 0x350, 0x700, 0);
        a.accept(0x60, false);
        set(&mut a, spec::SVR, 0xff, 0);
        assert_eq!(a.pending_vector(), None);
        assert!(!a.accept(0x61, false));
        assert_eq!(a.read(0x350, 0), 0x1_0700);
        set(&mut a, 0x350, 0x700, 0);
        assert_eq!(a.read(0x350, 0), 0x1_0700, "cannot be unmasked");
        set(&mut a, spec::SVR, 0x1ff, 0);
        assert_eq!(a.pending_vector(), Some(0x60));
    }

    #[test]
    fn one_shot_fires_once_at_its_time() {
        let mut a = apic();
        set(&mut a, spec::LVT, 0x40, 0);
        set(&mut a, spec::DIVIDE, 0x3, 0); // by 16
        set(&mut a, spec::INITIAL_COUNT, 100, 1000);
        assert_eq!(a.next_deadline(), Some(2600));
        assert_eq!(a.read(spec::CURRENT_COUNT, 1000), 100);
        assert_eq!(a.read(spec::CURRENT_COUNT, 1800), 50);
        a.tick(2599);
        assert_eq!(a.pending_vector(), None);
        a.tick(2600);
        assert_eq!(a.acknowledge(), 0x40);
        assert_eq!((a.next_deadline(), a.read(spec::CURRENT_COUNT, 3000)), (None, 0));
    }

    #[test]
    fn periodic_stays_on_its_grid_when_late() {
        let mut a = apic();
        set(&mut a, spec::DIVIDE, 0xb, 0); // by 1
        set(&mut a, spec::LVT, 0x2_0040, 0);
        set(&mut a, spec::INITIAL_COUNT, 1000, 0);
        a.tick(3456);
        assert_eq!(a.acknowledge(), 0x40);
        assert_eq!(a.next_deadline(), Some(4000));
        assert_eq!(a.read(spec::CURRENT_COUNT, 3456), 544);
        set(&mut a, spec::INITIAL_COUNT, 0, 3500);
        assert_eq!(a.next_deadline(), None);
    }

    #[test]
    fn all_dividers_divide() {
        let mut a = apic();
        for (code, divisor) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
            set(&mut a, spec::DIVIDE, code, 0);
            set(&mut a, spec::LVT, 0x40, 0);
            set(&mut a, spec::INITIAL_COUNT, 10, 0);
            assert_eq!(a.next_deadline(), Some(10 * divisor), "{code}");
        }
    }

    #[test]
    fn masked_timer_counts_without_deadline() {
        let mut a = apic();
        set(&mut a, spec::DIVIDE, 0xb, 0);
        set(&mut a, spec::INITIAL_COUNT, u32::MAX, 0);
        assert_eq!(a.next_deadline(), None);
        assert_eq!(a.read(spec::CURRENT_COUNT, 1_000_000), u32::MAX - 1_000_000);
        set(&mut a, spec::INITIAL_COUNT, 10, 1_000_000);
        set(&mut a, spec::LVT, 0x40, 2_000_000);
        a.tick(3_000_000);
        assert_eq!(a.pending_vector(), None, "it had ended while masked");
    }

    #[test]
    fn tsc_deadline_fires_once_and_reads_back_zero() {
        let mut a = apic();
        a.set_tsc_deadline(77, 500);
        assert_eq!(a.tsc_deadline(), 0, "not in this mode");
        set(&mut a, spec::LVT, 0x4_0041, 0);
        set(&mut a, spec::INITIAL_COUNT, 10, 0);
        assert_eq!(a.next_deadline(), None, "the initial count is ignored");
        a.set_tsc_deadline(77, 500);
        assert_eq!((a.tsc_deadline(), a.next_deadline()), (77, Some(500)));
        a.tick(500);
        assert_eq!((a.acknowledge(), a.tsc_deadline(), a.next_deadline()), (0x41, 0, None));
        a.set_tsc_deadline(99, 900);
        set(&mut a, spec::LVT, 0x41, 600);
        assert_eq!(a.next_deadline(), None, "leaving the mode disarms");
    }

    // checklist: 50
    #[test]
    fn icr_write_gives_the_ipi() {
        let mut a = apic();
        set(&mut a, spec::ICR_HIGH, 0x0300_0000, 0);
        let sipi = Icr {
            vector: 0x9a,
            mode: DeliveryMode::StartUp,
            logical: false,
            shorthand: Shorthand::Destination,
            destination: 3,
        };
        assert_eq!(a.write(spec::ICR_LOW, 0x69a, 0), Some(Action::Ipi(sipi)));
        assert_eq!(a.read(spec::ICR_LOW, 0), 0x69a);
        let Some(Action::Ipi(own)) = a.write(spec::ICR_LOW, FIXED_SELF | 0xf8, 0) else { panic!() };
        assert_eq!((own.shorthand, own.vector), (Shorthand::SelfOnly, 0xf8));
        assert_eq!(a.write(spec::ICR_LOW, 0x8500, 0), None, "INIT level de-assert");
        assert!(
            matches!(a.write(spec::ICR_LOW, 0xc500, 0), Some(Action::Ipi(i)) if i.mode == DeliveryMode::Init)
        );
    }

    #[test]
    fn errors_show_after_a_write_of_esr() {
        let mut a = apic();
        assert_eq!(a.write(spec::ICR_LOW, FIXED_SELF | 5, 0), None);
        assert!(!a.accept(3, false));
        a.read(0x3f0, 0);
        assert_eq!(a.read(spec::ESR, 0), 0);
        set(&mut a, spec::ESR, 0, 0);
        assert_eq!(a.read(spec::ESR, 0), 0xe0);
        set(&mut a, spec::ESR, 0, 0);
        assert_eq!(a.read(spec::ESR, 0), 0);
    }

    #[test]
    fn error_entry_interrupts() {
        let mut a = apic();
        set(&mut a, spec::LVT_LAST, 0xfe, 0);
        a.accept(3, false);
        assert_eq!(a.pending_vector(), Some(0xfe));
        set(&mut a, spec::LVT_LAST, 0x02, 0);
        a.accept(3, false);
        set(&mut a, spec::LVT, 0x01, 0);
        set(&mut a, spec::INITIAL_COUNT, 1, 0);
        a.tick(100);
        assert_eq!(a.pending_vector(), Some(0xfe), "illegal vectors end in ESR");
    }

    // checklist: 50
    #[test]
    fn destinations_match() {
        let mut a = new(3);
        set(&mut a, spec::LDR, 0x0800_0000, 0);
        assert!(a.matches(3, false) && a.matches(BROADCAST, false) && !a.matches(2, false));
        assert!(a.matches(0x0c, true) && !a.matches(0x04, true) && a.matches(BROADCAST, true));
        set(&mut a, spec::DFR, 0, 0);
        set(&mut a, spec::LDR, 0x2400_0000, 0);
        assert!(a.matches(0x26, true) && !a.matches(0x16, true) && !a.matches(0x23, true));
    }

    #[test]
    fn modes_become_deliveries() {
        let mut a = apic();
        let seen = [1, 2, 3, 4, 5, 6, 7].map(|m| a.deliver(DeliveryMode::from_bits(m), 0x99, false));
        let page = 0x99;
        use Delivery::*;
        assert_eq!(seen, [Accepted, Smi, Ignored, Nmi, Init, StartUp { page }, ExtInt]);
    }

    #[test]
    fn message_of_the_io_apic_is_taken_apart() {
        let seen = Message::decode(0xfee0_1004, 0xc159);
        let mode = DeliveryMode::LowestPriority;
        assert_eq!(
            seen,
            Message { vector: 0x59, mode, logical: true, destination: 1, level_triggered: true }
        );
    }

    #[test]
    fn pic_reaches_the_processor_through_lint0_or_past_a_disabled_apic() {
        let mut a = new(0);
        assert!(!a.extint_enabled());
        a.set_virtual_wire();
        assert!(a.extint_enabled());
        set(&mut a, 0x350, 0x1_0700, 0);
        assert!(!a.extint_enabled());
        a.set_apic_base(0xfee0_0100).unwrap();
        assert!(a.extint_enabled());
        assert_eq!((a.mmio_base(), a.matches(0, false)), (None, false));
        assert_eq!(a.deliver(DeliveryMode::Nmi, 0, false), Delivery::Ignored);
    }

    #[test]
    fn reserved_bits_of_the_base_fault() {
        let mut a = apic();
        for bad in [1, 1 << 9, 1 << 36, 1 << 52] {
            assert_eq!(a.set_apic_base(0xfee0_0900 | bad), Err(InvalidApicBase));
        }
        a.set_apic_base(0xfed0_0900).unwrap();
        assert_eq!(a.mmio_base(), Some(0xfed0_0000));
        let mut without = LocalApic::new(0, Features::default());
        assert_eq!(without.set_apic_base(0xfee0_0d00), Err(InvalidApicBase));
        set(&mut without, spec::LVT, 0x4_0041, 0);
        assert_eq!(without.read(spec::LVT, 0), 0x1_0041, "no TSC deadline");
    }

    #[test]
    fn saved_state_comes_back_with_its_pending_vector() {
        let mut a = apic();
        a.accept(0x51, true);
        set(&mut a, spec::LVT, 0x2_0040, 0);
        set(&mut a, spec::INITIAL_COUNT, 1000, 7);
        let mut b = new(0);
        b.restore(&a.save()).unwrap();
        assert_eq!(b.save(), a.save());
        assert_eq!((b.pending_vector(), b.next_deadline()), (Some(0x51), a.next_deadline()));
    }

    #[test]
    fn no_access_panics() {
        let mut a = apic();
        for value in [0, 1, 0x36, 0xff, 0x1ff, 0x2_0040, u32::MAX] {
            for offset in 0..0x1000 {
                let _ = a.write(offset, value, u64::MAX - u64::from(offset));
                a.read(offset, u64::MAX);
                a.acknowledge();
            }
        }
    }
}
