//! The DSDT: what the byte code says about the board.
//!
//! ```text
//! \_S3  \_S4  \_S5  \_PIC
//! \_SB.CPxx          processors
//!      PCI0          root bus: what it decodes
//!      HPET          if there is one
//!      PCI0.ISA      PIIX3: its PIRQ steering registers, then the ISA devices
//!      LNKA..LNKD    the four steering registers as interrupt link devices
//!      PCI0._PRT     which link each device's pin is wired to
//! ```
//!
//! The order is a rule, not a habit: Windows resolves names while it loads the table, so that everything is
//! declared before it is used. That is why the routing table comes last, in a second scope of `PCI0`.

use crate::board::{Board, FloppyKind, HpetBlock, IsaDevice, IsaKind};
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Arg, BufferData, CreateDWordField, Device, EISAName, Field,
    FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, LessThan, Memory32Fixed, Method,
    MethodCall, Name, OpRegion, OpRegionSpace, Or, PackageBuilder, Path, ResourceTemplate, Return, Scope,
    Store, ZERO,
};
use acpi_tables::{Aml, AmlSink};

/// Encodings (ACPI 6.5 chapters 6.4 and 20) and PIIX3 registers (82371SB datasheet section 2.2).
mod spec {
    use core::ops::RangeInclusive;

    /// Small resource: IRQ, two bytes of mask, no flags: edge, active high, exclusive.
    pub const IRQ_NO_FLAGS: u8 = 0x22;
    /// Small resource: DMA, one byte of mask and one of flags.
    pub const DMA: u8 = 0x2a;
    /// Large resource: extended interrupt.
    pub const EXTENDED_IRQ: u8 = 0x89;
    /// Consumer, level, active high, shared.
    pub const LEVEL_HIGH_SHARED: u8 = 0b1001;
    /// Where the first interrupt number lies in an extended interrupt resource.
    pub const EXTENDED_IRQ_NUMBER: u8 = 5;
    /// PIRQRC[A:D]: route control, one byte for each line.
    pub const PIRQRC: u8 = 0x60;
    /// Bit 7 of it: the line is not routed.
    pub const NOT_ROUTED: u8 = 0x80;
    /// Bytes of the HPET's registers.
    pub const HPET_LEN: u32 = 0x400;

    /// `_STA`: present, decoding, shown, functioning.
    pub const PRESENT: u8 = 0x0f;
    /// `_STA`: present, functioning, hidden; with or without "decoding".
    pub const LINK_ENABLED: u8 = 0x0b;
    pub const LINK_DISABLED: u8 = 0x09;

    /// The second port range of the root bus begins behind PCI configuration mechanism 1.
    pub const LAST_PORT: u16 = 0xffff;
    /// Devices with a wire to the PIRQ lines. The host bridge, device 0, has no pin. A table of all 32 would
    /// not fit the buffer of `acpiexec`.
    pub const ROUTED_DEVICES: RangeInclusive<u8> = 1..=30;

    /// `_FDE`: one dword for each of four drives, then "a tape drive is never present".
    pub const FDE_DRIVES: usize = 4;
    pub const NO_TAPE: u32 = 2;
    /// `_FDI`: the last eleven values are those of the diskette parameter table behind INT 1Eh, less the
    /// motor-off time: step rate and head unload, head load and DMA, ..., head settle and motor start.
    pub const DISKETTE_PARAMETERS: [u8; 10] = [0xaf, 0x02, 0x25, 0x02, 0, 0x1b, 0xff, 0x6c, 0xf6, 0x0f];
    pub const MOTOR_START: u8 = 0x08;
    /// Which of those is the number of the last sector.
    pub const LAST_SECTOR: usize = 4;
}

/// Names of the route control registers and of the link devices above them, A to D.
const LINKS: [(&[u8; 4], &str); 4] =
    [(b"PRQA", "LNKA"), (b"PRQB", "LNKB"), (b"PRQC", "LNKC"), (b"PRQD", "LNKD")];

/// Byte code that is already encoded.
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// Several objects, one after the other.
fn sequence(objects: impl IntoIterator<Item = Raw>) -> Raw {
    Raw(objects.into_iter().flat_map(|raw| raw.0).collect())
}

fn raw(object: &dyn Aml) -> Raw {
    let mut bytes = Vec::new();
    object.to_aml_bytes(&mut bytes);
    Raw(bytes)
}

/// The byte code behind the DSDT's header.
pub(crate) fn definition_block(board: &Board) -> Vec<u8> {
    let links = sequence((0..4).map(|line| link(board, line)));
    sequence([
        sleep_states(board),
        interrupt_mode(),
        raw(&Scope::new("_SB_".into(), vec![&sequence((0..board.cpus).map(processor))])),
        raw(&Scope::new(
            "_SB_".into(),
            vec![&root_bus(board), &hpet(board.hpet), &link_status(), &link_setting(), &links],
        )),
        raw(&Scope::new("\\_SB_.PCI0".into(), vec![&routing(board)])),
    ])
    .0
}

/// `\_S3` to `\_S5`: what to write to PM1a and PM1b control for each sleep that the board has.
fn sleep_states(board: &Board) -> Raw {
    let states = [("_S3_", board.s3), ("_S4_", board.s4), ("_S5_", Some(board.s5))];
    sequence(states.into_iter().filter_map(|(name, value)| Some((name, value?))).map(|(name, value)| {
        let mut package = PackageBuilder::new();
        for value in [value, value, 0, 0] {
            package.add_element(&value);
        }
        raw(&Name::new(name.into(), &package))
    }))
}

/// `\_PIC` records whether the system uses the I/O APIC; the routing is the same in both modes, since link
/// devices steer PIRQ lines to ISA lines and these are the I/O APIC's first pins.
fn interrupt_mode() -> Raw {
    sequence([
        raw(&Name::new("PICM".into(), &ZERO)),
        raw(&Method::new("_PIC".into(), 1, false, vec![&Store::new(&Path::new("PICM"), &Arg(0))])),
    ])
}

/// A processor, whose id is the one in the MADT. The older `Processor` object would say the same, and that
/// there are no C2 and C3, which is what saying nothing says here.
fn processor(id: u8) -> Raw {
    let (hid, uid) = (Name::new("_HID".into(), &"ACPI0007"), Name::new("_UID".into(), &id));
    raw(&Device::new(
        Path::new(&format!("CP{id:02X}")),
        vec![&hid, &uid, &Name::new("_STA".into(), &spec::PRESENT)],
    ))
}

/// The PCI root and everything behind the ISA bridge.
fn root_bus(board: &Board) -> Raw {
    let (config, config_len) = board.pci_config;
    let window = &board.pci_window;
    let vga = aero_mem::VGA_WINDOW;
    let memory = |first: u64, behind: u64| {
        let kind = AddressSpaceCacheable::NotCacheable;
        AddressSpace::new_memory(kind, true, first as u32, (behind - 1) as u32, None)
    };
    raw(&Device::new(
        "PCI0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0A03")),
            &Name::new("_UID".into(), &ZERO),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![
                    &AddressSpace::new_bus_number(0u16, 0xff),
                    &IO::new(config, config, 1, config_len),
                    &AddressSpace::new_io(0u16, config - 1, None),
                    &AddressSpace::new_io(config + u16::from(config_len), spec::LAST_PORT, None),
                    &memory(vga.start, vga.end),
                    &memory(window.start.into(), window.end.into()),
                ]),
            ),
            &isa_bridge(board),
        ],
    ))
}

/// The PIIX3: its steering registers as a field, then the devices behind it.
fn isa_bridge(board: &Board) -> Raw {
    let address = u32::from(board.isa_bridge) << 16;
    let registers = LINKS.map(|(register, _)| FieldEntry::Named(*register, 8));
    raw(&Device::new(
        "ISA_".into(),
        vec![
            &Name::new("_ADR".into(), &address),
            &OpRegion::new("PIRC".into(), OpRegionSpace::PCIConfig, &spec::PIRQRC, &4u8),
            &Field::new(
                "PIRC".into(),
                FieldAccessType::Byte,
                FieldLockRule::NoLock,
                FieldUpdateRule::Preserve,
                registers.to_vec(),
            ),
            &isa_devices(board),
        ],
    ))
}

/// The devices in the board's order; those of one kind get unit numbers from 1 on.
fn isa_devices(board: &Board) -> Raw {
    let devices = &board.isa;
    sequence(devices.iter().enumerate().map(|(at, device)| {
        let unit = devices[..=at].iter().filter(|d| d.kind == device.kind).count();
        isa_device(board, device, unit as u8)
    }))
}

fn isa_device(board: &Board, device: &IsaDevice, unit: u8) -> Raw {
    let (name, id) = identity(device.kind);
    let ports = device.ports.iter().map(|(first, count)| raw(&IO::new(*first, *first, 1, *count)));
    let irq = device.irq.map(|irq| {
        let [low, high] = 1u16.checked_shl(irq.into()).unwrap_or(0).to_le_bytes();
        Raw(vec![spec::IRQ_NO_FLAGS, low, high])
    });
    // Not a bus master, 8-bit transfers, compatible timing.
    let dma = device.dma.map(|channel| Raw(vec![spec::DMA, 1u8.checked_shl(channel.into()).unwrap_or(0), 0]));
    let resources = sequence(ports.chain(irq).chain(dma));
    let drives = if device.kind == IsaKind::Floppy { floppy_drives(board) } else { Raw(Vec::new()) };
    raw(&Device::new(
        Path::new(&format!("{name}{unit:X}")),
        vec![
            &Name::new("_HID".into(), &EISAName::new(id)),
            &Name::new("_UID".into(), &unit),
            &Name::new("_STA".into(), &spec::PRESENT),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&resources])),
            &drives,
        ],
    ))
}

/// Which drives hang on the floppy controller, and the shape of each (ACPI 6.5 sections 9.8.1 and 9.8.2).
fn floppy_drives(board: &Board) -> Raw {
    let mut present = [0; spec::FDE_DRIVES + 1];
    board.floppies.iter().zip(&mut present).for_each(|(drive, word)| *word = u32::from(drive.is_some()));
    present[spec::FDE_DRIVES] = spec::NO_TAPE;
    let present = present.iter().flat_map(|word| word.to_le_bytes()).collect();
    let drives = (0u8..).zip(board.floppies).filter_map(|(n, kind)| Some(floppy_drive(n, kind?)));
    sequence([raw(&Name::new("_FDE".into(), &BufferData::new(present)))].into_iter().chain(drives))
}

fn floppy_drive(number: u8, kind: FloppyKind) -> Raw {
    let (last_cylinder, sectors) = kind.extent();
    let mut parameters = spec::DISKETTE_PARAMETERS;
    parameters[spec::LAST_SECTOR] = sectors;
    let mut information = PackageBuilder::new();
    let shape = [number, kind as u8, last_cylinder, sectors, 1];
    shape.iter().chain(&parameters).chain(&[spec::MOTOR_START]).for_each(|n| information.add_element(n));
    raw(&Device::new(
        Path::new(&format!("FLP{number:X}")),
        vec![&Name::new("_ADR".into(), &number), &Name::new("_FDI".into(), &information)],
    ))
}

/// The HPET claims its registers and no interrupt: Windows finds an IRQ 8 here in conflict with the clock's.
fn hpet(block: Option<HpetBlock>) -> Raw {
    let Some(HpetBlock { base, .. }) = block else { return Raw(Vec::new()) };
    raw(&Device::new(
        "HPET".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0103")),
            &Name::new("_UID".into(), &ZERO),
            &Name::new("_STA".into(), &spec::PRESENT),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&Memory32Fixed::new(false, base, spec::HPET_LEN)]),
            ),
        ],
    ))
}

/// The first three letters of a device's name, and its Plug and Play id.
fn identity(kind: IsaKind) -> (&'static str, &'static str) {
    match kind {
        IsaKind::Rtc => ("RTC", "PNP0B00"),
        IsaKind::Pit => ("PIT", "PNP0100"),
        IsaKind::Pic => ("PIC", "PNP0000"),
        IsaKind::Dma => ("DMA", "PNP0200"),
        IsaKind::Speaker => ("SPK", "PNP0800"),
        IsaKind::Fpu => ("FPU", "PNP0C04"),
        IsaKind::Keyboard => ("KBD", "PNP0303"),
        IsaKind::Mouse => ("MOU", "PNP0F13"),
        IsaKind::Serial => ("COM", "PNP0501"),
        IsaKind::Parallel => ("LPT", "PNP0400"),
        IsaKind::Floppy => ("FDC", "PNP0700"),
        IsaKind::Motherboard => ("MBR", "PNP0C02"),
    }
}

/// An extended interrupt resource that names all of `choices`.
fn interrupts(choices: &[u8]) -> Raw {
    let mut bytes = vec![spec::EXTENDED_IRQ];
    bytes.extend((2 + 4 * choices.len() as u16).to_le_bytes());
    bytes.extend([spec::LEVEL_HIGH_SHARED, choices.len() as u8]);
    bytes.extend(choices.iter().flat_map(|gsi| u32::from(*gsi).to_le_bytes()));
    Raw(bytes)
}

/// `\_SB.LSTA(register)`: the `_STA` of a link.
fn link_status() -> Raw {
    raw(&Method::new(
        "LSTA".into(),
        1,
        false,
        vec![
            &If::new(&LessThan::new(&Arg(0), &spec::NOT_ROUTED), vec![&Return::new(&spec::LINK_ENABLED)]),
            &Return::new(&spec::LINK_DISABLED),
        ],
    ))
}

/// `\_SB.LCRS(register)`: the `_CRS` of a link; interrupt 0 stands for "none".
fn link_setting() -> Raw {
    raw(&Method::new(
        "LCRS".into(),
        1,
        true,
        vec![
            &Name::new("BUF0".into(), &ResourceTemplate::new(vec![&interrupts(&[0])])),
            &CreateDWordField::new(&Path::new("IRQN"), &Path::new("BUF0"), &spec::EXTENDED_IRQ_NUMBER),
            &If::new(
                &LessThan::new(&Arg(0), &spec::NOT_ROUTED),
                vec![&Store::new(&Path::new("IRQN"), &Arg(0))],
            ),
            &Return::new(&Path::new("BUF0")),
        ],
    ))
}

/// One PIRQ line as a device that can be steered.
fn link(board: &Board, line: u8) -> Raw {
    let (register, name) = LINKS[usize::from(line)];
    let register = || Path::new(&format!("\\_SB_.PCI0.ISA_.{}", String::from_utf8_lossy(register)));
    raw(&Device::new(
        Path::new(name),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C0F")),
            &Name::new("_UID".into(), &(line + 1)),
            &Name::new("_PRS".into(), &ResourceTemplate::new(vec![&interrupts(&board.pirq_choices)])),
            &Method::new(
                "_STA".into(),
                0,
                false,
                vec![&Return::new(&MethodCall::new("LSTA".into(), vec![&register()]))],
            ),
            &Method::new(
                "_DIS".into(),
                0,
                false,
                vec![&Or::new(&register(), &register(), &spec::NOT_ROUTED)],
            ),
            &Method::new(
                "_CRS".into(),
                0,
                false,
                vec![&Return::new(&MethodCall::new("LCRS".into(), vec![&register()]))],
            ),
            &Method::new(
                "_SRS".into(),
                1,
                true,
                vec![
                    &CreateDWordField::new(&Path::new("IRQN"), &Arg(0), &spec::EXTENDED_IRQ_NUMBER),
                    &Store::new(&register(), &Path::new("IRQN")),
                ],
            ),
        ],
    ))
}

/// `_PRT`: every pin of every device that the bus can hold.
fn routing(board: &Board) -> Raw {
    let mut table = PackageBuilder::new();
    for device in spec::ROUTED_DEVICES {
        for pin in 0..4u8 {
            let line = (board.pirq_of)(device, pin) & 3;
            let mut entry = PackageBuilder::new();
            entry.add_element(&(u32::from(device) << 16 | 0xffff));
            entry.add_element(&pin);
            entry.add_element(&Path::new(&format!("\\_SB_.{}", LINKS[usize::from(line)].1)));
            entry.add_element(&ZERO);
            table.add_element(&entry);
        }
    }
    raw(&Name::new("_PRT".into(), &table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acpi::tests::board;

    /// Where `needle` begins, in order.
    fn places(aml: &[u8], needle: &[u8]) -> Vec<usize> {
        aml.windows(needle.len()).enumerate().filter(|(_, w)| *w == needle).map(|(at, _)| at).collect()
    }

    #[test]
    fn every_name_is_declared_before_it_is_used() {
        let aml = definition_block(&board());
        for (name, opcode) in
            [("LSTA", &[0x14u8][..]), ("LCRS", &[0x14]), ("LNKA", &[0x5b, 0x82]), ("PCI0", &[0x5b, 0x82])]
        {
            let first = places(&aml, name.as_bytes())[0];
            assert!(
                !places(&aml[first.saturating_sub(6)..first], opcode).is_empty(),
                "{name} is used before it is declared"
            );
        }
        for (register, link) in LINKS {
            let field = places(&aml, &[0x5b, 0x81])[0];
            let uses = places(&aml, register);
            assert!(field < uses[0] && uses[0] < field + 40 && uses.len() == 6, "{register:?}: {uses:?}");
            assert_eq!(places(&aml, link.as_bytes()).len(), 1 + 30, "{link}");
        }
    }

    #[test]
    fn routing_covers_every_pin_of_every_device() {
        let aml = routing(&board()).0;
        for device in 1..31u8 {
            // Package of 4: dword address with FFFFh in the low word.
            let address = [0x0c, 0xff, 0xff, device, 0];
            assert_eq!(places(&aml, &address).len(), 4, "device {device}");
        }
    }

    #[test]
    fn links_never_offer_an_interrupt_of_a_legacy_device() {
        let aml = interrupts(&board().pirq_choices).0;
        assert_eq!(aml, [0x89, 14, 0, 9, 3, 5, 0, 0, 0, 10, 0, 0, 0, 11, 0, 0, 0]);
    }

    #[test]
    fn units_of_one_kind_are_counted() {
        let aml = definition_block(&board());
        assert_eq!((places(&aml, b"COM1").len(), places(&aml, b"COM2").len()), (1, 1));
    }

    #[test]
    fn processors_have_the_ids_of_the_madt() {
        for id in [0u8, 1, 0x1f, 0xfe] {
            let Raw(aml) = processor(id);
            let uid = raw(&Name::new("_UID".into(), &id));
            assert_eq!((places(&aml, b"ACPI0007\0").len(), places(&aml, &uid.0).len()), (1, 1));
        }
    }
}
