/** Numbers as people read them. */

export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"] as const;
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit === 0 || bytes >= 100 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit] ?? ""}`;
}

export function formatMips(mips: number): string {
  return `${mips >= 10 ? Math.round(mips) : mips.toFixed(1)} MIPS`;
}

/** Hours, minutes and seconds. */
export function formatUptime(seconds: number): string {
  const two = (n: number): string => String(Math.floor(n)).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  const rest = `${two((seconds / 60) % 60)}:${two(seconds % 60)}`;
  return hours > 0 ? `${hours}:${rest}` : rest;
}

/** What a file name hints at, when several are dropped at once. */
export function roleOf(name: string): "kernel" | "initrd" | undefined {
  if (/initrd|initramfs|\.cpio|\.gz$|\.xz$|\.zst$|\.img$/i.test(name)) return "initrd";
  if (/vmlinuz|bzimage|kernel|linux/i.test(name)) return "kernel";
  return undefined;
}
