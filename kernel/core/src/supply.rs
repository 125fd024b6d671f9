//! What a device needs switched on to work: clocks, power domains, regulators,
//! resets. All are the same thing to their users, on while somebody holds them, so
//! there is one counted [`Switch`]. The core turns on what the tree names before a
//! driver's probe, and off after its device was unbound or suspended; a driver
//! never has to.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::Arc;

use spin::Mutex;

use crate::error::Fault;

/// What turning on and off means for one switch.
pub trait SwitchOps: Send + Sync {
    /// Turns it on; stable when this returns.
    fn on(&self) -> Result<(), Fault>;
    /// Turns it off.
    fn off(&self);
}

/// What is on by itself.
pub struct AlwaysOn;

impl SwitchOps for AlwaysOn {
    fn on(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn off(&self) {}
}

/// Something that is on while somebody holds it.
pub struct Switch {
    name: Box<str>,
    rate: Option<u64>,
    users: Mutex<u32>,
    ops: Box<dyn SwitchOps>,
}

impl Switch {
    /// A switch, off, that people know by `name`.
    pub fn new(name: &str, ops: impl SwitchOps + 'static) -> Arc<Self> {
        Self::with_rate(name, None, ops)
    }

    /// A clock of this many hertz, where that is known.
    pub fn with_rate(name: &str, rate: Option<u64>, ops: impl SwitchOps + 'static) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            rate,
            users: Mutex::new(0),
            ops: Box::new(ops),
        })
    }

    /// Turns it on for as long as the result lives.
    pub fn hold(self: &Arc<Self>) -> Result<On, Fault> {
        let mut users = self.users.lock();
        if *users == 0 {
            self.ops.on()?;
        }
        *users += 1;
        Ok(On(self.clone()))
    }

    /// The name that people know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hertz, for a clock whose rate is known.
    pub fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// How many hold it.
    pub fn users(&self) -> u32 {
        *self.users.lock()
    }
}

/// A switch that is held on.
pub struct On(Arc<Switch>);

impl On {
    /// The switch.
    pub fn switch(&self) -> &Switch {
        &self.0
    }
}

impl Drop for On {
    fn drop(&mut self) {
        let mut users = self.0.users.lock();
        *users -= 1;
        if *users == 0 {
            self.0.ops.off();
        }
    }
}

/// A node that supplies switches.
pub trait Switches: Send + Sync {
    /// The one that a specifier names.
    fn switch(&self, cells: &[u32]) -> Result<Arc<Switch>, Fault>;
    /// All of them, for people.
    fn all(&self) -> alloc::vec::Vec<Arc<Switch>>;
}

/// A node that is one switch, whose specifier has no cells.
impl Switches for Arc<Switch> {
    fn switch(&self, cells: &[u32]) -> Result<Arc<Switch>, Fault> {
        match cells {
            [] => Ok(self.clone()),
            _ => Err(Fault::invalid(format!(
                "{} takes no specifier, it was given {} cells",
                self.name,
                cells.len()
            ))),
        }
    }

    fn all(&self) -> alloc::vec::Vec<Self> {
        alloc::vec![self.clone()]
    }
}

/// A controller of general-purpose lines.
pub trait GpioChip: Send + Sync {
    /// How many lines it has.
    fn lines(&self) -> u32;
    /// Drives a line, as an output from now on.
    fn drive(&self, line: u32, high: bool) -> Result<(), Fault>;
    /// The level of a line.
    fn level(&self, line: u32) -> bool;
    /// Gives a line up: it is an input again.
    fn release(&self, line: u32);
}

/// How a line is driven from the moment that it is claimed.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct LineSetup {
    /// Active at once, for what firmware left on and must not flicker.
    pub active: bool,
    /// Whether it is active low, where a binding says so elsewhere than in the
    /// specifier's flags.
    pub active_low: Option<bool>,
}

/// A controller's lines, each with at most one owner.
pub struct GpioBank {
    chip: Arc<dyn GpioChip>,
    owners: Mutex<BTreeMap<u32, Box<str>>>,
}

/// Flag of a two-cell GPIO specifier: the line is active low.
const ACTIVE_LOW: u32 = 1;

impl GpioBank {
    /// The lines of `chip`.
    pub fn new(chip: Arc<dyn GpioChip>) -> Arc<Self> {
        Arc::new(Self {
            chip,
            owners: Mutex::new(BTreeMap::new()),
        })
    }

    /// Gives `owner` the line that a specifier (line, flags) names, as an output.
    pub fn claim(
        self: &Arc<Self>,
        cells: &[u32],
        owner: &str,
        setup: LineSetup,
    ) -> Result<GpioLine, Fault> {
        let (line, flags) = match *cells {
            [line] => (line, 0),
            [line, flags] => (line, flags),
            _ => {
                return Err(Fault::invalid(format!(
                    "a GPIO specifier has one or two cells, not {}",
                    cells.len()
                )));
            }
        };
        if line >= self.chip.lines() {
            return Err(Fault::invalid(format!(
                "GPIO line {line} of {}",
                self.chip.lines()
            )));
        }
        let mut owners = self.owners.lock();
        if let Some(other) = owners.get(&line) {
            return Err(Fault::invalid(format!(
                "GPIO line {line} belongs to {other}"
            )));
        }
        let active_low = setup.active_low.unwrap_or(flags & ACTIVE_LOW != 0);
        self.chip.drive(line, setup.active != active_low)?;
        owners.insert(line, owner.into());
        drop(owners);
        Ok(GpioLine {
            bank: self.clone(),
            line,
            active_low,
        })
    }

    /// The claimed lines and their owners.
    pub fn owners(&self) -> alloc::vec::Vec<(u32, Box<str>)> {
        let owners = self.owners.lock();
        owners
            .iter()
            .map(|(line, owner)| (*line, owner.clone()))
            .collect()
    }
}

/// A line that its owner drives. Dropping it makes the line an input again.
pub struct GpioLine {
    bank: Arc<GpioBank>,
    line: u32,
    active_low: bool,
}

impl GpioLine {
    /// Makes the line active or not.
    pub fn set(&self, active: bool) -> Result<(), Fault> {
        self.bank.chip.drive(self.line, active != self.active_low)
    }

    /// Whether the line is active.
    pub fn is_active(&self) -> bool {
        self.bank.chip.level(self.line) != self.active_low
    }
}

impl Drop for GpioLine {
    fn drop(&mut self) {
        self.bank.chip.release(self.line);
        self.bank.owners.lock().remove(&self.line);
    }
}

/// What is switched by a line: a gate, a supply, a domain.
impl SwitchOps for GpioLine {
    fn on(&self) -> Result<(), Fault> {
        self.set(true)?;
        // A line that does not read back as it was driven drives nothing.
        if self.is_active() {
            return Ok(());
        }
        self.off();
        let level = |active: bool| u64::from(active != self.active_low);
        Err(Fault::Register {
            name: "level of the GPIO line",
            expected: level(true),
            seen: level(false),
        })
    }

    fn off(&self) {
        if let Err(fault) = self.set(false) {
            log::error!("GPIO line {}: {fault}", self.line);
        }
    }
}
