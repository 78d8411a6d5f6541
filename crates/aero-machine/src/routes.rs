//! Which device answers at a port or an address.
//!
//! Most ports and addresses are fixed ([`layout`](crate::layout)); the others are where the guest has put the base address
//! registers of PCI functions, and move with each write to them. Both go into one table, which is made anew when a configuration
//! write moves something: looking up happens for every access, moving some dozens of times in a boot. What comes
//! first in the list of claims wins an overlap, so a register that passes over a fixed port while it is sized takes nothing away.

use crate::layout::Dev;
use aero_bus::At;

/// The region number of an expansion ROM: behind those of the base address registers.
pub(crate) const REGION_ROM: u8 = 6;

/// Ports or addresses of one region of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    pub first: u64,
    pub len: u64,
    pub dev: Dev,
    pub region: u8,
    /// The offset of the first of them in the region.
    pub offset: u64,
}

impl Claim {
    pub fn new(first: u64, len: u64, dev: Dev, region: u8) -> Self {
        Self { first, len, dev, region, offset: 0 }
    }

    fn at(&self, address: u64) -> Option<(Dev, At)> {
        let within = address.wrapping_sub(self.first);
        (within < self.len).then(|| (self.dev, At::new(self.region, self.offset + within)))
    }
}

/// No claim, in the table of ports.
const NOBODY: u8 = u8::MAX;

/// The table.
pub(crate) struct Routes {
    ports: Vec<Claim>,
    /// For each port its claim's number.
    by_port: Box<[u8]>,
    memory: Vec<Claim>,
}

impl Routes {
    pub fn new() -> Self {
        Self { ports: Vec::new(), by_port: vec![NOBODY; 0x1_0000].into(), memory: Vec::new() }
    }

    /// Takes over these claims in place of all that were there.
    pub fn rebuild(&mut self, mut ports: Vec<Claim>, memory: Vec<Claim>) {
        ports.truncate(NOBODY.into());
        self.by_port.fill(NOBODY);
        for (n, claim) in ports.iter().enumerate().rev() {
            let end = (claim.first + claim.len).min(0x1_0000);
            if claim.first < end {
                self.by_port[claim.first as usize..end as usize].fill(n as u8);
            }
        }
        (self.ports, self.memory) = (ports, memory);
    }

    /// Who answers at a port.
    pub fn port(&self, port: u16) -> Option<(Dev, At)> {
        self.ports.get(usize::from(self.by_port[usize::from(port)]))?.at(port.into())
    }

    /// Who answers at an address.
    pub fn memory(&self, gpa: u64) -> Option<(Dev, At)> {
        self.memory.iter().find_map(|claim| claim.at(gpa))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_claim_wins_an_overlap() {
        let mut routes = Routes::new();
        let ports = vec![Claim::new(0x60, 1, Dev::I8042, 0), Claim::new(0x40, 0x40, Dev::Vga, 2)];
        routes.rebuild(ports, vec![Claim::new(0xffff_f000, 0x1000, Dev::IoApic, 0)]);
        assert_eq!(routes.port(0x60), Some((Dev::I8042, At::new(0, 0))));
        assert_eq!(routes.port(0x61), Some((Dev::Vga, At::new(2, 0x21))));
        assert_eq!((routes.port(0x3f), routes.port(0x80)), (None, None));
        assert_eq!(routes.memory(0xffff_f010), Some((Dev::IoApic, At::new(0, 0x10))));
        assert_eq!(routes.memory(0x1_0000_0000), None);
    }

    #[test]
    fn claim_beyond_the_last_port_ends_there() {
        let mut routes = Routes::new();
        routes.rebuild(vec![Claim::new(0xfff0, 0x100, Dev::Vga, 0)], Vec::new());
        assert_eq!(routes.port(0xffff), Some((Dev::Vga, At::new(0, 15))));
        routes.rebuild(Vec::new(), Vec::new());
        assert_eq!(routes.port(0xffff), None);
    }
}
