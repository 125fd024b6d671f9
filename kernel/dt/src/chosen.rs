//! What the bootloader chose for us: `/chosen` (3.6).

use crate::node::Node;
use crate::tree::Tree;

impl Tree {
    /// The kernel's command line; empty if there is none.
    pub fn bootargs(&self) -> &str {
        let args = || self.chosen()?.prop("bootargs")?.as_str();
        args().unwrap_or_default()
    }

    /// The device that the console is on.
    pub fn stdout(&self) -> Option<Node<'_>> {
        self.find(self.stdout_path()?.0)
    }

    /// How that device is to be set up, as in `115200n8`.
    pub fn stdout_options(&self) -> Option<&str> {
        self.stdout_path()?.1
    }

    /// The path and the options after the `:`.
    fn stdout_path(&self) -> Option<(&str, Option<&str>)> {
        let chosen = self.chosen()?;
        let prop = chosen
            .prop("stdout-path")
            .or_else(|| chosen.prop("linux,stdout-path"))?;
        let value = prop.as_str()?;
        Some(match value.split_once(':') {
            Some((path, options)) => (path, Some(options)),
            None => (value, None),
        })
    }

    fn chosen(&self) -> Option<Node<'_>> {
        self.root().child("chosen")
    }
}
