/**
 * The page in a real Chromium.
 *
 * AERO_URL           where the page is served (by `cargo xtask serve`), with the guests under /guests/
 * AERO_SCREENSHOT    a PNG file of the page with a booted guest is written there
 * AERO_PARITY_OUT    the icount run's serial bytes, up to and with the marker, are written there
 * AERO_PARITY_MARKER the text that ends that run; the shell's prompt after the greeting unless given
 * AERO_PARITY_CLOCK  its clock; icount=100 unless given
 * AERO_BOOT_TIMEOUT  seconds that a boot may take; 300 unless given
 * The first argument chooses tests by a part of their names.
 */
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";
import { check, eventually, runAll, statesOf, type Test } from "./harness.js";
import { serve } from "./server.js";

/** What the tests use of `window.aero`; the page's own types stay in the page. */
interface PageAero {
  memory?: WebAssembly.Memory;
  screenText(): Promise<string>;
  serial: { history(): Uint8Array };
  measure(): Promise<{ retired: number }>;
  bench: {
    runGuestCpuBench(options: object): Promise<{ variant: string; mips: number; instructions: number }[]>;
  };
  stats(): { mips: number; retired: number; busy: number; machine: { jit?: JitTally | null } };
}

/** What the machine's counters say of compiled code. */
interface JitTally {
  installed: number;
  failed: number;
  regions: number;
}

const web = join(dirname(fileURLToPath(import.meta.url)), "../..");
const base = process.env["AERO_URL"]?.replace(/\/$/, "") ?? "";
const bootMs = Number(process.env["AERO_BOOT_TIMEOUT"] ?? 300) * 1000;
const noServer = base === "" ? "AERO_URL is not set" : undefined;
const GREETING = "Welcome to Aero";
/** The shell's prompt at the text's end, and its question where the cursor is. */
const PROMPT = "# (?:\\x1b\\[6n)?$";
const GUEST_MIB = 512;

const serialOf = async (page: Page): Promise<string> => (await page.textContent("#serial")) ?? "";

const screenOf = (page: Page): Promise<string> =>
  page.evaluate(() => (window as unknown as { aero: PageAero }).aero.screenText());

/** Waits for the serial text to match; a machine that has failed ends the wait. */
async function waitForSerial(page: Page, pattern: RegExp, timeout: number): Promise<string> {
  await page.waitForFunction(
    ([source, flags]) => {
      const state = document.getElementById("screen")?.dataset["state"];
      if (state === "failed") throw new Error("the machine failed");
      return new RegExp(source, flags).test(document.getElementById("serial")?.textContent ?? "");
    },
    [pattern.source, pattern.flags] as const,
    { timeout, polling: 250 },
  );
  return serialOf(page);
}

async function waitForState(page: Page, state: string, timeout: number): Promise<void> {
  await page.waitForSelector(`#screen[data-state="${state}"]`, { timeout, state: "attached" });
}

const problemOf = async (page: Page): Promise<string> => (await page.textContent("#problem", { timeout: 30_000 })) ?? "";

async function typeIntoTerminal(page: Page, text: string): Promise<void> {
  await page.focus(".xterm-helper-textarea");
  await page.keyboard.type(text, { delay: 30 });
}

async function bootsToAShell(page: Page): Promise<void> {
  await page.goto(`${base}/?guest=default&memory=${GUEST_MIB}&autostart=1`);
  await waitForSerial(page, new RegExp(`${GREETING}[^]*${PROMPT}`), bootMs);
  await sayHowFast(page);
  const states = await statesOf(page);
  check(states.join().endsWith("booting,running"), `#screen went through ${states.join(" → ")}`);
  await typeIntoTerminal(page, "uname -m\n");
  await waitForSerial(page, new RegExp(`uname -m\\s+x86_64\\s+${PROMPT}`), 60_000);
  const screen = await screenOf(page);
  check(screen.includes(GREETING), `the screen shows no greeting:\n${screen}`);
  await memoryStaysSmall(page);
  await keyboardReachesTheGuest(page);
  await idleGuestSleeps(page);
  const shot = process.env["AERO_SCREENSHOT"];
  if (shot !== undefined) await page.screenshot({ path: shot });
  await resetBootsAgain(page);
}

async function resetBootsAgain(page: Page): Promise<void> {
  await page.click("#reset");
  const gone = async (): Promise<boolean> => !(await screenOf(page)).includes(GREETING);
  await eventually(gone, 10_000, "the screen shows the greeting after a reset");
  await waitForSerial(page, /Linux version[^]*Linux version/, bootMs);
}

async function sayHowFast(page: Page): Promise<void> {
  const { retired, busy } = await page.evaluate(() => (window as unknown as { aero: PageAero }).aero.stats());
  const mips = (retired / busy / 1e6).toFixed(0);
  console.log(`     ${(retired / 1e9).toFixed(2)} G instructions in ${busy.toFixed(1)} s, ${mips} MIPS`);
}

async function memoryStaysSmall(page: Page): Promise<void> {
  const bytes = await page.evaluate(() => (window as unknown as { aero: PageAero }).aero.memory?.buffer.byteLength ?? 0);
  const limit = 1.3 * GUEST_MIB * 2 ** 20;
  check(bytes > GUEST_MIB * 2 ** 20 && bytes <= limit, `the emulator's memory has ${bytes} bytes; at most ${limit}`);
}

/** Types on the VGA console's shell through the screen's own keyboard capture. */
async function keyboardReachesTheGuest(page: Page): Promise<void> {
  await page.focus("#screen");
  // Nothing that needs Shift: playwright gives such a key without it.
  await page.keyboard.type("seq 641 643\n", { delay: 60 });
  const answered = async (): Promise<boolean> => /^642$/m.test(await screenOf(page));
  await eventually(answered, 60_000, "the VGA console's shell did not answer the keyboard");
}

/** A guest at its prompt executes next to nothing. */
async function idleGuestSleeps(page: Page): Promise<void> {
  const idle = (): Promise<boolean> =>
    page.evaluate(() => (window as unknown as { aero: PageAero }).aero.stats().mips < 5);
  await eventually(idle, 30_000, "the guest at its prompt does not sleep");
}

async function badKernelIsExplained(page: Page): Promise<void> {
  await page.goto(`${base}/`);
  await page.selectOption("#guest", "");
  const junk = { name: "vmlinuz", mimeType: "application/octet-stream", buffer: Buffer.alloc(100_000, "not a kernel ") };
  await page.setInputFiles("#kernel-file", junk);
  await page.click("#start");
  await waitForState(page, "failed", 120_000);
  const text = await problemOf(page);
  check(/bzImage/.test(text), `the page says: ${text}`);
}

async function missingFileIsExplained(page: Page): Promise<void> {
  await page.goto(`${base}/?kernel=/guests/no-such-kernel&autostart=1`);
  await waitForState(page, "failed", 60_000);
  const text = await problemOf(page);
  check(text.includes("The kernel was not found") && text.includes("404"), `the page says: ${text}`);
}

async function hugeInitrdIsExplained(page: Page): Promise<void> {
  await page.goto(`${base}/?guest=default&memory=16`);
  await page.click("#start");
  await waitForState(page, "failed", 120_000);
  const text = await problemOf(page);
  check(/initrd|kernel|memory/i.test(text), `the page says: ${text}`);
}

async function pausesAndContinues(page: Page): Promise<void> {
  const retired = (): Promise<number> =>
    page.evaluate(async () => (await (window as unknown as { aero: PageAero }).aero.measure()).retired);
  await page.goto(`${base}/?guest=default&autostart=1`);
  await waitForState(page, "running", 60_000);
  await eventually(async () => (await retired()) > 0, 30_000, "the guest does not begin");
  await page.click("#pause");
  await waitForState(page, "paused", 10_000);
  const held = await retired();
  await page.waitForTimeout(1000);
  check((await retired()) === held, "the guest went on while it was paused");
  await page.click("#start");
  await waitForState(page, "running", 10_000);
  await eventually(async () => (await retired()) > held, 10_000, "the guest does not go on");
}

const jitOf = (page: Page): Promise<JitTally | null | undefined> =>
  page.evaluate(() => (window as unknown as { aero: PageAero }).aero.stats().machine.jit);

/** Starts a guest and waits until much of its code has been compiled; what the page warned of meanwhile. */
async function compileMuch(page: Page, settings: string): Promise<string[]> {
  const warnings: string[] = [];
  page.on("console", (message) => void (message.type() === "warning" && warnings.push(message.text())));
  await page.goto(`${base}/?guest=default&autostart=1&${settings}`);
  await waitForState(page, "running", 60_000);
  const much = async (): Promise<boolean> => ((await jitOf(page))?.installed ?? 0) >= 200;
  await eventually(much, 120_000, "hardly any code was compiled");
  const { regions = 0 } = (await jitOf(page)) ?? {};
  check(regions > 0, "no compiled code lives");
  return warnings;
}

const aboutJit = (warnings: readonly string[]): string[] => warnings.filter((text) => /JIT|compiled code/.test(text));

async function hotCodeIsCompiledAside(page: Page): Promise<void> {
  const warnings = aboutJit(await compileMuch(page, "jit=full"));
  check(warnings.length === 0, `the page warns: ${warnings.join("\n")}`);
}

async function hotCodeIsCompiledInTheMachinesWorker(page: Page): Promise<void> {
  await beginWorkerWith(page, "delete globalThis.Worker;");
  const warnings = aboutJit(await compileMuch(page, "jit=full&clock=icount=100"));
  check(warnings.length === 0, `the page warns: ${warnings.join("\n")}`);
}

async function lostTranslatorIsReplaced(page: Page): Promise<void> {
  const lost = `{
    const Real = Worker;
    globalThis.Worker = class extends Real {
      constructor(url, options) {
        super("/no-such-worker.js", options);
      }
    };
  }`;
  await beginWorkerWith(page, lost);
  const warnings = aboutJit(await compileMuch(page, "jit=full"));
  check(warnings.length === 1, `the page warns of the worker not once: ${warnings.join("\n")}`);
}

async function nothingIsCompiledIfSo(page: Page): Promise<void> {
  await page.goto(`${base}/?guest=default&autostart=1&jit=off`);
  await waitForState(page, "running", 60_000);
  await page.waitForFunction(() => (window as unknown as { aero: PageAero }).aero.stats().retired > 2e8);
  const jit = await jitOf(page);
  check(jit === null, `compiled code has counters: ${JSON.stringify(jit)}`);
}

/** Programs for the bare machine, without a guest. The page rejects what computes something wrong. */
async function processorIsMeasured(page: Page): Promise<void> {
  await page.goto(`${base}/`);
  for (const jit of ["off", "full"]) {
    const names = await page.evaluate(async (jit) => {
      const { aero } = window as unknown as { aero: PageAero };
      const options = { only: ["alu", "call_ret"], seconds: 0.2, iterations: 20_000, jit };
      const measured = await aero.bench.runGuestCpuBench(options);
      return measured.filter(({ mips, instructions }) => mips > 0 && instructions > 0).map(({ variant }) => variant);
    }, jit);
    check(names.join() === "alu32,alu64,call_ret32,call_ret64", `with jit=${jit}: ${names.join()}`);
  }
}

/** Puts code before that of the machine's worker. What that worker itself loads cannot be caught. */
async function beginWorkerWith(page: Page, code: string): Promise<void> {
  await page.route(/cpu\.worker.*\.js$/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${code}\n${await response.text()}` });
  });
}

/** iOS does not reserve 4 GiB of addresses; the worker here is made to behave like it. */
async function refusedMemoryIsAskedForInSmaller(page: Page): Promise<void> {
  const refusal = `{
    const Real = WebAssembly.Memory;
    WebAssembly.Memory = function (descriptor) {
      if (descriptor.maximum > 32768) throw new RangeError("could not allocate memory");
      return new Real(descriptor);
    };
  }`;
  await beginWorkerWith(page, refusal);
  await page.goto(`${base}/?guest=default&memory=256&autostart=1`);
  await waitForState(page, "running", 120_000);
  await page.goto(`${base}/?guest=default&memory=3000&autostart=1`);
  await waitForState(page, "failed", 120_000);
  const text = await problemOf(page);
  check(/3000 MiB/.test(text), `the page says: ${text}`);
}

async function icountRunIsRecorded(page: Page): Promise<void> {
  const clock = process.env["AERO_PARITY_CLOCK"] ?? "icount=100";
  const marker = process.env["AERO_PARITY_MARKER"];
  const pattern = marker === undefined ? new RegExp(`${GREETING}[^]*?# `) : new RegExp(literally(marker));
  await page.goto(`${base}/?guest=default&clock=${clock}&autostart=1`);
  await waitForSerial(page, pattern, bootMs);
  const all = await page.evaluate(() => {
    const bytes = (window as unknown as { aero: PageAero }).aero.serial.history();
    return String.fromCharCode.apply(null, [...bytes]);
  });
  const match = pattern.exec(all);
  check(match !== null, "the marker is in the page's text but not in its bytes");
  const out = process.env["AERO_PARITY_OUT"];
  const bytes = Buffer.from(all.slice(0, match.index + match[0].length), "latin1");
  if (out !== undefined) await writeFile(out, bytes);
}

const literally = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

async function missingIsolationIsExplained(page: Page): Promise<void> {
  const server = await serve([["/", join(web, "dist")]], false);
  try {
    await page.goto(server.url);
    await waitForState(page, "failed", 30_000);
    const text = await problemOf(page);
    check(text.includes("not cross-origin isolated"), `the page says: ${text}`);
    check(text.includes("Cross-Origin-Opener-Policy"), `the page does not say what to do: ${text}`);
  } finally {
    await server.close();
  }
}

const parity = process.env["AERO_PARITY_OUT"] === undefined ? "AERO_PARITY_OUT is not set" : undefined;

const tests: Test[] = [
  { name: "page without cross-origin isolation says so", run: missingIsolationIsExplained },
  { name: "bad kernel file is explained", skip: noServer, run: badKernelIsExplained },
  { name: "missing file is explained", skip: noServer, run: missingFileIsExplained },
  { name: "guest that does not fit is explained", skip: noServer, run: hugeInitrdIsExplained },
  { name: "browser that refuses 4 GiB still runs a machine", skip: noServer, run: refusedMemoryIsAskedForInSmaller },
  { name: "default guest boots to a shell", skip: noServer, run: bootsToAShell },
  { name: "hot code is compiled in a worker of its own", skip: noServer, run: hotCodeIsCompiledAside },
  { name: "repeatable run compiles where it runs", skip: noServer, run: hotCodeIsCompiledInTheMachinesWorker },
  { name: "machine compiles for itself when the worker does not start", skip: noServer, run: lostTranslatorIsReplaced },
  { name: "nothing is compiled if the page says so", skip: noServer, run: nothingIsCompiledIfSo },
  { name: "processor is measured without a guest", skip: noServer, run: processorIsMeasured },
  { name: "machine pauses and continues", skip: noServer, run: pausesAndContinues },
  { name: "icount run's serial bytes are recorded", skip: noServer ?? parity, run: icountRunIsRecorded },
];

process.exitCode = await runAll(tests, process.argv[2] ?? "");
