use aero_bus::block::MemoryDisk;
use aero_machine::*;
struct W(std::time::Instant);
impl WallClock for W { fn now_ns(&mut self) -> u64 { self.0.elapsed().as_nanos() as u64 } }
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let secs: f64 = a[1].parse().unwrap();
    let mut drives = vec![];
    let mut keys = String::new();
    let mut rom = "/usr/share/seabios/bios-256k.bin".to_string();
    for x in &a[2..] {
        let (k, f) = x.split_once('=').unwrap();
        if k == "keys" { keys = f.replace("\\n", "\n"); continue }
        if k == "rom" { rom = f.into(); continue }
        let b = match k { "fd" => Bus::Floppy, "ide" => Bus::IdeDisk, "ahci" => Bus::AhciDisk, "acd" => Bus::AhciCd, _ => Bus::IdeCd };
        drives.push(Drive::new(b, MemoryDisk::new(std::fs::read(f).unwrap(), k.ends_with("cd"))));
    }
    let fw = Firmware { rom: std::fs::read(rom).unwrap(), vga_bios: std::fs::read("/usr/share/seabios/vgabios-stdvga.bin").unwrap(), order: "adc".into(), menu: false };
    let config = Config { memory: 256 << 20, debugcon: vec![0x402], ..Config::default() };
    let mut m = Machine::with_drives(config, Boot::Firmware(fw), drives, Box::new(W(std::time::Instant::now())), None).unwrap();
    let t = std::time::Instant::now();
    let mut typed = false;
    while t.elapsed().as_secs_f64() < secs {
        let e = m.run(2_000_000);
        use std::io::Write;
        std::io::stderr().write_all(&m.take_debugcon(0)).unwrap();
        std::io::stdout().write_all(&m.take_serial()).unwrap();
        if !typed && !keys.is_empty() && t.elapsed().as_secs_f64() > secs / 2. { typed = true; m.type_text(&keys); }
        match e { Exit::Budget | Exit::WaitIo => {}, Exit::Idle { .. } => std::thread::sleep(std::time::Duration::from_millis(1)), Exit::Reset => { println!("RESET"); m.reset().unwrap() }, e => { println!("{e:?}"); break } }
    }
    let s = m.cpu_state();
    println!("rip {:x} cs {:x} cr0 {:x} retired {}", s.rip, s.segments[1].selector, s.cr0, m.retired());
    println!("{}", m.screen_text());
    for u in m.unclaimed() { print!("{u:x?} "); }
    println!();
}
