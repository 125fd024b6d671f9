//! A transaction's way through: stream table, context, TLB, tables, permissions
//! (IHI 0070 §3.3, §3.4).

use super::cd::Context;
use super::cds::NoCd;
use super::config::NoSte;
use super::events::{Event, EventKind};
use super::regs::{RECINVSID, SFM_ERR, SMMUEN};
use super::ste::{CdTable, Plain, Stage1, Ste};
use super::view::View;
use super::walk::{Class, Leaf, WalkFault, Why, read_at, walk, walk_from};
use super::{Abort, Access, Smmu, rule};

impl Smmu {
    /// Where a transaction without a SubstreamID goes; if nowhere, why.
    pub fn translate(&mut self, stream: u32, iova: u64, access: Access) -> Result<u64, Abort> {
        self.translate_as(stream, None, iova, access)
    }

    /// Where a transaction goes; if nowhere, why. An event is recorded as the
    /// architecture has it.
    pub fn translate_as(
        &mut self,
        stream: u32,
        substream: Option<u32>,
        iova: u64,
        access: Access,
    ) -> Result<u64, Abort> {
        if self.regs.errors() & SFM_ERR != 0 {
            return Err(Abort::Disabled);
        }
        if self.regs.cr0.effective & SMMUEN == 0 {
            let bypasses = !self.regs.aborts_when_disabled() && self.is_output(iova);
            return if bypasses {
                Ok(iova)
            } else {
                Err(Abort::Disabled)
            };
        }
        let mut event = Event {
            kind: EventKind::BadStreamId,
            stream,
            substream,
            iova,
            access,
            privileged: false,
            stage2: None,
            class: Class::Input,
            fetched: 0,
            stalled: None,
        };
        match self.stream(&mut event) {
            Ok(pa) => Ok(pa),
            Err(Some(kind)) => {
                event.kind = kind;
                // §3.12.2: what stalls is told, whatever CD.R says, and waits.
                event.stalled = event.stalled.filter(|_| kind.can_stall());
                self.record(event);
                match event.stalled {
                    None => Err(Abort::Fault(kind)),
                    Some(tag) => {
                        self.stalled.insert(tag, stream);
                        Err(Abort::Stalled { tag })
                    }
                }
            }
            Err(None) => Err(Abort::Configured),
        }
    }

    fn is_output(&self, pa: u64) -> bool {
        pa >> self.features.output_bits == 0
    }

    /// `Err(None)` aborts without an event.
    fn stream(&mut self, event: &mut Event) -> Result<u64, Option<EventKind>> {
        let view = View(&self.memory);
        let ste = match &self.config {
            Some(config) => config.ste(view, event.stream),
            None => Err(NoSte::Unreachable),
        };
        match ste {
            Ok(Ste::Illegal(_)) => Err(Some(EventKind::BadSte)),
            Ok(Ste::Abort) => Err(None),
            // §3.3.2: without a stage 1 there are no substreams.
            Ok(Ste::Bypass | Ste::Stage2(_)) if event.substream.is_some() => {
                Err(Some(EventKind::BadSubstreamId))
            }
            Ok(Ste::Bypass) if self.is_output(event.iova) => Ok(event.iova),
            Ok(Ste::Bypass) => Err(Some(EventKind::AddressSize)),
            Ok(Ste::Stage1(ste)) => self.stage1(&ste, event),
            Ok(Ste::Stage2(stage2)) => self.stage2(&stage2.context(), event),
            Err(NoSte::Aborted { pa }) => {
                event.fetched = pa;
                Err(Some(EventKind::SteFetch))
            }
            Err(NoSte::Unreachable) => {
                let recorded = self.regs.cr2() & RECINVSID != 0;
                Err(recorded.then_some(EventKind::BadStreamId))
            }
        }
    }

    fn stage2(&mut self, context: &Context, event: &mut Event) -> Result<u64, Option<EventKind>> {
        event.stage2 = Some(event.iova);
        self.through(context, false, event)
    }

    fn stage1(&mut self, ste: &Stage1, event: &mut Event) -> Result<u64, Option<EventKind>> {
        let index = match descriptor_of(&ste.cds, event.substream)? {
            Some(index) => index,
            // Stage 1 is passed by, and stage 2 is what is left.
            None => {
                return match ste.under {
                    Some(under) => self.stage2(&under.context(), event),
                    None if self.is_output(event.iova) => Ok(event.iova),
                    None => Err(Some(EventKind::AddressSize)),
                };
            }
        };
        let words = self.descriptor(ste, index, event)?;
        let context = Context::decode(&words, ste, &self.features);
        let context = context.map_err(|_| Some(EventKind::BadCd))?;
        event.privileged = ste.privileged;
        let under = ste.under.is_some_and(|under| under.context().record);
        self.through(&context, under, event)
    }

    /// The context descriptor `index`: as it is cached, or fetched once more.
    fn descriptor(
        &mut self,
        ste: &Stage1,
        index: u32,
        event: &mut Event,
    ) -> Result<[u64; 8], Option<EventKind>> {
        let view = View(&self.memory);
        let cached = self.config.as_ref();
        let cached = cached.and_then(|config| config.cds(event.stream));
        match cached.map(|cached| cached.get(view, index)) {
            Some(Ok(words)) => return Ok(words),
            Some(Err(NoCd::Unreachable)) => return Err(Some(EventKind::BadSubstreamId)),
            Some(Err(NoCd::Aborted { at })) => event.fetched = at,
            None => event.fetched = ste.cds.base,
        }
        if let Some(under) = ste.under {
            let (tlb, under) = (&mut self.tlb, under.context());
            let mut second = |ipa| tlb.look_up(view, &under, ipa);
            if let Err(fault) = read_at(event.fetched, Class::Cd, &mut second) {
                return Err(self.walk_fault(fault, [true, under.record], event));
            }
        }
        Err(Some(EventKind::CdFetch))
    }

    /// What a fault of a walk is called; `recorded` says whether those of stage 1 and
    /// of stage 2 are.
    fn walk_fault(
        &self,
        fault: WalkFault,
        recorded: [bool; 2],
        event: &mut Event,
    ) -> Option<EventKind> {
        let mut record = recorded[0];
        if let Some(under) = fault.under {
            event.stage2 = Some(under.ipa);
            event.class = under.class;
            record = recorded[1];
        }
        let kind = match fault.why {
            Why::Translation => EventKind::Translation,
            Why::AddressSize => EventKind::AddressSize,
            Why::AccessFlag => EventKind::AccessFlag,
            Why::Permission => EventKind::Permission,
            Why::External { pa } => {
                event.fetched = pa;
                event.class = Class::Table;
                return Some(EventKind::WalkAbort);
            }
        };
        record.then_some(kind)
    }

    /// Through a context; `under` says whether faults of the stage below are recorded.
    fn through(
        &mut self,
        context: &Context,
        under: bool,
        event: &mut Event,
    ) -> Result<u64, Option<EventKind>> {
        let view = View(&self.memory);
        let free = (0..).find(|tag| !self.stalled.contains_key(tag));
        event.stalled = free.filter(|_| context.stalls);
        let leaf = match self.tlb.leaf(context, event.iova) {
            Some(leaf) => {
                self.check_stale(context, event.iova, leaf);
                leaf
            }
            None => {
                let leaf = self.tlb.look_up(view, context, event.iova);
                leaf.map_err(|fault| self.walk_fault(fault, [context.record, under], event))?
            }
        };
        let silent = |record: bool| Err(record.then_some(EventKind::Permission));
        if !leaf.allows(event.access, event.privileged) {
            return silent(context.record);
        }
        if !leaf.under[event.access as usize] {
            let ipa = walk_of_stage1(view, context, event.iova);
            event.stage2 = Some(ipa);
            return silent(under);
        }
        Ok(leaf.pa | event.iova & ((1 << leaf.size) - 1))
    }

    /// A translation that is in use while the tables say another valid one was
    /// not taken down properly.
    fn check_stale(&self, context: &Context, iova: u64, cached: Leaf) {
        let walk = walk(View(&self.memory), context, iova);
        let Ok(now) = walk.leaf else { return };
        let target = |leaf: Leaf| leaf.pa | iova & ((1 << leaf.size) - 1);
        let same = target(cached) == target(now)
            && Leaf {
                pa: 0,
                size: 0,
                span: 0,
                level: 0,
                ..cached
            } == Leaf {
                pa: 0,
                size: 0,
                span: 0,
                level: 0,
                ..now
            };
        rule(
            same,
            format_args!(
                "§3.21.1: {iova:#x} is still cached as {:#x}, but the tables say {:#x}: remapped before the invalidation completed",
                target(cached),
                target(now)
            ),
        );
    }

    /// How many transactions wait for software.
    pub fn stalled_transactions(&self) -> usize {
        self.stalled.len()
    }

    /// How many translations are cached.
    pub fn cached_translations(&self) -> usize {
        self.tlb.len()
    }
}

/// Which context descriptor a transaction uses; none if it passes stage 1 by (§5.2
/// S1CDMax, S1DSS; §7.3.7, §7.3.9).
fn descriptor_of(cds: &CdTable, substream: Option<u32>) -> Result<Option<u32>, Option<EventKind>> {
    match (substream, cds.plain) {
        (None, _) if cds.bits == 0 => Ok(Some(0)),
        (None, Plain::Substream0) => Ok(Some(0)),
        (None, Plain::Bypass) => Ok(None),
        (None, Plain::Terminate) => Err(Some(EventKind::StreamDisabled)),
        (Some(id), _) if cds.bits == 0 || id >> cds.bits != 0 => {
            Err(Some(EventKind::BadSubstreamId))
        }
        (Some(0), Plain::Substream0) => Err(Some(EventKind::StreamDisabled)),
        (Some(id), _) => Ok(Some(id)),
    }
}

/// What stage 1 alone makes of an address that both stages translate.
fn walk_of_stage1(view: View<'_>, context: &Context, iova: u64) -> u64 {
    let under = context.under.map(|under| under.context());
    let mut last = 0;
    let mut second = |ipa| {
        last = ipa;
        let under = under.as_ref().expect("a stage 2 refused");
        walk(view, under, ipa).leaf
    };
    // The last address that stage 2 is asked for is the result's.
    let _ = walk_from(view, context, iova, None, &mut second);
    last
}

impl Leaf {
    fn allows(&self, access: Access, privileged: bool) -> bool {
        let may_touch = privileged || self.unprivileged;
        match access {
            Access::Read => may_touch && self.readable,
            Access::Write => may_touch && self.writable,
            Access::Execute if privileged => self.kernel_exec,
            Access::Execute => may_touch && self.user_exec,
        }
    }
}
