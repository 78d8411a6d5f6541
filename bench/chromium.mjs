// node chromium.mjs PLAYWRIGHT_FOLDER CHROMIUM PROFILE BASE_URL KERNEL INITRD APPEND MIB [NAME=VALUE...]
//
// Boots a guest in Aero's page inside headless Chromium, with its serial line on the standard streams. KERNEL and
// INITRD are paths on the page's server; NAME=VALUE are settings of the page.
import { openPage, print } from "./page.mjs";

const [playwright, chromium, profile, base, kernel, initrd, append, memory, ...more] = process.argv.slice(2);

const page = await openPage(playwright, chromium, profile, (text) => window.aero.serial.send(text));

// The panel's text only grows, unless the page starts anew or drops its oldest lines.
await page.addInitScript(() => {
  let copied = "";
  setInterval(() => {
    const text = document.querySelector("#serial")?.textContent ?? "";
    if (text === copied) return;
    const tail = copied.slice(-256);
    const at = text.startsWith(copied) ? copied.length : text.lastIndexOf(tail) + tail.length;
    window.benchSerial(text.slice(at));
    copied = text;
  }, 5);
});

const url = new URL(base);
const settings = Object.entries({ kernel, initrd, append, memory, autostart: "1" });
for (const [name, value] of [...settings, ...more.map((word) => word.split(/=(.*)/s))]) url.searchParams.set(name, value);
print("@start\n");
await page.goto(url.href);
