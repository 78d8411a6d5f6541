import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { useEffect, useRef } from "preact/hooks";
import type { Aero } from "../api";
import { aero } from "./store";

/** How often the text follows the terminal. */
const MIRROR_MS = 200;

const THEME = {
  background: "#0a0f1a",
  foreground: "#d7e0f0",
  cursor: "#56b6ff",
  selectionBackground: "#2a4a70",
};

/** The first serial port: a terminal, and its text for tests and assistive programs. */
export function SerialPanel() {
  const place = useRef<HTMLDivElement>(null);
  const mirror = useRef<HTMLPreElement>(null);
  const terminal = useRef<Terminal>(null);
  const machine = aero.value;
  useEffect(() => {
    if (place.current === null) return undefined;
    const made = openTerminal(place.current);
    terminal.current = made.terminal;
    return made.close;
  }, []);
  useEffect(() => {
    if (machine === undefined || terminal.current === null || mirror.current === null) return undefined;
    return connect(machine, terminal.current, mirror.current);
  }, [machine]);
  return (
    <section class="panel serial-panel" aria-label="Serial port">
      <h2>Serial port</h2>
      <div class="console">
        <div ref={place} />
      </div>
      <pre id="serial" ref={mirror} aria-hidden="true" />
    </section>
  );
}

function openTerminal(place: HTMLElement): { terminal: Terminal; close: () => void } {
  const terminal = new Terminal({ fontSize: 13, scrollback: 5000, theme: THEME, fontFamily: "ui-monospace, monospace" });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(place);
  const observer = new ResizeObserver(() => fit.fit());
  observer.observe(place);
  return {
    terminal,
    close: () => {
      observer.disconnect();
      terminal.dispose();
    },
  };
}

function connect(machine: Aero, terminal: Terminal, mirror: HTMLElement): () => void {
  let timer: number | undefined;
  const reflect = (): void => {
    timer = undefined;
    mirror.textContent = new TextDecoder().decode(machine.serial.history());
  };
  terminal.reset();
  // The guest may have spoken before this panel listened.
  terminal.write(machine.serial.history());
  reflect();
  const ends = [
    machine.on("serial", (bytes) => {
      terminal.write(bytes);
      timer ??= window.setTimeout(reflect, MIRROR_MS);
    }),
    () => window.clearTimeout(timer),
  ];
  const input = terminal.onData((text) => machine.serial.send(text));
  return () => {
    input.dispose();
    for (const end of ends) end();
  };
}
