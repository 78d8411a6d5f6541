//! Keyboard and mouse as a PC has them: two PS/2 devices behind an 8042 keyboard controller.
//!
//! A key travels through three codes. The host names it as browsers do, by its place on the keyboard
//! (`KeyboardEvent.code`, for example `"KeyA"`). The [`keyboard`] turns the name into scan code set 2, which
//! is what a PS/2 keyboard sends; [`scancodes`] is that table. The controller, [`i8042`], translates set 2
//! into set 1 on the way, as IBM's AT did so that programs for the older PC kept working, and nearly every
//! operating system relies on it.
//!
//! The controller shows one byte at a time. Each byte is announced by an edge on its interrupt line, IRQ 1
//! for the keyboard and IRQ 12 for the [`mouse`]. Answers and mouse packets appear as soon as the guest has
//! read the byte before; key codes also keep the millisecond's distance that the keyboard's cable gives them.

pub mod i8042;
pub mod keyboard;
pub mod mouse;
pub mod scancodes;
