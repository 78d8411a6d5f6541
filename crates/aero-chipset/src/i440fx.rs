//! The 82441FX (i440FX) host bridge: PCI configuration mechanism 1 and function 00:00.0.
//!
//! [`PciHost`] keeps one register, CONFADD at CF8h, which only a dword access reaches. An access to CFCh–CFFh
//! becomes a configuration cycle: the machine asks [`PciHost::config_access`] which function, which dword and
//! which bytes of it are meant, and carries the cycle to that function's `ConfigSpace`; a function that is
//! not there answers all-ones. Bytes at CF8h–CFBh are not this device's (Linux writes one to CFBh to tell
//! mechanism 1 from 2), and the byte at CF9h is the reset control register of [`piix`](crate::piix).
//!
//! [`HostBridge`] is the bridge's own function. Its registers are storage, with two that reach further: SMRAM
//! can lock itself until the next reset, and the PAM registers say which parts of C0000h–FFFFFh are RAM for
//! reads and for writes ([`HostBridge::shadow`]); the machine switches the memory accordingly. Firmware copies
//! itself into that RAM. (Intel 290549, 82441FX data sheet; PCI Local Bus Specification 2.1, section 3.7.4.)

use aero_bus::pci::{Bdf, ConfigSpace, Identity, PciFunction};
use aero_bus::{At, Cx, Device, IoError, PortIo, Width};
use aero_mem::Bank;
use core::ops::Range;

/// Register facts.
mod spec {
    use core::ops::Range;

    /// CONFADD, a dword.
    pub const CONFADD: u64 = 0;
    /// CONFDATA, four bytes.
    pub const CONFDATA: u64 = 4;
    pub const PORTS: u64 = 8;
    pub const CONFADD_ENABLE: u32 = 1 << 31;
    /// Enable, bus, device, function, dword.
    pub const CONFADD_MASK: u32 = 0x80ff_fffc;

    pub const PCICMD: usize = 0x04;
    pub const PCISTS: usize = 0x06;
    /// SMRAM: DOPEN 40h, DCLS 20h, DLCK 10h, SMRAME 8, C_BASE_SEG 2.
    pub const SMRAM: usize = 0x72;
    pub const SMRAM_DLCK: u8 = 0x10;
    pub const SMRAM_WRITABLE: u8 = 0x78;
    /// Bits that DLCK leaves writable.
    pub const SMRAM_WRITABLE_LOCKED: u8 = 0x28;

    /// PAM0, the first of seven; a nibble each says what a segment's reads (bit 0) and writes (bit 1) see.
    pub const PAM0: u8 = 0x59;
    pub const PAM_REGISTERS: u8 = 7;
    pub const PAM_READ: u8 = 1;
    pub const PAM_WRITE: u8 = 2;
    /// PAM0's upper nibble is the segment F0000h–FFFFFh, and its lower one reserved.
    pub const BIOS: Range<u64> = 0xf_0000..0x10_0000;
    /// The nibbles of PAM1 to PAM6 are segments of 16 KiB from here.
    pub const SEGMENTS: u64 = 0xc_0000;
    pub const SEGMENT: u64 = 0x4000;

    /// Address, value after reset, writable bits (82441FX data sheet, table 2).
    pub const STORAGE: [(usize, u8, u8); 22] = [
        (0x0d, 0x00, 0xf8), // MLT
        (0x50, 0x00, 0xff), // PMCCFG
        (0x51, 0x00, 0xff),
        (0x53, 0x80, 0xff), // DBC
        (0x57, 0x01, 0xff), // DRAMC
        (0x58, 0x10, 0xff), // DRAMT
        (0x59, 0x00, 0x30), // PAM0: F0000–FFFFF
        (0x5a, 0x00, 0x33), // PAM1: C0000–C7FFF
        (0x5b, 0x00, 0x33),
        (0x5c, 0x00, 0x33),
        (0x5d, 0x00, 0x33),
        (0x5e, 0x00, 0x33),
        (0x5f, 0x00, 0x33), // PAM6: E8000–EFFFF
        (0x60, 0x01, 0xff), // DRB0
        (0x61, 0x01, 0xff),
        (0x62, 0x01, 0xff),
        (0x63, 0x01, 0xff),
        (0x64, 0x01, 0xff),
        (0x65, 0x01, 0xff),
        (0x66, 0x01, 0xff),
        (0x67, 0x01, 0xff), // DRB7
        (SMRAM, 0x02, SMRAM_WRITABLE),
    ];
}

use spec::*;

/// One configuration cycle of the processor's making.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigAccess {
    /// The function addressed.
    pub bdf: Bdf,
    /// The dword in its configuration space: 0, 4, … 252.
    pub register: u8,
    /// Which of the dword's bytes are meant (bits 3:0).
    pub enables: u8,
    /// How many bits the access lies above the dword's bit 0.
    pub shift: u32,
}

impl ConfigAccess {
    /// The value written by the processor, in its place in the dword.
    pub fn to_dword(&self, value: u64) -> u32 {
        (value as u32) << self.shift
    }

    /// What the processor reads of `dword`; bytes beyond the dword's end are all-ones.
    pub fn from_dword(&self, dword: u32, width: Width) -> u64 {
        (u64::from(dword) | 0xffff_ffff_0000_0000) >> self.shift & width.ones() | width.ones() & !0xffff_ffff
    }
}

/// CONFADD and the way to the functions. Region 0: the ports CF8h–CFFh.
#[derive(Default)]
pub struct PciHost {
    address: u32,
}

impl PciHost {
    /// The bridge with no function addressed.
    pub fn new() -> Self {
        Self::default()
    }

    /// The function and dword that CONFADD names; `None` while configuration cycles are off.
    pub fn address(&self) -> Option<(Bdf, u8)> {
        let enabled = self.address & CONFADD_ENABLE != 0;
        enabled.then_some((Bdf((self.address >> 8) as u16), self.address as u8))
    }

    /// The configuration cycle that an access at `at` makes; `None` if it makes none, and then it is a plain
    /// port access.
    pub fn config_access(&self, at: At, width: Width) -> Option<ConfigAccess> {
        let first = at.offset.checked_sub(CONFDATA).filter(|_| at.offset < PORTS)?;
        let (bdf, register) = self.address()?;
        let bytes = (1u32 << width.bytes()) - 1;
        Some(ConfigAccess { bdf, register, enables: (bytes << first & 0xf) as u8, shift: first as u32 * 8 })
    }
}

impl Device for PciHost {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        *self = Self::new();
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }
}

/// CONFADD only: the machine carries out configuration cycles, since the functions are other devices.
impl PortIo for PciHost {
    fn read(&mut self, _cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        match (at.offset, width) {
            (CONFADD, Width::B4) => Ok(self.address.into()),
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write(&mut self, _cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        match (at.offset, width) {
            (CONFADD, Width::B4) => self.address = value as u32 & CONFADD_MASK,
            _ => return Err(IoError::Unclaimed),
        }
        Ok(())
    }
}

/// Function 00:00.0.
pub struct HostBridge {
    config: ConfigSpace,
}

impl Default for HostBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl HostBridge {
    /// The function after a hardware reset.
    pub fn new() -> Self {
        let id = Identity {
            vendor: 0x8086,
            device: 0x1237,
            class: 0x06_00_00,
            revision: 2,
            multifunction: false,
            interrupt_pin: 0,
        };
        let mut config = ConfigSpace::new(id);
        // Memory decoding and bus mastering cannot be turned off; SERR# and parity can be turned on.
        config.set(PCICMD, &[0x06, 0x00]);
        config.allow(PCICMD, &[0x40, 0x01]);
        config.set(PCISTS, &[0x80, 0x02]);
        config.allow(0x3c, &[0]);
        with_storage(&mut config, &STORAGE);
        Self { config }
    }

    /// What the PAM registers make of each segment of C0000h–FFFFFh.
    pub fn shadow(&self) -> impl Iterator<Item = (Range<u64>, Bank)> + '_ {
        let segments = (1..PAM_REGISTERS).flat_map(|n| [(n, 0), (n, 4)]).zip(0..);
        let small = segments.map(|((n, shift), i)| {
            let at = SEGMENTS + i * SEGMENT;
            (at..at + SEGMENT, self.pam(n, shift))
        });
        core::iter::once((BIOS, self.pam(0, 4))).chain(small)
    }

    fn pam(&self, register: u8, shift: u8) -> Bank {
        let nibble = self.config.byte(PAM0 + register) >> shift;
        Bank { read_ram: nibble & PAM_READ != 0, write_ram: nibble & PAM_WRITE != 0 }
    }

    /// Makes all of C0000h–FFFFFh RAM, as firmware that has moved there leaves it.
    pub fn open_shadow(&mut self) {
        (0..PAM_REGISTERS)
            .for_each(|n| self.config.set(usize::from(PAM0 + n), &[if n == 0 { 0x30 } else { 0x33 }]));
    }

    fn lock_smram(&mut self) {
        let smram = self.config.byte(SMRAM as u8);
        if smram & SMRAM_DLCK != 0 {
            // DOPEN falls with the lock and stays down (82441FX data sheet, 3.2.22).
            self.config.set(SMRAM, &[smram & !0x40]);
            self.config.allow(SMRAM, &[SMRAM_WRITABLE_LOCKED]);
        }
    }
}

/// Gives registers of a function their reset values and writable bits.
pub(crate) fn with_storage(config: &mut ConfigSpace, registers: &[(usize, u8, u8)]) {
    for (at, value, writable) in registers {
        config.set(*at, &[*value]);
        config.allow(*at, &[*writable]);
    }
}

impl Device for HostBridge {
    fn reset(&mut self, _cx: &mut Cx<'_>) {
        *self = Self::new();
    }

    fn pci(&mut self) -> Option<&mut dyn PciFunction> {
        Some(self)
    }
}

impl PciFunction for HostBridge {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_written(&mut self, _cx: &mut Cx<'_>, at: u8) {
        if usize::from(at & 0xfc) == SMRAM & 0xfc {
            self.lock_smram();
        }
    }
}

pub(crate) mod saved {
    use super::{CONFADD_MASK, ConfigSpace, HostBridge, PciHost};
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct PciHostStateV1 {
        address: u32,
    }

    impl Saved for PciHost {
        fn save(&self) -> Section {
            let Self { address } = *self;
            Section::new("pci-host", 1, &PciHostStateV1 { address })
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let PciHostStateV1 { address } = section.decode("pci-host", 1)?;
            *self = Self { address: address & CONFADD_MASK };
            Ok(())
        }
    }

    /// A function whose state is its configuration space.
    #[derive(Serialize, Deserialize)]
    pub(crate) struct FunctionStateV1 {
        config: Vec<u8>,
    }

    impl FunctionStateV1 {
        /// The state of `config`.
        pub fn of(config: &ConfigSpace) -> Self {
            Self { config: config.bytes().to_vec() }
        }

        /// Takes the state over into `fresh`, a space after reset.
        pub fn into_config(
            self,
            mut fresh: ConfigSpace,
            kind: &'static str,
        ) -> Result<ConfigSpace, RestoreError> {
            let bytes = self.config.try_into().map_err(|_| RestoreError::Damaged { kind })?;
            fresh.restore(&bytes);
            Ok(fresh)
        }
    }

    impl Saved for HostBridge {
        fn save(&self) -> Section {
            let Self { config } = self;
            Section::new("i440fx", 1, &FunctionStateV1::of(config))
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let state: FunctionStateV1 = section.decode("i440fx", 1)?;
            self.config = state.into_config(Self::new().config, "i440fx")?;
            self.lock_smram();
            Ok(())
        }
    }
}

/// What the bench's suite does for ports, for configuration space.
#[cfg(test)]
pub(crate) fn config_conformance<D: Device>(make: impl Fn() -> D) {
    let mut board = aero_bus::bench::TestBoard::new();
    let mut device = make();
    let fresh = device.save();
    for (at, value) in (0..=0xfcu8).step_by(4).flat_map(|at| [0, 0x5555_5555, u32::MAX].map(|v| (at, v))) {
        let function = device.pci().expect("a PCI function");
        let identity = function.config().read(0);
        function.config().write(at, value, 0xf);
        function.config_written(&mut board.cx(), at);
        assert_eq!(function.config().read(0), identity);
    }
    let saved = device.save();
    let mut twin = make();
    twin.restore(&saved).expect("its own saved state");
    assert_eq!(twin.save(), saved, "save, restore, save is save");
    device.reset(&mut board.cx());
    assert_eq!(device.save(), fresh, "reset is power-on");
}

#[cfg(test)]
mod tests {
    use super::*;
    use aero_bus::bench::{TestBoard, conformance};
    use aero_state::Saved;

    fn addressed(confadd: u64) -> (TestBoard, PciHost) {
        let (mut board, mut host) = (TestBoard::new(), PciHost::new());
        host.write(&mut board.cx(), At::new(0, 0), Width::B4, confadd).unwrap();
        (board, host)
    }

    #[test]
    fn host_and_bridge_pass_the_conformance_suite() {
        conformance(&[0], |_| PciHost::new());
        conformance(&[], |_| HostBridge::new());
        config_conformance(HostBridge::new);
    }

    #[test]
    fn linux_finds_mechanism_1() {
        let (mut board, mut host) = addressed(0x8000_0000);
        board.outb(&mut host, 0, 3, 1);
        assert_eq!(host.read(&mut board.cx(), At::new(0, 0), Width::B4), Ok(0x8000_0000));
    }

    #[test]
    fn byte_at_cf9_is_somebody_elses() {
        let (mut board, mut host) = addressed(0);
        assert_eq!(host.read(&mut board.cx(), At::new(0, 1), Width::B1), Err(IoError::Unclaimed));
        assert_eq!(host.write(&mut board.cx(), At::new(0, 1), Width::B1, 6), Err(IoError::Unclaimed));
    }

    #[test]
    fn address_names_function_and_dword() {
        let (_, host) = addressed(0x8000_0b43);
        assert_eq!(host.address(), Some((Bdf::new(0, 1, 3), 0x40)));
        assert_eq!(addressed(0x0000_0b40).1.address(), None);
    }

    // checklist: 54
    #[test]
    fn byte_and_word_accesses_select_their_bytes() {
        let (_, host) = addressed(0x8001_0008);
        let access = host.config_access(At::new(0, 6), Width::B2).unwrap();
        assert_eq!((access.bdf, access.register), (Bdf::new(1, 0, 0), 8));
        assert_eq!((access.enables, access.to_dword(0xabcd)), (0b1100, 0xabcd_0000));
        assert_eq!(access.from_dword(0x1234_5678, Width::B2), 0x1234);
        let byte = host.config_access(At::new(0, 5), Width::B1).unwrap();
        assert_eq!((byte.enables, byte.from_dword(0x1234_5678, Width::B1)), (0b0010, 0x56));
    }

    // checklist: 54
    #[test]
    fn access_beyond_the_data_port_sees_ones() {
        let (_, host) = addressed(0x8000_0000);
        let access = host.config_access(At::new(0, 7), Width::B4).unwrap();
        assert_eq!((access.enables, access.from_dword(0x1200_0000, Width::B4)), (0b1000, 0xffff_ff12));
        let wide = host.config_access(At::new(0, 4), Width::B8).unwrap();
        assert_eq!((wide.enables, wide.from_dword(0, Width::B8)), (0xf, 0xffff_ffff_0000_0000));
    }

    #[test]
    fn address_port_and_disabled_mechanism_make_no_cycle() {
        assert_eq!(addressed(0x8000_0000).1.config_access(At::new(0, 0), Width::B4), None);
        assert_eq!(addressed(0).1.config_access(At::new(0, 4), Width::B4), None);
    }

    #[test]
    fn bridge_is_a_440fx_with_fixed_command_bits() {
        let mut bridge = HostBridge::new();
        bridge.config().write(4, 0, 0xf);
        assert_eq!((bridge.config().read(0), bridge.config().read(8)), (0x1237_8086, 0x0600_0002));
        assert_eq!(bridge.config().read(4), 0x0280_0006);
    }

    #[test]
    fn pam_registers_name_segments_and_their_directions() {
        let mut bridge = HostBridge::new();
        assert!(bridge.shadow().all(|(_, bank)| bank == Bank::BUS) && bridge.shadow().count() == 13);
        // PAM0 and PAM1: BIOS for reading, C4000h for writing.
        bridge.config().write(0x58, 0x10 << 8 | 0x20 << 16, 0b0110);
        let found: Vec<_> = bridge.shadow().filter(|(_, bank)| *bank != Bank::BUS).collect();
        let (read, write) =
            (Bank { read_ram: true, write_ram: false }, Bank { read_ram: false, write_ram: true });
        assert_eq!(found, [(0xf_0000..0x10_0000, read), (0xc_4000..0xc_8000, write)]);
        bridge.open_shadow();
        assert!(bridge.shadow().all(|(_, bank)| bank == Bank::RAM));
        assert_eq!(bridge.shadow().last().map(|(range, _)| range), Some(0xe_c000..0xf_0000));
    }

    #[test]
    fn locked_smram_stays_locked_through_a_restore() {
        let (mut board, mut bridge) = (TestBoard::new(), HostBridge::new());
        bridge.config().write(0x70, 0x5a << 16, 0b0100);
        bridge.config_written(&mut board.cx(), 0x70);
        assert_eq!(bridge.config().byte(0x72), 0x1a);
        let mut twin = HostBridge::new();
        twin.restore(&bridge.save()).unwrap();
        twin.config().write(0x70, 0x4a << 16, 0b0100);
        assert_eq!(twin.config().byte(0x72), 0x1a, "neither opened nor unlocked");
    }
}
