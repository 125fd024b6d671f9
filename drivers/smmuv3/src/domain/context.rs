//! A translation context: tables, what names them (a CD, or at stage 2 each stream's
//! entry itself) and the number that tags what is cached of them. Streams that are
//! attached keep it alive, so that it is never freed while an entry points to it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use mastiff_core::addr::{Iova, PhysAddr};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{self, Hint, Permission};
use mastiff_core::platform::Barrier;
use mastiff_pgtable::stage1::MAIR;
use mastiff_pgtable::{
    Access as Rights, Attrs, Exec, Geometry, Hint as Place, LeafBits, Leaves, MapError,
    Memory as Kind, PageTable, Shareability, Stage,
};
use spin::Mutex;

use super::cover::Short;
use super::flush::Flush;
use super::{Parent, Shown, Tags};
use crate::bind::Machine;
use crate::memory::WalkMemory;
use crate::smmu::Smmu;
use crate::spec::cd::{Cd, Stage1};
use crate::spec::command::Tag;
use crate::spec::ste::Stage2;
use crate::spec::{Command, Ste};

/// All of them, in their order.
const PERMISSIONS: [Permission; 3] = [
    Permission::Read,
    Permission::ReadWrite,
    Permission::Doorbell,
];

/// How many pieces of a list are mapped at once.
const LIST: usize = 32;

pub(crate) struct Context<P: Machine> {
    smmu: Arc<Smmu<P>>,
    // Its ASID, or its VMID, and what invalidates by it.
    number: u16,
    tag: Tag,
    stage: Stage,
    // What it is nested in.
    parent: Option<Arc<Parent<P>>>,
    // The commands for what is unmapped most.
    short: Short,
    // Whether the walker snoops tables that are where their addresses say: those are
    // written without further ado.
    plain: bool,
    tables: PageTable<WalkMemory<P>>,
    // What leaves have besides an address, by `Permission`.
    bits: [LeafBits; 3],
    // Of a stage 1, until `drop` decides whether it may be freed.
    cd: Option<Shown<P>>,
}

impl<P: Machine> Context<P> {
    /// A context in which every address faults, of the stage that domains are made of.
    pub fn new(smmu: Arc<Smmu<P>>) -> Result<Self, Fault> {
        let geometry = smmu.geometry;
        match geometry.stage {
            Stage::One => Self::stage1(smmu, geometry, None),
            Stage::Two => Self::stage2(smmu, geometry),
        }
    }

    /// A stage 1 above a stage 2.
    pub fn nested(parent: Arc<Parent<P>>) -> Result<Self, Fault> {
        let below = parent.context();
        let smmu = below.smmu.clone();
        let geometry = smmu.geometry;
        Self::stage1(smmu, geometry, Some(parent))
    }

    /// A stage 2, as large as `geometry` says.
    pub fn stage2(smmu: Arc<Smmu<P>>, geometry: Geometry) -> Result<Self, Fault> {
        let tables = tables(&smmu, geometry, None)?;
        let number = smmu.vmids.lock().take()?;
        Ok(Self::made(
            smmu,
            (number, Tag::vmid(number)),
            None,
            None,
            tables,
        ))
    }

    fn stage1(
        smmu: Arc<Smmu<P>>,
        geometry: Geometry,
        parent: Option<Arc<Parent<P>>>,
    ) -> Result<Self, Fault> {
        let tables = tables(&smmu, geometry, parent.clone())?;
        let cd = Shown::new(&smmu, Cd::BYTES as u64, parent.clone())?;
        let number = smmu.asids.lock().take()?;
        let words = Cd::stage1(Stage1 {
            asid: number,
            ttb0: tables.root(),
            granule: geometry.granule.bits(),
            input_bits: geometry.input_bits,
            ips: smmu.features.ips,
            mair: MAIR,
            access: smmu.access(),
        });
        // No entry points here yet, so the order of the words does not matter.
        let memory = cd.memory()?;
        for (word, &value) in words.0.iter().enumerate() {
            memory.store(8 * word, value);
        }
        memory.publish(0, Cd::BYTES);
        let tag = match &parent {
            Some(parent) => Tag::asid(number).under(parent.context().number),
            None => Tag::asid(number),
        };
        Ok(Self::made(smmu, (number, tag), parent, Some(cd), tables))
    }

    // Nothing that can fail: from here dropping gives it all back.
    fn made(
        smmu: Arc<Smmu<P>>,
        (number, tag): (u16, Tag),
        parent: Option<Arc<Parent<P>>>,
        cd: Option<Shown<P>>,
        tables: PageTable<WalkMemory<P>>,
    ) -> Self {
        smmu.counters.domains.add();
        let granule = tables.geometry().granule.bits();
        Self {
            number,
            tag,
            stage: tables.geometry().stage,
            plain: smmu.reach.coherent && parent.is_none(),
            parent,
            short: Short::new(tag, granule, smmu.range_granule.is_some()),
            bits: PERMISSIONS.map(|access| tables.leaf_bits(attributes(access))),
            cd,
            tables,
            smmu,
        }
    }

    /// Its ASID, or its VMID.
    pub fn number(&self) -> u16 {
        self.number
    }

    pub fn smmu(&self) -> &Arc<Smmu<P>> {
        &self.smmu
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What it is nested in.
    pub fn parent(&self) -> Option<&Arc<Parent<P>>> {
        self.parent.as_ref()
    }

    pub fn tables(&self) -> &PageTable<WalkMemory<P>> {
        &self.tables
    }

    /// The entry of a stream that goes through here.
    pub fn ste(&self) -> Result<Ste, Fault> {
        let (access, stalls) = (self.smmu.access(), self.smmu.features.stall_configurable);
        Ok(match (&self.cd, &self.parent) {
            (None, _) => Ste::stage2(self.regime()),
            (Some(cd), None) => Ste::stage1(cd.at(), access, stalls),
            (Some(cd), Some(parent)) => {
                Ste::nested(cd.at(), access, stalls, parent.context().regime())
            }
        })
    }

    /// Its tables and tag as a stage 2.
    fn regime(&self) -> Stage2 {
        let tables = &self.tables;
        let geometry = tables.geometry();
        Stage2 {
            vmid: self.number,
            ttb: tables.root(),
            granule: geometry.granule.bits(),
            input_bits: geometry.input_bits,
            start_level: geometry.start_level(),
            ps: self.smmu.features.ips,
            access: self.smmu.access(),
        }
    }

    /// The CD and its address, if there is one.
    pub fn cd(&self) -> Option<(u64, Cd)> {
        let memory = self.cd.as_ref()?.memory().ok()?;
        Some((memory.pa(), Cd(memory.load_words(0))))
    }

    /// New translations need no invalidation: what is invalid is not cached
    /// (IHI 0070 §3.21.1).
    pub fn map(&self, iova: Iova, pa: PhysAddr, len: u64, access: Permission) -> Result<(), Fault> {
        self.map_more(Hint::default(), iova, pa, len, access)?;
        Ok(())
    }

    pub fn unmap(&self, iova: Iova, len: u64) -> Result<(), Fault> {
        Ok(self.unmap_more(Hint::default(), iova, len)?)
    }

    /// The way of nearly every mapping: one leaf, in a table that is known.
    #[inline(always)]
    pub fn map_near(
        &self,
        hint: Hint,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        access: Permission,
    ) -> Result<Hint, Box<Fault>> {
        let bits = self.bits[access as usize];
        if self.plain && self.tables.map_one(Place(hint.0), iova.0, pa.0, len, bits) {
            self.smmu.platform.barrier(Barrier::Publish);
            return Ok(hint);
        }
        self.map_groups(hint, iova, pa, len, access)
    }

    /// The same for neighbours that the walker may keep as one.
    #[inline(never)]
    fn map_groups(
        &self,
        hint: Hint,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        access: Permission,
    ) -> Result<Hint, Box<Fault>> {
        let (bits, place) = (self.bits[access as usize], Place(hint.0));
        if self.plain && self.tables.map_groups(place, iova.0, pa.0, len, bits) {
            self.smmu.platform.barrier(Barrier::Publish);
            return Ok(hint);
        }
        self.map_more(hint, iova, pa, len, access)
    }

    /// Pieces of one leaf each, side by side, if the hint leads to their empty entries:
    /// says whether it did.
    pub fn map_pieces(
        &self,
        hint: Hint,
        iova: Iova,
        pieces: &[PhysAddr],
        piece: u64,
        access: Permission,
    ) -> bool {
        let mut leaves = [0; LIST];
        let Some(leaves) = leaves.get_mut(..pieces.len()).filter(|_| self.plain) else {
            return false;
        };
        for (leaf, pa) in leaves.iter_mut().zip(pieces) {
            *leaf = pa.0;
        }
        let (place, bits) = (Place(hint.0), self.bits[access as usize]);
        let mapped = self.tables.map_pieces(place, iova.0, leaves, piece, bits);
        if mapped {
            self.smmu.platform.barrier(Barrier::Publish);
        }
        mapped
    }

    /// Makes the tables on the way to an address, and says where they lead.
    pub fn prepare(&self, iova: Iova) -> Hint {
        // Whoever maps there hears of it.
        self.tables
            .prepare(iova.0)
            .map_or_else(|_| Hint::default(), |place| Hint(place.0))
    }

    #[cold]
    #[inline(never)]
    fn map_more(
        &self,
        hint: Hint,
        iova: Iova,
        pa: PhysAddr,
        len: u64,
        access: Permission,
    ) -> Result<Hint, Box<Fault>> {
        if let Some(parent) = &self.parent {
            parent.check(pa.0, len)?;
        }
        let attributes = attributes(access);
        let mapped = self
            .tables
            .map_near(Place(hint.0), iova.0, pa.0, len, attributes);
        match mapped {
            Ok(place) => Ok(Hint(place.0)),
            Err(error) => Err(Box::new(refusal(&self.smmu, error, iova, len))),
        }
    }

    #[inline(always)]
    pub fn unmap_near(&self, hint: Hint, iova: Iova, len: u64) -> Result<(), Box<Fault>> {
        if self.plain
            && let Some(above) = self.tables.unmap_one(Place(hint.0), iova.0, len)
        {
            // The barrier before the queue's doorbell is the entry's too.
            let command = self.short.one(above, iova.0);
            return self.smmu.batch().sync_one(command).map_err(boxed);
        }
        self.unmap_groups(hint, iova, len)
    }

    #[inline(never)]
    fn unmap_groups(&self, hint: Hint, iova: Iova, len: u64) -> Result<(), Box<Fault>> {
        if !self.plain {
            return self.unmap_more(hint, iova, len);
        }
        match self.tables.unmap_groups(Place(hint.0), iova.0, len) {
            Some(leaves) => self.drop_cached(leaves),
            None => self.unmap_more(hint, iova, len),
        }
    }

    /// Drops what is cached of leaves that were just taken out.
    #[inline(always)]
    fn drop_cached(&self, leaves: Leaves) -> Result<(), Box<Fault>> {
        match self.short.command(&leaves) {
            Some(command) => self.smmu.batch().sync_one(command).map_err(boxed),
            None => Ok(self.flush_leaves(leaves)?),
        }
    }

    #[cold]
    #[inline(never)]
    fn unmap_more(&self, hint: Hint, iova: Iova, len: u64) -> Result<(), Box<Fault>> {
        let tables = &self.tables;
        let Some(leaves) = tables.unmap_near(Place(hint.0), iova.0, len) else {
            return Ok(self.unmap_far(iova, len)?);
        };
        self.drop_cached(leaves)
    }

    #[cold]
    #[inline(never)]
    fn unmap_far(&self, iova: Iova, len: u64) -> Result<(), Fault> {
        let tables = &self.tables;
        let mut flush = Flush::new(&self.smmu, self.tag);
        tables
            .unmap(iova.0, len, &mut |leaves| flush.add(leaves))
            .map_err(|error| refusal(&self.smmu, error, iova, len))?;
        flush.finish()
    }

    /// Takes leaves out of the tables, and nothing out of what is cached.
    #[inline(always)]
    pub fn clear(&self, hint: Hint, iova: Iova, len: u64) -> Result<(), Box<Fault>> {
        if self.plain && self.tables.unmap_one(Place(hint.0), iova.0, len).is_some() {
            self.smmu.platform.barrier(Barrier::Publish);
            return Ok(());
        }
        self.clear_groups(hint, iova, len)
    }

    #[inline(never)]
    fn clear_groups(&self, hint: Hint, iova: Iova, len: u64) -> Result<(), Box<Fault>> {
        let place = Place(hint.0);
        if self.plain && self.tables.unmap_groups(place, iova.0, len).is_some() {
            self.smmu.platform.barrier(Barrier::Publish);
            return Ok(());
        }
        self.clear_more(hint, iova, len)
    }

    #[cold]
    #[inline(never)]
    fn clear_more(&self, hint: Hint, iova: Iova, len: u64) -> Result<(), Box<Fault>> {
        let tables = &self.tables;
        if tables.unmap_near(Place(hint.0), iova.0, len).is_some() {
            return Ok(());
        }
        tables
            .unmap(iova.0, len, &mut |_| {})
            .map_err(|error| Box::new(refusal(&self.smmu, error, iova, len)))
    }

    /// Drops all that is cached of it.
    pub fn flush(&self) -> Result<(), Fault> {
        self.smmu.run([Command::tlbi_all(self.tag)])
    }

    #[cold]
    #[inline(never)]
    fn flush_leaves(&self, leaves: Leaves) -> Result<(), Fault> {
        let mut flush = Flush::new(&self.smmu, self.tag);
        flush.add(leaves);
        flush.finish()
    }

    /// What there is to say of an address that a master faulted on.
    pub fn explain(&self, iova: Iova) -> String {
        let mut words = self.shown_tag().to_string();
        let [below, above] = self.tables.around(iova.0);
        let near: Vec<String> = [below, above]
            .into_iter()
            .flatten()
            .map(|leaf| leaf_words(&leaf, iova))
            .collect();
        if near.is_empty() {
            words.push_str(", nothing is mapped");
        } else {
            words.push_str(&format!(", mapped: {}", near.join(" and ")));
        }
        if let Some(age) = self.age(iova) {
            words.push_str(&match age {
                0 => ", unmapped last of all".to_string(),
                1 => ", unmapped, and 1 other since".to_string(),
                more => format!(", unmapped, and {more} others since"),
            });
        }
        words
    }

    /// How many others have been unmapped since this address was, as far as the queue
    /// remembers: a master that faults on one has often been told of it too long.
    fn age(&self, iova: Iova) -> Option<usize> {
        let page = self.smmu.geometry.granule.size();
        let history = self.smmu.commands.history().into_iter();
        let mut ranges = history.filter_map(|command| command.range(self.tag));
        ranges.position(|(first, len)| {
            iova.0
                .checked_sub(first)
                .is_some_and(|at| at < len.max(page))
        })
    }

    /// Its number, and what it is one of.
    pub fn shown_tag(&self) -> iommu::Tag {
        let number = self.number.into();
        match self.stage {
            Stage::One => iommu::Tag::Asid(number),
            Stage::Two => iommu::Tag::Vmid(number),
        }
    }

    fn numbers(&self) -> &Mutex<Tags> {
        match self.stage {
            Stage::One => &self.smmu.asids,
            Stage::Two => &self.smmu.vmids,
        }
    }
}

/// Frees tables, CD and tag once nothing of them is cached. If that cannot be had,
/// the tag is lost for good and the others are quarantined: the hardware may still walk
/// the tables.
impl<P: Machine> Drop for Context<P> {
    fn drop(&mut self) {
        self.smmu.counters.domains.subtract();
        let invalidate = core::iter::once(Command::tlbi_all(self.tag));
        let done = self.smmu.batch().sync(1, invalidate);
        match done {
            Ok(()) => self.numbers().lock().give(self.number),
            Err(fault) => {
                let (name, tag) = (self.smmu.name(), self.shown_tag());
                log::error!("{name}: the tables of {tag} stay allocated: {fault}");
                if let Some(cd) = self.cd.take() {
                    cd.abandon();
                }
                self.tables.abandon();
            }
        }
    }
}

/// Out of the way of what succeeds.
#[cold]
#[inline(never)]
fn boxed(fault: Fault) -> Box<Fault> {
    Box::new(fault)
}

/// Empty tables, which a parent shows if there is one.
fn tables<P: Machine>(
    smmu: &Smmu<P>,
    geometry: Geometry,
    parent: Option<Arc<Parent<P>>>,
) -> Result<PageTable<WalkMemory<P>>, Fault> {
    let memory = WalkMemory::new(smmu.platform.clone(), &smmu.reach, parent);
    PageTable::new(memory, geometry).map_err(|error| refusal(smmu, error, Iova(0), 0))
}

/// A leaf as seen from an address.
fn leaf_words(leaf: &Range<u64>, iova: Iova) -> String {
    let (start, last) = (leaf.start, leaf.end - 1);
    if iova.0 < start {
        return format!("{start:#x} to {last:#x}, {:#x} above", start - iova.0);
    }
    match iova.0 - start {
        within if within < leaf.end - start => format!("{start:#x} to {last:#x}, with it in it"),
        _ => format!("{start:#x} to {last:#x}, {:#x} below", iova.0 - last),
    }
}

/// Mappings are for unprivileged accesses, which is what masters issue, and of this
/// ASID only; nothing is fetched as an instruction.
#[inline]
fn attributes(access: Permission) -> Attrs {
    let (access, memory) = match access {
        Permission::Read => (Rights::ReadOnly, Kind::Normal),
        Permission::ReadWrite => (Rights::ReadWrite, Kind::Normal),
        Permission::Doorbell => (Rights::ReadWrite, Kind::Device),
    };
    Attrs {
        access,
        exec: Exec::Never,
        memory,
        shareability: Shareability::Inner,
        user: true,
        global: false,
    }
}

/// Why the tables refused, in the core's terms.
#[cold]
fn refusal<P: Machine>(smmu: &Smmu<P>, error: MapError, iova: Iova, len: u64) -> Fault {
    let bad = |why| Fault::BadRange { iova, len, why };
    match error {
        MapError::Occupied { va } => Fault::AlreadyMapped { iova: Iova(va) },
        MapError::NotMapped { va } => Fault::NotMapped { iova: Iova(va) },
        MapError::PartOfBlock { .. } => bad("it is only a part of what was mapped at once"),
        MapError::OutOfTables { .. } | MapError::BadTable { .. } => Fault::OutOfMemory {
            bytes: smmu.geometry.granule.size(),
            limit: smmu.reach.limit,
        },
        MapError::Empty { .. } => bad("it is empty"),
        MapError::Misaligned { .. } => bad("it is not made of whole pages of the tables' granule"),
        MapError::InputRange { .. } => bad("it is beyond the bits that the tables translate"),
        MapError::OutputRange { .. } => bad("its memory is beyond what the SMMU can address"),
        MapError::Unsupported(_) => bad("the tables cannot have this shape"),
    }
}
