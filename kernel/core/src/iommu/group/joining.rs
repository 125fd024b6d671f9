//! Coming and going: the first member brings the group into being, others join it,
//! the last one out takes it down. A member's streams are attached when it is in, and
//! abort when it is out.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::mem;

use mastiff_dt::NodeId;
use spin::Mutex;

use super::Group;
use super::kept::{Identity, Kept};
use crate::addr::{PAGE, StreamId};
use crate::chores::{Chore, Chores};
use crate::dma::Hole;
use crate::error::Fault;
use crate::iommu::mappings::Mappings;
use crate::iommu::streams::{StreamKey, Streams};
use crate::iommu::{Domain, Iommu, Reserved};

/// One IOMMU that a device is behind, with its streams there.
#[derive(Clone)]
pub(crate) struct Behind {
    pub node: NodeId,
    pub iommu: Arc<dyn Iommu>,
    pub streams: Vec<StreamId>,
}

/// What a member asks for when it joins.
pub(crate) struct Joining<'a> {
    pub device: &'a str,
    pub behind: &'a [Behind],
    pub identity: bool,
    /// How many CPUs may map and unmap.
    pub cpus: usize,
    /// Where unmapping may be put off.
    pub lazy: Option<&'a Chores>,
    /// Never handed out.
    pub holes: &'a [Hole],
    /// In use by the device already, so mapped before it is attached.
    pub kept: &'a [Identity],
    pub isolation: Option<&'a str>,
}

#[derive(Default)]
pub(super) struct Live {
    pub members: Vec<Member>,
    pub attachments: Vec<Attachment>,
}

pub(super) struct Member {
    pub name: Box<str>,
    pub keys: Vec<StreamKey>,
    pub kept: Vec<Arc<Kept>>,
    // What its streams do not send through the domain.
    pub reserved: Vec<Vec<Reserved>>,
}

/// A stream that goes through a domain of the group. Dropping it aborts the stream, and
/// that is complete when the drop returns.
pub(super) struct Attachment {
    node: NodeId,
    iommu: Arc<dyn Iommu>,
    stream: StreamId,
}

impl Attachment {
    pub fn key(&self) -> StreamKey {
        (self.node, self.stream)
    }

    fn new(behind: &Behind, stream: StreamId, domain: &Arc<dyn Domain>) -> Result<Self, Fault> {
        let streams = behind.iommu.limits().streams;
        if u64::from(stream.0) >= streams {
            return Err(Fault::StreamOutOfRange { stream, streams });
        }
        domain.attach(stream)?;
        Ok(Self {
            node: behind.node,
            iommu: behind.iommu.clone(),
            stream,
        })
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Err(fault) = self.iommu.block(self.stream) {
            log::error!("stream {} could not be aborted: {fault}", self.stream);
        }
    }
}

impl Group {
    /// Makes `joining` a member of the live group that covers its streams, or of a
    /// new one. When this returns `Ok` its streams are attached.
    pub(crate) fn join(streams: &Arc<Streams>, joining: &Joining<'_>) -> Result<Arc<Self>, Fault> {
        let keys = keys(joining.behind);
        let group = match streams.group(&keys, joining.isolation)? {
            Some(group) => group,
            None => Self::found(streams, joining)?,
        };
        let mut live = group.live.lock();
        // What is taken here is dropped again, and so undone, if a later step fails.
        let kept = group.keep(&live, joining.kept)?;
        let mut attached: Vec<Attachment> = Vec::new();
        for behind in joining.behind {
            let domain = group.domain(behind)?;
            for &stream in &behind.streams {
                let key = (behind.node, stream);
                let known = live.attachments.iter().chain(&attached);
                // An alias gives the same stream twice: taken once, released once.
                if !known.map(Attachment::key).any(|held| held == key) {
                    attached.push(Attachment::new(behind, stream, domain)?);
                }
            }
        }
        let reserved = reserved(joining.behind)?;
        let mut holes = joining.holes.to_vec();
        holes.extend(reserved.iter().flatten().map(Hole::from));
        group.mappings.exclude(&holes)?;
        live.attachments.append(&mut attached);
        live.members.push(Member {
            name: joining.device.into(),
            keys: keys.clone(),
            kept,
            reserved,
        });
        drop(live);
        streams.set_group(&keys, joining.isolation, &Arc::downgrade(&group));
        Ok(group)
    }

    /// A group without members.
    fn found(streams: &Arc<Streams>, joining: &Joining<'_>) -> Result<Arc<Self>, Fault> {
        let mut domains = Vec::new();
        let (mut aperture, mut page) = (u64::MAX, PAGE);
        for behind in joining.behind {
            let domain = if joining.identity {
                behind.iommu.identity_domain()?
            } else {
                behind.iommu.paging_domain()?
            };
            let limits = behind.iommu.limits();
            aperture = aperture.min(limits.aperture);
            page = page.max(limits.page);
            domains.push((behind.node, domain));
        }
        let lazy = joining.lazy.filter(|_| !joining.identity);
        let mappings = Mappings::new(domains, aperture, joining.cpus, lazy.is_some());
        let group = Arc::new(Self {
            streams: streams.clone(),
            identity: joining.identity,
            mappings,
            doorbells: Mutex::new(Vec::new()),
            isolation: joining.isolation.map(Into::into),
            page,
            live: Mutex::new(Live::default()),
        });
        if let Some(chores) = lazy {
            let chore: Arc<dyn Chore> = group.clone();
            chores.add(Arc::downgrade(&chore));
        }
        Ok(group)
    }

    fn domain(&self, behind: &Behind) -> Result<&Arc<dyn Domain>, Fault> {
        self.mappings
            .domains()
            .iter()
            .find(|(node, _)| *node == behind.node)
            .map(|(_, domain)| domain)
            .ok_or(Fault::StreamsSpanGroups {
                stream: behind.streams.first().copied().unwrap_or(StreamId(0)),
            })
    }

    /// Takes `device` out. Streams that were its alone are aborted; with the last
    /// member all are.
    pub(crate) fn leave(&self, device: &str) {
        // What is cached of its mappings goes before anything else of them does.
        self.mappings.flush();
        let mut live = self.live.lock();
        let Live {
            members,
            attachments,
        } = &mut *live;
        let left: Vec<Member> = members
            .extract_if(.., |member| &*member.name == device)
            .collect();
        let used = |key| members.iter().any(|member| member.keys.contains(&key));
        let (kept, gone): (Vec<_>, Vec<_>) = mem::take(attachments)
            .into_iter()
            .partition(|held| used(held.key()));
        *attachments = kept;
        let empty = members.is_empty();
        drop(live);
        let keys: Vec<StreamKey> = gone.iter().map(Attachment::key).collect();
        // The streams that went abort before what firmware mapped for them goes.
        drop(gone);
        drop(left);
        // A device that comes back starts with a fresh domain, even where somebody
        // still holds a buffer of this one.
        let isolation = self.isolation.as_deref().filter(|_| empty);
        self.streams.set_group(&keys, isolation, &Weak::new());
    }
}

pub(crate) fn keys(behind: &[Behind]) -> Vec<StreamKey> {
    behind
        .iter()
        .flat_map(|behind| behind.streams.iter().map(|&stream| (behind.node, stream)))
        .collect()
}

/// What each of a device's streams does not send through its domain.
fn reserved(behind: &[Behind]) -> Result<Vec<Vec<Reserved>>, Fault> {
    let streams = behind
        .iter()
        .flat_map(|behind| behind.streams.iter().map(|&stream| (&behind.iommu, stream)));
    streams
        .map(|(iommu, stream)| iommu.reserved(stream))
        .collect()
}
