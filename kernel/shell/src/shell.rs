//! Runs commands: from `run=` one after the other, or from the prompt.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use mastiff_core::engine::Engine;
use mastiff_core::platform::Platform;

use crate::bootargs::BootArgs;
use crate::commands::{self, Failure};
use crate::line::{Editor, Key};
use crate::records::{BootRecord, DeviceRecord, FaultLine, IommuRecord, Record, StepRecord};
use crate::system::System;

/// How this boot talks.
#[derive(Copy, Clone, Debug, Default)]
pub struct Options {
    /// Records instead of text (`report=json`).
    pub records: bool,
    /// Somebody watches: progress bars, and a prompt at the end.
    pub interactive: bool,
}

/// The console's state.
pub struct Shell<'s, P: Platform> {
    pub(crate) engine: Engine<P>,
    pub(crate) system: &'s dyn System,
    pub(crate) options: Options,
    /// Instructions and microseconds at the first verified block.
    pub(crate) first_block: Option<(Option<u64>, u64)>,
}

impl<'s, P: Platform> Shell<'s, P> {
    /// A shell over an engine that has started.
    pub fn new(engine: Engine<P>, system: &'s dyn System, args: &BootArgs) -> Self {
        Self {
            engine,
            system,
            options: Options {
                records: args.records,
                interactive: args.interactive,
            },
            first_block: None,
        }
    }

    /// Does what the command line asks for, and says with which status the boot
    /// ends: 0 if all of it succeeded.
    pub fn boot(&mut self, run: Option<&str>) -> u8 {
        let status = match run {
            Some(commands) => self.run(commands),
            None => self.main_job(),
        };
        if self.options.records {
            self.state_records();
        }
        status
    }

    /// Runs commands that are separated by `;` until one fails.
    fn run(&mut self, commands: &str) -> u8 {
        for command in commands.split(';').map(str::trim) {
            if command.is_empty() {
                continue;
            }
            let result = self.execute(command);
            let error = result.err().map(|failure| failure.to_string());
            if let Some(error) = &error {
                self.say(format_args!("{command}: {error}\n"));
            }
            if self.options.records {
                self.record(Record::Step(StepRecord {
                    command: command.to_string(),
                    ok: error.is_none(),
                    error: error.clone(),
                }));
            }
            if error.is_some() {
                return 1;
            }
        }
        0
    }

    /// Runs one command.
    pub(crate) fn execute(&mut self, command: &str) -> Result<(), Failure> {
        let mut words: Vec<&str> = command.split_whitespace().collect();
        let before = self.options.records;
        if let Some(at) = words.iter().position(|&word| word == "--json") {
            words.remove(at);
            self.options.records = true;
        }
        let result = match words.split_first() {
            Some((name, arguments)) => commands::run(self, name, arguments),
            None => Ok(()),
        };
        self.options.records = before;
        result
    }

    /// The prompt, until end of input or `poweroff`.
    pub fn prompt(&mut self) {
        self.say(format_args!(
            "`help` lists the commands, ctrl-D powers off.\n"
        ));
        let mut editor = Editor::default();
        let mut echo = Vec::new();
        self.say(format_args!("mastiff> "));
        loop {
            let Some(byte) = self.system.key() else {
                self.system.idle();
                continue;
            };
            echo.clear();
            let key = editor.key(byte, &mut echo);
            self.say(format_args!("{}", String::from_utf8_lossy(&echo)));
            match key {
                Key::Pending => continue,
                Key::End => {
                    self.say(format_args!("\n"));
                    return;
                }
                Key::Line(line) => {
                    if let Err(failure) = self.execute(&line) {
                        self.say(format_args!("{}: {failure}\n", line.trim()));
                    }
                }
            }
            self.say(format_args!("mastiff> "));
        }
    }

    /// Writes text.
    pub(crate) fn say(&self, text: core::fmt::Arguments<'_>) {
        self.system.print(text);
    }

    /// Writes a record.
    pub(crate) fn record(&self, record: Record) {
        self.say(format_args!("{}\n", record.line()));
    }

    /// Records of the state as a whole: devices, IOMMUs, faults, boot.
    fn state_records(&self) {
        for device in self.device_records() {
            self.record(Record::Device(device));
        }
        for iommu in self.iommu_records() {
            self.record(Record::Iommu(iommu));
        }
        for fault in self.fault_lines() {
            self.record(Record::Fault(fault));
        }
        self.record(Record::Boot(self.boot_record()));
    }

    pub(crate) fn device_records(&self) -> Vec<DeviceRecord> {
        self.engine
            .devices()
            .map(|device| DeviceRecord::new(&self.engine, device))
            .collect()
    }

    pub(crate) fn iommu_records(&self) -> Vec<IommuRecord> {
        let context = self.engine.context();
        context
            .iommus()
            .into_iter()
            .map(|(node, iommu)| {
                let name = context.tree.node(node).path();
                let device = self.engine.device(&name);
                let driver = device.and_then(|device| self.engine.driver_of(device));
                IommuRecord::new(name, driver, iommu.status())
            })
            .collect()
    }

    pub(crate) fn fault_lines(&self) -> Vec<FaultLine> {
        // What an interrupt announced but nobody has waited for yet.
        self.engine.context().platform.irqs().service();
        let records = self.engine.context().faults.records();
        records.into_iter().map(Into::into).collect()
    }

    pub(crate) fn boot_record(&self) -> BootRecord {
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
            el: facts.el,
            insn: self.first_block.and_then(|(insn, _)| insn),
            us: self.first_block.map(|(_, us)| us),
            devices: self.engine.devices().count(),
            bound: count("bound"),
            waiting: count("waiting"),
            failed: count("failed"),
        }
    }
}
