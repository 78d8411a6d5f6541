//! What is known of heads, by place, and of modules.

use super::queue::Wanted;
use crate::job::Compiled;
use aero_cpu::jit::Residence;
use aero_cpu::vcpu::Vcpu;
use aero_mem::GuestMemory;
use rustc_hash::FxHashMap;

/// Runs without a single instruction, at less than [`USEFUL`] instructions each, that make a region useless.
const MAX_IN_VAIN: u32 = 512;

/// See [`MAX_IN_VAIN`].
const USEFUL: u64 = 128;

/// Instructions after which a failure is forgotten: what made a region useless may be over.
const FAILURE_LASTS: u64 = 256 << 20;

/// Code bytes on which a failure hangs.
const FAILED_BYTES: u32 = 64;

/// Heads that may be known. Those that failed are forgotten beyond it.
const MAX_PLACES: usize = 1 << 17;

/// Where a head lies, in which mode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place(u64);

impl Place {
    /// At an arena offset.
    pub fn new(at: u32, mode: u64) -> Self {
        Self(u64::from(at) | mode << 32)
    }

    /// The page that it lies in, by arena offset.
    pub fn page(self) -> u32 {
        self.0 as u32 & !0xfff
    }
}

/// What is known of a head.
pub enum State {
    /// It is in the queue or in a job.
    Waiting,
    /// It cannot be compiled, or is not worth it.
    Failed(Failure),
    /// It lives.
    Ready(Region),
}

/// Why not to try again: for a while, and while the code is the same.
pub struct Failure {
    code: Piece,
    until: u64,
}

/// A compiled region.
pub struct Region {
    /// Its function slot.
    pub slot: u32,
    /// First slot of its module.
    pub module: u32,
    /// Times that its pages lay elsewhere.
    pub misfits: u32,
    in_vain: InVain,
    pages: Vec<CodePages>,
    code: Vec<Piece>,
}

/// A page that has code of the region: its distance from the head's, and its arena offset.
#[derive(Clone, Copy, PartialEq, Eq)]
struct CodePages {
    delta: i8,
    at: u32,
}

/// Code bytes that lie together within a page.
struct Piece {
    at: u32,
    bytes: Box<[u8]>,
}

/// Runs that ended where they began.
#[derive(Clone, Copy, Default)]
struct InVain {
    runs: u32,
    since: u64,
}

impl Piece {
    /// What is in memory now.
    fn read(mem: &GuestMemory, at: u32, len: u32) -> Self {
        let mut bytes = vec![0; len as usize];
        mem.read_offset(at, &mut bytes);
        Self { at, bytes: bytes.into() }
    }

    /// Whether memory has something else.
    fn has_changed(&self, mem: &GuestMemory) -> bool {
        Self::read(mem, self.at, self.bytes.len() as u32).bytes != self.bytes
    }
}

impl Failure {
    /// The head at `place` has failed after `now` retired instructions.
    pub fn new(mem: &GuestMemory, place: Place, now: u64) -> Self {
        let at = place.0 as u32;
        let len = FAILED_BYTES.min(0x1000 - (at & 0xfff));
        Self { code: Piece::read(mem, at, len), until: now.wrapping_add(FAILURE_LASTS) }
    }

    /// Whether the code is what it was.
    pub fn is_current(&self, mem: &GuestMemory) -> bool {
        !self.code.has_changed(mem)
    }

    /// Whether it is too long ago to matter.
    pub fn is_over(&self, now: u64) -> bool {
        self.until.wrapping_sub(now) as i64 <= 0
    }
}

impl Region {
    /// `None` if the code is not where the compiler says.
    pub fn new(wanted: &Wanted, compiled: &Compiled, module: u32, slot: u32) -> Option<Self> {
        let mut region = Self {
            slot,
            module,
            misfits: 0,
            in_vain: InVain::default(),
            pages: Vec::new(),
            code: Vec::new(),
        };
        region.add_page(wanted, 0)?;
        for (offset, len) in &compiled.ranges {
            region.add_range(wanted, *offset, *len)?;
        }
        Some(region)
    }

    fn add_page(&mut self, wanted: &Wanted, delta: i64) -> Option<u32> {
        let n = wanted.source.pages.iter().position(|page| i64::from(page.delta) == delta)?;
        let page = CodePages { delta: wanted.source.pages[n].delta, at: wanted.at[n] };
        if !self.pages.contains(&page) {
            self.pages.push(page);
        }
        Some(page.at)
    }

    /// Cuts a range into pieces that stay within a page.
    fn add_range(&mut self, wanted: &Wanted, offset: i32, len: u32) -> Option<()> {
        let (mut offset, mut len) = (offset, len);
        while len > 0 {
            let from_page = i64::from(offset) + (wanted.source.head & 0xfff) as i64;
            let within = (from_page & 0xfff) as u32;
            let page = self.add_page(wanted, from_page >> 12)?;
            let n = len.min(0x1000 - within);
            let mut bytes = vec![0; n as usize];
            if wanted.source.fetch(offset, &mut bytes) != bytes.len() {
                return None;
            }
            self.code.push(Piece { at: page + within, bytes: bytes.into() });
            offset += n as i32;
            len -= n;
        }
        Some(())
    }

    /// Where it lies with its head at `place`.
    pub fn residence(&self, place: Place) -> Residence {
        let pages = self.pages.iter().map(|page| (page.delta, page.at)).collect();
        Residence { mode: place.0 >> 32, offset: (place.0 & 0xfff) as u16, pages }
    }

    /// The page with code that is no longer what was compiled.
    pub fn changed_page(&self, mem: &GuestMemory) -> Option<u32> {
        self.code.iter().find(|piece| piece.has_changed(mem)).map(|piece| piece.at & !0xfff)
    }

    /// Marks its code in the code map.
    pub fn mark(&self, v: &mut Vcpu<'_>) {
        self.code.iter().for_each(|piece| v.mark_code(piece.at, piece.bytes.len() as u32));
    }

    /// It ran and did nothing. Whether it has done that too often for what came of it in between.
    fn is_useless(&mut self, now: u64) -> bool {
        let useful = u64::from(self.in_vain.runs) * USEFUL;
        if self.in_vain.runs == 0 || now.wrapping_sub(self.in_vain.since) > useful + USEFUL {
            self.in_vain = InVain { runs: 0, since: now };
        }
        self.in_vain.runs += 1;
        self.in_vain.runs == MAX_IN_VAIN
    }
}

/// The pages whose code decides about a head.
fn pages(place: Place, state: &State) -> Vec<u32> {
    match state {
        State::Ready(region) => region.pages.iter().map(|page| page.at).collect(),
        State::Failed(_) => vec![place.page()],
        State::Waiting => Vec::new(),
    }
}

/// A compiled module.
struct Module {
    count: u32,
    live: u32,
    bytes: usize,
    made: u64,
    /// When a region of it was last found.
    used: u64,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Regions.
    pub regions: usize,
    /// Modules.
    pub modules: usize,
    /// Bytes of WebAssembly.
    pub bytes: usize,
}

/// Heads and modules.
#[derive(Default)]
pub struct Store {
    by_place: FxHashMap<Place, State>,
    /// By the arena offset of a page: the heads that hang on code there.
    by_page: FxHashMap<u32, Vec<Place>>,
    by_slot: FxHashMap<u32, Place>,
    /// By first slot.
    modules: FxHashMap<u32, Module>,
    bytes: usize,
    clock: u64,
}

impl Store {
    /// What is known of a head.
    pub fn state(&mut self, place: Place) -> Option<&mut State> {
        self.by_place.get_mut(&place)
    }

    /// Notes what a head has come to.
    pub fn set(&mut self, place: Place, state: State) {
        if self.by_place.len() >= MAX_PLACES {
            self.forget_failures();
        }
        self.forget(place);
        for page in pages(place, &state) {
            self.by_page.entry(page).or_default().push(place);
        }
        if let State::Ready(region) = &state {
            self.by_slot.insert(region.slot, place);
            if let Some(module) = self.modules.get_mut(&region.module) {
                module.live += 1;
            }
        }
        self.by_place.insert(place, state);
    }

    /// Forgets a head. A region's module has to be told.
    pub fn forget(&mut self, place: Place) -> Option<State> {
        let state = self.by_place.remove(&place)?;
        for page in pages(place, &state) {
            if let Some(places) = self.by_page.get_mut(&page) {
                places.retain(|other| *other != place);
                if places.is_empty() {
                    self.by_page.remove(&page);
                }
            }
        }
        if let State::Ready(region) = &state {
            self.by_slot.remove(&region.slot);
        }
        Some(state)
    }

    #[cold]
    fn forget_failures(&mut self) {
        let failed = |(place, state): (&Place, &State)| matches!(state, State::Failed(_)).then_some(*place);
        let failed: Vec<Place> = self.by_place.iter().filter_map(failed).collect();
        failed.into_iter().for_each(|place| _ = self.forget(place));
    }

    /// The heads of living regions on a page, for a mode: bytes from the page's start.
    pub fn heads_on(&self, page: u32, mode: u64) -> Vec<u16> {
        let known = self.by_page.get(&page).into_iter().flatten();
        let heads = known.filter(|place| place.page() == page && place.0 >> 32 == mode);
        let ready = heads.filter(|place| matches!(self.by_place.get(place), Some(State::Ready(_))));
        ready.map(|place| (place.0 & 0xfff) as u16).collect()
    }

    /// The heads that hang on code of a page.
    pub fn on_page(&self, page: u32) -> Vec<Place> {
        self.by_page.get(&page).cloned().unwrap_or_default()
    }

    /// A module of `count` slots from `first` on.
    pub fn add_module(&mut self, first: u32, count: u32, bytes: usize) {
        self.clock += 1;
        self.modules.insert(first, Module { count, live: 0, bytes, made: self.clock, used: self.clock });
        self.bytes += bytes;
    }

    /// It is gone.
    pub fn remove_module(&mut self, first: u32) {
        if let Some(module) = self.modules.remove(&first) {
            self.bytes -= module.bytes;
        }
    }

    /// A module has lost a region. Its slots, if that was the last.
    pub fn module_lost(&mut self, first: u32) -> Option<(u32, u32)> {
        let module = self.modules.get_mut(&first)?;
        module.live -= 1;
        let (live, count) = (module.live, module.count);
        if live > 0 {
            return None;
        }
        self.remove_module(first);
        Some((first, count))
    }

    /// The region in a slot was found.
    pub fn found(&mut self, slot: u32) {
        self.clock += 1;
        self.in_use(slot);
    }

    /// The region in a slot can still be run without being found again.
    pub fn in_use(&mut self, slot: u32) {
        let Some(place) = self.by_slot.get(&slot) else { return };
        let Some(State::Ready(region)) = self.by_place.get(place) else { return };
        if let Some(module) = self.modules.get_mut(&region.module) {
            module.used = self.clock;
        }
    }

    /// The regions of each module, the one that was not used for longest first.
    pub fn oldest_first(&self) -> Vec<Vec<Place>> {
        let age = |module: &Module| (module.used, module.made);
        let mut modules: FxHashMap<u32, ((u64, u64), Vec<Place>)> =
            self.modules.iter().map(|(first, module)| (*first, (age(module), Vec::new()))).collect();
        for (place, state) in &self.by_place {
            if let State::Ready(region) = state
                && let Some((_, places)) = modules.get_mut(&region.module)
            {
                places.push(*place);
            }
        }
        let mut sorted: Vec<_> = modules.into_values().collect();
        sorted.sort_by_key(|(age, _)| *age);
        sorted.into_iter().map(|(_, places)| places).collect()
    }

    /// The region in a slot ran and did nothing. Its place, if that makes it useless.
    pub fn ran_in_vain(&mut self, slot: u32, now: u64) -> Option<Place> {
        let place = *self.by_slot.get(&slot)?;
        let Some(State::Ready(region)) = self.by_place.get_mut(&place) else { return None };
        region.is_useless(now).then_some(place)
    }

    /// How much there is.
    pub fn load(&self) -> Load {
        Load { regions: self.by_slot.len(), modules: self.modules.len(), bytes: self.bytes }
    }

    /// Forgets everything; the slots of the modules that there were.
    pub fn clear(&mut self) -> Vec<(u32, u32)> {
        let modules = self.modules.drain().map(|(first, module)| (first, module.count)).collect();
        *self = Self::default();
        modules
    }
}
