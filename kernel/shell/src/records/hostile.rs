//! What a hostile master tried, and what came of it.

use alloc::boxed::Box;
use alloc::string::String;

use serde::Serialize;

/// One attempt.
#[derive(Clone, Debug, Serialize)]
pub struct HostileRecord {
    /// The master.
    pub device: Box<str>,
    /// What it was sent to, in words.
    pub target: String,
    /// `read` or `write`.
    pub access: &'static str,
    /// The address that it was aimed at.
    pub at: u64,
    /// Bytes that it was to move.
    pub bytes: u64,
    /// What came of it.
    pub result: Outcome,
    /// Events of the master meanwhile.
    pub events: u64,
    /// Bytes of memory that it got hold of, or changed.
    pub moved: u64,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What else there is to say.
    pub detail: String,
}

/// What came of an attempt.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It got what is there, or changed it.
    Reached,
    /// Nothing was moved, and an event of that address names the device.
    Stopped,
    /// Nothing was moved, and an event of another address does.
    Astray,
    /// Nothing was moved, and there was no event.
    Silent,
    /// It was not tried.
    Skipped,
}

impl Outcome {
    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Stopped => "stopped",
            Self::Astray => "astray",
            Self::Silent => "silent",
            Self::Skipped => "skipped",
        }
    }
}

/// A storm of faults.
#[derive(Clone, Debug, Serialize)]
pub struct StormRecord {
    /// The master.
    pub device: Box<str>,
    /// Bytes of the transfer that faulted.
    pub bytes: u64,
    /// Events of the master that were heard.
    pub events: u64,
    /// Errors that IOMMUs had of their own: with any, events may have been lost.
    pub errors: u64,
    /// Whether its streams were cut off.
    pub quarantined: bool,
    /// The disk that was read meanwhile.
    pub disk: Option<Box<str>>,
    /// Whether it did no harm.
    pub ok: bool,
    /// What harm it did.
    pub error: Option<String>,
}
