import { ScreenPanel } from "./screen";
import { SerialPanel } from "./serial";
import { takeFiles } from "./setup";
import { StatusLine } from "./status";
import { busy } from "./store";
import { Toolbar } from "./toolbar";

/** Without this the browser would leave the page and open the file. */
function allowDrop(event: DragEvent): void {
  event.preventDefault();
}

function drop(event: DragEvent): void {
  event.preventDefault();
  if (!busy.value) takeFiles([...(event.dataTransfer?.files ?? [])]);
}

export function App() {
  return (
    <div class="page" onDragOver={allowDrop} onDrop={drop}>
      <Toolbar />
      <main>
        <ScreenPanel />
        <SerialPanel />
      </main>
      <StatusLine />
    </div>
  );
}
