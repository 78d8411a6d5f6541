// node v86.mjs V86_FOLDER BIOS_FOLDER KERNEL INITRD APPEND MIB
//
// Boots a guest in the npm package `v86` and has its serial line on the standard streams. A peer to compare
// with; no part of Aero.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [v86Folder, biosFolder, kernel, initrd, append, mebibytes] = process.argv.slice(2);
const MIB = 1 << 20;

function image(...parts) {
  const bytes = fs.readFileSync(path.join(...parts));
  return { buffer: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) };
}

const build = path.join(v86Folder, "build");
const { V86 } = await import(pathToFileURL(path.join(build, "libv86.mjs")).href);
const emulator = new V86({
  wasm_path: path.join(build, "v86.wasm"),
  bios: image(biosFolder, "bios.bin"),
  vga_bios: image(biosFolder, "vgabios-stdvga.bin"),
  bzimage: image(kernel),
  initrd: image(initrd),
  cmdline: append,
  memory_size: Number(mebibytes) * MIB,
  vga_memory_size: 8 * MIB,
  autostart: true,
});

let line = [];
emulator.add_listener("serial0-output-byte", (byte) => {
  line.push(byte);
  if (byte !== 10) return;
  const text = Buffer.from(line);
  line = [];
  // Synchronous, because the emulator hardly ever lets the event loop turn.
  fs.writeSync(1, text);
});
// The event loop turns when the guest is idle, and that is when it is given its turn.
process.stdin.setEncoding("utf8").on("data", (text) => emulator.serial0_send(text));
process.stdin.on("end", () => process.exit(0));
