//! The console as the shell and the log see it: bytes out, bytes in. A UART's
//! binding offers one; which one is used, `/chosen/stdout-path` says.

/// A byte stream to a person.
pub trait Console: Send + Sync {
    /// Writes `bytes` as they are. Any context, a panic's included: it takes no
    /// lock and waits a bounded time; what a stuck line does not take is dropped.
    fn write(&self, bytes: &[u8]);
    /// The next byte that came in, if there is one. Ordinary context.
    fn read(&self) -> Option<u8>;
}
