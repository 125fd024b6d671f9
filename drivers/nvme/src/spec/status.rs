//! Status codes by name (§3.3.3.2.1, NVM §1.4.2): what a person needs to see when
//! a disk says no.

use mastiff_core::error::Fault;

/// Status of a completion, without the phase tag: code, type, flags.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Status(pub u16);

impl Status {
    /// Status Code Type in bits 10:8 and Status Code in bits 7:0.
    pub fn code(self) -> u16 {
        self.0 & 0x7ff
    }

    /// Fails, by name, unless the command succeeded.
    pub fn check(self, during: &'static str) -> Result<(), Fault> {
        match self.code() {
            0 => Ok(()),
            code => Err(Fault::Device {
                during,
                status: name(code),
                code: code.into(),
            }),
        }
    }
}

/// The name of a status by type and code.
fn name(code: u16) -> &'static str {
    let table = match code >> 8 {
        0 => GENERIC,
        1 => COMMAND_SPECIFIC,
        2 => MEDIA,
        3 => PATH,
        7 => return "Vendor Specific",
        _ => return "Reserved Status Code Type",
    };
    let found = table.iter().find(|(known, _)| *known == code as u8);
    found.map_or("Unknown Status Code", |(_, name)| name)
}

const GENERIC: &[(u8, &str)] = &[
    (0x00, "Successful Completion"),
    (0x01, "Invalid Command Opcode"),
    (0x02, "Invalid Field in Command"),
    (0x03, "Command ID Conflict"),
    (0x04, "Data Transfer Error"),
    (0x05, "Commands Aborted due to Power Loss Notification"),
    (0x06, "Internal Error"),
    (0x07, "Command Abort Requested"),
    (0x08, "Command Aborted due to SQ Deletion"),
    (0x09, "Command Aborted due to Failed Fused Command"),
    (0x0a, "Command Aborted due to Missing Fused Command"),
    (0x0b, "Invalid Namespace or Format"),
    (0x0c, "Command Sequence Error"),
    (0x0d, "Invalid SGL Segment Descriptor"),
    (0x0e, "Invalid Number of SGL Descriptors"),
    (0x0f, "Data SGL Length Invalid"),
    (0x10, "Metadata SGL Length Invalid"),
    (0x11, "SGL Descriptor Type Invalid"),
    (0x12, "Invalid Use of Controller Memory Buffer"),
    (0x13, "PRP Offset Invalid"),
    (0x14, "Atomic Write Unit Exceeded"),
    (0x15, "Operation Denied"),
    (0x16, "SGL Offset Invalid"),
    (0x18, "Host Identifier Inconsistent Format"),
    (0x19, "Keep Alive Timer Expired"),
    (0x1a, "Keep Alive Timeout Invalid"),
    (0x1b, "Command Aborted due to Preempt and Abort"),
    (0x1c, "Sanitize Failed"),
    (0x1d, "Sanitize In Progress"),
    (0x1e, "SGL Data Block Granularity Invalid"),
    (0x1f, "Command Not Supported for Queue in CMB"),
    (0x20, "Namespace is Write Protected"),
    (0x21, "Command Interrupted"),
    (0x22, "Transient Transport Error"),
    (0x23, "Command Prohibited by Command and Feature Lockdown"),
    (0x24, "Admin Command Media Not Ready"),
    (0x80, "LBA Out of Range"),
    (0x81, "Capacity Exceeded"),
    (0x82, "Namespace Not Ready"),
    (0x83, "Reservation Conflict"),
    (0x84, "Format In Progress"),
];

const COMMAND_SPECIFIC: &[(u8, &str)] = &[
    (0x00, "Completion Queue Invalid"),
    (0x01, "Invalid Queue Identifier"),
    (0x02, "Invalid Queue Size"),
    (0x03, "Abort Command Limit Exceeded"),
    (0x05, "Asynchronous Event Request Limit Exceeded"),
    (0x06, "Invalid Firmware Slot"),
    (0x07, "Invalid Firmware Image"),
    (0x08, "Invalid Interrupt Vector"),
    (0x09, "Invalid Log Page"),
    (0x0a, "Invalid Format"),
    (0x0c, "Invalid Queue Deletion"),
    (0x0d, "Feature Identifier Not Saveable"),
    (0x0e, "Feature Not Changeable"),
    (0x0f, "Feature Not Namespace Specific"),
    (0x14, "Overlapping Range"),
    (0x15, "Namespace Insufficient Capacity"),
    (0x16, "Namespace Identifier Unavailable"),
    (0x18, "Namespace Already Attached"),
    (0x19, "Namespace Is Private"),
    (0x1a, "Namespace Not Attached"),
    (0x1f, "Invalid Controller Identifier"),
    (0x29, "I/O Command Set Not Supported"),
    (0x2a, "I/O Command Set Not Enabled"),
    (0x80, "Conflicting Attributes"),
    (0x81, "Invalid Protection Information"),
    (0x82, "Attempted Write to Read Only Range"),
    (0x83, "Command Size Limit Exceeded"),
];

const MEDIA: &[(u8, &str)] = &[
    (0x80, "Write Fault"),
    (0x81, "Unrecovered Read Error"),
    (0x82, "End-to-end Guard Check Error"),
    (0x83, "End-to-end Application Tag Check Error"),
    (0x84, "End-to-end Reference Tag Check Error"),
    (0x85, "Compare Failure"),
    (0x86, "Access Denied"),
    (0x87, "Deallocated or Unwritten Logical Block"),
    (0x88, "End-to-End Storage Tag Check Error"),
];

const PATH: &[(u8, &str)] = &[
    (0x00, "Internal Path Error"),
    (0x01, "Asymmetric Access Persistent Loss"),
    (0x02, "Asymmetric Access Inaccessible"),
    (0x03, "Asymmetric Access Transition"),
    (0x60, "Controller Pathing Error"),
    (0x70, "Host Pathing Error"),
    (0x71, "Command Aborted By Host"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn statuses_have_names() {
        assert_eq!(Status(0).check("Read"), Ok(()));
        // Do Not Retry and More are no part of the code.
        assert_eq!(Status(0x6000).check("Read"), Ok(()));
        let fault = Status(0x4281).check("Read").unwrap_err();
        assert_eq!(
            fault.to_string(),
            "Read: Unrecovered Read Error (status 0x281)"
        );
        assert_eq!(name(0x102), "Invalid Queue Size");
        assert_eq!(name(0x360), "Controller Pathing Error");
        assert_eq!(name(0x7ff), "Vendor Specific");
        assert_eq!(name(0x4ff), "Reserved Status Code Type");
        assert_eq!(name(0x0ff), "Unknown Status Code");
    }

    #[test]
    fn tables_are_in_order_and_without_doubles() {
        for table in [GENERIC, COMMAND_SPECIFIC, MEDIA, PATH] {
            assert!(table.is_sorted_by(|a, b| a.0 < b.0));
        }
    }
}
