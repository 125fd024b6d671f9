//! Streams and the entries that route them, in the order in which hardware may be
//! allowed to see them change (IHI 0070 §3.21.3.1).
//!
//! An entry may be read at any time, in 64-bit pieces and in any order, and may be
//! cached even while it is invalid. So there are two invalidations on the way in:
//! one between the words that do not count yet and the one that makes them count,
//! and one after that.

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
    // The hardware is known to use the entry.
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
    /// Sends `stream` along `route`. A stream that has another one goes through
    /// abort in between.
    pub fn attach(&self, stream: StreamId, route: Route<P>) -> Result<(), Fault> {
        let ste = match &route {
            Route::Bypass => Ste::bypass(),
            Route::Translate(context) => context.ste()?,
        };
        let mut streams = self.streams.lock();
        self.require_running()?;
        let Streams { table, live, .. } = &mut *streams;
        if live
            .get(&stream)
            .is_some_and(|known| known.settled && known.route.same(&route))
        {
            return Ok(());
        }
        self.reach(table, stream)?;
        let old = self.abort(&mut streams, stream)?;
        streams.quarantined.remove(&stream);
        // From the first store on the hardware may know of the route: whatever
        // fails, it is held until the stream is known to abort again.
        streams.live.insert(
            stream,
            Live {
                route,
                settled: false,
            },
        );
        let installed = self.install(&mut streams, stream, &ste);
        let undone = match installed {
            Ok(()) => None,
            Err(_) => self.abort(&mut streams, stream).unwrap_or(None),
        };
        drop(streams);
        // Contexts may end here, which takes a sync of their own.
        drop((old, undone));
        installed
    }

    /// Makes sure that the stream has an entry that the hardware knows of.
    fn reach(&self, table: &mut StreamTable<P>, stream: StreamId) -> Result<(), Fault> {
        if table.reach(stream)? == Reached::New {
            self.run([Command::cfgi_ste(stream.0, false)])?;
            table.announced(stream);
        }
        Ok(())
    }

    fn install(&self, streams: &mut Streams<P>, stream: StreamId, ste: &Ste) -> Result<(), Fault> {
        streams.table.write_body(stream, ste)?;
        self.run([Command::cfgi_ste(stream.0, true)])?;
        streams.table.write_head(stream, ste)?;
        self.run([Command::cfgi_ste(stream.0, true)])?;
        if let Some(live) = streams.live.get_mut(&stream) {
            live.settled = true;
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

    /// The route that the stream had, which may end now. On an error it may not,
    /// and stays where it is.
    fn abort(&self, streams: &mut Streams<P>, stream: StreamId) -> Result<Option<Route<P>>, Fault> {
        if !streams.live.contains_key(&stream) {
            // Nobody attached it since it was last known to abort.
            return streams.table.read(stream).map(|_| None);
        }
        // One word decides, and one store changes it.
        streams.table.write_head(stream, &Ste::ABORT)?;
        self.run([Command::cfgi_ste(stream.0, true)])?;
        Ok(streams.live.remove(&stream).map(|live| live.route))
    }
}
