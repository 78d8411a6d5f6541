//! Virtio over PCI: the modern transport with its structures in a memory BAR, and the legacy one in an I/O BAR. (virtio 4.1)
//!
//! A transitional function has both, so that drivers of before the standard (virtio-win 0.1.17x for Windows 7 among
//! them) find what they know and newer ones find the capabilities. BAR numbers:
//!
//! | | transitional | modern |
//! |---|---|---|
//! | legacy registers | 0, I/O | none |
//! | MSI-X table and pending bits | 1 | 2 |
//! | common, notify, ISR, device structures | 4, 64-bit | 0, 64-bit |
//!
//! Interrupts are raised once after each call into the device. While MSI-X is on, a queue's interrupt is its
//! vector's message and the ISR register stays clear; otherwise the ISR's bits drive the pin until it is read.
//!
//! A function that is not a bus master touches no ring; what was notified in the meantime is looked at when it
//! becomes one.

use super::{Profile, Queues, VirtioDevice, feature};
use crate::block::Completion;
use crate::pci::{Bar, ConfigSpace, Identity, Msix, PciFunction};
use crate::{At, Cx, Device, IoError, IrqLine, Mmio, PortIo, TimerId, Width};

/// A vector register that names no vector.
pub(super) const NO_VECTOR: u16 = 0xffff;

mod spec {
    //! Registers and bits by the standard's names.

    pub const VENDOR: u16 = 0x1af4;
    /// PCI device ids of modern functions: this plus the device type.
    pub const MODERN_ID: u16 = 0x1040;

    /// Capability: vendor-specific, with its own types.
    pub const CAPABILITY: u8 = 0x09;
    pub const CFG_COMMON: u8 = 1;
    pub const CFG_NOTIFY: u8 = 2;
    pub const CFG_ISR: u8 = 3;
    pub const CFG_DEVICE: u8 = 4;
    pub const CFG_PCI: u8 = 5;

    /// Where the structures are in the modern BAR.
    pub const BAR_SIZE: u64 = 0x4000;
    pub const NOTIFY: u64 = 0x1000;
    pub const ISR: u64 = 0x2000;
    pub const DEVICE: u64 = 0x3000;
    pub const NOTIFY_MULTIPLIER: u32 = 4;
    /// Bytes of the common structure, without those of features that are not offered.
    pub const COMMON_LEN: usize = 56;
    /// Where the pending bits are in the MSI-X BAR, and its size.
    pub const PBA: u32 = 0x800;
    pub const MSIX_BAR: u32 = 0x1000;

    pub const ACKNOWLEDGE_MASK: u8 = !NEEDS_RESET;
    pub const DRIVER_OK: u8 = 4;
    pub const FEATURES_OK: u8 = 8;
    pub const NEEDS_RESET: u8 = 0x40;

    pub const ISR_QUEUE: u8 = 1;
    pub const ISR_CONFIG: u8 = 2;

    /// Legacy registers end here, or 4 bytes later while MSI-X is on (4.1.4.10).
    pub const LEGACY_LEN: u64 = 20;
    pub const LEGACY_LEN_MSIX: u64 = 24;
    /// Legacy rings: alignment of the used ring, and unit of the queue's address.
    pub const LEGACY_PAGE: u64 = 4096;
}

use spec::*;

/// Which drivers a function serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interface {
    /// Those of the standard.
    Modern,
    /// Those of the standard, and older ones. Types without a transitional id are modern nevertheless.
    Transitional,
}

/// Registers of the common structure that are not a queue's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
struct Common {
    device_feature_select: u32,
    driver_feature_select: u32,
    queue_select: u16,
    config_vector: u16,
    status: u8,
    generation: u8,
    isr: u8,
}

impl Common {
    const RESET: Self = Self {
        device_feature_select: 0,
        driver_feature_select: 0,
        queue_select: 0,
        config_vector: NO_VECTOR,
        status: 0,
        generation: 0,
        isr: 0,
    };
}

/// A virtio device as a PCI function.
pub struct VirtioPci<D> {
    device: D,
    profile: Profile,
    config: ConfigSpace,
    msix: Msix,
    queues: Queues,
    common: Common,
    line: IrqLine,
    /// Whether there is a legacy BAR.
    legacy: bool,
    modern_bar: u8,
    msix_bar: u8,
    /// Where the capability is through which configuration space reaches the BARs.
    window: u8,
    was_master: bool,
}

impl<D: VirtioDevice> VirtioPci<D> {
    /// A function whose pin is `line`.
    pub fn new(device: D, interface: Interface, line: IrqLine) -> Self {
        let profile = device.profile();
        let legacy = interface == Interface::Transitional && profile.legacy_id.is_some();
        let (modern_bar, msix_bar) = if legacy { (4, 1) } else { (0, 2) };
        let mut config = space(&profile, legacy, modern_bar, msix_bar);
        let vectors = profile.queues.len() as u16 + 1;
        let msix = Msix::add(&mut config, vectors, msix_bar, 0, PBA);
        let window = add_capabilities(&mut config, &profile, modern_bar);
        Self {
            queues: Queues::new(&profile.queues),
            device,
            profile,
            config,
            msix,
            common: Common::RESET,
            line,
            legacy,
            modern_bar,
            msix_bar,
            window,
            was_master: false,
        }
    }

    /// The device behind the transport.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Whether the driver has said that it is ready.
    pub fn is_driven(&self) -> bool {
        self.common.status & DRIVER_OK != 0
    }

    /// Calls the device from outside, with its queues: a frame came, a key was pressed. Interrupts follow.
    pub fn with<R>(
        &mut self,
        cx: &mut Cx<'_>,
        call: impl FnOnce(&mut D, &mut Cx<'_>, &mut Queues) -> R,
    ) -> R {
        self.settle_running();
        let result = call(&mut self.device, cx, &mut self.queues);
        self.settle(cx);
        result
    }

    fn offered(&self) -> u64 {
        self.device.features() | feature::INDIRECT_DESC | feature::EVENT_IDX | feature::VERSION_1
    }

    /// The rings may be used by a bus master that is ready; drivers of before the standard use them earlier (3.1.2).
    fn settle_running(&mut self) {
        let ready = self.is_driven() || !self.queues.is_modern();
        self.queues.running = ready && !self.queues.broken && self.config.is_master();
    }

    fn notify(&mut self, cx: &mut Cx<'_>, queue: u16) {
        self.settle_running();
        if self.queues.usable(queue) {
            self.device.queue_notified(cx, &mut self.queues, queue);
            self.settle(cx);
        }
    }

    fn notify_all(&mut self, cx: &mut Cx<'_>) {
        (0..self.profile.queues.len() as u16).for_each(|n| self.notify(cx, n));
    }

    /// After a call of the device: shows returned buffers, and interrupts for them, for the configuration and for failure.
    fn settle(&mut self, cx: &mut Cx<'_>) {
        for n in 0..self.queues.list.len() {
            if self.queues.running && self.queues.publish(cx, n) {
                self.interrupt(cx, self.queues.list[n].vector, ISR_QUEUE);
            }
        }
        if self.queues.broken && self.common.status & NEEDS_RESET == 0 {
            self.common.status |= NEEDS_RESET;
            self.queues.config_changed = true;
        }
        if core::mem::take(&mut self.queues.config_changed) {
            self.common.generation = self.common.generation.wrapping_add(1);
            if self.is_driven() {
                self.interrupt(cx, self.common.config_vector, ISR_CONFIG);
            }
        }
    }

    fn interrupt(&mut self, cx: &mut Cx<'_>, vector: u16, isr: u8) {
        if self.msix.enabled(&self.config) {
            self.msix.notify(&self.config, cx, vector);
        } else {
            self.common.isr |= isr;
            self.drive_pin(cx);
        }
    }

    fn drive_pin(&mut self, cx: &mut Cx<'_>) {
        let asked = self.common.isr != 0 && !self.msix.enabled(&self.config);
        let level = self.config.set_interrupt(asked);
        cx.set_irq(self.line, level);
    }

    fn read_isr(&mut self, cx: &mut Cx<'_>) -> u8 {
        let isr = core::mem::take(&mut self.common.isr);
        self.drive_pin(cx);
        isr
    }

    /// A reset by the driver: everything but PCI's own registers (2.4.1).
    fn reset_device(&mut self, cx: &mut Cx<'_>) {
        self.device.reset();
        self.common = Common::RESET;
        self.queues = Queues::new(&self.profile.queues);
        self.drive_pin(cx);
    }

    fn write_status(&mut self, cx: &mut Cx<'_>, value: u8) {
        if value == 0 {
            return self.reset_device(cx);
        }
        let was_driven = self.is_driven();
        self.common.status = value & ACKNOWLEDGE_MASK | self.common.status & NEEDS_RESET;
        let agreed = self.queues.is_modern() && self.queues.features & !self.offered() == 0;
        if !agreed {
            // The driver reads the bit back to learn whether the device agrees (3.1.1, step 6).
            self.common.status &= !FEATURES_OK;
        }
        if self.is_driven() && !was_driven {
            self.notify_all(cx);
        }
    }

    fn selected(&mut self) -> Option<&mut super::queue::Virtqueue> {
        self.queues.list.get_mut(usize::from(self.common.queue_select))
    }

    /// A vector register takes only what the table has (4.1.5.1.2.1).
    fn vector(&self, value: u64) -> u16 {
        let known = value <= self.profile.queues.len() as u64;
        if known { value as u16 } else { NO_VECTOR }
    }

    fn common_image(&self) -> [u8; COMMON_LEN] {
        let c = &self.common;
        let queue = self.queues.list.get(usize::from(c.queue_select));
        let word =
            |features: u64, select: u32| if select < 2 { (features >> (32 * select)) as u32 } else { 0 };
        let mut image = [0; COMMON_LEN];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &c.device_feature_select.to_le_bytes());
        put(0x04, &word(self.offered(), c.device_feature_select).to_le_bytes());
        put(0x08, &c.driver_feature_select.to_le_bytes());
        put(0x0c, &word(self.queues.features, c.driver_feature_select).to_le_bytes());
        put(0x10, &c.config_vector.to_le_bytes());
        put(0x12, &(self.queues.list.len() as u16).to_le_bytes());
        put(0x14, &[c.status, c.generation]);
        put(0x16, &c.queue_select.to_le_bytes());
        let Some(queue) = queue else { return image };
        put(0x18, &queue.size.to_le_bytes());
        put(0x1a, &queue.vector.to_le_bytes());
        put(0x1c, &u16::from(queue.enabled).to_le_bytes());
        put(0x1e, &c.queue_select.to_le_bytes());
        put(0x20, &queue.descriptors.to_le_bytes());
        put(0x28, &queue.avail.to_le_bytes());
        put(0x30, &queue.used.to_le_bytes());
        image
    }

    fn write_common(&mut self, cx: &mut Cx<'_>, offset: u64, width: Width, value: u64) {
        match (offset, width) {
            (0x00, Width::B4) => self.common.device_feature_select = value as u32,
            (0x08, Width::B4) => self.common.driver_feature_select = value as u32,
            (0x0c, Width::B4) => self.write_features(value as u32),
            (0x10, Width::B2) => self.common.config_vector = self.vector(value),
            (0x14, Width::B1) => self.write_status(cx, value as u8),
            (0x16, Width::B2) => self.common.queue_select = value as u16,
            (0x1a, Width::B2) => {
                let vector = self.vector(value);
                self.selected().into_iter().for_each(|q| q.vector = vector);
            }
            (0x20 | 0x28 | 0x30, Width::B8) => {
                self.write_queue(offset, Width::B4, value & 0xffff_ffff);
                self.write_queue(offset + 4, Width::B4, value >> 32);
            }
            _ => self.write_queue(offset, width, value),
        }
    }

    fn write_features(&mut self, value: u32) {
        let select = self.common.driver_feature_select;
        if select < 2 && self.common.status & FEATURES_OK == 0 {
            let shift = 32 * select;
            let kept = self.queues.features & !(0xffff_ffff << shift);
            self.queues.features = kept | u64::from(value) << shift;
        }
    }

    /// The registers of a queue, which are fixed once it is enabled.
    fn write_queue(&mut self, offset: u64, width: Width, value: u64) {
        let Some(queue) = self.selected().filter(|q| !q.enabled) else { return };
        let half = |old: u64, high: bool| {
            let shift = if high { 32 } else { 0 };
            old & !(0xffff_ffff << shift) | value << shift
        };
        match (offset, width) {
            (0x18, Width::B2) if value.is_power_of_two() && value <= queue.max.into() => {
                queue.size = value as u16;
            }
            (0x1c, Width::B2) => queue.enabled = value == 1,
            (0x20 | 0x24, Width::B4) => queue.descriptors = half(queue.descriptors, offset & 4 != 0),
            (0x28 | 0x2c, Width::B4) => queue.avail = half(queue.avail, offset & 4 != 0),
            (0x30 | 0x34, Width::B4) => queue.used = half(queue.used, offset & 4 != 0),
            _ => {}
        }
    }

    fn read_device(&self, offset: u64, width: Width) -> u64 {
        let mut image = [0; 256];
        self.device.config(&mut image[..self.profile.config_len]);
        field(&image, offset, width)
    }

    fn write_device(&mut self, offset: u64, width: Width, value: u64) {
        for (i, byte) in (0..width.bytes()).zip(value.to_le_bytes()) {
            let at = offset.saturating_add(i);
            if at < self.profile.config_len as u64 {
                self.device.config_written(at as usize, byte);
            }
        }
    }

    fn read_modern(&mut self, cx: &mut Cx<'_>, offset: u64, width: Width) -> u64 {
        match offset {
            0..NOTIFY => field(&self.common_image(), offset, width),
            ISR => self.read_isr(cx).into(),
            DEVICE..BAR_SIZE => self.read_device(offset - DEVICE, width),
            _ => 0,
        }
    }

    fn write_modern(&mut self, cx: &mut Cx<'_>, offset: u64, width: Width, value: u64) {
        match offset {
            0..NOTIFY => self.write_common(cx, offset, width, value),
            // Which queue is told by where it is written.
            NOTIFY..ISR => self.notify(cx, ((offset - NOTIFY) / u64::from(NOTIFY_MULTIPLIER)) as u16),
            DEVICE..BAR_SIZE => self.write_device(offset - DEVICE, width, value),
            _ => {}
        }
    }

    fn legacy_len(&self) -> u64 {
        if self.msix.enabled(&self.config) { LEGACY_LEN_MSIX } else { LEGACY_LEN }
    }

    fn read_legacy(&mut self, cx: &mut Cx<'_>, offset: u64, width: Width) -> u64 {
        if offset >= self.legacy_len() {
            return self.read_device(offset - self.legacy_len(), width);
        }
        if offset == 0x13 {
            return self.read_isr(cx).into();
        }
        let queue = self.queues.list.get(usize::from(self.common.queue_select));
        let features = self.offered() as u32 | feature::ANY_LAYOUT as u32;
        let pfn = queue.filter(|q| q.enabled).map_or(0, |q| (q.descriptors / LEGACY_PAGE) as u32);
        let mut image = [0; LEGACY_LEN_MSIX as usize];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x00, &features.to_le_bytes());
        put(0x04, &(self.queues.features as u32).to_le_bytes());
        put(0x08, &pfn.to_le_bytes());
        put(0x0c, &queue.map_or(0, |q| q.size).to_le_bytes());
        put(0x0e, &self.common.queue_select.to_le_bytes());
        put(0x12, &[self.common.status]);
        put(0x14, &self.common.config_vector.to_le_bytes());
        put(0x16, &queue.map_or(NO_VECTOR, |q| q.vector).to_le_bytes());
        field(&image, offset, width)
    }

    fn write_legacy(&mut self, cx: &mut Cx<'_>, offset: u64, width: Width, value: u64) {
        if offset >= self.legacy_len() {
            return self.write_device(offset - self.legacy_len(), width, value);
        }
        match (offset, width) {
            (0x04, Width::B4) => {
                let offered = self.offered() & 0xffff_ffff | feature::ANY_LAYOUT;
                self.queues.features = value & offered;
            }
            (0x08, Width::B4) => self.place_legacy_queue(value),
            (0x0e, Width::B2) => self.common.queue_select = value as u16,
            (0x10, Width::B2 | Width::B4) => self.notify(cx, value as u16),
            (0x12, Width::B1) => self.write_status(cx, value as u8),
            (0x14, Width::B2) => self.common.config_vector = self.vector(value),
            (0x16, Width::B2) => {
                let vector = self.vector(value);
                self.selected().into_iter().for_each(|q| q.vector = vector);
            }
            _ => {}
        }
    }

    /// The rings of an old driver lie one behind the other, the used ring on a page of its own (2.7.2).
    fn place_legacy_queue(&mut self, pfn: u64) {
        let Some(queue) = self.selected() else { return };
        let (max, vector, size) = (queue.max, queue.vector, u64::from(queue.size));
        *queue = super::queue::Virtqueue::new(max);
        queue.vector = vector;
        queue.size = size as u16;
        queue.enabled = pfn != 0;
        queue.descriptors = pfn * LEGACY_PAGE;
        queue.avail = queue.descriptors + 16 * size;
        queue.used = (queue.avail + 6 + 2 * size).next_multiple_of(LEGACY_PAGE);
    }

    fn read_bar(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        match at.region {
            0 if self.legacy => Ok(self.read_legacy(cx, at.offset, width)),
            bar if bar == self.modern_bar => Ok(self.read_modern(cx, at.offset, width)),
            bar if bar == self.msix_bar && at.offset < PBA.into() => {
                Ok(self.msix.read_table(at.offset, width))
            }
            bar if bar == self.msix_bar => Ok(self.msix.read_pending(at.offset - u64::from(PBA), width)),
            _ => Err(IoError::Unclaimed),
        }
    }

    fn write_bar(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        match at.region {
            0 if self.legacy => self.write_legacy(cx, at.offset, width, value),
            bar if bar == self.modern_bar => self.write_modern(cx, at.offset, width, value),
            bar if bar == self.msix_bar => {
                self.msix.write_table(&self.config, cx, at.offset, width, value);
            }
            _ => return Err(IoError::Unclaimed),
        }
        Ok(())
    }

    /// Where the window in configuration space points; `None` unless that is an aligned access (4.1.4.9).
    fn window_target(&self) -> Option<(At, Width)> {
        let bar = self.config.byte(self.window + 4);
        let offset = u64::from(self.config.read(self.window + 8));
        let width = Width::of(self.config.read(self.window + 12) as usize).filter(|w| *w != Width::B8)?;
        offset.is_multiple_of(width.bytes()).then_some((At::new(bar, offset), width))
    }

    fn window_data(&self) -> u8 {
        self.window + 16
    }
}

/// The field of `width` at `offset` of a structure; zeros behind its end.
fn field(image: &[u8], offset: u64, width: Width) -> u64 {
    let bytes =
        (0..width.bytes()).map(|i| image.get(offset.saturating_add(i) as usize).copied().unwrap_or(0));
    bytes.rev().fold(0, |value, byte| value << 8 | u64::from(byte))
}

fn space(profile: &Profile, legacy: bool, modern_bar: u8, msix_bar: u8) -> ConfigSpace {
    let modern_id = MODERN_ID + profile.kind;
    let id = Identity {
        vendor: VENDOR,
        device: profile.legacy_id.filter(|_| legacy).unwrap_or(modern_id),
        class: profile.class,
        // A transitional function has revision 0, a modern one at least 1 (4.1.2.1).
        revision: u8::from(!legacy),
        multifunction: profile.multifunction,
        interrupt_pin: 1,
    };
    let config = ConfigSpace::new(id)
        .with_subsystem(VENDOR, profile.subsystem)
        .with_bar(modern_bar.into(), Bar::Memory64 { size: BAR_SIZE })
        .with_bar(msix_bar.into(), Bar::Memory { size: MSIX_BAR });
    let size = (LEGACY_LEN_MSIX + profile.config_len as u64).next_power_of_two() as u32;
    if legacy { config.with_bar(0, Bar::Io { size }) } else { config }
}

/// Adds a capability for each structure; returns where the one is that opens a window in configuration space.
fn add_capabilities(config: &mut ConfigSpace, profile: &Profile, bar: u8) -> u8 {
    let body = |kind: u8, offset: u64, len: u64, more: &[u8]| {
        let mut body = vec![16 + more.len() as u8, kind, bar, 0, 0, 0];
        body.extend((offset as u32).to_le_bytes());
        body.extend((len as u32).to_le_bytes());
        body.extend(more);
        body
    };
    let queues = profile.queues.len() as u64;
    let notify_len = queues * u64::from(NOTIFY_MULTIPLIER);
    config.add_capability(CAPABILITY, &body(CFG_COMMON, 0, COMMON_LEN as u64, &[]), &[]);
    let multiplier = NOTIFY_MULTIPLIER.to_le_bytes();
    config.add_capability(CAPABILITY, &body(CFG_NOTIFY, NOTIFY, notify_len, &multiplier), &[]);
    config.add_capability(CAPABILITY, &body(CFG_ISR, ISR, 1, &[]), &[]);
    if profile.config_len != 0 {
        config.add_capability(CAPABILITY, &body(CFG_DEVICE, DEVICE, profile.config_len as u64, &[]), &[]);
    }
    let mut mask = [0xff; 18];
    mask[..2].fill(0);
    mask[3..6].fill(0);
    config.add_capability(CAPABILITY, &body(CFG_PCI, 0, 0, &[0; 4]), &mask)
}

impl<D: VirtioDevice> Device for VirtioPci<D> {
    fn reset(&mut self, cx: &mut Cx<'_>) {
        self.config.reset();
        self.msix.reset();
        self.was_master = false;
        self.reset_device(cx);
    }

    fn pio(&mut self) -> Option<&mut dyn PortIo> {
        Some(self)
    }

    fn mmio(&mut self) -> Option<&mut dyn Mmio> {
        Some(self)
    }

    fn pci(&mut self) -> Option<&mut dyn PciFunction> {
        Some(self)
    }

    fn timer(&mut self, cx: &mut Cx<'_>, which: TimerId) {
        self.with(cx, |device, cx, queues| device.timer(cx, queues, which));
    }

    fn complete(&mut self, cx: &mut Cx<'_>, done: Completion) {
        self.with(cx, |device, cx, queues| device.complete(cx, queues, done));
    }
}

impl<D: VirtioDevice> PortIo for VirtioPci<D> {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        self.read_bar(cx, at, width)
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        self.write_bar(cx, at, width, value)
    }
}

impl<D: VirtioDevice> Mmio for VirtioPci<D> {
    fn read(&mut self, cx: &mut Cx<'_>, at: At, width: Width) -> Result<u64, IoError> {
        self.read_bar(cx, at, width)
    }

    fn write(&mut self, cx: &mut Cx<'_>, at: At, width: Width, value: u64) -> Result<(), IoError> {
        self.write_bar(cx, at, width, value)
    }
}

impl<D: VirtioDevice> PciFunction for VirtioPci<D> {
    fn config(&mut self) -> &mut ConfigSpace {
        &mut self.config
    }

    fn config_reading(&mut self, cx: &mut Cx<'_>, at: u8) {
        if at & 0xfc != self.window_data() {
            return;
        }
        let Some((target, width)) = self.window_target() else { return };
        let value = self.read_bar(cx, target, width).unwrap_or(width.ones());
        let data = usize::from(self.window_data());
        self.config.set(data, &(value as u32).to_le_bytes());
    }

    fn config_written(&mut self, cx: &mut Cx<'_>, at: u8) {
        if at & 0xfc == self.window_data()
            && let Some((target, width)) = self.window_target()
        {
            let value = u64::from(self.config.read(self.window_data())) & width.ones();
            // A window onto nothing is the driver's mistake and drops the write.
            let _ = self.write_bar(cx, target, width, value);
        }
        self.msix.send_pending(&self.config, cx);
        self.drive_pin(cx);
        let master = self.config.is_master();
        if master && !core::mem::replace(&mut self.was_master, master) {
            self.notify_all(cx);
        }
        self.was_master = master;
    }
}

mod saved {
    use super::{Common, NO_VECTOR, VirtioDevice, VirtioPci};
    use crate::pci::MsixVector;
    use crate::virtio::queue::Virtqueue;
    use aero_state::{RestoreError, Saved, Section};
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct QueueStateV1 {
        size: u16,
        enabled: bool,
        descriptors: u64,
        avail: u64,
        used: u64,
        vector: u16,
        taken: u16,
        returned: u16,
    }

    /// The transport's state, with the device's behind it. Requests under way are not in it: a machine lets
    /// them end before it saves.
    #[derive(Serialize, Deserialize)]
    struct VirtioPciStateV1<S> {
        config: Vec<u8>,
        msix: Vec<MsixVector>,
        common: Common,
        features: u64,
        broken: bool,
        queues: Vec<QueueStateV1>,
        device: S,
    }

    impl From<&Virtqueue> for QueueStateV1 {
        fn from(q: &Virtqueue) -> Self {
            let Virtqueue {
                max: _, size, enabled, descriptors, avail, used, vector, taken, returned, ..
            } = *q;
            Self { size, enabled, descriptors, avail, used, vector, taken, returned }
        }
    }

    impl QueueStateV1 {
        /// The queue, if it can be one of at most `max` entries.
        fn revive(&self, max: u16, vectors: usize) -> Option<Virtqueue> {
            let mut q = Virtqueue::new(max);
            let fits = self.size.is_power_of_two()
                && self.size <= max
                && (self.vector == NO_VECTOR || usize::from(self.vector) < vectors);
            (q.size, q.enabled, q.vector) = (self.size, self.enabled, self.vector);
            (q.descriptors, q.avail, q.used) = (self.descriptors, self.avail, self.used);
            q.resume(self.taken, self.returned);
            fits.then_some(q)
        }
    }

    impl<D: VirtioDevice> Saved for VirtioPci<D> {
        fn save(&self) -> Section {
            let state = VirtioPciStateV1 {
                config: self.config.bytes().to_vec(),
                msix: self.msix.vectors().to_vec(),
                common: self.common,
                features: self.queues.features,
                broken: self.queues.broken,
                queues: self.queues.list.iter().map(QueueStateV1::from).collect(),
                device: self.device.state(),
            };
            Section::new(D::KIND, 1, &state)
        }

        fn restore(&mut self, section: &Section) -> Result<(), RestoreError> {
            let damaged = RestoreError::Damaged { kind: D::KIND };
            let state: VirtioPciStateV1<D::State> = section.decode(D::KIND, 1)?;
            let Ok(config) = <[u8; 256]>::try_from(state.config) else { return Err(damaged) };
            let vectors = self.profile.queues.len() + 1;
            let sizes = self.profile.queues.iter();
            let queues: Option<Vec<_>> =
                state.queues.iter().zip(sizes).map(|(q, max)| q.revive(*max, vectors)).collect();
            let Some(queues) = queues.filter(|q| q.len() + 1 == vectors && q.len() == state.queues.len())
            else {
                return Err(damaged);
            };
            if state.msix.len() != vectors || !self.device.restore(state.device) {
                return Err(damaged);
            }
            self.msix.restore(&state.msix);
            self.config.restore(&config);
            self.was_master = self.config.is_master();
            self.common = state.common;
            let asked = self.common.isr != 0 && !self.msix.enabled(&self.config);
            self.config.set_interrupt(asked);
            self.queues.list = queues;
            self.queues.features = state.features;
            self.queues.broken = state.broken;
            self.settle_running();
            Ok(())
        }
    }
}
