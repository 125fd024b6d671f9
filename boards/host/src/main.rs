//! The `mastiff` command. `plan` says what the probe engine would do with a device
//! tree, without the machine: the engine is the firmware's, the machine is paper,
//! and stand-ins take the places of the drivers.
#![forbid(unsafe_code)]

mod boards;
mod drivers;
mod iommu;
mod offers;
mod paper;
mod paper_cpu;
mod plan;
mod record;
mod text;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand, ValueEnum};

use boards::BOARDS;
use plan::{Blob, plan};

/// What Mastiff knows of a machine, on a host.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// What the probe engine would do with a device tree.
    ///
    /// Ends with 0 if everything that has a driver and is enabled is bound, with 1 if
    /// something waits or fails, with 2 if the file is no device tree
    /// or an overlay is wrong.
    Plan(PlanOptions),
}

#[derive(clap::Args)]
struct PlanOptions {
    /// The device tree, as a blob.
    file: PathBuf,
    /// An overlay (.dtbo) that comes at run time, after whatever could be bound was; may
    /// be given several times.
    #[arg(long = "overlay", value_name = "FILE")]
    overlays: Vec<PathBuf>,
    /// Which drivers there are.
    #[arg(long, value_enum, default_value = "image")]
    drivers: Which,
    /// Whose image.
    #[arg(long, default_value = BOARDS[0].name, value_parser = names())]
    board: String,
    /// One record a line, instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// Those of the board's image.
    Image,
    /// One for every compatible in the tree.
    All,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(BOARDS.iter().map(|board| board.name))
}

fn main() -> ExitCode {
    let Cli {
        command: Command::Plan(options),
    } = Cli::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(problem) => {
            eprintln!("mastiff: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Makes a plan and prints it. Says whether all is well in it.
fn run(options: &PlanOptions) -> Result<bool, String> {
    let blob = Blob::read(&options.file)?;
    let overlays = options.overlays.iter().map(Blob::read);
    let overlays = overlays.collect::<Result<Vec<_>, _>>()?;
    let board = BOARDS.iter().find(|board| board.name == options.board);
    let board = board.ok_or_else(|| format!("no board {}", options.board))?;
    let records = plan(&blob, &overlays, board, options.drivers)?;
    let output = if options.json {
        let lines = records.iter().map(serde_json::to_string);
        let lines: Result<Vec<String>, _> = lines.collect();
        lines.map_err(|error| error.to_string())?.join("\n") + "\n"
    } else {
        text::story(&records)
    };
    match io::stdout().write_all(output.as_bytes()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.to_string()),
        _ => {}
    }
    Ok(!records.iter().any(text::is_stuck))
}
