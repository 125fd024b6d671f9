//! Where the parts of the image are, by the symbols of the linker script.

use core::ops::Range;

use mastiff_core::addr::{PAGE, PhysAddr, PhysRange};

use super::cpu;

macro_rules! symbols {
    ($($name:ident),* $(,)?) => {
        mod linker {
            unsafe extern "C" {
                $(pub(super) static $name: u8;)*
            }
        }
        $(pub(crate) fn $name() -> u64 {
            (&raw const linker::$name).addr() as u64
        })*
    };
}
symbols! {
    image_base, rodata_start, data_start, bss_start, data_end,
    main_guard, main_stack, main_stack_end,
    exception_guard, exception_stack, exception_stack_end,
    nested_guard, nested_stack, nested_stack_end, cpu_stacks_start, cpu_stacks_end,
    tables_start, tables_end, heap_start, heap_end,
}

/// All of it, what lies between its parts included.
pub(crate) fn whole() -> PhysRange {
    range(image_base()..heap_end())
}

/// Whether the range has a byte of the image.
pub(crate) fn overlaps(range: PhysRange) -> bool {
    let end = range.start.0.saturating_add(range.len);
    range.start.0 < heap_end() && image_base() < end
}

/// The range as a start and a length.
pub(crate) fn range(range: Range<u64>) -> PhysRange {
    PhysRange {
        start: PhysAddr(range.start),
        len: range.end - range.start,
    }
}

/// A stack, and the page below it that faults.
pub(crate) struct Stack {
    pub(crate) name: &'static str,
    pub(crate) guard: Range<u64>,
    pub(crate) memory: Range<u64>,
}

/// What those of a CPU beside the first take, guards included, by [`stacks`]' order.
const CPU_STACKS: [u64; 3] = [64 << 10, 16 << 10, 16 << 10];
const STRIDE: u64 = CPU_STACKS[0] + CPU_STACKS[1] + CPU_STACKS[2] + 3 * PAGE;

/// The stacks of CPU `number`, which is not the first. They are mapped when it is
/// started.
pub(crate) fn cpu_stacks(number: usize) -> [Stack; 3] {
    let mut at = cpu_stacks_start() + (number as u64 - 1) * STRIDE;
    assert!(
        at + STRIDE <= cpu_stacks_end(),
        "no stacks for CPU {number}"
    );
    let [main, exception, nested] = stacks().map(|stack| stack.name);
    let mut index = 0;
    [main, exception, nested].map(|name| {
        let memory = at + PAGE..at + PAGE + CPU_STACKS[index];
        let guard = at..memory.start;
        at = memory.end;
        index += 1;
        Stack {
            name,
            guard,
            memory,
        }
    })
}

/// The stacks of the CPU that calls.
pub(crate) fn own_stacks() -> [Stack; 3] {
    match cpu::number() {
        0 => stacks(),
        number => cpu_stacks(number),
    }
}

/// Those of the first CPU.
pub(crate) fn stacks() -> [Stack; 3] {
    [
        Stack {
            name: "the kernel's",
            guard: main_guard()..main_stack(),
            memory: main_stack()..main_stack_end(),
        },
        Stack {
            name: "the exceptions'",
            guard: exception_guard()..exception_stack(),
            memory: exception_stack()..exception_stack_end(),
        },
        Stack {
            name: "the nested exceptions'",
            guard: nested_guard()..nested_stack(),
            memory: nested_stack()..nested_stack_end(),
        },
    ]
}
