import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { formatBytes } from "./format";
import { capture } from "./keys";
import { Setup } from "./setup";
import { aero, begin, problem, progress, state } from "./store";

/** The guest's screen. Its element belongs to `Aero`, which puts a canvas in it; messages lie over it. */
export function ScreenPanel() {
  const element = useRef<HTMLDivElement>(null);
  const captured = useSignal(false);
  const machine = aero.value;
  useEffect(() => {
    if (element.current) begin(element.current);
  }, []);
  useEffect(() => {
    if (element.current === null || machine === undefined) return undefined;
    return capture(element.current, machine.keyboard);
  }, [machine]);
  return (
    <section class="panel screen-panel" aria-label="Screen">
      <div class="stage">
        <div
          id="screen"
          ref={element}
          tabIndex={0}
          role="application"
          aria-label="The guest's screen"
          data-state="stopped"
          onFocus={() => (captured.value = true)}
          onBlur={() => (captured.value = false)}
        />
        <Overlay />
      </div>
      <p class="hint">
        {captured.value && machine
          ? "The keyboard goes to the guest. Ctrl+Alt+G gives it back."
          : "Click the screen to type into it."}
      </p>
    </section>
  );
}

function Overlay() {
  if (progress.value !== undefined) return <Loading />;
  if (problem.value === undefined && (aero.value !== undefined || state.value === "booting")) return null;
  return (
    <div class="overlay">
      <Problem />
      <Setup />
    </div>
  );
}

function Loading() {
  const step = progress.value;
  if (step === undefined) return null;
  const loaded = step.loaded > 0 ? ` ${formatBytes(step.loaded)}` : "";
  return (
    <div class="overlay loading" role="status">
      <p>
        {step.what}…{loaded}
      </p>
      <progress id="progress" max={1} {...(step.fraction !== undefined && { value: step.fraction })} />
    </div>
  );
}

function Problem() {
  const error = problem.value;
  if (error === undefined) return null;
  return (
    <div id="problem" role="alert">
      <p>{error.message}</p>
      {error.cure !== "" && <p class="cure">{error.cure}</p>}
    </div>
  );
}
