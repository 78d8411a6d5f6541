import { aero, busy, pause, powerOff, ready, reset, start, state } from "./store";

function Button(props: { id: string; label: string; onClick: () => void; disabled: boolean; primary?: boolean }) {
  return (
    <button
      id={props.id}
      type="button"
      class={props.primary ? "primary" : ""}
      disabled={props.disabled}
      onClick={props.onClick}
    >
      {props.label}
    </button>
  );
}

export function Toolbar() {
  const now = state.value;
  const exists = aero.value !== undefined;
  return (
    <header>
      <h1>Aero</h1>
      <span class={`badge ${now}`}>{now}</span>
      <nav aria-label="Machine">
        <Button
          id="start"
          primary
          label={now === "paused" ? "Continue" : "Start"}
          disabled={(busy.value && now !== "paused") || !ready.value}
          onClick={() => void start()}
        />
        <Button id="pause" label="Pause" disabled={now !== "running"} onClick={() => void pause()} />
        <Button id="reset" label="Reset" disabled={!exists || now === "booting"} onClick={() => void reset()} />
        <Button id="power" label="Power off" disabled={!exists} onClick={() => void powerOff()} />
      </nav>
    </header>
  );
}
