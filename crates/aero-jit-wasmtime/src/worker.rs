//! Compiling, on a thread of its own or in place.
//!
//! Both ways end in [`Finished`] modules that wait to be instantiated. A thread gets jobs and sends back what it made
//! of them, in order.

use crate::Parts;
use aero_jit::host::HostError;
use aero_jit::job::{Job, Module};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::Instant;
use wasmtime::Engine;

/// A module for the machine at hand.
pub struct Compiled {
    /// What the translator made.
    pub known: Module,
    /// Its machine code.
    pub code: wasmtime::Module,
}

/// A job that is done but not installed.
pub struct Finished {
    /// Which.
    pub ticket: u32,
    /// What came of it.
    pub result: Result<Compiled, HostError>,
    /// How long it took.
    pub ns: u64,
}

/// Who compiles.
pub trait Work {
    /// Takes on a job.
    fn submit(&mut self, job: Job);
    /// A job that is done.
    fn poll(&mut self) -> Option<Finished>;
    /// Jobs that were taken on and not handed out.
    fn pending(&self) -> usize;
}

/// Compiles on another thread, or in place.
pub fn start(engine: &Engine, parts: Parts) -> std::io::Result<Box<dyn Work>> {
    let compiler = Compiler { engine: engine.clone(), compile: parts.compile };
    if !parts.thread {
        return Ok(Box::new(Here { compiler, finished: VecDeque::new() }));
    }
    let (jobs, incoming) = channel();
    let (outgoing, finished) = channel();
    std::thread::Builder::new()
        .name("compiler".to_owned())
        .spawn(move || compiler.serve(&incoming, &outgoing))?;
    Ok(Box::new(Elsewhere { jobs, finished, tickets: VecDeque::new() }))
}

/// From jobs to machine code.
struct Compiler {
    engine: Engine,
    compile: fn(&Job) -> Module,
}

impl Compiler {
    /// Works until nobody asks any more.
    fn serve(&self, jobs: &Receiver<Job>, finished: &Sender<Finished>) {
        while let Ok(job) = jobs.recv() {
            if finished.send(self.finish(&job)).is_err() {
                return;
            }
        }
    }

    fn finish(&self, job: &Job) -> Finished {
        let began = Instant::now();
        let result = self.compile(job);
        Finished { ticket: job.ticket, result, ns: crate::nanoseconds(began) }
    }

    fn compile(&self, job: &Job) -> Result<Compiled, HostError> {
        let known = (self.compile)(job);
        let code = wasmtime::Module::new(&self.engine, &known.wasm).map_err(crate::refused)?;
        Ok(Compiled { known, code })
    }
}

/// In place.
struct Here {
    compiler: Compiler,
    finished: VecDeque<Finished>,
}

impl Work for Here {
    fn submit(&mut self, job: Job) {
        self.finished.push_back(self.compiler.finish(&job));
    }

    fn poll(&mut self) -> Option<Finished> {
        self.finished.pop_front()
    }

    fn pending(&self) -> usize {
        self.finished.len()
    }
}

/// On another thread.
struct Elsewhere {
    jobs: Sender<Job>,
    finished: Receiver<Finished>,
    /// What the thread has not sent back, oldest first.
    tickets: VecDeque<u32>,
}

impl Work for Elsewhere {
    fn submit(&mut self, job: Job) {
        self.tickets.push_back(job.ticket);
        // If the thread has ended, `poll` tells.
        let _ = self.jobs.send(job);
    }

    fn poll(&mut self) -> Option<Finished> {
        match self.finished.try_recv() {
            Ok(finished) => {
                self.tickets.pop_front();
                Some(finished)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                let ended = HostError::Refused("the compiler's thread has ended".to_owned());
                Some(Finished { ticket: self.tickets.pop_front()?, result: Err(ended), ns: 0 })
            }
        }
    }

    fn pending(&self) -> usize {
        self.tickets.len()
    }
}
