//! Switches as people read them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::View;
use crate::records::SwitchRecord;

pub fn switch(record: &SwitchRecord) -> View {
    View::Row(
        &["name", "class", "state", "users", "rate"],
        Vec::from([
            record.name.clone(),
            record.class.clone(),
            if record.on { "on" } else { "off" }.into(),
            format!("{}", record.users),
            record.rate.map_or("-".into(), hertz),
        ]),
    )
}

/// In the largest unit that leaves nothing behind the point.
fn hertz(rate: u64) -> String {
    let units = [(1_000_000, "MHz"), (1_000, "kHz")];
    let unit = units
        .into_iter()
        .find(|(unit, _)| rate >= *unit && rate.is_multiple_of(*unit));
    match unit {
        Some((unit, name)) => format!("{} {name}", rate / unit),
        None => format!("{rate} Hz"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_lose_nothing() {
        assert_eq!(hertz(24_000_000), "24 MHz");
        assert_eq!(hertz(33_333_333), "33333333 Hz");
        assert_eq!(hertz(32_768), "32768 Hz");
        assert_eq!(hertz(400_000), "400 kHz");
        assert_eq!(hertz(0), "0 Hz");
    }
}
