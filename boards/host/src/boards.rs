//! The boards whose images a plan can be made for.

use mastiff_core::driver::Driver;
use mastiff_core::policy::Policy;

use crate::paper::Paper;
use crate::paper_cpu::PaperCpu;

/// What a plan needs to know of a board.
pub struct Board {
    /// The name of its folder.
    pub name: &'static str,
    /// The drivers of its image.
    pub drivers: &'static [&'static dyn Driver<Paper>],
    /// What holds unless the command line says otherwise.
    pub policy: Policy,
}

macro_rules! board {
    ($its:ident) => {
        Board {
            name: $its::NAME,
            drivers: $its::Drivers::<Paper, PaperCpu>::LIST,
            policy: $its::POLICY,
        }
    };
}

/// All of them.
pub const BOARDS: &[Board] = &[
    board!(mastiff_qemu_virt),
    board!(mastiff_beaglebone_ai64),
    board!(mastiff_fvp_base),
    board!(mastiff_rock_5b),
    board!(mastiff_sbsa_ref),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::BOARDS;

    #[test]
    fn every_driver_is_on_a_boards_list() {
        let names: Vec<&str> = BOARDS
            .iter()
            .flat_map(|board| board.drivers)
            .map(|driver| driver.name())
            .collect();
        let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../drivers");
        let mut seen = 0;
        for entry in folders.read_dir().expect("the drivers' folder") {
            let path = entry.expect("an entry of it").path();
            if path.join("Cargo.toml").exists() {
                let folder = path.file_name().and_then(|name| name.to_str());
                let folder = folder.expect("a name in ASCII");
                assert!(names.contains(&folder), "{folder} is on no board's list");
                seen += 1;
            }
        }
        assert!(seen > 0, "no driver has a folder");
    }
}
