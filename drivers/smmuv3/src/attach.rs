//! Streams and the entries that route them, in the order in which hardware may be
//! allowed to see them change (IHI 0070 §3.21.3.1).
//!
//! An entry may be read at any time, in 64-bit pieces and in any order, and may be
//! cached even while it is invalid. So it is changed in steps, with an invalidation
//! after each.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use mastiff_core::addr::StreamId;
use mastiff_core::error::Fault;

use crate::bind::Machine;
use crate::domain::Context;
use crate::smmu::Smmu;
use crate::spec::{Command, Ste};
use crate::stream_table::{Reached, StreamTable};
use crate::update;

/// Where a stream's transactions go, other than nowhere.
pub(crate) enum Route<P: Machine> {
    /// To memory, unchanged.
    Bypass,
    /// Through a context, which lives as long as the hardware may use it.
    Translate(Arc<Context<P>>),
}

impl<P: Machine> Route<P> {
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bypass, Self::Bypass) => true,
            (Self::Translate(a), Self::Translate(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
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
    route: Route<P>,
    // The route that it replaces, while the hardware may still use that.
    before: Option<Route<P>>,
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

    /// The context that a stream goes through.
    pub fn context(&self, stream: StreamId) -> Option<&Arc<Context<P>>> {
        match &self.live.get(&stream)?.route {
            Route::Translate(context) => Some(context),
            Route::Bypass => None,
        }
    }

    /// Forgets all routes: the hardware is off and will not use them again.
    pub fn clear(&mut self) -> impl Drop + use<P> {
        core::mem::take(&mut self.live)
    }
}

impl<P: Machine> Smmu<P> {
    /// Sends `stream` along `route`. One that has another route changes over without
    /// a gap wherever the two entries allow it.
    pub fn attach(&self, stream: StreamId, route: Route<P>) -> Result<(), Fault> {
        let ste = match &route {
            Route::Bypass => Ste::bypass(),
            Route::Translate(context) => context.ste()?,
        };
        let mut streams = self.streams.lock();
        self.require_running()?;
        let known = streams.live.get(&stream);
        if known.is_some_and(|known| known.settled && known.route.same(&route)) {
            return Ok(());
        }
        let settled = known.is_none_or(|known| known.settled);
        self.reach(&mut streams.table, stream)?;
        // What the hardware makes of a half changed entry is known only once it
        // aborts.
        let gone = match settled {
            true => None,
            false => self.abort(&mut streams, stream)?,
        };
        // From the first store on the hardware may know of both routes: whatever
        // fails, they are held until the stream is known to abort.
        let before = streams.live.remove(&stream).map(|live| live.route);
        let live = Live {
            route,
            before,
            settled: false,
        };
        streams.live.insert(stream, live);
        let changed = self.change(&streams.table, stream, &ste);
        let (old, undone) = match (&changed, streams.live.get_mut(&stream)) {
            (Ok(()), Some(live)) => {
                live.settled = true;
                (live.before.take(), None)
            }
            _ => (None, self.abort(&mut streams, stream).unwrap_or(None)),
        };
        streams.quarantined.remove(&stream);
        drop(streams);
        // Contexts may end here, which takes a sync of their own.
        drop((gone, old, undone));
        changed
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

    /// Has `stream` abort; when this returns `Ok` nothing that it issued is under
    /// way any more.
    pub fn block(&self, stream: StreamId) -> Result<(), Fault> {
        let mut streams = self.streams.lock();
        let old = self.abort(&mut streams, stream)?;
        streams.quarantined.remove(&stream);
        drop(streams);
        drop(old);
        Ok(())
    }

    /// Has a stream abort in silence for what it did, whether somebody attached it or
    /// not.
    pub fn quarantine(&self, stream: StreamId) -> Result<(), Fault> {
        let mut streams = self.streams.lock();
        self.reach(&mut streams.table, stream)?;
        let old = self.abort(&mut streams, stream)?;
        streams.quarantined.insert(stream);
        drop(streams);
        drop(old);
        Ok(())
    }

    /// The routes that the stream had, which may end now. On an error they may not,
    /// and stay where they are.
    fn abort(&self, streams: &mut Streams<P>, stream: StreamId) -> Result<Option<Live<P>>, Fault> {
        let Some((_, now)) = streams.table.read(stream)? else {
            return Ok(None);
        };
        if !streams.live.contains_key(&stream) {
            // Nobody attached it since it was last known to abort.
            return Ok(None);
        }
        // One word decides, and one store changes it.
        let mut aborting = now;
        aborting.0[0] = Ste::ABORT.0[0];
        streams.table.write(stream, &aborting)?;
        self.run([Command::cfgi_ste(stream.0, true)])?;
        Ok(streams.live.remove(&stream))
    }
}
