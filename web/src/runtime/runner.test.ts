import { describe, expect, it } from "vitest";
import type { FromWorker } from "./protocol";
import { type RunnableMachine, Runner, Slice, type Surroundings } from "./runner";

/** A machine whose slices are given, each 2 ms long unless idle. */
class FakeMachine implements RunnableMachine {
  slices: number[] = [];
  serial = "";
  paused = false;
  resets = 0;
  count = 0;
  idle = 50;
  changed = false;

  constructor(private readonly world: FakeWorld) {}

  run_slice(): number {
    const status = this.slices.shift() ?? Slice.Idle;
    if (status === Slice.Running) {
      this.world.time += 2;
      this.count += 100_000;
    }
    return status;
  }
  idle_ms = (): number => this.idle;
  exit_value = (): number => 0;
  fault = (): string => "triple fault";
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  reset(): void {
    this.resets += 1;
    this.count = 0;
  }
  take_serial(): Uint8Array {
    const bytes = new TextEncoder().encode(this.serial);
    this.serial = "";
    return bytes;
  }
  render(): boolean {
    return this.changed;
  }
  retired = (): number => this.count;
  now_ns = (): number => this.world.time * 1e6;
  stats_json = (): string => "{}";
}

class FakeWorld implements Surroundings {
  time = 0;
  posted: FromWorker[] = [];
  drawn = 0;
  slept: number[] = [];
  #next: (() => void) | undefined;
  #sleeping: (() => void) | undefined;

  now = (): number => this.time;
  soon(turn: () => void): void {
    if (this.#next !== undefined) throw new Error("two turns at once");
    this.#next = turn;
  }
  sleep(ms: number, turn: () => void): void {
    this.slept.push(ms);
    this.#sleeping = turn;
  }
  wake(): void {
    const turn = this.#sleeping;
    this.#sleeping = undefined;
    if (turn) this.soon(turn);
  }
  post(message: FromWorker): void {
    this.posted.push(message);
  }
  draw(): void {
    this.drawn += 1;
  }
  memoryBytes = (): number => 1;

  /** Runs turns until none is due. */
  settle(): void {
    for (let turn = this.#next; turn !== undefined; turn = this.#next) {
      this.#next = undefined;
      turn();
    }
  }
  get states(): string[] {
    return this.posted.flatMap((message) => (message.kind === "state" ? [message.state] : []));
  }
  get serial(): string[] {
    return this.posted.flatMap((m) => (m.kind === "serial" ? [new TextDecoder().decode(m.bytes)] : []));
  }
}

function setup(...slices: number[]) {
  const world = new FakeWorld();
  const machine = new FakeMachine(world);
  machine.slices = slices;
  return { world, machine, runner: new Runner(machine, world) };
}

const busy = (count: number): number[] => Array<number>(count).fill(Slice.Running);

describe("Runner", () => {
  it("holds the machine until it is started", () => {
    const { machine, runner, world } = setup();
    expect(machine.paused).toBe(true);
    runner.run();
    expect(machine.paused).toBe(false);
    expect(world.states).toEqual(["running"]);
  });

  it("sleeps until the guest's next timer, and no longer than the screen may wait", () => {
    const { machine, runner, world } = setup(...busy(3));
    runner.run();
    world.settle();
    expect(world.slept).toEqual([50]);
    machine.idle = Infinity;
    runner.poke();
    world.settle();
    expect(world.slept).toEqual([50, 125]);
  });

  it("does not sleep for a timer that is due", () => {
    const { machine, runner, world } = setup(Slice.Idle, Slice.Shutdown);
    machine.idle = 0;
    runner.run();
    world.settle();
    expect(world.slept).toEqual([]);
  });

  it("batches serial bytes of a busy guest and sends an idle guest's at once", () => {
    const { machine, runner, world } = setup(...busy(2));
    runner.run();
    world.settle();
    machine.serial = "a";
    machine.slices = busy(1);
    runner.poke();
    world.settle();
    expect(world.serial).toEqual(["a"]);
  });

  it("draws at most 60 frames a second", () => {
    const { machine, runner, world } = setup(...busy(500), Slice.Shutdown);
    machine.changed = true;
    runner.run();
    world.settle();
    expect(world.drawn).toBeGreaterThan(50);
    expect(world.drawn).toBeLessThanOrEqual(61);
  });

  it("measures the speed from retired instructions", () => {
    const { runner, world } = setup(...busy(300));
    runner.run();
    world.settle();
    expect(runner.stats().mips).toBeCloseTo(50);
  });

  it("stands still while paused and goes on after", () => {
    const { machine, runner, world } = setup(...busy(5));
    runner.run();
    runner.pause();
    world.settle();
    expect(machine.paused).toBe(true);
    expect(machine.count).toBe(0);
    runner.run();
    world.settle();
    expect(machine.count).toBe(500_000);
    expect(world.states).toEqual(["running", "paused", "running"]);
  });

  it("pauses a sleeping guest without leaving two turns behind", () => {
    const { runner, world } = setup(...busy(1));
    runner.run();
    world.settle();
    runner.pause();
    runner.run();
    world.settle();
    expect(world.slept.length).toBe(2);
  });

  it("obeys a guest that asks for a reset", () => {
    const { machine, runner, world } = setup(Slice.Reset, ...busy(1));
    runner.run();
    world.settle();
    expect(machine.resets).toBe(1);
    expect(machine.count).toBe(100_000);
  });

  it("stops when the guest powers off, and a reset starts it again", () => {
    const { machine, runner, world } = setup(Slice.Shutdown);
    machine.serial = "bye";
    runner.run();
    world.settle();
    expect(world.serial).toEqual(["bye"]);
    expect(world.states).toEqual(["running", "stopped"]);
    runner.reset();
    world.settle();
    expect(world.states).toEqual(["running", "stopped", "running"]);
  });

  it("says why the guest cannot go on", () => {
    const { runner, world } = setup(Slice.Fault);
    runner.run();
    world.settle();
    const last = world.posted.at(-1);
    expect(last?.kind === "failed" && last.message).toContain("triple fault");
  });
});
