//! A transaction's way through: stream table, context, TLB, tables, permissions
//! (IHI 0070 §3.3, §3.4).

use super::cd::Context;
use super::config::NoSte;
use super::events::{Event, EventKind};
use super::regs::{RECINVSID, SFM_ERR, SMMUEN};
use super::ste::{Stage1, Ste};
use super::view::View;
use super::walk::{Leaf, WalkFault, walk};
use super::{Abort, Access, Smmu, rule};

impl Smmu {
    /// Where a transaction goes; if nowhere, why. An event is recorded as the
    /// architecture has it.
    pub fn translate(&mut self, stream: u32, iova: u64, access: Access) -> Result<u64, Abort> {
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
            iova,
            access,
            privileged: false,
            stage2: false,
            fetched: 0,
        };
        match self.stream(&mut event) {
            Ok(pa) => Ok(pa),
            Err(Some(kind)) => {
                event.kind = kind;
                self.record(event);
                Err(Abort::Fault(kind))
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
            Ok(Ste::Bypass) if self.is_output(event.iova) => Ok(event.iova),
            Ok(Ste::Bypass) => Err(Some(EventKind::AddressSize)),
            Ok(Ste::Stage1(ste)) => self.stage1(&ste, event),
            Ok(Ste::Stage2(context)) => {
                event.stage2 = true;
                self.through(&context, event)
            }
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

    fn stage1(&mut self, ste: &Stage1, event: &mut Event) -> Result<u64, Option<EventKind>> {
        let view = View(&self.memory);
        let config = self.config.as_ref();
        let words = config.and_then(|config| config.cd(view, event.stream, ste.cd));
        let Some(words) = words else {
            event.fetched = ste.cd;
            return Err(Some(EventKind::CdFetch));
        };
        let context = Context::decode(&words, ste, &self.features);
        let context = context.map_err(|_| Some(EventKind::BadCd))?;
        event.privileged = ste.privileged;
        self.through(&context, event)
    }

    fn through(&mut self, context: &Context, event: &mut Event) -> Result<u64, Option<EventKind>> {
        let silent = |kind| context.record.then_some(kind);
        let leaf = match self.tlb.leaf(context, event.iova) {
            Some(leaf) => {
                self.check_stale(context, event.iova, leaf);
                leaf
            }
            None => self
                .look_up(context, event.iova)
                .map_err(|fault| match fault {
                    WalkFault::Translation => silent(EventKind::Translation),
                    WalkFault::AddressSize => silent(EventKind::AddressSize),
                    WalkFault::AccessFlag => silent(EventKind::AccessFlag),
                    WalkFault::External { pa } => {
                        event.fetched = pa;
                        Some(EventKind::WalkAbort)
                    }
                })?,
        };
        if !leaf.allows(event.access, event.privileged) {
            return Err(silent(EventKind::Permission));
        }
        Ok(leaf.pa | event.iova & ((1 << leaf.size) - 1))
    }

    fn look_up(&mut self, context: &Context, iova: u64) -> Result<Leaf, WalkFault> {
        let start = self.tlb.table(context, iova);
        let walk = walk(View(&self.memory), context, iova, start);
        self.tlb.insert_tables(context, iova, &walk.tables);
        let leaf = walk.leaf?;
        // One that is contiguous with others is kept with them, and by itself as well:
        // each has to be invalidated.
        for leaf in [Some(leaf), walk.group].into_iter().flatten() {
            self.tlb.insert_leaf(context, iova, leaf);
        }
        Ok(leaf)
    }

    /// A translation that is in use while the tables say another valid one was
    /// not taken down properly.
    fn check_stale(&self, context: &Context, iova: u64, cached: Leaf) {
        let walk = walk(View(&self.memory), context, iova, None);
        let Ok(now) = walk.leaf else { return };
        let target = |leaf: Leaf| leaf.pa | iova & ((1 << leaf.size) - 1);
        let same = target(cached) == target(now)
            && Leaf {
                pa: 0,
                size: 0,
                level: 0,
                ..cached
            } == Leaf {
                pa: 0,
                size: 0,
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

    /// How many translations are cached.
    pub fn cached_translations(&self) -> usize {
        self.tlb.len()
    }
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
