/** Runs tests one after another in a real Chromium and reports a line for each. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BrowserContext, chromium, type Page } from "playwright-core";

export interface Test {
  name: string;
  /** A reason to leave it out, or undefined. */
  skip?: string | undefined;
  run(page: Page): Promise<void>;
}

const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** A browser with an empty profile of its own: a private window would not behave as a user's does. */
async function withBrowser<T>(use: (context: BrowserContext) => Promise<T>): Promise<T> {
  const profile = await mkdtemp(join(tmpdir(), "aero-e2e-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env["AERO_CHROMIUM"] ?? "/usr/bin/chromium",
    headless: true,
    args: ARGS,
    viewport: { width: 1440, height: 900 },
  });
  try {
    return await use(context);
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Prints what the page said, which a failure's reader needs. */
async function explain(page: Page): Promise<void> {
  const text = (selector: string): Promise<string> =>
    page.textContent(selector, { timeout: 2000 }).then((t) => t ?? "", () => "");
  const state = await page.getAttribute("#screen", "data-state", { timeout: 2000 }).catch(() => null);
  const serial = (await text("#serial")).split("\n").slice(-15).join("\n    ");
  console.log(`    state: ${state}; problem: ${await text("#problem")}; speed: ${await text("#mips")}`);
  if (serial.trim() !== "") console.log(`    the serial port's last lines:\n    ${serial}`);
}

async function runOne(context: BrowserContext, test: Test): Promise<boolean> {
  const page = await context.newPage();
  const said: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") said.push(message.text());
  });
  page.on("pageerror", (error) => said.push(String(error)));
  await page.addInitScript(recordStates);
  const start = Date.now();
  try {
    await test.run(page);
    console.log(`ok   ${test.name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
    return true;
  } catch (error) {
    console.log(`FAIL ${test.name}: ${error instanceof Error ? error.message : String(error)}`);
    await explain(page);
    for (const line of said.slice(0, 20)) console.log(`    console: ${line}`);
    return false;
  } finally {
    await page.close();
  }
}

/** Runs in the page: notes every `data-state` that `#screen` goes through. */
function recordStates(): void {
  const states: string[] = [];
  (window as unknown as { states: string[] }).states = states;
  new MutationObserver(() => {
    const state = document.getElementById("screen")?.dataset["state"];
    if (state !== undefined && states.at(-1) !== state) states.push(state);
  }).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["data-state"] });
}

/** The states that `#screen` has gone through. */
export function statesOf(page: Page): Promise<string[]> {
  return page.evaluate(() => (window as unknown as { states: string[] }).states);
}

/** Runs the tests whose names contain `filter`; returns the exit status. */
export async function runAll(tests: readonly Test[], filter: string): Promise<number> {
  let passed = 0;
  let failed = 0;
  const chosen = tests.filter((test) => test.name.includes(filter));
  await withBrowser(async (context) => {
    for (const test of chosen) {
      if (test.skip !== undefined) console.log(`skip ${test.name}: ${test.skip}`);
      else if (await runOne(context, test)) passed += 1;
      else failed += 1;
    }
  });
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

export function check(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

/** Asks until the answer is yes. `waitForFunction` would take a promise for a yes. */
export async function eventually(ask: () => Promise<boolean>, timeout: number, message: string): Promise<void> {
  const end = Date.now() + timeout;
  while (!(await ask())) {
    if (Date.now() > end) throw new Error(`${message} (${timeout / 1000} s)`);
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}
