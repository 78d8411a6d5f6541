/** What a frame is read from: `aero-wasm`'s `Machine`. */
export interface FrameSource {
  frame_width(): number;
  frame_height(): number;
  frame_ptr(): number;
  frame_len(): number;
}

/** The canvas that the page lent to the worker. */
export class Screen {
  readonly #context: OffscreenCanvasRenderingContext2D;
  #image: ImageData | undefined;

  constructor(
    private readonly canvas: OffscreenCanvas,
    private readonly memory: WebAssembly.Memory,
    private readonly onResize: (width: number, height: number) => void,
  ) {
    const context = canvas.getContext("2d", { alpha: false });
    if (context === null) throw new Error("the canvas has no 2d context");
    this.#context = context;
  }

  /** Copies the frame out of the shared memory, which no canvas accepts, and shows it. */
  draw(source: FrameSource): void {
    const image = this.#sized(source.frame_width(), source.frame_height());
    if (image === undefined) return;
    image.data.set(new Uint8Array(this.memory.buffer, source.frame_ptr() >>> 0, source.frame_len()));
    this.#context.putImageData(image, 0, 0);
  }

  #sized(width: number, height: number): ImageData | undefined {
    if (width === 0 || height === 0) return undefined;
    if (this.#image?.width === width && this.#image.height === height) return this.#image;
    this.canvas.width = width;
    this.canvas.height = height;
    this.#image = new ImageData(width, height);
    this.onResize(width, height);
    return this.#image;
  }

  /** The screen as a PNG file. */
  png(): Promise<Blob> {
    return this.canvas.convertToBlob({ type: "image/png" });
  }
}
