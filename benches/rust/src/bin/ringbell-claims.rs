//! Handing a name over when its holder is killed: `handover`, with `--mode claim` (ringbell) or `--mode flock` (flock(2), whose
//! waiters block in the kernel). `deaths` watches the processes whose pids it reads.

use std::fs::File;
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};
use ringbell::bus::Bus;
use ringbell_benches::handover::{self, Turns};
use ringbell_benches::{Arguments, Outcome, topics};

const NAME: &str = "bench";

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    match arguments.scenario.as_str() {
        "handover" => handover::run(&arguments, &Holding::open(&arguments)?),
        "deaths" => handover::deaths(),
        "holder-peer" => handover::peer(&Holding::open(&arguments)?),
        other => Err(format!("no scenario {other}").into()),
    }
}

enum Holding {
    Claim(Bus),
    Flock(PathBuf),
}

impl Holding {
    fn open(arguments: &Arguments) -> Outcome<Self> {
        match arguments.text("mode", "").as_str() {
            "claim" => Ok(Self::Claim(topics::open_bus(arguments)?)),
            "flock" => Ok(Self::Flock(PathBuf::from(arguments.text("dir", "")).join(NAME))),
            other => Err(format!("no mode {other}").into()),
        }
    }
}

impl Turns for Holding {
    fn turn(&self, held: &mut dyn FnMut() -> Outcome<()>) -> Outcome<()> {
        match self {
            Self::Claim(bus) => {
                let _claim = bus.claim(NAME, None)?;
                held()
            }
            Self::Flock(path) => {
                let file = File::options().create(true).append(true).open(path)?;
                let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
                held()
            }
        }
    }
}
