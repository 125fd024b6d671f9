//! Streams and the entries that route them, in the order in which hardware may be
//! allowed to see them change (IHI 0070 §3.21.3.1).
//!
//! An entry may be read at any time, in 64-bit pieces and in any order, and may be
//! cached even while it is invalid. So it is changed in steps, with an invalidation
//! after each.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::addr::{StreamId, SubstreamId};
use mastiff_core::error::Fault;

use crate::bind::Machine;
use crate::domain::Context;
use crate::smmu::Smmu;
use crate::spec::{Command, Ste};
use crate::stream_table::{Reached, StreamTable};
use crate::substreams::Table;
use crate::update;

/// Where a stream's transactions go, other than nowhere.
pub(crate) enum Route<P: Machine> {
    /// To memory, unchanged.
    Bypass,
    /// Through a context, which lives as long as the hardware may use it.
    Translate(Arc<Context<P>>),
}

impl<P: Machine> Clone for Route<P> {
    fn clone(&self) -> Self {
        match self {
            Self::Bypass => Self::Bypass,
            Self::Translate(context) => Self::Translate(context.clone()),
        }
    }
}

/// All that a stream's entry leads to. A change makes another of it, and until that is
/// known to be in use both are held.
struct Way<P: Machine> {
    /// Where transactions without a SubstreamID go, if anywhere.
    plain: Option<Route<P>>,
    /// The CDs of substreams, if there are any.
    table: Option<Table<P>>,
}

impl<P: Machine> Way<P> {
    const NOWHERE: Self = Self {
        plain: None,
        table: None,
    };

    fn ste(&self, smmu: &Smmu<P>) -> Result<Ste, Fault> {
        Ok(match (&self.table, &self.plain) {
            (Some(table), plain) => table.ste(smmu, plain.as_ref()),
            (None, None) => Ste::ABORT,
            (None, Some(Route::Bypass)) => Ste::bypass(),
            (None, Some(Route::Translate(context))) => context.ste()?,
        })
    }
}

impl<P: Machine> Clone for Way<P> {
    fn clone(&self) -> Self {
        Self {
            plain: self.plain.clone(),
            table: self.table.clone(),
        }
    }
}

/// What a change did to the CDs of substreams.
enum Touched {
    Nothing,
    /// The CD of this one is in a new last-level table.
    Moved(u32),
    /// That of this one became invalid where it is.
    Cleared(u32),
}

/// The table and who uses it. It is locked across syncs: streams are rerouted
/// rarely, and one after the other.
pub(crate) struct Streams<P: Machine> {
    pub table: StreamTable<P>,
    /// Every stream whose entry may let something pass.
    live: BTreeMap<StreamId, Live<P>>,
    /// Streams that abort because of what they did, until they are attached anew.
    quarantined: BTreeSet<StreamId>,
}

struct Live<P: Machine> {
    way: Way<P>,
    // What it replaces, while the hardware may still use that.
    before: Option<Way<P>>,
    // The hardware is known to use the entry as it is.
    settled: bool,
}

impl<P: Machine> Streams<P> {
    pub fn new(table: StreamTable<P>) -> Self {
        Self {
            table,
            live: BTreeMap::new(),
            quarantined: BTreeSet::new(),
        }
    }

    pub fn live(&self) -> Vec<StreamId> {
        self.live.keys().copied().collect()
    }

    pub fn count(&self) -> u64 {
        self.live.len() as u64
    }

    pub fn quarantined(&self) -> u64 {
        self.quarantined.len() as u64
    }

    /// The context that a stream goes through, or a substream of it.
    pub fn context(&self, stream: StreamId, substream: Option<u32>) -> Option<&Arc<Context<P>>> {
        match (substream, &self.live.get(&stream)?.way) {
            (None, way) => match way.plain.as_ref()? {
                Route::Translate(context) => Some(context),
                Route::Bypass => None,
            },
            (Some(index), way) => way.table.as_ref()?.contexts().get(&index),
        }
    }

    /// The CDs of a stream's substreams, if it has some.
    pub fn substreams(&self, stream: StreamId) -> Option<&Table<P>> {
        self.live.get(&stream)?.way.table.as_ref()
    }

    /// Forgets all routes: the hardware is off and will not use them again, or what it
    /// uses is quarantined.
    pub fn clear(&mut self) -> impl Drop + use<P> {
        core::mem::take(&mut self.live)
    }
}

/// What a change left over: contexts may end with it, which takes a sync of their own,
/// so it is dropped when the streams are not locked any more.
type Gone<P> = Vec<Way<P>>;

impl<P: Machine> Smmu<P> {
    /// Sends `stream` along `route`. One that has another route changes over without
    /// a gap wherever the two entries allow it.
    pub fn attach(&self, stream: StreamId, route: Route<P>) -> Result<(), Fault> {
        self.with_streams(|streams, gone| {
            self.settle(streams, gone, stream)?;
            let goes = |way: &mut Way<P>| {
                way.plain = Some(route.clone());
                Ok(Touched::Nothing)
            };
            if streams.substreams(stream).is_none() {
                return self.change_way(streams, gone, stream, goes);
            }
            // CD 0 is there before it is used, and as long as it is.
            match &route {
                Route::Translate(context) => {
                    self.set_cd(streams, gone, stream, (0, context))?;
                    self.change_way(streams, gone, stream, goes)
                }
                Route::Bypass => {
                    self.change_way(streams, gone, stream, goes)?;
                    self.clear_cd(streams, gone, stream, 0)
                }
            }
        })
    }

    /// Sends a substream of `stream` through a context, in place of another one without
    /// a gap. Others and transactions without a SubstreamID do not notice.
    pub fn attach_substream(
        &self,
        stream: StreamId,
        substream: SubstreamId,
        context: &Arc<Context<P>>,
    ) -> Result<(), Fault> {
        self.check_substream(substream)?;
        self.with_streams(|streams, gone| {
            self.settle(streams, gone, stream)?;
            let cd = (substream.0, context);
            if streams.substreams(stream).is_some() {
                return self.set_cd(streams, gone, stream, cd);
            }
            self.change_way(streams, gone, stream, |way| {
                let mut table = Table::new(self)?;
                if let Some(Route::Translate(context)) = &way.plain {
                    table.set(self, 0, context)?;
                    table.link(&self.platform, 0);
                }
                table.set(self, substream.0, context)?;
                way.table = Some(table);
                Ok(Touched::Moved(substream.0))
            })
        })
    }

    /// Has a substream abort; when this returns `Ok` nothing that it issued is under
    /// way any more.
    pub fn block_substream(&self, stream: StreamId, substream: SubstreamId) -> Result<(), Fault> {
        self.check_substream(substream)?;
        self.with_streams(|streams, gone| {
            self.settle(streams, gone, stream)?;
            self.clear_cd(streams, gone, stream, substream.0)?;
            let Some(table) = streams.substreams(stream) else {
                return Ok(());
            };
            if table.is_used() {
                return Ok(());
            }
            // Without substreams the stream is as any other.
            self.change_way(streams, gone, stream, |way| {
                way.table = None;
                Ok(Touched::Nothing)
            })
        })
    }

    fn with_streams(
        &self,
        act: impl FnOnce(&mut Streams<P>, &mut Gone<P>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut gone = Vec::new();
        let mut streams = self.streams.lock();
        let done = act(&mut streams, &mut gone);
        drop(streams);
        drop(gone);
        done
    }

    /// What the hardware makes of a half changed entry is known only once it aborts, so
    /// that is where a change then starts from.
    fn settle(
        &self,
        streams: &mut Streams<P>,
        gone: &mut Gone<P>,
        stream: StreamId,
    ) -> Result<(), Fault> {
        self.require_running()?;
        if streams.live.get(&stream).is_some_and(|live| !live.settled) {
            gone.extend(self.abort(streams, stream)?);
        }
        Ok(())
    }

    fn set_cd(
        &self,
        streams: &mut Streams<P>,
        gone: &mut Gone<P>,
        stream: StreamId,
        (index, context): (u32, &Arc<Context<P>>),
    ) -> Result<(), Fault> {
        let same = streams.context(stream, Some(index));
        if same.is_some_and(|same| Arc::ptr_eq(same, context)) {
            return Ok(());
        }
        self.change_way(streams, gone, stream, |way| {
            let table = way.table.as_mut().ok_or(Fault::Revoked)?;
            table.set(self, index, context)?;
            Ok(Touched::Moved(index))
        })
    }

    fn clear_cd(
        &self,
        streams: &mut Streams<P>,
        gone: &mut Gone<P>,
        stream: StreamId,
        index: u32,
    ) -> Result<(), Fault> {
        if streams.context(stream, Some(index)).is_none() {
            return Ok(());
        }
        self.change_way(streams, gone, stream, |way| {
            let table = way.table.as_mut().ok_or(Fault::Revoked)?;
            table.clear(index);
            Ok(Touched::Cleared(index))
        })
    }

    /// Has a stream's entry lead to something else.
    fn change_way(
        &self,
        streams: &mut Streams<P>,
        gone: &mut Gone<P>,
        stream: StreamId,
        edit: impl FnOnce(&mut Way<P>) -> Result<Touched, Fault>,
    ) -> Result<(), Fault> {
        let before = match streams.live.get(&stream) {
            Some(live) => live.way.clone(),
            None => Way::NOWHERE,
        };
        let mut way = before.clone();
        let touched = edit(&mut way)?;
        let ste = way.ste(self)?;
        self.reach(&mut streams.table, stream)?;
        if way.plain.is_none() && way.table.is_none() {
            gone.extend(self.abort(streams, stream)?);
            return Ok(());
        }
        // From the first store on the hardware may know of both: whatever fails, they
        // are held until the stream is known to abort.
        let live = Live {
            way: way.clone(),
            before: Some(before.clone()),
            settled: false,
        };
        streams.live.insert(stream, live);
        let changed = self
            .change_cds(stream, (&before, &way), touched)
            .and_then(|()| self.change(&streams.table, stream, &ste));
        gone.push(before);
        gone.push(way);
        match (&changed, streams.live.get_mut(&stream)) {
            (Ok(()), Some(live)) => {
                live.settled = true;
                gone.extend(live.before.take());
            }
            _ => gone.extend(self.abort(streams, stream).unwrap_or_default()),
        }
        streams.quarantined.remove(&stream);
        changed
    }

    /// Has the hardware see the CDs as they are now; where only the stream's entry
    /// leads to them, that is still to come.
    fn change_cds(
        &self,
        stream: StreamId,
        (before, now): (&Way<P>, &Way<P>),
        touched: Touched,
    ) -> Result<(), Fault> {
        match (touched, &before.table, &now.table) {
            (Touched::Moved(index), before, Some(now)) => {
                now.link(&self.platform, index);
                match before {
                    Some(before) if before.shares_root(now) => self.forget_cd(stream, index, false),
                    _ => Ok(()),
                }
            }
            (Touched::Cleared(index), ..) => self.forget_cd(stream, index, true),
            _ => Ok(()),
        }
    }

    /// Turns the stream's entry, which the hardware is known to use, into another.
    fn change(&self, table: &StreamTable<P>, stream: StreamId, to: &Ste) -> Result<(), Fault> {
        while let Some((_, now)) = table.read(stream)?
            && let Some(next) = update::next(&now, to)
        {
            table.write(stream, &next)?;
            self.run([Command::cfgi_ste(stream.0, true)])?;
        }
        Ok(())
    }

    /// Makes sure that the stream has an entry that the hardware knows of.
    fn reach(&self, table: &mut StreamTable<P>, stream: StreamId) -> Result<(), Fault> {
        if table.reach(stream)? == Reached::New {
            self.run([Command::cfgi_ste(stream.0, false)])?;
            table.announced(stream);
        }
        Ok(())
    }

    /// Has `stream` abort with all of its substreams; when this returns `Ok` nothing
    /// that it issued is under way any more.
    pub fn block(&self, stream: StreamId) -> Result<(), Fault> {
        self.with_streams(|streams, gone| {
            gone.extend(self.abort(streams, stream)?);
            streams.quarantined.remove(&stream);
            Ok(())
        })
    }

    /// Has a stream abort in silence for what it did, whether somebody attached it or
    /// not.
    pub fn quarantine(&self, stream: StreamId) -> Result<(), Fault> {
        self.with_streams(|streams, gone| {
            self.reach(&mut streams.table, stream)?;
            gone.extend(self.abort(streams, stream)?);
            streams.quarantined.insert(stream);
            Ok(())
        })
    }

    /// What the stream led to, which may end now. On an error it may not, and stays
    /// where it is.
    fn abort(&self, streams: &mut Streams<P>, stream: StreamId) -> Result<Vec<Way<P>>, Fault> {
        let Some((_, now)) = streams.table.read(stream)? else {
            return Ok(Vec::new());
        };
        if !streams.live.contains_key(&stream) {
            // Nobody attached it since it was last known to abort.
            return Ok(Vec::new());
        }
        // One word decides, and one store changes it.
        let mut aborting = now;
        aborting.0[0] = Ste::ABORT.0[0];
        streams.table.write(stream, &aborting)?;
        self.run([Command::cfgi_ste(stream.0, true)])?;
        let ended = streams.live.remove(&stream);
        let ways = ended
            .into_iter()
            .flat_map(|live| [Some(live.way), live.before]);
        Ok(ways.flatten().collect())
    }
}
