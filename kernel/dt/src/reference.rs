//! References: phandles followed by as many cells as the node referred to wants.
//!
//! `iommus`, `clocks`, `resets` and many more have this one form. How many
//! arguments follow is always the provider's word (its `#...-cells`), never a
//! guess.

use crate::error::{PropError, PropErrorKind};
use crate::node::Node;
use crate::prop::{Cells, Prop};
use crate::tree::NodeId;
use alloc::vec::Vec;

/// Who says how many arguments follow a phandle.
#[derive(Copy, Clone)]
pub(crate) enum Arguments {
    /// The provider, by this property, which it must have.
    Said(&'static str),
    /// The provider, by this property; so many if it has none.
    SaidOr(&'static str, u32),
    /// None follow.
    None,
}

impl Arguments {
    /// How many arguments `provider` wants. `blame` makes the error if it does
    /// not say.
    pub fn count(
        self,
        provider: Node<'_>,
        blame: impl FnOnce(PropErrorKind) -> PropError,
    ) -> Result<u32, PropError> {
        match self {
            Arguments::None => Ok(0),
            Arguments::SaidOr(property, default) => Ok(provider.cell(property)?.unwrap_or(default)),
            Arguments::Said(property) => provider.cell(property)?.ok_or_else(|| {
                blame(PropErrorKind::ProviderWithout {
                    provider: provider.path(),
                    property,
                })
            }),
        }
    }
}

/// One entry of a list of references.
pub(crate) struct Reference<'t> {
    /// Which entry, holes counted.
    pub index: usize,
    /// The node referred to.
    pub provider: Node<'t>,
    /// The arguments for it.
    pub args: Vec<u32>,
}

/// Decodes a property that is a list of references. A phandle of 0 is a hole: it
/// counts, but refers to nothing. After an error there is no telling where the
/// next entry starts, so it is the last item.
pub(crate) fn references<'t>(
    prop: Prop<'t>,
    arguments: Arguments,
) -> impl Iterator<Item = Result<Reference<'t>, PropError>> + use<'t> {
    let (mut cells, mut failed) = match prop.cells() {
        Ok(cells) => (Some(cells), None),
        Err(error) => (None, Some(error)),
    };
    let mut index = 0;
    core::iter::from_fn(move || {
        if let Some(error) = failed.take() {
            return Some(Err(error));
        }
        loop {
            let left = cells.as_mut().filter(|cells| !cells.is_empty())?;
            let entry = reference(left, arguments, index).transpose();
            index += 1;
            match entry {
                None => {}
                Some(Ok(entry)) => return Some(Ok(entry)),
                Some(Err(error)) => {
                    cells = None;
                    return Some(Err(error));
                }
            }
        }
    })
}

/// Decodes one reference, or a hole.
fn reference<'t>(
    cells: &mut Cells<'t>,
    arguments: Arguments,
    index: usize,
) -> Result<Option<Reference<'t>>, PropError> {
    let at = cells.at();
    let Some(provider) = cells.phandle()? else {
        return Ok(None);
    };
    let count = arguments.count(provider, |kind| cells.error(at, kind))?;
    Ok(Some(Reference {
        index,
        provider,
        args: cells.take(count as usize)?,
    }))
}

impl<'t> Cells<'t> {
    /// The node that the next cell refers to; none if it is 0.
    pub fn phandle(&mut self) -> Result<Option<Node<'t>>, PropError> {
        let at = self.at();
        match self.cell()? {
            0 => Ok(None),
            phandle => match self.tree().resolve(phandle) {
                Ok(node) => Ok(Some(node)),
                Err(kind) => Err(self.error(at, kind)),
            },
        }
    }
}

/// An IOMMU that a device masters through, and the streams that it uses there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IommuRef {
    /// The IOMMU.
    pub iommu: NodeId,
    /// The specifier: for an SMMUv3, one StreamID.
    pub cells: Vec<u32>,
}

impl Node<'_> {
    /// The IOMMUs that the device's `iommus` names; none if it has no such
    /// property. Devices on a bus with an `iommu-map` have theirs there:
    /// [`Node::map_id`].
    pub fn iommus(&self) -> Result<Vec<IommuRef>, PropError> {
        let Some(prop) = self.prop("iommus") else {
            return Ok(Vec::new());
        };
        references(prop, Arguments::Said("#iommu-cells"))
            .map(|entry| {
                let entry = entry?;
                Ok(IommuRef {
                    iommu: entry.provider.id,
                    cells: entry.args,
                })
            })
            .collect()
    }
}
