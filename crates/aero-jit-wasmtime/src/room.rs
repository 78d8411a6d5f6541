//! The store with everything that runs in it: the function table, helper functions, instances of live modules.

use crate::helpers::{Context, Helpers, functions};
use crate::slots::Slots;
use crate::worker::Compiled;
use crate::{Load, refused};
use aero_jit::host::HostError;
use core::ffi::c_void;
use std::collections::BTreeMap;
use wasmtime::{
    Engine, Extern, Global, GlobalType, Instance, Module, Mutability, Ref, RefType, SharedMemory, Store,
    Table, TableType, TypedFunc, Val, ValType,
};

/// Functions that can be in the table.
const SLOTS: u32 = 1 << 16;

/// Released code may weigh so much before it is looked at: a new store is not worth less.
const LITTER: u64 = 8 << 20;

/// A module with an instance.
struct Live {
    code: Module,
    count: u32,
    bytes: u64,
}

/// A store, and what to make a new one from.
pub struct Room {
    engine: Engine,
    memory: SharedMemory,
    helpers: Helpers,
    place: Place,
    context: Context,
    slots: Slots,
    /// By their first slots.
    live: BTreeMap<u32, Live>,
    load: Load,
}

/// What goes with a store.
struct Place {
    store: Store<()>,
    table: Table,
    /// What modules can import from `env`, by name.
    imports: Vec<(&'static str, Extern)>,
}

impl Place {
    fn new(
        engine: &Engine,
        memory: &SharedMemory,
        context: &Context,
        helpers: Helpers,
    ) -> wasmtime::Result<Self> {
        let mut store = Store::new(engine, ());
        let table_type = TableType::new(RefType::FUNCREF, SLOTS, Some(SLOTS));
        let table = Table::new(&mut store, table_type, Ref::Func(None))?;
        let mut imports = vec![("memory", memory.clone().into()), ("table", table.into())];
        imports.extend(functions(&mut store, context, helpers).into_iter().map(|(name, f)| (name, f.into())));
        Ok(Self { store, table, imports })
    }

    /// Puts a module's functions into the table, from slot `first` on.
    fn instantiate(&mut self, code: &Module, first: u32) -> wasmtime::Result<Instance> {
        let slot = GlobalType::new(ValType::I32, Mutability::Const);
        let slot = Extern::from(Global::new(&mut self.store, slot, Val::I32(first as i32))?);
        let find = |name: &str| match name {
            "slot" => Some(slot.clone()),
            _ => self.imports.iter().find(|(known, _)| *known == name).map(|(_, found)| found.clone()),
        };
        let unknown = |name: &str| wasmtime::Error::msg(format!("it imports '{name}'"));
        let imports: wasmtime::Result<Vec<Extern>> =
            code.imports().map(|import| find(import.name()).ok_or_else(|| unknown(import.name()))).collect();
        Instance::new(&mut self.store, code, &imports?)
    }
}

impl Room {
    pub fn new(engine: Engine, memory: SharedMemory, helpers: Helpers) -> wasmtime::Result<Self> {
        let context = Context::default();
        let place = Place::new(&engine, &memory, &context, helpers)?;
        let (slots, live, load) = (Slots::new(SLOTS), BTreeMap::new(), Load::default());
        Ok(Self { engine, memory, helpers, place, context, slots, live, load })
    }

    pub fn load(&self) -> Load {
        self.load
    }

    /// Gives a module slots and an instance.
    pub fn install(&mut self, compiled: &Compiled) -> Result<u32, HostError> {
        let count = compiled.known.regions.len() as u32;
        let first = self.slots.take(count).ok_or(HostError::Full)?;
        if let Err(error) = self.place.instantiate(&compiled.code, first) {
            self.slots.give(first, count);
            return Err(refused(error));
        }
        let image = compiled.code.image_range();
        let bytes = image.end.addr() - image.start.addr();
        let live = Live { code: compiled.code.clone(), count, bytes: bytes as u64 };
        self.load.modules += 1;
        self.load.bytes += live.bytes;
        self.live.insert(first, live);
        Ok(first)
    }

    /// Empties a module's slots. Its instance stays until the store is made anew.
    pub fn release(&mut self, first: u32, count: u32) {
        let Some(gone) = self.live.remove(&first) else { return };
        debug_assert_eq!(gone.count, count, "a module is released as it was installed");
        self.load.modules -= 1;
        self.load.bytes -= gone.bytes;
        self.load.released_bytes += gone.bytes;
        self.slots.give(first, gone.count);
        let emptied =
            self.place.table.fill(&mut self.place.store, first.into(), Ref::Func(None), gone.count.into());
        emptied.expect("the slots lie in the table");
    }

    /// Whether what was released outweighs what lives.
    pub fn is_littered(&self) -> bool {
        self.load.released_bytes > LITTER.max(self.load.bytes)
    }

    /// Makes the store anew, with instances of the live modules only.
    pub fn rebuild(&mut self) -> wasmtime::Result<()> {
        let mut place = Place::new(&self.engine, &self.memory, &self.context, self.helpers)?;
        for (first, live) in &self.live {
            place.instantiate(&live.code, *first)?;
        }
        self.place = place;
        self.load.released_bytes = 0;
        self.load.rebuilds += 1;
        Ok(())
    }

    /// Runs the region in `slot`.
    pub fn call(&mut self, slot: u32, ctx: *mut c_void) -> u32 {
        self.context.set(ctx);
        let store = &mut self.place.store;
        let entry = self.place.table.get(&mut *store, slot.into());
        let Some(Ref::Func(Some(entry))) = entry else { panic!("there is no region in slot {slot}") };
        let entry: TypedFunc<(i32, i32), u32> = entry.typed(&*store).expect("a region has a region's type");
        let status =
            entry.call(&mut *store, (0, 0)).unwrap_or_else(|trap| panic!("compiled code trapped: {trap:#}"));
        self.context.set(core::ptr::null_mut());
        status
    }
}
