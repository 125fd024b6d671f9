//! What every board does, from its table of drivers to its exit status: read the
//! command line, start the engine, do the main job or the commands asked for, and
//! say how it went. A board is then a list and a policy.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod console;

pub use mastiff_arch::Reset;
#[doc(hidden)]
pub use mastiff_arch::{Boot, Machine, ThisCpu, entry};
use mastiff_core::driver::Driver;
use mastiff_core::engine::Engine;
use mastiff_core::platform::Platform;
use mastiff_core::policy::Policy;
use mastiff_shell::bootargs::BootArgs;
use mastiff_shell::{Ending, Shell};

use console::BoardConsole;

/// A board, on one screen.
pub struct Board {
    /// The name of its folder.
    pub name: &'static str,
    /// The drivers of its image. Their order does not matter.
    pub drivers: &'static [&'static dyn Driver<Machine>],
    /// What holds unless the command line says otherwise.
    pub policy: Policy,
}

/// All of a board's `main.rs` but the attributes: `start!(mastiff_rock_5b)` runs the list and
/// the policy of that crate on the machine at hand. A second argument is the board's
/// `Reset`, where it may be entered at its reset vector.
#[macro_export]
macro_rules! start {
    ($board:ident) => {
        $crate::start!($board, $crate::Reset::NONE);
    };
    ($board:ident, $reset:expr) => {
        static BOARD: $crate::Board = $crate::Board {
            name: $board::NAME,
            drivers: $board::Drivers::<$crate::Machine, $crate::ThisCpu>::LIST,
            policy: $board::POLICY,
        };

        fn main(boot: $crate::Boot) -> u8 {
            $crate::run(&BOARD, boot)
        }

        $crate::entry!(main, $reset);
    };
}

/// Runs the kernel on a board; gives the status that the machine ends with.
pub fn run(board: &Board, boot: Boot) -> u8 {
    let args = BootArgs::parse(boot.tree.bootargs(), board.policy);
    mastiff_hw::console::set_level(args.loglevel);
    for warning in &args.warnings {
        log::warn!("{warning}");
    }
    let started = boot.machine.now();
    let console = BoardConsole::new(board.name, &boot);
    let chosen = match &args.console {
        None => boot.tree.stdout(),
        Some(path) => boot.tree.find(path).or_else(|| {
            log::warn!("console={path}: no such node; the tree's own console is used");
            boot.tree.stdout()
        }),
    };
    let chosen = chosen.map(|node| node.id());
    let mut engine = Engine::new(boot.machine, boot.tree, args.policy, board.drivers);
    if let Some(node) = chosen {
        engine.on_console(node, mastiff_hw::console::install);
    }
    args.start(&mut engine);
    log::info!(
        "probing took {} us",
        console.machine().now().us_since(started)
    );
    console.start_cores();
    // When the shell is done every device is down: no master outlives the kernel.
    match Shell::new(engine, &console, &args).serve(args.run.as_deref()) {
        Ending::PowerOff(status) => status,
        Ending::Reboot => mastiff_arch::reboot(),
    }
}
