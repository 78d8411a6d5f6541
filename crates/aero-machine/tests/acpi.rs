//! The ACPI tables that this board's address map makes, under ACPICA's tools.

#[path = "../../aero-firmware/src/acpica.rs"]
mod acpica;

use aero_firmware::acpi::{self, AREA, AcpiTables};
use aero_machine::layout;

const LOW_RAM: u64 = 0xc000_0000;

fn tables() -> AcpiTables {
    acpi::build(&layout::board(2, layout::PM_BASE, true), LOW_RAM - AREA, layout::RSDP)
}

fn table(signature: &[u8]) -> Vec<u8> {
    let tables = tables().pieces;
    tables.into_iter().find(|(_, bytes)| bytes.starts_with(signature)).expect("the table").1
}

// checklist: 39
#[test]
fn tables_of_the_board_go_through_iasl_unchanged() {
    let tables = tables().pieces.into_iter().filter(|(at, _)| *at != layout::RSDP);
    acpica::round_trip(&tables.map(|(_, bytes)| bytes).collect::<Vec<_>>());
    assert_eq!(acpica::forward_references(&acpica::disassemble(&table(b"DSDT"))), Vec::<String>::new());
}

// checklist: 44, 45
#[test]
fn methods_of_the_board_run_and_its_pins_are_routed() {
    acpica::evaluate_every_method(&table(b"DSDT"));
    acpica::check_routing(&table(b"DSDT"), &table(b"APIC"));
}

// checklist: 28
#[test]
fn memory_map_of_the_board_and_its_root_bus_do_not_meet() {
    let map = aero_firmware::memory_map(LOW_RAM, 1 << 30, tables().range, &layout::reserved(true));
    let ranges: Vec<_> = map.iter().map(|e| e.base..e.end()).collect();
    acpica::check_root_windows(&table(b"DSDT"), &ranges);
}
