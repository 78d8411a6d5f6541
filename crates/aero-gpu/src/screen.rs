//! The whole screen: which kind of mode is on, and whether anything has changed since a frame was drawn.

use crate::dac::Dac;
use crate::frame::{Drawn, Frame, Shown};
use crate::layout::Layout;
use crate::registers::Registers;
use crate::registers::spec::{ATTR_COLOUR_SELECT, ATTR_MODE, ATTR_P54_SELECT, ATTR_PLANES, FRAME_HZ};
use crate::vbe::Vbe;
use aero_bus::VmTime;
use aero_mem::{GuestMemory, PAGE_SIZE};

/// The two blinking states at a time: the cursor changes every 8 frames, characters every 16.
#[derive(Clone, Copy)]
pub struct Phase(u64);

impl Phase {
    /// The phase at `now`.
    pub fn at(now: VmTime) -> Self {
        Self(now.ticks(FRAME_HZ) / 8)
    }

    pub fn cursor_lit(self) -> bool {
        self.0 & 1 == 0
    }

    pub fn characters_lit(self) -> bool {
        self.0 & 2 == 0
    }
}

/// When each page of video memory was last found changed, in drawings.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Drawings so far.
    clock: u64,
    pages: Vec<u64>,
    newest: u64,
}

impl Changes {
    /// Looks what the guest has written to since the last drawing.
    pub fn collect(&mut self, memory: &mut GuestMemory) {
        let pages = u64::from(memory.video_size()) / PAGE_SIZE;
        self.clock += 1;
        self.pages.resize(pages as usize, self.clock);
        let Self { clock, pages, newest } = self;
        memory.take_dirty_video(|page| {
            pages[page] = *clock;
            *newest = *clock;
        });
    }

    /// Whether a byte of `bytes` may have changed after drawing number `clock`.
    pub fn since(&self, clock: u64, bytes: core::ops::Range<u32>) -> bool {
        let page = |at: u32| (u64::from(at) / PAGE_SIZE) as usize;
        let pages = page(bytes.start)..page(bytes.end.max(1) - 1) + 1;
        self.pages.get(pages).is_none_or(|pages| pages.iter().any(|changed| *changed > clock))
    }
}

/// What the screen is made from.
pub struct Screen<'a> {
    pub registers: &'a Registers,
    pub vbe: &'a Vbe,
    pub dac: &'a Dac,
    pub memory: &'a GuestMemory,
    pub changes: &'a Changes,
    /// Counts changes of the registers and the palette.
    pub generation: u64,
}

impl Screen<'_> {
    /// Draws the screen if it is not what `frame` shows. True if a pixel changed.
    pub fn render(&self, phase: Phase, frame: &mut Frame) -> bool {
        let Changes { clock, newest, .. } = *self.changes;
        let is_up_to_date =
            |d: &Drawn| d.generation == self.generation && d.phase == phase.0 && d.clock >= newest;
        if frame.drawn.as_ref().is_some_and(is_up_to_date) {
            return false;
        }
        let before = frame.drawn.take();
        let (shown, changed) = self.draw(phase, before, frame);
        frame.drawn = Some(Drawn { generation: self.generation, clock, phase: phase.0, shown });
        changed
    }

    fn draw(&self, phase: Phase, before: Option<Drawn>, frame: &mut Frame) -> (Shown, bool) {
        if let Some(mode) = self.vbe.mode().filter(|_| !self.registers.is_blank()) {
            return self.draw_pixels(self.vbe_picture(mode), before, frame);
        }
        let layout = Layout::new(self.registers);
        if self.registers.is_blank() {
            let was = before.is_some_and(|d| !matches!(d.shown, Shown::Nothing));
            let (width, height) =
                self.vbe.mode().map_or((layout.width(), layout.height), |m| (m.width, m.height));
            let resized = frame.resize(width, height);
            if was {
                frame.clear();
            }
            return (Shown::Nothing, was || resized);
        }
        if self.registers.is_graphics() {
            return self.draw_pixels(self.vga_picture(layout), before, frame);
        }
        self.draw_text(phase, layout, before, frame)
    }

    /// Whether characters are shown.
    pub fn is_text(&self) -> bool {
        !self.vbe.is_enabled() && !self.registers.is_graphics()
    }

    /// The colour of pixel value `index` (0..=15): plane enable, palette, colour select, then the DAC.
    pub fn colour(&self, index: usize) -> [u8; 4] {
        let r = self.registers;
        let select = r.attr[ATTR_COLOUR_SELECT];
        let mut value = r.attr[index & usize::from(r.attr[ATTR_PLANES] & 15)] & 0x3f | (select & 0x0c) << 4;
        if r.attr[ATTR_MODE] & ATTR_P54_SELECT != 0 {
            value = value & 0xcf | (select & 3) << 4;
        }
        self.palette(value)
    }

    /// Colour `index` of the DAC.
    pub fn palette(&self, index: u8) -> [u8; 4] {
        let [red, green, blue] = self.dac.rgb(index);
        [red, green, blue, 0xff]
    }
}
