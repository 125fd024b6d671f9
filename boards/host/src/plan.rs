//! A plan: a tree, the drivers that there are, and the engine let loose; then what
//! overlays make of it, as if they came at run time.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use mastiff_core::engine::Engine;
use mastiff_dt::Tree;

use crate::Which;
use crate::boards::Board;
use crate::drivers::{of_everything, of_image};
use crate::paper::Paper;
use crate::record::PlanRecord;

/// A file's content, and its name for complaints.
pub struct Blob<'a> {
    path: &'a Path,
    content: Vec<u8>,
}

impl<'a> Blob<'a> {
    /// Reads a file.
    pub fn read(path: &'a PathBuf) -> Result<Self, String> {
        let content = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, content })
    }

    fn blame(&self, problem: impl Display) -> String {
        format!("{}: {problem}", self.path.display())
    }

    fn tree(&self) -> Result<Tree, String> {
        Tree::parse(&self.content).map_err(|error| self.blame(error))
    }
}

/// What becomes of every device of a tree, and of what overlays bring, one after the
/// other.
pub fn plan(
    blob: &Blob<'_>,
    overlays: &[Blob<'_>],
    board: &Board,
    which: Which,
) -> Result<Vec<PlanRecord>, String> {
    // The drivers are there before the devices that overlays bring. Those do not change
    // the number of any node, so what is known of a node here holds all the way.
    let mut whole = blob.tree()?;
    for overlay in overlays {
        let more = whole.overlay(&overlay.content);
        whole = more.map_err(|error| overlay.blame(error))?;
    }
    let drivers = match which {
        Which::Image => of_image(&whole, board.drivers),
        Which::All => of_everything(&whole),
    };
    let mut engine = Engine::new(Paper::default(), blob.tree()?, board.policy, &drivers);
    engine.start();
    for overlay in overlays {
        let applied = engine.overlay(&overlay.content);
        applied.map_err(|fault| overlay.blame(fault))?;
    }
    let devices = engine.devices();
    Ok(devices
        .map(|device| PlanRecord::new(&engine, device))
        .collect())
}
