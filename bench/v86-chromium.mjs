// node v86-chromium.mjs PLAYWRIGHT_FOLDER CHROMIUM PROFILE V86_FOLDER BIOS_FOLDER KERNEL INITRD APPEND MIB
//
// Boots a guest in the npm package `v86` on a page of its own inside headless Chromium, with its serial line on the
// standard streams. A peer to compare with; no part of Aero.
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { openPage, print } from "./page.mjs";

const [playwright, chromium, profile, v86Folder, biosFolder, kernel, initrd, append, mebibytes] = process.argv.slice(2);
const MIB = 1 << 20;

const PAGE = "<!doctype html><title>v86</title><script src=/libv86.js></script>";
const FILES = {
  "/libv86.js": [path.join(v86Folder, "build/libv86.js"), "text/javascript"],
  "/v86.wasm": [path.join(v86Folder, "build/v86.wasm"), "application/wasm"],
  "/bios": [path.join(biosFolder, "bios.bin"), "application/octet-stream"],
  "/vga": [path.join(biosFolder, "vgabios-stdvga.bin"), "application/octet-stream"],
  "/kernel": [kernel, "application/octet-stream"],
  "/initrd": [initrd, "application/octet-stream"],
};

function answer(request, response) {
  if (request.url === "/") return response.setHeader("content-type", "text/html").end(PAGE);
  const [file, type] = FILES[request.url] ?? [];
  if (file === undefined) return response.writeHead(404).end();
  const bytes = fs.readFileSync(file);
  return response.writeHead(200, { "content-type": type, "content-length": bytes.length }).end(bytes);
}

// Runs in the page: whole lines go out as they end.
function boot({ memory_size, cmdline }) {
  const at = (url) => ({ url });
  const emulator = new V86({
    wasm_path: "/v86.wasm",
    bios: at("/bios"),
    vga_bios: at("/vga"),
    bzimage: at("/kernel"),
    initrd: at("/initrd"),
    cmdline,
    memory_size,
    vga_memory_size: 8 * 1024 * 1024,
    autostart: true,
  });
  let line = "";
  emulator.add_listener("serial0-output-byte", (byte) => {
    line += String.fromCharCode(byte);
    if (byte !== 10) return;
    window.benchSerial(line);
    line = "";
  });
  window.emulator = emulator;
}

const server = http.createServer(answer);
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const page = await openPage(playwright, chromium, profile, (text) => window.emulator.serial0_send(text));
print("@start\n");
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await page.evaluate(boot, { memory_size: Number(mebibytes) * MIB, cmdline: append });
