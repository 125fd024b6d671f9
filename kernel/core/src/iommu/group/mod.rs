//! Groups: the devices that the hardware cannot tell apart share one domain. The
//! domain belongs to the group, not to a device: the first member brings it into
//! being, later ones join it, the last one out takes it down. A member that leaves
//! or is deferred does not disturb the others' DMA.

mod doorbell;
mod joining;
mod kept;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Mutex;

use joining::{Attachment, Live};
pub(crate) use joining::{Behind, Joining, keys};
pub(crate) use kept::Identity;

use super::Tag;
use super::mappings::Mappings;
use super::streams::{StreamKey, Streams};
use crate::addr::{Iova, PhysAddr, SubstreamId};
use crate::chores::Chore;
use crate::platform::Instant;

/// Devices that share their streams' domain.
pub struct Group {
    streams: Arc<Streams>,
    identity: bool,
    mappings: Mappings,
    // By page; more than one where a member cannot reach the first.
    doorbells: Mutex<Vec<(u64, Iova)>>,
    isolation: Option<Box<str>>,
    live: Mutex<Live>,
    // Mappings are made of such pages: the largest of those that the IOMMUs have.
    page: u64,
}

/// What people are shown of a group, or of the one device that a managed space is for.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// Names of the members.
    pub members: Vec<Box<str>>,
    /// The one substream that goes through it; all of the streams' without a
    /// SubstreamID if there is none.
    pub substream: Option<SubstreamId>,
    /// The attached streams.
    pub streams: Vec<StreamKey>,
    /// Whether addresses pass unchanged.
    pub identity: bool,
    /// The domain's tag.
    pub tag: Option<Tag>,
    /// The tag of what it is nested in.
    pub parent: Option<Tag>,
    /// Bytes that its members can reach.
    pub mapped: u64,
    /// Where its members write to raise interrupts: the page, and where they find it.
    pub doorbells: Vec<(PhysAddr, Iova)>,
}

impl Chore for Group {
    fn tidy(&self, now: Instant) -> Option<Instant> {
        self.mappings.tidy(now)
    }
}

impl Group {
    /// Whether addresses pass unchanged.
    pub fn is_identity(&self) -> bool {
        self.identity
    }

    /// What addresses and lengths of memory to map are multiples of.
    pub(crate) fn page(&self) -> u64 {
        self.page
    }

    /// What its members can reach.
    #[inline(always)]
    pub(crate) fn mappings(&self) -> &Mappings {
        &self.mappings
    }

    /// The walk for an address, in the first of the group's domains.
    pub fn walk(&self, iova: Iova) -> Vec<super::WalkStep> {
        self.mappings
            .domains()
            .first()
            .map(|(_, domain)| domain.walk(iova))
            .unwrap_or_default()
    }

    /// What people are shown.
    pub fn info(&self) -> GroupInfo {
        let live = self.live.lock();
        let mut kept: Vec<Identity> = Vec::new();
        for mapping in live.members.iter().flat_map(|member| &member.kept) {
            if !kept.contains(&mapping.mapping) {
                kept.push(mapping.mapping);
            }
        }
        let kept: u64 = kept.iter().map(|mapping| mapping.len).sum();
        let doorbells = self.doorbells.lock();
        GroupInfo {
            members: live
                .members
                .iter()
                .map(|member| member.name.clone())
                .collect(),
            streams: live.attachments.iter().map(Attachment::key).collect(),
            identity: self.identity,
            tag: self
                .mappings
                .domains()
                .first()
                .and_then(|(_, domain)| domain.tag()),
            parent: None,
            substream: None,
            mapped: self.mappings.bytes() + kept,
            doorbells: doorbells
                .iter()
                .map(|&(page, iova)| (PhysAddr(page), iova))
                .collect(),
        }
    }
}
