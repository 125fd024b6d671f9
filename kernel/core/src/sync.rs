//! The lock of what several CPUs share here, which tests on every interleaving can put
//! their own in place of.

#[cfg(not(loom))]
pub(crate) use spin::{Mutex, MutexGuard as Guard};

#[cfg(loom)]
pub(crate) use self::modelled::{Guard, Mutex};

#[cfg(loom)]
mod modelled {
    pub(crate) use loom::sync::MutexGuard as Guard;

    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> Guard<'_, T> {
            self.0
                .lock()
                .expect("no thread of a model panics and goes on")
        }
    }
}
