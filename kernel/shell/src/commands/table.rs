//! The table of commands: the one list that running, usage and `help` read.

use alloc::vec::Vec;

use mastiff_core::platform::Platform;

use super::{Failure, devices, dma, help, hostile, iommu, machine, space, supply, together};
use crate::records::Record;
use crate::shell::Shell;

type Action<P> = fn(&mut Shell<'_, P>, &[&str], &mut Vec<Record>) -> Result<(), Failure>;

/// One command.
pub struct Command<P: Platform> {
    pub name: &'static str,
    pub arguments: &'static str,
    /// What it does, in a line.
    pub help: &'static str,
    /// The rest, for `help` with its name.
    pub more: &'static str,
    /// What is said where there is nothing to show.
    pub nothing: &'static str,
    /// Fewest and most arguments.
    pub count: (usize, usize),
    /// Whether it has devices do something.
    pub awake: bool,
    pub action: Action<P>,
}

impl<P: Platform> Command<P> {
    fn new(
        name: &'static str,
        arguments: &'static str,
        count: (usize, usize),
        action: Action<P>,
        help: &'static str,
    ) -> Self {
        Self {
            name,
            arguments,
            help,
            more: "",
            nothing: "",
            count,
            awake: false,
            action,
        }
    }

    fn more(mut self, more: &'static str) -> Self {
        self.more = more;
        self
    }

    fn awake(mut self) -> Self {
        self.awake = true;
        self
    }

    fn nothing(mut self, nothing: &'static str) -> Self {
        self.nothing = nothing;
        self
    }
}

/// All of them, in the order that `help` shows.
pub fn table<P: Platform>() -> Vec<Command<P>> {
    let mut all = Vec::from(devices());
    all.extend(iommus());
    all.extend(masters().map(Command::awake));
    all.extend(machine());
    all
}

fn devices<P: Platform>() -> [Command<P>; 11] {
    [
        Command::new(
            "help",
            "[command]",
            (0, 1),
            help,
            "the commands; one in detail",
        )
        .more(
            "Every command takes --json where it prints data: a line of JSON for each\n\
             record, with @ in front. Devices are named by their path, or by the end of\n\
             it where that is unambiguous: 00:01.0. Numbers are decimal, or hexadecimal\n\
             after 0x. Several commands on a line are separated by a semicolon.",
        ),
        Command::new(
            "devices",
            "",
            (0, 0),
            devices::list,
            "every device and its state",
        )
        .more(
            "tries counts the engine's attempts; waited for names every supplier that was\n\
                 missing at one of them. A domain is blocked where all streams of the device\n\
                 abort, none where it has no streams or DMA is direct.",
        )
        .nothing("no devices"),
        Command::new(
            "why",
            "<device>",
            (1, 1),
            devices::why,
            "why a device is not bound, to the root cause",
        )
        .more(
            "Each line names a device and what is the matter with it; the next one is\n\
             what it needs. For a device that is bound: what it waited for.",
        ),
        Command::new(
            "tree",
            "[path]",
            (0, 1),
            devices::tree,
            "the device tree below a path",
        )
        .more("As the kernel got it, properties as the source of a tree writes them."),
        Command::new(
            "driver",
            "list | add <driver> | remove <driver>",
            (1, 2),
            devices::driver,
            "the drivers of this image; register one, take one back",
        )
        .more(
            "A driver is late if driver.late= on the kernel command line holds it back, or\n\
             remove does. add tries its devices and whoever waits for them; remove unbinds\n\
             them, their users first. Both show every device whose state changed.",
        ),
        Command::new(
            "bind",
            "<device>",
            (1, 1),
            devices::bind,
            "try a device that is not bound",
        )
        .more("Shows every device whose state changed."),
        Command::new(
            "unbind",
            "<device>",
            (1, 1),
            devices::unbind,
            "take a device from its driver, its users first",
        )
        .more(
            "The device is stopped, its memory unmapped, its streams abort. Shows every\n\
             device whose state changed: what used it waits for it from now on.",
        ),
        Command::new(
            "rescan",
            "",
            (0, 0),
            devices::rescan,
            "try every device again that is not bound",
        )
        .more("Those that failed too. Shows every device whose state changed.")
        .nothing("nothing changed"),
        Command::new(
            "suspend",
            "",
            (0, 0),
            devices::suspend,
            "suspend every device, users first",
        )
        .more(
            "Each is brought to rest and cut off on its bus, then what was on for it goes\n\
             off. If one refuses, the others are resumed. Shows every device that is\n\
             suspended.",
        ),
        Command::new(
            "resume",
            "",
            (0, 0),
            devices::resume,
            "resume every device, suppliers first",
        )
        .more(
            "One that does not come back is unbound, and so are its users. Shows every\n\
             device whose state changed.",
        ),
        Command::new(
            "isolation",
            "",
            (0, 0),
            devices::isolation,
            "what every master reaches, and what says so",
        )
        .more(
            "For each device that is a master or has streams. Unknown means that nothing\n\
             which this kernel controls holds it back.",
        )
        .nothing("no masters"),
    ]
}

fn iommus<P: Platform>() -> [Command<P>; 6] {
    [
        Command::new(
            "iommu",
            "",
            (0, 0),
            iommu::list,
            "the IOMMUs: features and counters",
        )
        .more("Errors are the IOMMU's own; what masters did wrong are its events.")
        .nothing("no IOMMU is bound"),
        Command::new(
            "streams",
            "",
            (0, 0),
            iommu::streams,
            "every known stream and where it goes",
        )
        .more("Known are those that the tree or a bus gives to a device.")
        .nothing("no device has a stream"),
        Command::new(
            "ste",
            "<iommu> <stream>",
            (2, 2),
            iommu::ste,
            "a stream's entry, decoded",
        )
        .more("What the hardware reads for the stream, in its order: words, then fields."),
        Command::new(
            "walk",
            "<device> <iova>",
            (2, 2),
            iommu::walk,
            "every level of an address's translation",
        )
        .more("By the tables in memory, as the IOMMU reads them; not by its caches."),
        Command::new(
            "domains",
            "",
            (0, 0),
            iommu::domains,
            "the live domains and their members",
        )
        .more("Devices that the hardware cannot tell apart share one.")
        .nothing("no domain lives"),
        Command::new(
            "faults",
            "",
            (0, 0),
            iommu::faults,
            "what masters did wrong",
        )
        .more("Events of the same kind on the same page are counted on one line.")
        .nothing("no faults"),
    ]
}

fn masters<P: Platform>() -> [Command<P>; 6] {
    [
        Command::new(
            "dma",
            "verify [device] | begin|finish <device> | read <device> <iova> [bytes]",
            (1, 4),
            dma::dma,
            "prove a master's DMA; aim it at an address",
        )
        .more(
            "verify moves a pattern with the device, or with every one that can, and\n\
             compares each byte. begin starts that and leaves the device at work; finish\n\
             waits for it and compares. read aims a device that can be aimed, mapped or\n\
             not, and shows what it says that it read, 64 bytes unless told otherwise; an\n\
             IOMMU that stopped it has a line in `faults`.",
        ),
        Command::new(
            "hostile",
            "<device> [read|write <address> [bytes] | storm [disk] [with <device>...] | \
             unbound|waiting|suspended | window]",
            (1, 12),
            hostile::hostile,
            "what can it reach? Have it try",
        )
        .more(
            "Sends a device that can be aimed to where it has no business: the kernel's\n\
             memory, tables, other masters' buffers, registers, random addresses, what was\n\
             its own and is no more; it reads, then writes, and memory is compared byte by\n\
             byte. stopped: an event names it; astray: its bus has it go elsewhere; silent:\n\
             nothing moved, no event; reached: it got there. What was reached beyond its\n\
             own memory fails the command. read and write try one address. storm faults on\n\
             a whole page while a disk is read; other devices may join in. window has it\n\
             come to what was unmapped a moment ago. The rest have it arrive while it is\n\
             unbound, waiting for its IOMMU, or suspended.",
        ),
        Command::new(
            "space",
            "<device> attach <space> | detach | map|unmap|read <iova> | switch <n>",
            (2, 3),
            space::space,
            "a master that manages its IOMMU by itself",
        )
        .more(
            "Only with a driver that does, as edu-managed by driver.override=. Its spaces\n\
             map the same addresses to different memory, so that the bytes tell which one\n\
             the device went through. read has it read a page and write it back where each\n\
             space has one for that; switch does so n times, and exchanges the spaces under\n\
             it all the while. Where the IOMMU has two stages some are nested. A dash for a\n\
             space: the IOMMU let nothing pass.",
        ),
        Command::new(
            "disk",
            "<device> hash | read <block> [blocks] | bench",
            (2, 4),
            dma::disk,
            "a disk's SHA-256; its blocks; what reads cost",
        )
        .more(
            "hash reads all of the disk. read shows one block, or so many. bench counts the\n\
             instructions of a read, as the command of that name does.",
        ),
        Command::new(
            "together",
            "[times]",
            (0, 1),
            together::together,
            "all CPUs map, unmap and do verified I/O at the same time",
        )
        .more(
            "Each maps and unmaps a page and a list so many times, 1000 unless told\n\
             otherwise, all in one domain, then reads and hashes the disk, mapping on. One\n\
             has another master prove its DMA meanwhile.",
        ),
        Command::new(
            "run",
            "",
            (0, 0),
            dma::main_job,
            "the main job: prove every master's DMA",
        )
        .more(
            "What a boot does that is given no commands. Its text is for people; with\n\
                   --json the transfers are records as well.",
        ),
    ]
}

fn machine<P: Platform>() -> [Command<P>; 12] {
    [
        Command::new(
            "clocks",
            "",
            (0, 0),
            supply::clocks,
            "clocks, power domains, supplies and resets",
        )
        .more(
            "Each is on while somebody holds it: its users are devices that are bound and\n\
             not suspended. Those that cannot be switched count their users all the same.",
        )
        .nothing("no clocks, and nothing else that is switched"),
        Command::new(
            "cpus",
            "",
            (0, 0),
            machine::cpus,
            "the CPUs, and which of them run",
        )
        .more("The first one boots; the others are started by PSCI.")
        .nothing("the device tree has no CPUs"),
        Command::new(
            "irqs",
            "",
            (0, 0),
            machine::irqs,
            "the interrupts that are connected",
        )
        .more("A count is how often the interrupt was served."),
        Command::new("mem", "", (0, 0), machine::mem, "memory by use").more(
            "Quarantined is what a device may still write and nothing can stop it; it is\n\
             never used again.",
        ),
        Command::new("dmesg", "", (0, 0), machine::dmesg, "the log so far")
            .more("Also lines that loglevel= keeps from the console.")
            .nothing("the log is empty"),
        Command::new(
            "boot",
            "",
            (0, 0),
            machine::boot,
            "what is known of this boot",
        )
        .more("With the time of the first verified block once there was one."),
        Command::new("uptime", "", (0, 0), machine::uptime, "time since entry")
            .more("And instructions retired, where they can be counted exactly."),
        Command::new(
            "bench",
            "[map | list | first | alloc | attach | disk | probe | table | cores]",
            (0, 1),
            machine::bench,
            "what things cost, in instructions",
        )
        .awake()
        .more(
            "map: mappings of three sizes, with few and many others out; list: 32 pages\n\
             together; first: the first one in a domain; alloc: a page that a device\n\
             shares; attach: a stream to a domain, and its abort; disk: reads from each disk;\n\
             probe: an attempt to bind a master, and an IOMMU, for which masters are unbound;\n\
             table: the first attachment in each part of the table of streams. Medians of at\n\
             least 1000 operations, and the most that one took. Fails where the CPU does not\n\
             count instructions exactly. cores: mappings per second on one CPU, two, and so\n\
             on, in one domain and in one of each CPU's own; only when asked for, and by\n\
             the clock.",
        ),
        Command::new(
            "sleep",
            "<milliseconds>",
            (1, 1),
            machine::sleep,
            "wait, and serve interrupts meanwhile",
        )
        .more("60000 at most."),
        Command::new("echo", "[words]", (0, 64), machine::echo, "print the words")
            .more("To mark a place in a transcript."),
        Command::new(
            "reboot",
            "",
            (0, 0),
            machine::reboot,
            "start the machine over",
        )
        .more("All devices are unbound first, users before suppliers."),
        Command::new(
            "poweroff",
            "[status]",
            (0, 1),
            machine::poweroff,
            "end the machine",
        )
        .more(
            "All devices are unbound first, users before suppliers. The status, 0 to 255,\n\
             reaches whoever started an emulator; 0 unless given.",
        ),
    ]
}
