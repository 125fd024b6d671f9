//! The register window: typed access, and the handshakes by which a register says
//! that a write has taken effect.

use mastiff_core::error::Fault;
use mastiff_core::platform::{Mmio, Platform, poll};
use tock_registers::{LocalRegisterCopy, RegisterLongName};

use crate::spec::registers::{self as regs, Register};

/// How long the hardware may take to acknowledge a write to a control register.
const ACK_US: u64 = 100_000;

pub(crate) struct Window<P: Platform> {
    mmio: P::Mmio,
    platform: P,
}

impl<P: Platform> Window<P> {
    pub fn new(mmio: P::Mmio, platform: P) -> Self {
        Self { mmio, platform }
    }

    #[inline]
    pub fn read<F: RegisterLongName>(
        &self,
        register: Register<u32, F>,
    ) -> LocalRegisterCopy<u32, F> {
        LocalRegisterCopy::new(self.mmio.read32(register.offset))
    }

    #[inline]
    pub fn write<F: RegisterLongName>(&self, register: Register<u32, F>, value: impl Into<u32>) {
        self.mmio.write32(register.offset, value.into());
    }

    pub fn write64<F: RegisterLongName>(&self, register: Register<u64, F>, value: impl Into<u64>) {
        self.mmio.write64(register.offset, value.into());
    }

    /// Writes a control register and waits until its twin shows the value. A bit
    /// must not change again before its last change was acknowledged (IHI 0070
    /// §6.3.9), so it waits before the write too.
    pub fn write_acked<F: RegisterLongName>(
        &self,
        register: Register<u32, F>,
        ack: Register<u32, F>,
        value: impl Into<u32>,
    ) -> Result<(), Fault> {
        let value = value.into();
        let before = self.read(register).get();
        self.poll(ack, "acknowledgement of an earlier control write", |seen| {
            seen.get() == before
        })?;
        self.mmio.write32(register.offset, value);
        self.poll(ack, "acknowledgement of a control write", |seen| {
            seen.get() == value
        })
    }

    /// Has everything abort while translation is off (IHI 0070 §6.3.14: a write
    /// takes effect with UPDATE, and only when no other is under way).
    pub fn abort_bypass(&self) -> Result<(), Fault> {
        let idle = |seen: LocalRegisterCopy<u32, _>| !seen.is_set(regs::GBPA::UPDATE);
        self.poll(regs::GBPA, "end of an earlier update", idle)?;
        let mut gbpa = self.read(regs::GBPA);
        gbpa.modify(regs::GBPA::ABORT::SET + regs::GBPA::UPDATE::SET);
        self.write(regs::GBPA, gbpa.get());
        self.poll(regs::GBPA, "update of the bypass attributes", idle)?;
        let seen = self.read(regs::GBPA);
        if seen.is_set(regs::GBPA::ABORT) {
            return Ok(());
        }
        Err(Fault::Register {
            name: regs::GBPA.name,
            expected: gbpa.get().into(),
            seen: seen.get().into(),
        })
    }

    /// Translation off, and everything aborts.
    pub fn shut(&self) -> Result<(), Fault> {
        self.abort_bypass()?;
        self.write_acked(regs::CR0, regs::CR0ACK, 0u32)
    }

    fn poll<F: RegisterLongName>(
        &self,
        register: Register<u32, F>,
        awaited: &'static str,
        done: impl Fn(LocalRegisterCopy<u32, F>) -> bool,
    ) -> Result<(), Fault> {
        let look = || done(self.read(register)).then_some(());
        poll(&self.platform, ACK_US, look).ok_or_else(|| Fault::Timeout {
            awaited,
            register: register.name,
            seen: self.read(register).get().into(),
            us: ACK_US,
        })
    }
}
