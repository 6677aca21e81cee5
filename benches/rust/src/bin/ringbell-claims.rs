//! Handing a name over when its holder is killed: `handover`, with `--mode claim` (ringbell) or `--mode flock` (flock(2), whose
//! waiters block in the kernel).

use std::fs::File;
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};
use ringbell_benches::{Arguments, Outcome, handover, topics};

const NAME: &str = "bench";

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    match arguments.scenario.as_str() {
        "handover" => handover::run(&arguments, hold),
        "holder-peer" => handover::peer(&arguments, hold),
        other => Err(format!("no scenario {other}").into()),
    }
}

fn hold(arguments: &Arguments, held: &mut dyn FnMut() -> Outcome<()>) -> Outcome<()> {
    match arguments.text("mode", "").as_str() {
        "claim" => {
            let _claim = topics::open_bus(arguments)?.claim(NAME, None)?;
            held()
        }
        "flock" => {
            let path = PathBuf::from(arguments.text("dir", "")).join(NAME);
            let file = File::options().create(true).append(true).open(path)?;
            let _lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
            held()
        }
        other => Err(format!("no mode {other}").into()),
    }
}
