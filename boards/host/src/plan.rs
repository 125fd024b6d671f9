//! A plan: a tree, the drivers that there are, and the engine let loose.

use mastiff_core::engine::Engine;
use mastiff_dt::{BlobError, Tree};

use crate::Which;
use crate::boards::Board;
use crate::drivers::{of_everything, of_image};
use crate::paper::Paper;
use crate::record::PlanRecord;

/// What becomes of every device of the tree in `blob`.
pub fn plan(blob: &[u8], board: &Board, which: Which) -> Result<Vec<PlanRecord>, BlobError> {
    let tree = Tree::parse(blob)?;
    let drivers = match which {
        Which::Image => of_image(&tree, board.drivers),
        Which::All => of_everything(&tree),
    };
    let mut engine = Engine::new(Paper::default(), tree, board.policy, &drivers);
    engine.start();
    let devices = engine.devices();
    Ok(devices
        .map(|device| PlanRecord::new(&engine, device))
        .collect())
}
