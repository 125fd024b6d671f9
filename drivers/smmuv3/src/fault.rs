//! What the hardware complains about: events, which are about masters, and global
//! errors, which are about the SMMU itself.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use mastiff_core::addr::{Iova, StreamId};
use mastiff_core::error::Fault;
use mastiff_core::iommu::{Access, FaultReport};

use crate::bind::Machine;
use crate::queue::Recovery;
use crate::smmu::{Smmu, State};
use crate::spec::Event;
use crate::spec::registers as regs;
use crate::storm::BURST;

/// Number of global errors, from bit 0 on.
const ERRORS: u32 = 11;
/// Events that are taken out at a time.
const AT_A_TIME: usize = 8;
/// How often a queue may fill up while it is being emptied before whoever waits for
/// this CPU gets a turn.
const TURNS: usize = 4;

impl<P: Machine> Smmu<P> {
    /// Reports every event that there is. The interrupt comes only when the queue
    /// stops being empty, so it must be left empty.
    pub fn serve_events(&self) {
        if !matches!(self.state(), State::Commands | State::Running) {
            return;
        }
        let mut taken = 0;
        loop {
            let mut events = [Event::default(); AT_A_TIME];
            let mut queue = self.events.lock();
            let now = queue.take(&mut events);
            let limit = TURNS * queue.capacity();
            // Reporting may take long: not under the lock.
            drop(queue);
            if now.overflowed {
                self.counters.errors.add();
                log::warn!(
                    "{}: the event queue overflowed, events were lost",
                    self.name()
                );
            }
            for event in &events[..now.count] {
                self.counters.events.add();
                self.hear(event);
            }
            taken += now.count;
            if now.count == 0 {
                return;
            }
            if taken >= limit {
                return self.call_again();
            }
        }
    }

    /// Reports an event, and cuts its stream off if it is one too many.
    fn hear(&self, event: &Event) {
        let (node, name) = (self.identity.node, self.name());
        let faults = &self.identity.faults;
        faults.report_with(node, name, report(event), || self.explain(event));
        let stream = StreamId(event.stream());
        if !self.storms.lock().note(stream, self.platform.now()) {
            return;
        }
        match self.quarantine(stream) {
            Ok(()) => faults.remark(node, name, quarantined(stream)),
            Err(fault) => log::error!("{name}: stream {stream} storms on: {fault}"),
        }
    }

    /// What is known of where an event came from.
    fn explain(&self, event: &Event) -> String {
        let stream = StreamId(event.stream());
        let streams = self.streams.lock();
        let config = match streams.table.read(stream) {
            Ok(Some((_, ste))) => ste.config(),
            _ => "none",
        };
        let mut words = format!("its entry: {config}");
        if let (Some(context), Some(iova)) = (
            streams.context(stream, event.substream()),
            event.input_address(),
        ) {
            words.push_str(", ");
            words.push_str(&context.explain(Iova(iova)));
            if let (Some(parent), Some(at)) = (context.parent(), event.intermediate_address()) {
                words.push_str(", in ");
                words.push_str(&parent.context().explain(Iova(at)));
            }
        }
        words
    }

    /// A master that faults faster than its events are reported must not keep this
    /// CPU: the rest is for the next turn.
    fn call_again(&self) {
        let intid = self.event_irq.load(Ordering::Relaxed);
        if intid != 0 {
            self.platform.irqs().latch(intid);
        }
    }

    /// GERROR, and the errors in it that are active. Reserved bits read as 0: if one
    /// does not, it is not the SMMU that answers, and whoever waits for it will run
    /// into a limit of its own.
    pub fn active_errors(&self) -> (u32, u32) {
        let gerror = self.window.read(regs::GERROR).get();
        let active = gerror ^ self.window.read(regs::GERRORN).get();
        if (gerror | active) >> ERRORS != 0 {
            return (gerror, 0);
        }
        (gerror, active)
    }

    /// Deals with the active global errors (IHI 0070 §7.5). An error says that the
    /// command queue will not go on.
    pub fn serve_errors(&self) -> Result<(), Fault> {
        if !matches!(self.state(), State::Commands | State::Running) {
            return Err(self.not_running());
        }
        let serving = self.errors.lock();
        let (gerror, active) = self.active_errors();
        if active == 0 {
            return Ok(());
        }
        let stopped = regs::GERROR::CMDQ_ERR.is_set(active);
        let commands = stopped.then(|| self.commands.recover());
        let failed = regs::GERROR::SFM_ERR.is_set(active);
        if failed {
            self.give_up();
        }
        // An error of the queue that stays active keeps it where it is.
        let open = match commands {
            Some(Err(_)) => regs::GERROR::CMDQ_ERR::SET.value,
            _ => 0,
        };
        self.window.write(regs::GERRORN, gerror ^ open);
        drop(serving);
        self.counters.errors.add();
        let name = self.name();
        log::error!("{name}: global error: {}", names(active).join(", "));
        match commands {
            _ if failed => Err(self.not_running()),
            Some(Ok(Recovery::Skipped(command))) => {
                let [low, high] = command.0;
                let command = command.name();
                log::error!("{name}: refused and skipped: {command} ({high:#x} {low:#x})");
                Ok(())
            }
            Some(Err(fault)) => Err(fault),
            Some(Ok(Recovery::Retry)) | None => Ok(()),
        }
    }

    /// In service failure mode everything aborts; turning it off makes that last.
    fn give_up(&self) {
        self.enter(State::Failed);
        let off = self.window.write_acked(regs::CR0, regs::CR0ACK, 0u32);
        if let Err(fault) = off {
            log::error!("{}: {fault}", self.name());
        }
    }
}

/// The architected names of active errors.
fn names(active: u32) -> Vec<&'static str> {
    use regs::GERROR as E;
    let known = [
        (E::CMDQ_ERR, "CMDQ_ERR"),
        (E::EVENTQ_ABT_ERR, "EVENTQ_ABT_ERR (events were lost)"),
        (E::PRIQ_ABT_ERR, "PRIQ_ABT_ERR"),
        (E::MSI_CMDQ_ABT_ERR, "MSI_CMDQ_ABT_ERR"),
        (E::MSI_EVENTQ_ABT_ERR, "MSI_EVENTQ_ABT_ERR"),
        (E::MSI_PRIQ_ABT_ERR, "MSI_PRIQ_ABT_ERR"),
        (E::MSI_GERROR_ABT_ERR, "MSI_GERROR_ABT_ERR"),
        (
            E::SFM_ERR,
            "SFM_ERR (service failure mode: nothing is translated)",
        ),
        (E::CMDQP_ERR, "CMDQP_ERR"),
        (E::DPT_ERR, "DPT_ERR"),
    ];
    let active = known.iter().filter(|(field, _)| field.is_set(active));
    active.map(|(_, name)| *name).collect()
}

/// An event in the core's terms.
pub(crate) fn report(event: &Event) -> FaultReport {
    let access = match event.is_read() {
        None => Access::Unknown,
        Some(true) if event.is_instruction() => Access::Execute,
        Some(true) => Access::Read,
        Some(false) => Access::Write,
    };
    FaultReport {
        event: event.name().unwrap_or("unknown event"),
        stream: Some(StreamId(event.stream())),
        iova: event.input_address().map(Iova),
        access,
        stage: event.stage().unwrap_or(0),
        detail: detail(event),
    }
}

/// What the fault log has of a stream that was cut off.
fn quarantined(stream: StreamId) -> FaultReport {
    FaultReport {
        event: "QUARANTINED",
        stream: Some(stream),
        iova: None,
        access: Access::Unknown,
        stage: 0,
        detail: format!("{BURST} faults at once: it aborts until it is attached anew"),
    }
}

fn detail(event: &Event) -> String {
    let mut words: Vec<String> = Vec::new();
    if event.name().is_none() {
        words.push(format!("number {:#04x}, {:x?}", event.code(), event.0));
    }
    if let Some(class) = event.class() {
        words.push(format!("class {class}"));
    }
    if event.is_privileged() {
        words.push("privileged".to_string());
    }
    if let Some(substream) = event.substream() {
        words.push(format!("SubstreamID {substream:#x}"));
    }
    if let Some(address) = event.intermediate_address() {
        words.push(format!("IPA {address:#x}"));
    }
    if let Some(address) = event.fetch_address() {
        words.push(format!("fetching {address:#x}"));
    }
    if let Some(tag) = event.stalled() {
        words.push(format!("stalled with tag {tag:#x}"));
    }
    words.join(", ")
}
