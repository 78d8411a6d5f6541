//! PIIX3 and PIIX4: the ISA bridge, the power-management function, and two system control ports.
//!
//! The board is QEMU's `pc`: a PIIX3 ISA bridge at 00:01.0 beside a PIIX4's power-management function at
//! 00:01.3. The registers that nothing here acts on are storage with the data sheets' reset values. Software
//! routes the PCI interrupts with the PIRQ registers ([`IsaBridge::pirq_irq`]) and places the
//! power-management ports with PMBASE ([`PowerManagement::pm_base`]); the machine asks for both.
//!
//! Two ports reset the machine: CF9h, on a rising edge of its bit 2, and 92h, on a rising edge of its bit 0.
//! Port 92h also opens the A20 gate, which the keyboard controller opens too: the gate is open if either says
//! so. (Intel 290550, 82371SB PIIX3; Intel 290562, 82371AB PIIX4.)

use crate::i440fx::with_storage;
use aero_bus::pci::{ConfigSpace, Identity, PciFunction};
use aero_bus::{At, Cx, Device, IoError, PortIo, Width};

/// Register facts.
mod spec {
    pub const PCICMD: usize = 0x04;
    pub const PCISTS: usize = 0x06;
    /// Medium DEVSEL#, fast back-to-back.
    pub const PCISTS_RESET: [u8; 2] = [0x80, 0x02];
    /// PIRQA#–PIRQD# route control: IRQ in bits 3:0, bit 7 not routed.
    pub const PIRQRC: u8 = 0x60;
    pub const PIRQRC_DISABLED: u8 = 0x80;
    /// IRQs that PCI interrupts cannot use: 0, 1, 2, 8 and 13 are the board's own.
    pub const PIRQRC_RESERVED: u16 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 8 | 1 << 13;

    /// Address, value after reset, writable bits (82371SB, section 2.2).
    pub const ISA_STORAGE: [(usize, u8, u8); 14] = [
        (0x4c, 0x4d, 0xff), // IORT
        (0x4e, 0x03, 0xff), // XBCS
        (0x4f, 0x00, 0x01),
        (0x60, 0x80, 0x8f), // PIRQRCA
        (0x61, 0x80, 0x8f),
        (0x62, 0x80, 0x8f),
        (0x63, 0x80, 0x8f),
        (0x69, 0x02, 0xfe), // TOM
        (0x70, 0x80, 0xef), // MBIRQ0
        (0x76, 0x0c, 0x8f), // MBDMA0
        (0x77, 0x0c, 0x8f),
        (0x80, 0x00, 0x7f), // APICBASE
        (0x82, 0x00, 0x0f), // DLC
        (0xa0, 0x08, 0x1f), // SMICNTL
    ];

    pub const INTERRUPT_LINE: usize = 0x3c;
    /// The SCI is wired to IRQ 9 whatever the register says.
    pub const SCI_IRQ: u8 = 9;
    pub const PMBASE: u8 = 0x40;
    pub const PMREGMISC: u8 = 0x80;
    /// Bit 0: the power-management ports are decoded.
    pub const PMREGMISC_PMIOSE: u8 = 1;
    /// Address, value after reset, writable bits (82371AB, section 7.1).
    pub const PM_STORAGE: [(usize, u8, u8); 13] = [
        (0x40, 0x01, 0xc0), // PMBASE
        (0x41, 0x00, 0xff),
        (0x58, 0x00, 0xff), // DEVACTB
        (0x59, 0x00, 0xff),
        (0x5a, 0x00, 0xff),
        // APMC_EN: firmware that finds it on takes system management as set up, and there is none to set up.
        (0x5b, 0x02, 0x02),
        (0x5f, 0x00, 0x90), // DEVRESA
        (0x63, 0x00, 0xff), // DEVRESB
        (0x67, 0x00, 0xff), // DEVRESC
        (0x80, 0x00, 0x01), // PMREGMISC
        (0x90, 0x01, 0xf0), // SMBBA
        (0x91, 0x00, 0xff),
        (0xd2, 0x00, 0x0f), // SMBHSTCFG
    ];

    /// Reset control, port CF9h: full reset 8, reset 4, hard reset 2.
    pub const RC_RCPU: u8 = 4;
    pub const RC_MASK: u8 = 0x0e;

    /// System control port A: A20 open 2, fast reset 1.
    pub const PORT92_FAST_RESET: u8 = 1;
    pub const PORT92_A20: u8 = 2;
    pub const PORT92_MASK: u8 = 3;
}

use spec::*;

/// Function 00:01.0, the PIIX3 ISA bridge.
pub struct IsaBridge {
    config: ConfigSpace,
}

impl Default for IsaBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl IsaBridge {
    /// The function after a hardware reset: no PCI interrupt is routed.
    pub fn new() -> Self {
        let id = Identity {
            vendor: 0x8086,
            device: 0x7000,
            class: 0x06_01_00,
            revision: 0,
            multifunction: true,
            interrupt_pin: 0,
        };
        let mut config = ConfigSpace::new(id);
        // I/O, memory and master are always on; special cycles can be.
        config.set(PCICMD, &[0x07, 0x00]);
        config.allow(PCICMD, &[0x08, 0x00]);
        config.set(PCISTS, &PCISTS_RESET);
        config.allow(INTERRUPT_LINE, &[0]);
        with_storage(&mut config, &ISA_STORAGE);
        Self { config }
    }

    /// The ISA IRQ that PIRQ `pirq` (0 A, 1 B, 2 C, 3 D) goes to; `None` if it goes nowhere.
    pub fn pirq_irq(&self, pirq: u8) -> Option<u8> {
        let route = self.config.byte(PIRQRC + (pirq & 3));
        let usable = route & PIRQRC_DISABLED == 0 && PIRQRC_RESERVED >> (route & 15) & 1 == 0;
        usable.then_some(route & 15)
    }
}

impl Device for IsaBridge {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        *self = Self::new();
    }

    fn pci(&mut self) -> Option<&mut dyn PciFunction> {
        Some(self)
    }
}

impl PciFunction for IsaBridge {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
}

/// Function 00:01.3, the PIIX4's power management. Its ports are [`acpi_pm`](crate::acpi_pm)'s.
pub struct PowerManagement {
    config: ConfigSpace,
}

impl Default for PowerManagement {
    fn default() -> Self {
        Self::new()
    }
}

impl PowerManagement {
    /// The function after a hardware reset: its ports are not decoded until firmware has placed them.
    pub fn new() -> Self {
        let id = Identity {
            vendor: 0x8086,
            device: 0x7113,
            class: 0x06_80_00,
            revision: 3,
            multifunction: false,
            interrupt_pin: 1,
        };
        let mut config = ConfigSpace::new(id);
        config.allow(PCICMD, &[0x01, 0x00]);
        config.set(PCISTS, &PCISTS_RESET);
        config.set(INTERRUPT_LINE, &[SCI_IRQ]);
        with_storage(&mut config, &PM_STORAGE);
        Self { config }
    }

    /// Places the ports at `base` (a multiple of 64) and turns their decoding on, as firmware does.
    pub fn set_pm_base(&mut self, base: u16) {
        self.config.write(PMBASE, base.into(), 0b0011);
        self.config.write(PMREGMISC, PMREGMISC_PMIOSE.into(), 0b0001);
    }

    /// Where the 64 power-management ports are; `None` while they are not decoded.
    pub fn pm_base(&self) -> Option<u16> {
        let decoded = self.config.byte(PMREGMISC) & PMREGMISC_PMIOSE != 0;
        decoded.then_some(self.config.read(PMBASE) as u16 & 0xffc0)
    }
}

impl Device for PowerManagement {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        *self = Self::new();
    }

    fn pci(&mut self) -> Option<&mut dyn PciFunction> {
        Some(self)
    }
}

impl PciFunction for PowerManagement {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }
}

/// The reset control register. Region 0: port CF9h, bytes only, since a dword there belongs to
/// [`PciHost`](crate::i440fx::PciHost).
#[derive(Default)]
pub struct ResetControl {
    value: u8,
}

impl ResetControl {
    /// The register after a reset.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Device for ResetControl {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        *self = Self::new();
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for ResetControl {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        match (at.offset, width) {
            (0, Width::B1) => Ok(self.value.into()),
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        if (at.offset, width) != (0, Width::B1) {
            return Err(IoError::Unclaimed);
        }
        let risen = value as u8 & !self.value;
        self.value = value as u8 & RC_MASK;
        if risen & RC_RCPU != 0 {
            cx.request_reset();
        }
        Ok(())
    }
}

/// System control port A. Region 0: port 92h.
#[derive(Default)]
pub struct SystemControlA {
    value: u8,
}

impl SystemControlA {
    /// The port after a reset: the gate is the keyboard controller's to open.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether this port opens the A20 gate.
    pub fn a20(&self) -> bool {
        self.value & PORT92_A20 != 0
    }
}

impl Device for SystemControlA {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        *self = Self::new();
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

impl PortIo for SystemControlA {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        let others = width.ones() & !0xff;
        (at.offset == 0).then_some(others | u64::from(self.value)).ok_or(IoError::Unclaimed)
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, _width: Width, value: u64) -> Result<(), IoError> {
        if at.offset != 0 {
            return Err(IoError::Unclaimed);
        }
        let risen = value as u8 & !self.value;
        self.value = value as u8 & PORT92_MASK;
        if risen & PORT92_FAST_RESET != 0 {
            cx.request_reset();
        }
        Ok(())
    }
}

mod saved {
    use super::{IsaBridge, PORT92_MASK, PowerManagement, RC_MASK, ResetControl, SystemControlA};
    use crate::i440fx::saved::FunctionStateV1;
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    impl Saved for IsaBridge {
        fn save(&self) -> Section {
            let Self { config } = self;
            Section::new("piix3-isa", 1, &FunctionStateV1::of(config))
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let state: FunctionStateV1 = section.decode("piix3-isa", 1)?;
            self.config = state.into_config(Self::new().config, "piix3-isa")?;
            Ok(())
        }
    }

    impl Saved for PowerManagement {
        fn save(&self) -> Section {
            let Self { config } = self;
            Section::new("piix4-pm", 1, &FunctionStateV1::of(config))
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let state: FunctionStateV1 = section.decode("piix4-pm", 1)?;
            self.config = state.into_config(Self::new().config, "piix4-pm")?;
            Ok(())
        }
    }

    /// A device of one byte.
    #[derive(Serialize, Deserialize)]
    struct ByteStateV1 {
        value: u8,
    }

    impl Saved for ResetControl {
        fn save(&self) -> Section {
            let Self { value } = *self;
            Section::new("reset-control", 1, &ByteStateV1 { value })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let ByteStateV1 { value } = section.decode("reset-control", 1)?;
            *self = Self { value: value & RC_MASK };
            Ok(())
        }
    }

    impl Saved for SystemControlA {
        fn save(&self) -> Section {
            let Self { value } = *self;
            Section::new("system-control-a", 1, &ByteStateV1 { value })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let ByteStateV1 { value } = section.decode("system-control-a", 1)?;
            *self = Self { value: value & PORT92_MASK };
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i440fx::config_conformance;
    use aero_bus::PowerRequest;
    use aero_bus::bench::{TestBoard, conformance};
    use aero_state::Saved;

    #[test]
    fn functions_and_ports_pass_the_conformance_suite() {
        conformance(&[], |_| IsaBridge::new());
        conformance(&[], |_| PowerManagement::new());
        config_conformance(IsaBridge::new);
        config_conformance(PowerManagement::new);
        conformance(&[0], |_| ResetControl::new());
        conformance(&[0], |_| SystemControlA::new());
    }

    #[test]
    fn functions_show_their_identity() {
        let (mut isa, mut pm) = (IsaBridge::new(), PowerManagement::new());
        assert_eq!((isa.config().read(0), isa.config().read(8) >> 8), (0x7000_8086, 0x06_0100));
        assert_eq!(isa.config().byte(0x0e), 0x80, "more functions follow");
        assert_eq!((pm.config().read(0), pm.config().read(8) >> 8), (0x7113_8086, 0x06_8000));
        assert_eq!(pm.config().read(0x3c) & 0xffff, 0x0109);
    }

    #[test]
    fn pci_interrupts_go_where_they_are_routed() {
        let (mut board, mut isa) = (TestBoard::new(), IsaBridge::new());
        assert_eq!(isa.config().read(0x60), 0x8080_8080);
        isa.config().write(0x60, 0x8d_00_0b_0a, 0xf);
        let routes = [0, 1, 2, 3].map(|pirq| isa.pirq_irq(pirq));
        assert_eq!(routes, [Some(10), Some(11), None, None]);
        isa.reset(&mut board.cx());
        assert_eq!(isa.pirq_irq(0), None);
    }

    #[test]
    fn power_ports_are_decoded_once_placed() {
        let mut pm = PowerManagement::new();
        assert_eq!((pm.pm_base(), pm.config().read(0x40)), (None, 1));
        pm.set_pm_base(0x600);
        assert_eq!((pm.pm_base(), pm.config().read(0x40)), (Some(0x600), 0x601));
        let mut twin = PowerManagement::new();
        twin.restore(&pm.save()).unwrap();
        assert_eq!(twin.pm_base(), Some(0x600));
    }

    // checklist: 53
    #[test]
    fn cf9_resets_on_a_rising_edge() {
        let (mut board, mut control) = (TestBoard::new(), ResetControl::new());
        board.outb(&mut control, 0, 0, 2);
        assert_eq!(board.fabric.take_request(), None);
        board.outb(&mut control, 0, 0, 6);
        assert_eq!(board.fabric.take_request(), Some(PowerRequest::Reset));
        board.outb(&mut control, 0, 0, 6);
        assert_eq!((board.fabric.take_request(), board.inb(&mut control, 0, 0)), (None, 6));
    }

    // checklist: 30
    #[test]
    fn port_92_opens_a20_and_resets() {
        let (mut board, mut port) = (TestBoard::new(), SystemControlA::new());
        board.outb(&mut port, 0, 0, 2);
        assert!(port.a20());
        assert_eq!(board.fabric.take_request(), None);
        board.outb(&mut port, 0, 0, 3);
        assert_eq!(board.fabric.take_request(), Some(PowerRequest::Reset));
        board.outb(&mut port, 0, 0, 0);
        assert!(!port.a20());
    }
}
