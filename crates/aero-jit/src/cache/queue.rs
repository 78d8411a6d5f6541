//! Heads that wait to be compiled, and jobs under way.

use super::store::Place;
use crate::job::{Compiled, Env, Key, Page, Source};
use crate::region::select;
use aero_cpu::vcpu::Vcpu;
use aero_mem::GuestMemory;
use aero_x86::MAX_LEN;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Pages beside the head's that a region may reach into.
const BESIDE: [i8; 3] = [-1, 1, 2];

/// What is known of the code on a page, as in [`Page`].
#[derive(Default)]
pub struct Profile {
    pub ran: Option<Vec<u16>>,
    pub heads: Vec<u16>,
}

/// A region that is wanted, with a copy of its code as it was when that was noticed.
pub struct Wanted {
    pub place: Place,
    pub source: Source,
    /// Arena offset of each of the source's pages.
    pub at: Vec<u32>,
    /// It is a job of its own.
    alone: bool,
}

impl Wanted {
    /// The code around linear address `la`, where it lies now, on pages (by arena offset) that are not `given_up`, with
    /// what is known of them.
    pub fn at(
        v: &mut Vcpu<'_>,
        la: u64,
        place: Place,
        given_up: impl Fn(u32) -> bool,
        profile: impl Fn(&GuestMemory, u32) -> Profile,
    ) -> Option<Self> {
        let head = v.peek_code_page(la)?;
        let mut pages = vec![(0, head.at)];
        for delta in BESIDE {
            let page = v.page_beside(la, delta);
            // Across the end of the address space displacements mean something else.
            let beside = page.wrapping_sub(la & !0xfff) as i64 == i64::from(delta) << 12;
            if let Some(found) = v.peek_code_page(page).filter(|found| beside && !given_up(found.at)) {
                pages.push((delta, found.at));
            }
        }
        let key = Key { long: v.is_code64(), user: v.is_user(), mode: v.mode_key() };
        let copy = |&(delta, at): &(i8, u32)| {
            let mut bytes = vec![0; 4096];
            v.memory().read_offset(at, &mut bytes);
            let Profile { ran, heads } = profile(v.memory(), at);
            Page { delta, bytes, ran, heads }
        };
        let source = Source { head: la, key, pages: pages.iter().map(copy).collect() };
        Some(Self { place, source, at: pages.iter().map(|(_, at)| *at).collect(), alone: false })
    }

    /// Where the region's blocks begin, its head aside.
    pub fn entries(&self, env: &Env) -> Vec<Place> {
        let place = |offset: i32| {
            let at = i64::from(offset) + (self.source.head & 0xfff) as i64;
            let n = self.source.pages.iter().position(|page| i64::from(page.delta) == at >> 12)?;
            Some(Place::new(self.at[n] | (at & 0xfff) as u32, self.source.key.mode))
        };
        let blocks = select(&self.source, env);
        blocks.iter().filter(|block| block.offset != 0).filter_map(|block| place(block.offset)).collect()
    }

    /// The bytes that each instruction begins with which the region has interpreted.
    pub fn interpreted(&self, compiled: &Compiled) -> Vec<[u8; MAX_LEN]> {
        let bytes = |offset: &i32| {
            let mut bytes = [0; MAX_LEN];
            self.source.fetch(*offset, &mut bytes);
            bytes
        };
        compiled.interpreted.iter().map(bytes).collect()
    }
}

/// The queue and the jobs made of it.
#[derive(Default)]
pub struct Queue {
    waiting: VecDeque<Wanted>,
    jobs: FxHashMap<u32, Vec<Wanted>>,
    next_ticket: u32,
}

impl Queue {
    /// Heads in the queue.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Puts a head at the end.
    pub fn push(&mut self, wanted: Wanted) {
        self.waiting.push_back(wanted);
    }

    /// Puts heads back, each to be a job of its own.
    pub fn push_alone(&mut self, wanted: Vec<Wanted>) {
        self.waiting.extend(wanted.into_iter().map(|w| Wanted { alone: true, ..w }));
    }

    /// Begins a job of up to `limit` heads; its ticket and what is to be compiled.
    pub fn next_job(&mut self, limit: usize) -> Option<(u32, Vec<Source>)> {
        let first = self.waiting.front()?;
        let together = self.waiting.iter().take(limit).take_while(|w| !w.alone).count();
        let n = if first.alone { 1 } else { together };
        let job: Vec<Wanted> = self.waiting.drain(..n).collect();
        let ticket = self.next_ticket;
        self.next_ticket = ticket.wrapping_add(1);
        let sources = job.iter().map(|w| w.source.clone()).collect();
        self.jobs.insert(ticket, job);
        Some((ticket, sources))
    }

    /// The heads of a job that is done.
    pub fn done(&mut self, ticket: u32) -> Vec<Wanted> {
        self.jobs.remove(&ticket).unwrap_or_default()
    }

    /// Forgets everything. Jobs under way come back to nobody.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.jobs.clear();
    }
}
