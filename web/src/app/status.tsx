import { formatBytes, formatMips, formatUptime } from "./format";
import { stats } from "./store";

/** Speed, uptime and memory. */
export function StatusLine() {
  const now = stats.value;
  return (
    <footer id="status">
      <Figure id="mips" name="speed" value={now ? formatMips(now.mips) : "–"} />
      <Figure id="uptime" name="uptime" value={now ? formatUptime(now.uptime) : "–"} />
      <Figure id="memory-used" name="memory" value={now ? formatBytes(now.memoryBytes) : "–"} />
    </footer>
  );
}

function Figure(props: { id: string; name: string; value: string }) {
  return (
    <span>
      <span class="name">{props.name}</span> <output id={props.id}>{props.value}</output>
    </span>
  );
}
