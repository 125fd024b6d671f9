//! Overlays: more of a tree, that was compiled apart from it. Each fragment names a
//! node of the tree and says what is to be merged into it. The result is another
//! tree in which every node of the first has the number that it had; what came is
//! numbered after them. The first is not touched, so a bad overlay leaves no trace.
//!
//! The format is that of `dtc -@` (`Documentation/dt-object-internal.txt` there).
//! Phandles of the overlay are moved beyond those of the tree; where a node of the
//! overlay falls on one that has a phandle already, that stays, and the overlay's
//! references become references to it.

mod error;
mod fixups;
mod names;

pub use error::OverlayError;

use crate::blob;
use crate::error::PropErrorKind;
use crate::node::Node;
use crate::prop::Prop;
use crate::tables::{Room, Tables};
use crate::tree::{NodeId, Tree};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use fixups::Local;
use names::Names;

const SYMBOLS: &str = "__symbols__";

impl Tree {
    /// The tree with an overlay applied.
    pub fn overlay(&self, blob: &[u8]) -> Result<Tree, OverlayError> {
        let overlay = Tree::parse(blob)?;
        let names = Names::of(&overlay);
        let mut values = overlay.values.to_vec();
        fixups::fill_in(self, &overlay, &names, &mut values)?;
        let locals = fixups::locals(&overlay, &names)?;
        let mut merge = Merge::new(self, &overlay, values);
        merge.fragments(&locals)?;
        merge.phandles()?;
        merge.refer(&locals)?;
        merge.props();
        merge.symbols(&names)?;
        merge.tree()
    }

    /// The nodes that are not in `before`, of which this is the tree with overlays
    /// applied, and those whose properties are others now.
    pub fn changes(&self, before: &Tree) -> Vec<NodeId> {
        let is_new = |node: &Node<'_>| node.id().0 >= before.count();
        let is_other = |node: &Node<'_>| !same(*node, before.numbered(node.id().0));
        self.nodes()
            .filter(|node| is_new(node) || is_other(node))
            .map(|node| node.id())
            .collect()
    }
}

/// Whether two nodes have the same properties.
fn same(one: Node<'_>, other: Node<'_>) -> bool {
    let mut both = one.props().zip(other.props());
    one.props().count() == other.props().count()
        && both.all(|(one, other)| (one.name, one.value) == (other.name, other.value))
}

/// A property of the result that the overlay has a say in: where its name is in the
/// overlay's text, and where its value is.
struct Edit {
    name: Range<usize>,
    value: Range<usize>,
}

struct Merge<'t> {
    base: &'t Tree,
    overlay: &'t Tree,
    /// The overlay's values, with references filled in, and what is made here.
    values: Vec<u8>,
    /// The nodes that come: under whom, and which of the overlay's has the name.
    added: Vec<(u32, Node<'t>)>,
    /// Every node of the result, by parent and name.
    names: Names<'t>,
    /// By node of the overlay: what it is in the result.
    onto: Vec<Option<u32>>,
    /// By node of the result and name.
    edits: BTreeMap<(u32, &'t str), Edit>,
    /// What the phandles of the overlay become.
    renamed: BTreeMap<u32, u32>,
}

impl<'t> Merge<'t> {
    fn new(base: &'t Tree, overlay: &'t Tree, values: Vec<u8>) -> Self {
        Self {
            base,
            overlay,
            values,
            added: Vec::new(),
            names: Names::of(base),
            onto: vec![None; overlay.count() as usize],
            edits: BTreeMap::new(),
            renamed: BTreeMap::new(),
        }
    }

    /// Finds for every node in a fragment what it is in the result.
    fn fragments(&mut self, locals: &[Local<'_>]) -> Result<(), OverlayError> {
        let mut found = false;
        for fragment in self.overlay.root().children() {
            let content = fragment
                .children()
                .find(|node| node.name() == "__overlay__");
            let Some(content) = content else { continue };
            let target = self.target(fragment, locals)?;
            self.graft(content, target, self.depth(target))?;
            found = true;
        }
        found.then_some(()).ok_or(OverlayError::NoFragment)
    }

    fn target(&self, fragment: Node<'t>, locals: &[Local<'_>]) -> Result<u32, OverlayError> {
        let unknown = || OverlayError::UnknownTarget {
            fragment: fragment.path(),
        };
        if let Some(prop) = fragment.prop("target") {
            prop.as_u32()?;
            let at = fragment.value_at(&prop);
            let phandle = self.word(at);
            // A node that an earlier fragment brought.
            if locals.binary_search_by_key(&at, |local| local.at).is_ok() {
                let node = self.resolve(self.overlay, &prop, phandle)?;
                return self.onto[node.id().index()].ok_or_else(unknown);
            }
            return Ok(self.resolve(self.base, &prop, phandle)?.id().0);
        }
        let Some(path) = fragment.prop("target-path") else {
            let fragment = fragment.path();
            return Err(OverlayError::NoTarget { fragment });
        };
        let path = path.as_str().ok_or_else(unknown)?;
        let known = self.base.find(path).map(|node| node.id().0);
        known.or_else(|| self.names.find(path)).ok_or_else(unknown)
    }

    fn resolve<'a>(
        &self,
        tree: &'a Tree,
        prop: &Prop<'_>,
        phandle: u32,
    ) -> Result<Node<'a>, OverlayError> {
        let node = tree.resolve(phandle);
        node.map_err(|kind| prop.error(Some(0), kind).into())
    }

    /// Merges a node of the overlay, and all below it, into one of the result.
    fn graft(&mut self, node: Node<'t>, onto: u32, depth: usize) -> Result<(), OverlayError> {
        if depth > blob::MAX_LEVELS {
            let node = node.path();
            return Err(OverlayError::TooDeep { node });
        }
        self.onto[node.id().index()] = Some(onto);
        for child in node.children() {
            let target = self.child(onto, child);
            self.graft(child, target, depth + 1)?;
        }
        Ok(())
    }

    /// The child of a node of the result that has the name of this one.
    fn child(&mut self, parent: u32, like: Node<'t>) -> u32 {
        if let Some(known) = self.names.child(parent, like.name()) {
            return known;
        }
        let new = self.base.count() + self.added.len() as u32;
        self.added.push((parent, like));
        self.names.add(parent, like.name(), new);
        new
    }

    /// Who is above a node of the result.
    fn parent(&self, node: u32) -> u32 {
        match node.checked_sub(self.base.count()) {
            Some(new) => self.added[new as usize].0,
            None => self.base.nodes[node as usize].parent,
        }
    }

    fn ancestors(&self, node: u32) -> impl Iterator<Item = u32> {
        let up = |&node: &u32| (node != 0).then(|| self.parent(node));
        core::iter::successors(Some(node), up)
    }

    /// How many levels there are down to a node, the root's included.
    fn depth(&self, node: u32) -> usize {
        self.ancestors(node).count()
    }

    fn path(&self, node: u32) -> String {
        let name = |node: u32| match node.checked_sub(self.base.count()) {
            Some(new) => self.added[new as usize].1.name(),
            None => self.base.numbered(node).name(),
        };
        let mut numbers: Vec<u32> = self.ancestors(node).collect();
        numbers.pop();
        let mut path = String::new();
        for number in numbers.into_iter().rev() {
            path.push('/');
            path.push_str(name(number));
        }
        match path.is_empty() {
            true => String::from("/"),
            false => path,
        }
    }

    /// The four bytes there as a number.
    fn word(&self, at: usize) -> u32 {
        let bytes = &self.values[at..at + 4];
        bytes
            .iter()
            .fold(0, |sum, &byte| sum << 8 | u32::from(byte))
    }

    /// The nodes of the overlay that are merged somewhere.
    fn merged(&self) -> Vec<(Node<'t>, u32)> {
        let nodes = self.overlay.nodes().zip(&self.onto);
        nodes
            .filter_map(|(node, onto)| Some((node, (*onto)?)))
            .collect()
    }

    /// Gives every node of the overlay that has a phandle one that nobody has.
    fn phandles(&mut self) -> Result<(), OverlayError> {
        let valid = |phandle: &u32| (1..u32::MAX).contains(phandle);
        let known = self.base.phandles.iter().map(|(phandle, _)| *phandle);
        let mut last = known.filter(valid).max().unwrap_or(0);
        // By node of the result, where the overlay gave it one.
        let mut given = BTreeMap::new();
        for (node, onto) in self.merged() {
            let Some(phandle) = node.phandle() else {
                continue;
            };
            let own = || self.base.get(onto)?.phandle();
            let new = match given.get(&onto).copied().or_else(own) {
                Some(kept) => kept,
                None => {
                    last = last
                        .checked_add(1)
                        .filter(valid)
                        .ok_or(OverlayError::NoPhandles)?;
                    last
                }
            };
            given.insert(onto, new);
            if self
                .renamed
                .insert(phandle, new)
                .is_some_and(|old| old != new)
            {
                let twice = PropErrorKind::AmbiguousPhandle(phandle);
                return Err(node.error("phandle", twice).into());
            }
        }
        Ok(())
    }

    /// Has the references within the overlay follow the phandles.
    fn refer(&mut self, locals: &[Local<'_>]) -> Result<(), OverlayError> {
        for local in locals {
            let phandle = self.renamed.get(&self.word(local.at));
            let phandle = phandle.ok_or_else(|| local.error())?;
            self.values[local.at..local.at + 4].copy_from_slice(&phandle.to_be_bytes());
        }
        Ok(())
    }

    /// Takes over the properties of the fragments' nodes.
    fn props(&mut self) {
        for (node, onto) in self.merged() {
            for prop in node.props() {
                let at = node.value_at(&prop);
                if let ("phandle" | "linux,phandle", 4) = (prop.name, prop.value.len()) {
                    // The one that it has stays.
                    if self
                        .base
                        .get(onto)
                        .is_some_and(|node| node.phandle().is_some())
                    {
                        continue;
                    }
                    if let Some(new) = self.renamed.get(&self.word(at)) {
                        let new = new.to_be_bytes();
                        self.values[at..at + 4].copy_from_slice(&new);
                    }
                }
                self.edit(onto, prop.name, at..at + prop.value.len());
            }
        }
    }

    fn edit(&mut self, node: u32, name: &'t str, value: Range<usize>) {
        let at = name.as_ptr().addr() - self.overlay.text.as_ptr().addr();
        let name_at = at..at + name.len();
        let edit = Edit {
            name: name_at,
            value,
        };
        self.edits.insert((node, name), edit);
    }

    /// Adds the overlay's labels to those of the tree, with the paths that their
    /// nodes have there.
    fn symbols(&mut self, names: &Names<'_>) -> Result<(), OverlayError> {
        let Some(symbols) = self.overlay.root().child(SYMBOLS) else {
            return Ok(());
        };
        let target = self.child(0, symbols);
        for symbol in symbols.props() {
            let node = symbol.as_str().and_then(|path| names.find(path));
            let node = node.ok_or_else(|| OverlayError::BadSymbol {
                symbol: symbol.name.into(),
            })?;
            // A label of the overlay's frame is nothing in the tree.
            if let Some(onto) = self.onto[node as usize] {
                let start = self.values.len();
                self.values.extend_from_slice(self.path(onto).as_bytes());
                self.values.push(0);
                self.edit(target, symbol.name, start..self.values.len());
            }
        }
        Ok(())
    }

    /// The result.
    fn tree(mut self) -> Result<Tree, OverlayError> {
        let room = Room {
            text: self.base.text.len() + self.overlay.text.len(),
            nodes: self.base.count() as usize + self.added.len(),
            props: self.base.props.len() + self.edits.len(),
            values: self.base.values.len() + self.values.len(),
        };
        blob::check_size(room.text.max(room.values))?;
        let mut tables = Tables::new(&room)?;
        tables.text(&self.base.text);
        let text = tables.text(&self.overlay.text);
        for node in self.base.nodes() {
            let record = &self.base.nodes[node.id().index()];
            tables.node(record.name, record.name_len, record.parent);
            for prop in node.props() {
                let at = prop.name.as_ptr().addr() - self.base.text.as_ptr().addr();
                let edit = self.edits.remove(&(node.id().0, prop.name));
                let value = edit.map_or(prop.value, |edit| &self.values[edit.value]);
                tables.prop(at as u32, prop.name.len() as u32, value);
            }
            self.rest(node.id().0, text, &mut tables);
        }
        for new in 0..self.added.len() {
            let (parent, node) = self.added[new];
            let record = &self.overlay.nodes[node.id().index()];
            tables.node(text + record.name, record.name_len, parent);
            self.rest(self.base.count() + new as u32, text, &mut tables);
        }
        Ok(tables.finish(self.base.reservations.clone()))
    }

    /// Adds the properties that a node did not have, in the overlay's order.
    fn rest(&self, node: u32, text: u32, tables: &mut Tables) {
        let of_node = self.edits.range((node, "")..(node + 1, ""));
        let mut edits: Vec<&Edit> = of_node.map(|(_, edit)| edit).collect();
        edits.sort_by_key(|edit| edit.value.start);
        for edit in edits {
            let name = text + edit.name.start as u32;
            tables.prop(
                name,
                edit.name.len() as u32,
                &self.values[edit.value.clone()],
            );
        }
    }
}
