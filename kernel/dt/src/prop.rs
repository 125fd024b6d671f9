//! A property, and the reader that takes its value apart into cells.

use crate::error::{PropError, PropErrorKind};
use crate::node::Node;
use crate::tree::Tree;
use alloc::borrow::ToOwned;
use alloc::vec::Vec;

/// A property of a node.
#[derive(Copy, Clone, Debug)]
pub struct Prop<'t> {
    pub(crate) node: Node<'t>,
    pub(crate) name: &'t str,
    pub(crate) value: &'t [u8],
}

impl<'t> Prop<'t> {
    /// Its name.
    pub fn name(&self) -> &'t str {
        self.name
    }

    /// Its value as it stands in the blob.
    pub fn bytes(&self) -> &'t [u8] {
        self.value
    }

    /// The value as one string, if it is one.
    pub fn as_str(&self) -> Option<&'t str> {
        core::str::from_utf8(self.value.strip_suffix(&[0])?)
            .ok()
            .filter(|text| !text.contains('\0'))
    }

    /// The value as a list of strings; what is not UTF-8 is left out.
    pub fn strings(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        let list = self.value.strip_suffix(&[0]);
        list.into_iter()
            .flat_map(|list| list.split(|&b| b == 0))
            .filter_map(|text| core::str::from_utf8(text).ok())
    }

    /// The value as one cell.
    pub fn as_u32(&self) -> Result<u32, PropError> {
        let bytes = self.value.len();
        match self.value.try_into() {
            Ok(cell) => Ok(u32::from_be_bytes(cell)),
            Err(_) => Err(self.error(None, PropErrorKind::NotOneCell { bytes })),
        }
    }

    /// The value as cells.
    pub fn as_cells(&self) -> Result<Vec<u32>, PropError> {
        let mut cells = self.cells()?;
        cells.take(cells.left())
    }

    /// A reader over the value's cells.
    pub(crate) fn cells(&self) -> Result<Cells<'t>, PropError> {
        let bytes = self.value.len();
        if !bytes.is_multiple_of(4) {
            return Err(self.error(None, PropErrorKind::NotCells { bytes }));
        }
        Ok(Cells { prop: *self, at: 0 })
    }

    /// An error about this property.
    pub(crate) fn error(&self, cell: Option<usize>, kind: PropErrorKind) -> PropError {
        PropError {
            node: self.node.path(),
            property: self.name.to_owned(),
            cell,
            kind,
        }
    }
}

/// Reads a property cell by cell, and knows where it is when something is
/// wrong.
pub(crate) struct Cells<'t> {
    prop: Prop<'t>,
    at: usize,
}

impl<'t> Cells<'t> {
    /// The tree that the property is of.
    pub fn tree(&self) -> &'t Tree {
        self.prop.node.tree
    }

    /// Index of the next cell.
    pub fn at(&self) -> usize {
        self.at
    }

    /// How many cells are left.
    pub fn left(&self) -> usize {
        self.prop.value.len() / 4 - self.at
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// An error about the cell at `at`.
    pub fn error(&self, at: usize, kind: PropErrorKind) -> PropError {
        self.prop.error(Some(at), kind)
    }

    /// The next `count` cells, as bytes.
    fn bytes(&mut self, count: usize) -> Result<&'t [u8], PropError> {
        let left = self.left();
        if count > left {
            let kind = PropErrorKind::Truncated { need: count, left };
            return Err(self.error(self.at, kind));
        }
        let bytes = &self.prop.value[self.at * 4..(self.at + count) * 4];
        self.at += count;
        Ok(bytes)
    }

    /// The next cell.
    pub fn cell(&mut self) -> Result<u32, PropError> {
        Ok(self.number(1)? as u32)
    }

    /// The next `count` cells.
    pub fn take(&mut self, count: usize) -> Result<Vec<u32>, PropError> {
        let (cells, _) = self.bytes(count)?.as_chunks();
        Ok(cells.iter().map(|&cell| u32::from_be_bytes(cell)).collect())
    }

    /// The next `count` cells as one number, at most four.
    pub fn number(&mut self, count: u32) -> Result<u128, PropError> {
        if count > 4 {
            let kind = PropErrorKind::TooManyCells { cells: count };
            return Err(self.error(self.at, kind));
        }
        let bytes = self.bytes(count as usize)?;
        Ok(bytes.iter().fold(0, |sum, &b| sum << 8 | u128::from(b)))
    }

    /// The next `count` cells as one 64-bit number.
    pub fn number64(&mut self, count: u32) -> Result<u64, PropError> {
        let at = self.at;
        u64::try_from(self.number(count)?).map_err(|_| self.error(at, PropErrorKind::TooLarge))
    }
}
