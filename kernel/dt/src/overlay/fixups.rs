//! The places in an overlay's properties that refer to nodes: `__fixups__` says which
//! are references to symbols of the tree, `__local_fixups__` which are to nodes of
//! the overlay itself. The former are filled in at once; the latter are only listed,
//! as the numbers change when nodes are merged.

use super::OverlayError;
use super::names::Names;
use crate::node::Node;
use crate::tree::Tree;
use alloc::borrow::ToOwned;
use alloc::vec::Vec;

/// A reference to a node of the overlay.
pub(super) struct Local<'t> {
    /// Where it is among all values of the overlay.
    pub at: usize,
    /// The same, for an error.
    pub node: Node<'t>,
    pub property: &'t str,
    pub offset: u32,
}

impl Local<'_> {
    pub fn error(&self) -> OverlayError {
        OverlayError::BadLocalFixup {
            node: self.node.path(),
            property: self.property.to_owned(),
            offset: self.offset,
        }
    }
}

/// Where four bytes of a property are among all values of the tree.
pub(super) fn place(node: Node<'_>, property: &str, offset: u32) -> Option<usize> {
    let prop = node.prop(property)?;
    let end = (offset as usize).checked_add(4)?;
    (end <= prop.value.len()).then(|| node.value_at(&prop) + offset as usize)
}

/// Writes the phandles of the symbols that the overlay refers to.
pub(super) fn fill_in(
    base: &Tree,
    overlay: &Tree,
    names: &Names<'_>,
    values: &mut [u8],
) -> Result<(), OverlayError> {
    let root = overlay.root();
    let symbols = base.root().child("__symbols__");
    let fixups = root.child("__fixups__").into_iter();
    for fixup in fixups.flat_map(|node| node.props()) {
        let symbol = || fixup.name.to_owned();
        let node = symbols
            .and_then(|symbols| symbols.prop(fixup.name)?.as_str())
            .and_then(|path| base.find(path));
        let phandle = node
            .and_then(|node| node.phandle())
            .ok_or_else(|| OverlayError::UnknownSymbol { symbol: symbol() })?;
        let entries = fixup.value.strip_suffix(&[0]).unwrap_or(fixup.value);
        for (entry, text) in entries.split(|&byte| byte == 0).enumerate() {
            let at = read_entry(text, overlay, names).ok_or_else(|| OverlayError::BadFixup {
                symbol: symbol(),
                entry,
            })?;
            values[at..at + 4].copy_from_slice(&phandle.to_be_bytes());
        }
    }
    Ok(())
}

/// `path:property:offset`.
fn read_entry(text: &[u8], overlay: &Tree, names: &Names<'_>) -> Option<usize> {
    let mut parts = core::str::from_utf8(text).ok()?.split(':');
    let (path, property, offset) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let node = overlay.numbered(names.find(path)?);
    place(node, property, offset.parse().ok()?)
}

/// Every reference within the overlay, in the order of their places, each once. The
/// tree below `__local_fixups__` has the shape of the overlay's, and each property
/// there lists offsets into the one of the same name here.
pub(super) fn locals<'t>(
    overlay: &'t Tree,
    names: &Names<'t>,
) -> Result<Vec<Local<'t>>, OverlayError> {
    let mut locals = Vec::new();
    let root = overlay.root();
    let mut left: Vec<(Node<'t>, Option<Node<'t>>)> = Vec::new();
    left.extend(
        root.child("__local_fixups__")
            .map(|fixups| (fixups, Some(root))),
    );
    while let Some((fixups, meant)) = left.pop() {
        for prop in fixups.props() {
            for offset in prop.as_cells()? {
                let node = meant.unwrap_or(fixups);
                let local = |at| Local {
                    at,
                    node,
                    property: prop.name,
                    offset,
                };
                match meant.and_then(|meant| place(meant, prop.name, offset)) {
                    Some(at) => locals.push(local(at)),
                    None => return Err(local(0).error()),
                }
            }
        }
        for child in fixups.children() {
            let meant = meant.and_then(|meant| names.child(meant.id().0, child.name()));
            left.push((child, meant.map(|number| overlay.numbered(number))));
        }
    }
    locals.sort_unstable_by_key(|local| local.at);
    locals.dedup_by_key(|local| local.at);
    Ok(locals)
}
