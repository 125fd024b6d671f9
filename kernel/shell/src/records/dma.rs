//! What masters moved.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_core::driver::DmaProof;
use serde::{Serialize, Serializer};

use crate::text::format;

/// One verified transfer.
#[derive(Clone, Debug, Serialize)]
pub struct DmaRecord {
    /// The master.
    pub device: Box<str>,
    /// `verify` or `read`.
    pub op: &'static str,
    /// Bytes that were moved.
    pub bytes: u64,
    /// The address that the device used.
    pub iova: Option<u64>,
    /// The memory behind it.
    pub pa: Option<u64>,
    /// Digest of the data, where all of a disk was read.
    pub sha256: Option<String>,
    /// Whether every byte was right.
    pub ok: bool,
    /// What was wrong.
    pub error: Option<String>,
}

impl DmaRecord {
    /// A transfer that was right.
    pub fn good(device: &str, op: &'static str, proof: &DmaProof) -> Self {
        Self {
            device: device.into(),
            op,
            bytes: proof.bytes,
            iova: Some(proof.iova.0),
            pa: Some(proof.pa.0),
            sha256: None,
            ok: true,
            error: None,
        }
    }

    /// A transfer that failed.
    pub fn bad(device: &str, op: &'static str, error: String) -> Self {
        Self {
            device: device.into(),
            op,
            bytes: 0,
            iova: None,
            pa: None,
            sha256: None,
            ok: false,
            error: Some(error),
        }
    }
}

/// What a master that has address spaces of its own was told, or saw.
#[derive(Clone, Debug, Serialize)]
pub struct SpaceRecord {
    /// The master.
    pub device: Box<str>,
    /// `attach`, `detach`, `map`, `unmap`, `read`, `switch`.
    pub op: &'static str,
    /// The space that it goes through now.
    pub attached: Option<&'static str>,
    /// The address that it was about.
    pub iova: Option<u64>,
    /// The space whose memory the device read.
    pub read: Option<&'static str>,
    /// The space through which what it had read came back.
    pub written: Option<&'static str>,
    /// How often spaces were exchanged while the device was reading.
    pub switches: u32,
}

/// Bytes that were read.
#[derive(Clone, Debug, Serialize)]
pub struct DataRecord {
    /// The device that read them.
    pub device: Box<str>,
    /// Where they come from: `disk`, or `memory` as the device sees it.
    pub space: &'static str,
    /// The offset or address of the first.
    pub at: u64,
    /// Whether the device's IOMMU reported a fault of it meanwhile: then the bytes are
    /// whatever the device had, not what is at that address.
    pub faulted: bool,
    /// The bytes.
    #[serde(serialize_with = "digits")]
    pub data: Vec<u8>,
}

fn digits<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format::digits(bytes))
}
