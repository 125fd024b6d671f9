//! Runs commands: from `run=` one after the other, or from the prompt. Here, and
//! only here, it is decided whether answers are shown as text or as records.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use mastiff_core::driver::Disk;
use mastiff_core::engine::Engine;
use mastiff_core::error::Fault;
use mastiff_core::platform::Platform;

use crate::bootargs::BootArgs;
use crate::commands::{self, Failure};
use crate::line::{Editor, Key};
use crate::records::{
    BootRecord, DeviceRecord, FaultRecord, IommuRecord, IsolationRecord, Record, StepRecord,
    name_at,
};
use crate::system::System;
use crate::text::text;

/// How a boot wants to end.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// With the power off and this status.
    PowerOff(u8),
    /// By starting over.
    Reboot,
}

/// The console's state.
pub struct Shell<'s, P: Platform> {
    pub(crate) engine: Engine<P>,
    pub(crate) system: &'s dyn System,
    /// Answer with records instead of text (`report=json`, `--json`).
    pub(crate) records: bool,
    /// Somebody watches: progress bars, and a prompt at the end.
    pub(crate) interactive: bool,
    /// Instructions and microseconds at the first verified block.
    pub(crate) first_block: Option<(Option<u64>, u64)>,
    /// Every device has the driver that the command line wants it to have.
    sound: bool,
    /// Set by the command that ends it all.
    pub(crate) ending: Option<Ending>,
}

impl<'s, P: Platform> Shell<'s, P> {
    /// A shell over an engine that has started.
    pub fn new(engine: Engine<P>, system: &'s dyn System, args: &BootArgs) -> Self {
        Self {
            sound: args.has_its_drivers(&engine),
            engine,
            system,
            records: args.records,
            interactive: args.interactive,
            first_block: None,
            ending: None,
        }
    }

    /// Does what the command line asks for, and says how the boot ends: with status
    /// 0 if all of it succeeded. When this returns the engine is gone, and so every
    /// device was taken down in order: users before suppliers, all streams aborted.
    pub fn serve(mut self, run: Option<&str>) -> Ending {
        let ok = match run {
            Some(commands) => self.run(commands),
            None => self.main_job(),
        } && self.sound;
        if self.records {
            self.report_state();
        }
        if self.interactive && run.is_none() {
            self.prompt();
        }
        self.ending.unwrap_or(Ending::PowerOff(u8::from(!ok)))
    }

    /// Runs commands that are separated by `;` until one fails or ends it all; says
    /// whether all succeeded.
    fn run(&mut self, commands: &str) -> bool {
        for command in commands.split(';').map(str::trim) {
            if command.is_empty() {
                continue;
            }
            let error = self.execute(command).err();
            let step = Record::Step(StepRecord {
                command: command.to_string(),
                ok: error.is_none(),
                error: error.map(|failure| failure.to_string()),
            });
            let failed = matches!(&step, Record::Step(step) if !step.ok);
            self.say(format_args!("{}", text(core::slice::from_ref(&step))));
            if self.records {
                self.say(format_args!("{}\n", step.line()));
            }
            if failed {
                return false;
            }
            if self.ending.is_some() {
                return true;
            }
        }
        true
    }

    /// Runs one command and shows its answer.
    fn execute(&mut self, command: &str) -> Result<(), Failure> {
        let mut words: Vec<&str> = command.split_whitespace().collect();
        let before = self.records;
        if let Some(at) = words.iter().position(|&word| word == "--json") {
            words.remove(at);
            self.records = true;
        }
        let mut answer = Vec::new();
        let result = match words.split_first() {
            Some((name, arguments)) => commands::run(self, name, arguments, &mut answer),
            None => Err(Failure::new("--json goes with a command")),
        };
        if self.records {
            self.report(&answer);
        } else {
            self.say(format_args!("{}", text(&answer)));
            let nothing = words
                .first()
                .map_or("", |name| commands::nothing::<P>(name));
            if answer.is_empty() && result.is_ok() && !nothing.is_empty() {
                self.say(format_args!("{nothing}\n"));
            }
        }
        self.records = before;
        result
    }

    /// The prompt, until end of input or a command that ends it all.
    fn prompt(&mut self) {
        self.say(format_args!(
            "`help` lists the commands, ctrl-D powers off.\n"
        ));
        let mut editor = Editor::default();
        let mut echo = Vec::new();
        while self.ending.is_none() {
            self.say(format_args!("mastiff> "));
            let line = loop {
                let Some(byte) = self.system.key() else {
                    self.system.idle();
                    continue;
                };
                echo.clear();
                let key = editor.key(byte, &mut echo);
                self.say(format_args!("{}", String::from_utf8_lossy(&echo)));
                match key {
                    Key::Pending => {}
                    Key::End => return self.say(format_args!("\n")),
                    Key::Line(line) => break line,
                }
            };
            self.run(&line);
            self.keep_listening();
        }
    }

    /// Whoever unbinds the console, or what it needs, could never type again.
    fn keep_listening(&mut self) {
        if self.ending.is_some() || self.system.listens() {
            return;
        }
        log::warn!("the console went with that; everything is bound again");
        if self.engine.rescan().is_err() || !self.system.listens() {
            log::error!("the console does not come back: powering off");
            self.ending = Some(Ending::PowerOff(1));
        }
    }

    /// Writes text.
    pub(crate) fn say(&self, text: core::fmt::Arguments<'_>) {
        self.system.print(text);
    }

    /// Writes records as records.
    pub(crate) fn report(&self, records: &[Record]) {
        for record in records {
            self.say(format_args!("{}\n", record.line()));
        }
    }

    /// Records of the state as a whole.
    fn report_state(&self) {
        let mut records: Vec<Record> = self.devices().map(Record::Device).collect();
        records.extend(self.isolation().map(Record::Isolation));
        records.extend(self.iommus().map(Record::Iommu));
        records.extend(self.faults().map(Record::Fault));
        records.push(Record::Boot(self.boot()));
        self.report(&records);
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = DeviceRecord> {
        let devices = self.engine.devices();
        devices.map(|device| DeviceRecord::new(&self.engine, device))
    }

    pub(crate) fn isolation(&self) -> impl Iterator<Item = IsolationRecord> {
        let devices = self.engine.devices();
        devices.filter_map(|device| IsolationRecord::new(&self.engine, device))
    }

    pub(crate) fn iommus(&self) -> impl Iterator<Item = IommuRecord> {
        let context = self.engine.context();
        context.iommus().into_iter().map(|(node, iommu)| {
            let device = self.engine.device_at(node);
            let driver = device.and_then(|device| self.engine.driver_of(device));
            IommuRecord::new(name_at(&self.engine, node), driver, iommu.status())
        })
    }

    pub(crate) fn faults(&self) -> impl Iterator<Item = FaultRecord> {
        // What an interrupt announced but nobody has waited for yet.
        self.engine.context().platform.irqs().service();
        let records = self.engine.context().faults.records();
        records.into_iter().map(Into::into)
    }

    pub(crate) fn boot(&self) -> BootRecord {
        let facts = self.system.facts();
        let count = |state: &str| {
            let devices = self.engine.devices();
            devices
                .filter(|device| device.state.name() == state)
                .count()
        };
        BootRecord {
            board: facts.board,
            version: facts.version,
            cpus: facts.cpus,
            parked: facts.parked,
            el: facts.el,
            insn: self.first_block.and_then(|(insn, _)| insn),
            us: self.first_block.map(|(_, us)| us),
            devices: self.engine.devices().count(),
            bound: count("bound"),
            waiting: count("waiting"),
            failed: count("failed"),
        }
    }

    /// The disk that a device is.
    pub(crate) fn disk(&self, name: &str) -> Result<&dyn Disk, Fault> {
        let device = self.engine.device(name);
        let bound = device.and_then(|device| device.bound());
        bound
            .and_then(|bound| bound.disk())
            .ok_or_else(|| Fault::invalid(alloc::format!("{name} is no bound disk")))
    }
}
