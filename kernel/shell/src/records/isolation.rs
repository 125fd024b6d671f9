//! What a master reaches, said no better than it is known: what its driver set up
//! while it is bound, and who holds it back while it is not.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use mastiff_core::engine::{Context, Device, DmaSetup, Engine, State};
use mastiff_core::iommu::GroupInfo;
use mastiff_core::platform::Platform;
use serde::Serialize;

use super::StreamRef;

/// What one master reaches.
#[derive(Clone, Debug, Serialize)]
pub struct IsolationRecord {
    /// The master.
    pub device: Box<str>,
    /// Its streams.
    pub streams: Vec<StreamRef>,
    /// As in the device's record.
    pub domain: &'static str,
    /// How far it gets.
    pub reach: Reach,
    /// Bytes that are mapped for it, where that bounds it.
    pub mapped: Option<u64>,
    /// What says so.
    pub reason: String,
}

/// How far a master gets.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Nowhere.
    Nothing,
    /// To what is mapped for it.
    Mapped,
    /// To all memory that it can address.
    All,
    /// Nothing that this kernel controls holds it back.
    Unknown,
}

impl IsolationRecord {
    /// What a device reaches; nothing for one that is not known to be a master, or
    /// that the tree says not to touch.
    pub fn new<P: Platform>(engine: &Engine<P>, device: &Device<P>) -> Option<Self> {
        let known = device.is_master() || !device.streams.is_empty();
        if !known || matches!(device.state, State::Disabled) {
            return None;
        }
        let context = engine.context();
        let (reach, mapped, reason) = match device.dma() {
            DmaSetup::Group(info) => through(&info, tag(&info)),
            DmaSetup::Direct => {
                let decision = device.decision();
                let reason = decision.unwrap_or_else(|| "direct DMA: it has no IOMMU".into());
                (Reach::All, None, reason)
            }
            DmaSetup::Managed { attached: true } => {
                (Reach::Mapped, None, "a space of its driver's own".into())
            }
            DmaSetup::Managed { attached: false } => {
                let reason = "its streams abort until its driver attaches a space";
                (Reach::Nothing, None, reason.into())
            }
            DmaSetup::None => unbound(context, device),
        };
        let streams = device.streams.iter();
        Some(Self {
            device: device.name.clone(),
            streams: streams
                .map(|stream| StreamRef::new(engine, stream.iommu, stream.id))
                .collect(),
            domain: domain(context, device),
            reach,
            mapped,
            reason,
        })
    }
}

/// The kind of domain that a device's streams go through.
pub(super) fn domain<P: Platform>(context: &Context<P>, device: &Device<P>) -> &'static str {
    match attached(&device.dma()) {
        Some(domain) => domain,
        None if is_blocked(context, device) => "blocked",
        None => "none",
    }
}

/// The kind of domain that is set up for a device.
pub(super) fn attached(setup: &DmaSetup) -> Option<&'static str> {
    match setup {
        DmaSetup::Group(info) if info.identity => Some("identity"),
        DmaSetup::Group(_) => Some("dma"),
        DmaSetup::Managed { .. } => Some("managed"),
        DmaSetup::None | DmaSetup::Direct => None,
    }
}

type Finding = (Reach, Option<u64>, String);

fn through(info: &GroupInfo, reason: String) -> Finding {
    if info.identity {
        (Reach::All, None, "identity domain".into())
    } else {
        (Reach::Mapped, Some(info.mapped), reason)
    }
}

fn tag(info: &GroupInfo) -> String {
    match info.tag {
        Some(tag) => tag.to_string(),
        None => "a domain of its own".into(),
    }
}

/// What holds back a device that no driver does DMA with.
fn unbound<P: Platform>(context: &Context<P>, device: &Device<P>) -> Finding {
    let nothing = |reason: &str| (Reach::Nothing, None, String::from(reason));
    let unknown = |reason: &str| (Reach::Unknown, None, String::from(reason));
    if is_blocked(context, device) {
        return nothing(match device.streams.len() {
            1 => "its stream aborts",
            _ => "its streams abort",
        });
    }
    // The bus driver switches it off when it finds a function, and the core when
    // one is unbound.
    if device.child.is_some() {
        return nothing("its bus mastering is off");
    }
    if let Some(info) = shared(context, device) {
        let reason = format!("as much as {}, whose stream it has", info.members.join("+"));
        return through(&info, reason);
    }
    if device.streams.is_empty() {
        unknown("it is not bound, and neither an IOMMU nor a bus holds it back")
    } else {
        unknown("its IOMMU is not bound, and no bus holds it back")
    }
}

/// Whether a device has streams and all of them abort.
fn is_blocked<P: Platform>(context: &Context<P>, device: &Device<P>) -> bool {
    !device.streams.is_empty()
        && device.streams.iter().all(|stream| {
            let iommu = context.iommu(stream.iommu);
            iommu.is_some_and(|iommu| !iommu.live_streams().contains(&stream.id))
        })
}

/// The live group that a stream of the device goes through because of others.
fn shared<P: Platform>(context: &Context<P>, device: &Device<P>) -> Option<GroupInfo> {
    let groups = context.streams.groups();
    let mut infos = groups.into_iter().map(|group| group.info());
    infos.find(|info| {
        let mut streams = device.streams.iter();
        streams.any(|stream| info.streams.contains(&(stream.iommu, stream.id)))
    })
}
