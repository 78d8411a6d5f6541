import type { Source } from "../api";
import { roleOf } from "./format";
import { GUESTS } from "./guest";
import { type Choice, choice, choose, ready, start } from "./store";

const MEMORY_MIB = [128, 256, 512, 1024, 2048];

/** What a kernel of one's own is told unless its owner says otherwise: to talk to both of the page's panels. */
const OWN_APPEND = "console=tty0 console=ttyS0";

/** What to boot: a built-in guest, or a kernel and an initrd of one's own. */
export function Setup() {
  return (
    <form
      class="setup"
      onSubmit={(event) => {
        event.preventDefault();
        void start();
      }}
    >
      <GuestField />
      {choice.value.guest === "" && <OwnFiles />}
      <MemoryField />
      <button type="submit" class="primary" disabled={!ready.value}>
        Start
      </button>
      <p class="hint">or drop a Linux kernel and an initrd on the page</p>
    </form>
  );
}

/** Takes files that were dropped on the page: sorted by their names, the first of unknown role being the kernel. */
export function takeFiles(files: readonly File[]): void {
  for (const file of files) {
    const role = roleOf(file.name) ?? (choice.value.kernel === undefined ? "kernel" : "initrd");
    chooseOwn(role === "kernel" ? { kernel: { file } } : { initrd: { file } });
  }
}

function chooseOwn(files: Partial<Pick<Choice, "kernel" | "initrd">>): void {
  choose({ guest: "", append: choice.value.append ?? OWN_APPEND, ...files });
}

function chooseGuest(guest: string): void {
  if (guest === "") chooseOwn({});
  else choose({ guest, kernel: undefined, initrd: undefined, append: undefined });
}

function GuestField() {
  const known = GUESTS.some((guest) => guest.name === choice.value.guest) || choice.value.guest === "";
  return (
    <label>
      Boot
      <select
        id="guest"
        value={choice.value.guest}
        onChange={(event) => chooseGuest(event.currentTarget.value)}
      >
        {GUESTS.map((guest) => (
          <option key={guest.name} value={guest.name}>
            {guest.title}
          </option>
        ))}
        {!known && <option value={choice.value.guest}>{choice.value.guest}</option>}
        <option value="">own files…</option>
      </select>
    </label>
  );
}

function OwnFiles() {
  return (
    <>
      <FileField id="kernel-file" label="Kernel (bzImage)" source={choice.value.kernel} role="kernel" />
      <FileField id="initrd-file" label="Initrd (may be absent)" source={choice.value.initrd} role="initrd" />
      <label>
        Kernel command line
        <input
          id="append"
          type="text"
          spellcheck={false}
          value={choice.value.append ?? ""}
          onInput={(event) => choose({ append: event.currentTarget.value })}
        />
      </label>
    </>
  );
}

function FileField(props: { id: string; label: string; role: "kernel" | "initrd"; source: Source | undefined }) {
  return (
    <label>
      {props.label}
      <span class="file">
        <input
          id={props.id}
          type="file"
          onChange={(event) => {
            const file = event.currentTarget.files?.[0];
            choose({ [props.role]: file && { file } });
          }}
        />
        <span>{nameOf(props.source)}</span>
      </span>
    </label>
  );
}

function nameOf(source: Source | undefined): string {
  if (source === undefined) return "choose a file…";
  if ("url" in source) return source.url;
  return source.file instanceof File ? source.file.name : "a file";
}

function MemoryField() {
  const chosen = choice.value.memory;
  const sizes = chosen === undefined || MEMORY_MIB.includes(chosen) ? MEMORY_MIB : [...MEMORY_MIB, chosen];
  return (
    <label>
      Memory
      <select
        id="memory"
        value={chosen === undefined ? "" : String(chosen)}
        onChange={(event) => {
          const value = event.currentTarget.value;
          choose({ memory: value === "" ? undefined : Number(value) });
        }}
      >
        <option value="">as the guest asks (512 MiB)</option>
        {sizes.map((mib) => (
          <option key={mib} value={String(mib)}>
            {mib} MiB
          </option>
        ))}
      </select>
    </label>
  );
}
