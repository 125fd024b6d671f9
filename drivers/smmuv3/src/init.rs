//! On and off, in the architecture's order (IHI 0070 §3.11, §6.3.9).
//!
//! The first thing that changes is that traffic which bypasses translation aborts:
//! at reset much hardware lets it all through. From then on, whatever fails, the
//! worst that a master can do is nothing.

use core::sync::atomic::Ordering;

use mastiff_core::error::Fault;

use crate::bind::Machine;
use crate::interrupts::Messages;
use crate::smmu::{Smmu, State};
use crate::spec::Command;
use crate::spec::registers as regs;

impl<P: Machine> Smmu<P> {
    /// Brings the hardware up. On an error it is as it may be; [`stop`](Self::stop)
    /// is to follow.
    pub fn start(&self) -> Result<(), Fault> {
        let window = &self.window;
        if window.read(regs::CR0).is_set(regs::CR0::SMMUEN) {
            log::warn!("{}: firmware left it on; it is reset", self.name());
        }
        window.abort_bypass()?;
        self.set_cr0(0)?;
        self.enter(State::Told);
        self.configure();
        let checks = if self.features.ats {
            regs::CR0::ATSCHK::SET.value
        } else {
            0
        };
        let commands = checks | regs::CR0::CMDQEN::SET.value;
        self.set_cr0(commands)?;
        self.enter(State::Commands);
        self.forget_all()?;
        self.events.lock().install();
        let events = commands | regs::CR0::EVENTQEN::SET.value;
        self.set_cr0(events)?;
        self.enable_interrupts()?;
        self.set_cr0(events | regs::CR0::SMMUEN::SET.value)?;
        self.enter(State::Running);
        Ok(())
    }

    /// Attributes, behaviour and tables. Only while everything is disabled.
    fn configure(&self) {
        let window = &self.window;
        let cacheability = self.access().cacheability() as u32;
        let shareability = self.access().shareability() as u32;
        window.write(
            regs::CR1,
            regs::CR1::TABLE_SH.val(shareability)
                + regs::CR1::TABLE_OC.val(cacheability)
                + regs::CR1::TABLE_IC.val(cacheability)
                + regs::CR1::QUEUE_SH.val(shareability)
                + regs::CR1::QUEUE_OC.val(cacheability)
                + regs::CR1::QUEUE_IC.val(cacheability),
        );
        // ASIDs here are not those of the CPUs, so their broadcasts do not concern
        // us; streams without an entry are to be heard of.
        window.write(regs::CR2, regs::CR2::PTM::SET + regs::CR2::RECINVSID::SET);
        self.streams.lock().table.install(window);
        self.commands.install();
        // An error from before, still active, would keep the queue from starting.
        let (gerror, active) = self.active_errors();
        if active != 0 {
            window.write(regs::GERRORN, gerror);
        }
    }

    /// Drops everything that the hardware has cached. Configuration goes first:
    /// what is left of it must not bring translations back (§4.3.6).
    fn forget_all(&self) -> Result<(), Fault> {
        self.run([Command::CFGI_ALL])?;
        if self.features.hyp {
            return self.run([Command::TLBI_EL2_ALL, Command::TLBI_NSNH_ALL]);
        }
        self.run([Command::TLBI_NSNH_ALL])
    }

    fn enable_interrupts(&self) -> Result<(), Fault> {
        self.set_interrupts(0)?;
        if self.features.msi {
            self.messages.lock().configure(&self.window);
        }
        let enables = regs::IRQ_CTRL::GERROR_IRQEN::SET + regs::IRQ_CTRL::EVENTQ_IRQEN::SET;
        self.set_interrupts(enables.value)
    }

    /// Turns translation off, everything aborting, and returns when no structure in
    /// memory is in use any more. On an error some may be.
    pub fn stop(&self) -> Result<(), Fault> {
        let stopped = match self.state() {
            State::New | State::Stopped | State::Suspended => Ok(()),
            State::Failed => Err(self.not_running()),
            State::Told | State::Commands | State::Running => self.turn_off(),
        };
        self.enter(if stopped.is_ok() {
            State::Stopped
        } else {
            State::Failed
        });
        stopped
    }

    /// Turns it off as [`stop`](Self::stop) does, to come back by
    /// [`resume`](Self::resume). Tables, descriptors and queues stay in memory.
    ///
    /// A board that cuts the power leaves registers that hold anything; one that
    /// does not would hide a resume that relies on them. So they are made useless
    /// on every board.
    pub fn suspend(&self) -> Result<(), Fault> {
        match self.state() {
            State::Running => {}
            // Nothing to lose; it is for the resume to say so.
            State::Failed => return Ok(()),
            _ => return Err(self.not_running()),
        }
        let off = self.turn_off();
        if let Err(fault) = off {
            self.enter(State::Failed);
            return Err(fault);
        }
        let window = &self.window;
        for register in [regs::CMDQ_BASE, regs::EVENTQ_BASE] {
            window.write64(register, 0u64);
        }
        window.write64(regs::STRTAB_BASE, 0u64);
        window.write(regs::STRTAB_BASE_CFG, 0u32);
        window.write(regs::CR1, 0u32);
        window.write(regs::CR2, 0u32);
        if self.features.msi {
            Messages::default().configure(window);
        }
        self.enter(State::Suspended);
        Ok(())
    }

    /// Brings it up again with the tables that it had, whatever its registers hold
    /// by now. If that fails it is off, and does not come back.
    pub fn resume(&self) -> Result<(), Fault> {
        if self.state() != State::Suspended {
            return Err(self.not_running());
        }
        // From here it is not known to be off.
        self.enter(State::Told);
        self.start().inspect_err(|_| {
            if let Err(fault) = self.stop() {
                log::error!("{}: {fault}", self.name());
            }
        })
    }

    fn turn_off(&self) -> Result<(), Fault> {
        let window = &self.window;
        window.abort_bypass()?;
        if self.state() != State::Told {
            let enables = self.enables.load(Ordering::Relaxed);
            self.set_cr0(enables & !regs::CR0::SMMUEN::SET.value)?;
            self.enter(State::Commands);
            // Turning it off does not wait for transactions under way; a sync after
            // an invalidation of all that they could be using does.
            self.forget_all()?;
            self.serve_events();
        }
        self.set_interrupts(0)?;
        self.set_cr0(0)
    }

    fn set_cr0(&self, value: u32) -> Result<(), Fault> {
        self.enables.store(value, Ordering::Relaxed);
        self.window.write_acked(regs::CR0, regs::CR0ACK, value)
    }

    fn set_interrupts(&self, value: u32) -> Result<(), Fault> {
        self.window
            .write_acked(regs::IRQ_CTRL, regs::IRQ_CTRLACK, value)
    }
}
