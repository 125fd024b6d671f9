//! Crashes on demand, to see that the kernel's last words reach a person and that
//! the status is right, on a new board as well as in the boot tests.

use core::arch::asm;
use core::hint::black_box;

use super::image;

/// A crash, by the name it goes by on the command line.
pub struct Crash {
    /// Its name.
    pub name: &'static str,
    run: fn(),
}

/// All of them.
pub static CRASHES: [Crash; 8] = [
    Crash {
        name: "panic",
        run: || panic!("on demand"),
    },
    Crash {
        name: "data-abort",
        run: || read(0x8_0000_0000_0000 - 8),
    },
    Crash {
        name: "undefined",
        run: undefined,
    },
    Crash {
        name: "stack-overflow",
        run: || {
            dig(0);
        },
    },
    Crash {
        name: "write-text",
        run: || write(image::image_base()),
    },
    Crash {
        name: "write-rodata",
        run: || write(image::rodata_start()),
    },
    Crash {
        name: "execute-data",
        run: execute,
    },
    Crash {
        name: "out-of-memory",
        run: || drop(black_box(alloc::vec![0u8; 1 << 46])),
    },
];

/// Brings the crash called `name` about; returns if there is none.
pub fn run(name: &str) {
    if let Some(crash) = CRASHES.iter().find(|crash| crash.name == name) {
        (crash.run)();
    }
}

/// The same for what `selftest=` on the kernel's command line names.
pub(crate) fn by_command_line(arguments: &str) {
    arguments
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("selftest="))
        .for_each(run);
}

/// What `selftest=NAME@1` names: a crash for another CPU than the first.
pub(crate) fn elsewhere(arguments: &str) -> Option<&'static str> {
    let words = arguments.split_ascii_whitespace();
    let mut names = words.filter_map(|word| word.strip_prefix("selftest=")?.strip_suffix("@1"));
    let name = names.next()?;
    let known = CRASHES.iter().find(|crash| crash.name == name)?;
    Some(known.name)
}

fn read(at: u64) {
    // SAFETY: none. The fault is what is asked for.
    black_box(unsafe { (at as *const u64).read_volatile() });
}

fn write(at: u64) {
    // SAFETY: none. The fault is what is asked for.
    unsafe { (at as *mut u64).write_volatile(0) };
}

fn undefined() {
    // SAFETY: none. The exception is what is asked for.
    unsafe { asm!("udf #0") };
}

fn execute() {
    let code = [0xd65f_03c0u32]; // ret
    let at = code.as_ptr();
    // SAFETY: none. The fault is what is asked for.
    unsafe { asm!("blr {}", in(reg) at, clobber_abi("C")) };
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn dig(depth: u64) -> u64 {
    let ballast = black_box([depth; 64]);
    dig(depth + 1) + ballast[0]
}
