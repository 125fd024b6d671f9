//! The kernel command line: `name=value` words, with double quotes around values
//! that have spaces. Linux's names where the meaning is Linux's. Nothing here can
//! fail: what is not understood is named in a warning and the boot goes on.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use mastiff_core::engine::Engine;
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;
use mastiff_core::policy::{MissingIommu, Policy};

/// The command line, understood.
#[derive(Clone, PartialEq, Debug)]
pub struct BootArgs {
    /// `iommu.missing=`, `iommu.passthrough=`, `iommu.strict=`.
    pub policy: Policy,
    /// `loglevel=`, by syslog's numbers: lines of a level below this are shown, so 4
    /// is errors only, 5 warnings too, 7 (the default) all that happens, 8 what is
    /// for debugging.
    pub loglevel: u8,
    /// `console=`: the tree path or alias of the console, in place of
    /// `/chosen/stdout-path`.
    pub console: Option<String>,
    /// `driver.late=`: drivers to hold back.
    pub late: Vec<String>,
    /// `driver.skip=`: drivers to leave out.
    pub skip: Vec<String>,
    /// `driver.override=`: devices, each with the driver that it is to have.
    pub overrides: Vec<(String, String)>,
    /// `report=json`: print records.
    pub records: bool,
    /// `run=`: commands in place of the main job.
    pub run: Option<String>,
    /// `interactive=1`: somebody is at the console.
    pub interactive: bool,
    /// What was not understood, one line each.
    pub warnings: Vec<String>,
}

impl Default for BootArgs {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            loglevel: 7,
            console: None,
            late: Vec::new(),
            skip: Vec::new(),
            overrides: Vec::new(),
            records: false,
            run: None,
            interactive: false,
            warnings: Vec::new(),
        }
    }
}

impl BootArgs {
    /// Reads a command line, over the policy of the board.
    pub fn parse(line: &str, policy: Policy) -> Self {
        let mut args = Self {
            policy,
            ..Self::default()
        };
        for word in words(line) {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, value),
                None => (word.as_str(), ""),
            };
            if let Err(expected) = args.set(name, value) {
                args.warnings.push(match expected {
                    Some(expected) => format!("boot argument {word}: expected {expected}"),
                    None => format!("unknown boot argument {word}: ignored"),
                });
            }
        }
        args
    }

    /// Starts an engine with the drivers held back, left out and preferred that the
    /// command line names. What of it makes no sense is a warning.
    pub fn start<P: Platform>(&self, engine: &mut Engine<P>) {
        for name in &self.late {
            note(name, "held back", engine.hold_driver(name));
        }
        for name in &self.skip {
            note(name, "left out", engine.skip_driver(name));
        }
        for (device, driver) in &self.overrides {
            if let Err(fault) = engine.override_driver(device, driver) {
                log::error!("driver.override={device}:{driver}: {fault}");
            }
        }
        engine.start();
        for failed in engine.failed_overrides() {
            log::error!("{failed}");
        }
    }

    /// Whether every device that is to have a certain driver has it. Where one does
    /// not, what was asked for is not what happens, whatever else succeeds.
    pub(crate) fn has_its_drivers<P: Platform>(&self, engine: &Engine<P>) -> bool {
        let drivers = engine.drivers();
        let known = |name: &String| drivers.iter().any(|driver| driver.name == name);
        self.overrides.iter().all(|(_, driver)| known(driver))
            && engine.failed_overrides().is_empty()
    }

    /// `Err(None)` for an unknown name, `Err(Some(_))` for a value that is not one
    /// of those that the message names.
    fn set(&mut self, name: &str, value: &str) -> Result<(), Option<&'static str>> {
        match name {
            "iommu.passthrough" => self.policy.passthrough = flag(value)?,
            "iommu.granule" => {
                self.policy.granule = Some(match value {
                    "4k" => 4 << 10,
                    "16k" => 16 << 10,
                    "64k" => 64 << 10,
                    _ => return Err(Some("4k, 16k or 64k")),
                });
            }
            "iommu.strict" => self.policy.lazy = !flag(value)?,
            "iommu.missing" => {
                self.policy.missing_iommu = match value {
                    "refuse" => MissingIommu::Refuse,
                    "direct" => MissingIommu::Direct,
                    _ => return Err(Some("refuse or direct")),
                }
            }
            "loglevel" => {
                self.loglevel = match value.parse() {
                    Ok(level @ 0..=8) => level,
                    _ => return Err(Some("0 to 8")),
                }
            }
            "console" => self.console = Some(value.to_owned()),
            "driver.late" => self.late.extend(names(value)),
            "driver.skip" => self.skip.extend(names(value)),
            "driver.override" => {
                // A device's name may have a colon in it, a driver's has none.
                let (device, driver) = value.rsplit_once(':').ok_or(Some("<device>:<driver>"))?;
                self.overrides.push((device.to_owned(), driver.to_owned()));
            }
            "report" => {
                self.records = match value {
                    "json" => true,
                    _ => return Err(Some("json")),
                }
            }
            "run" => self.run = Some(value.to_owned()),
            "interactive" => self.interactive = flag(value)?,
            _ => return Err(None),
        }
        Ok(())
    }
}

fn note(name: &str, what: &str, result: Result<(), Fault>) {
    match result {
        Ok(()) => log::info!("driver {name}: {what}"),
        Err(fault) => log::warn!("driver {name} is not {what}: {fault}"),
    }
}

fn flag(value: &str) -> Result<bool, Option<&'static str>> {
    match value {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(Some("0 or 1")),
    }
}

fn names(list: &str) -> impl Iterator<Item = String> {
    list.split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

/// Splits at spaces that are not between double quotes; the quotes go.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut started = false;
    for c in line.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                started = true;
            }
            c if c.is_whitespace() && !quoted => {
                if started {
                    words.push(core::mem::take(&mut word));
                }
                started = false;
            }
            c => {
                word.push(c);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_understood() {
        let args = BootArgs::parse(
            "iommu.passthrough=1 iommu.strict=0 iommu.missing=direct iommu.granule=64k loglevel=4 console=/pl011@9000000 \
             driver.late=smmuv3,edu driver.skip=nvme driver.override=00:01.0:edu report=json run=\"devices; why x\" interactive=1",
            Policy::default(),
        );
        assert!(args.policy.passthrough && args.policy.lazy);
        assert_eq!(args.policy.missing_iommu, MissingIommu::Direct);
        assert_eq!(args.policy.granule, Some(64 << 10));
        assert_eq!(args.loglevel, 4);
        assert_eq!(args.console.as_deref(), Some("/pl011@9000000"));
        assert_eq!(args.late, ["smmuv3", "edu"]);
        assert_eq!(args.skip, ["nvme"]);
        assert_eq!(args.overrides, [("00:01.0".into(), "edu".into())]);
        assert!(args.records && args.interactive);
        assert_eq!(args.run.as_deref(), Some("devices; why x"));
        assert_eq!(args.warnings, [""; 0]);
    }

    #[test]
    fn what_is_not_understood_is_named_and_changes_nothing() {
        let args = BootArgs::parse(
            "quiet iommu.passthrough=yes loglevel=9 root=/dev/vda driver.override=edu",
            Policy::default(),
        );
        assert_eq!(
            args.warnings,
            [
                "unknown boot argument quiet: ignored",
                "boot argument iommu.passthrough=yes: expected 0 or 1",
                "boot argument loglevel=9: expected 0 to 8",
                "unknown boot argument root=/dev/vda: ignored",
                "boot argument driver.override=edu: expected <device>:<driver>",
            ]
        );
        let warnings = args.warnings.clone();
        assert_eq!(
            args,
            BootArgs {
                warnings,
                ..BootArgs::default()
            }
        );
    }

    #[test]
    fn quotes_keep_words_together_and_need_no_end() {
        assert_eq!(words("a \"b  c\"d  e\"f g"), ["a", "b  cd", "ef g"]);
        assert_eq!(words("  "), [""; 0]);
        assert_eq!(words("run=\"\""), ["run="]);
    }
}
