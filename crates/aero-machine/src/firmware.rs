//! What firmware is told of the machine, through `fw_cfg`: memory, boot order, ACPI and SMBIOS tables.

use crate::config::{Config, Firmware};
use crate::drives::{Attached, Bus, Place};
use crate::layout;
use aero_bus::pci::Bdf;
use aero_chipset::fw_cfg::FwCfg;
use aero_firmware::loader;
use aero_firmware::smbios::{self, System};
use aero_mem::GuestMemory;
use aero_x86::cpuid::Present;

/// The date of the BIOS that the SMBIOS tables give.
const BIOS_DATE: &str = "01/01/2026";

/// The device with all its items.
pub(crate) fn describe(
    config: &Config,
    drives: &Attached,
    firmware: Option<&Firmware>,
    mem: &GuestMemory,
) -> FwCfg {
    let mut device = FwCfg::new(1, mem.ram_size(), &[]);
    let Some(firmware) = firmware else { return device };
    device.set_boot_menu(firmware.menu);
    device.set_file("etc/e820", memory(mem, config.hpet));
    device.set_file("bootorder", boot_order(&firmware.order, drives));
    for (name, bytes) in smbios::files(&system(config, mem)) {
        device.set_file(name, bytes);
    }
    describe_board(&mut device, layout::PM_BASE, config.hpet);
    device
}

/// Tells of the board, whose power-management ports are at `pm_base`.
pub(crate) fn describe_board(device: &mut FwCfg, pm_base: u16, hpet: bool) {
    for (name, bytes) in loader::files(&layout::board(1, pm_base, hpet)) {
        device.set_file(name, bytes);
    }
}

/// RAM and what the BIOS does not know to reserve, as entries of its memory map: base and size (qwords), kind (dword).
fn memory(mem: &GuestMemory, hpet: bool) -> Vec<u8> {
    const RAM: u32 = 1;
    const RESERVED: u32 = 2;
    const HIGH: u64 = 1 << 32;
    let ram = [(0, mem.low_ram(), RAM), (HIGH, mem.high_ram(), RAM)];
    let timer = hpet.then_some((layout::HPET, 0x1000, RESERVED));
    let entry = |(base, size, kind): (u64, u64, u32)| {
        [&base.to_le_bytes()[..], &size.to_le_bytes(), &kind.to_le_bytes()].concat()
    };
    ram.into_iter().filter(|(_, size, _)| *size > 0).chain(timer).flat_map(entry).collect()
}

/// The drives by their Open Firmware paths, those of the first letter first, a line each and NUL behind the last.
fn boot_order(order: &str, drives: &Attached) -> Vec<u8> {
    let lines: Vec<String> = order
        .chars()
        .flat_map(|letter| drives.iter().filter(move |(bus, _)| is_meant(letter, *bus)))
        .map(|(_, place)| path(place))
        .collect();
    let mut bytes = lines.join("\n").into_bytes();
    bytes.push(0);
    bytes
}

fn is_meant(letter: char, bus: Bus) -> bool {
    match bus {
        Bus::Floppy => letter == 'a',
        Bus::IdeDisk | Bus::AhciDisk | Bus::Nvme | Bus::Virtio => letter == 'c',
        Bus::IdeCd | Bus::AhciCd => letter == 'd',
    }
}

fn path(place: Place) -> String {
    let slot = |at: Bdf| format!("{:x}", at.device());
    match place {
        Place::Floppy(n) => format!("/pci@i0cf8/isa@1/fdc@03f0/floppy@{n}"),
        Place::Ide(channel, unit) => format!("/pci@i0cf8/ide@1,1/drive@{channel}/disk@{unit}"),
        Place::Nvme => format!("/pci@i0cf8/pci1b36,10@{}/namespace@1,0", slot(layout::NVME)),
        Place::Virtio => format!("/pci@i0cf8/scsi@{}/disk@0,0", slot(layout::VIRTIO_BLK)),
        Place::Ahci(port) => {
            format!("/pci@i0cf8/pci8086,2922@{}/drive@{port}/disk@0", slot(layout::AHCI))
        }
    }
}

fn system(config: &Config, mem: &GuestMemory) -> System {
    let model = config.cpu.find().ok();
    let cpu_id = model.map(|model| {
        let leaf = model.leaf(1, 0, &Present::default());
        (leaf.eax, leaf.edx)
    });
    System {
        uuid: *b"\xae\x20\x00\x01Aero-PC\x80\x00\x00\x00\x01",
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: BIOS_DATE.to_owned(),
        cores: 1,
        cpu_id: cpu_id.unwrap_or_default(),
        cpu_vendor: "GenuineIntel".to_owned(),
        cpu_name: model.map(|m| m.brand.trim().to_owned()).unwrap_or_default(),
        mhz: aero_cpu::msr::TSC_MHZ as u16,
        low_ram: mem.low_ram(),
        high_ram: mem.high_ram(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drives::Drive;
    use aero_bus::block::MemoryDisk;

    #[test]
    fn drives_are_ordered_by_the_letters() {
        let buses = [Bus::IdeDisk, Bus::IdeCd, Bus::AhciDisk, Bus::Floppy];
        let drives = buses.map(|bus| Drive::new(bus, MemoryDisk::new(vec![0; 512], false)));
        let attached = Attached::new(drives.into()).unwrap();
        let lines = [
            "/pci@i0cf8/ide@1,1/drive@1/disk@0",
            "/pci@i0cf8/ide@1,1/drive@0/disk@0",
            "/pci@i0cf8/pci8086,2922@4/drive@0/disk@0",
        ];
        assert_eq!(boot_order("dcn", &attached), [lines.join("\n").as_bytes(), b"\0"].concat());
        assert_eq!(boot_order("n", &attached), b"\0");
    }

    #[test]
    fn memory_map_has_ram_below_and_above_4_gib() {
        let mem = GuestMemory::new(1 << 20, 1).expect("a small memory");
        let map = memory(&mem, false);
        assert_eq!((map.len(), &map[8..16], map[16]), (20, &(1u64 << 20).to_le_bytes()[..], 1));
        let with_timer = memory(&mem, true);
        assert_eq!(&with_timer[..20], map);
        assert_eq!((&with_timer[20..28], with_timer[36]), (&layout::HPET.to_le_bytes()[..], 2));
    }
}
