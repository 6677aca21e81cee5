//! `oldsys TABLE COMMAND…`: runs a command that sees an older kernel, or Docker's default profile.
//!
//! A seccomp filter answers the calls that are missing there. So a fallback can be tested on a machine that does not
//! need it. The filter needs no privilege (it sets `no_new_privs`). Every child inherits it, and it cannot be removed.
//! It cannot show a difference in the behaviour of a call that both kernels have. x86-64 and arm64; a call of a foreign
//! ABI kills the process. The test runner (`scripts/stages.mjs`) starts it.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use oldsys::{compile, table};

const USAGE: &str = "usage: oldsys 5.4|5.4-noclone3|docker|docker-strict|CALL=ERRNO[,…] COMMAND [ARGUMENT…]
calls and errnos by name, such as memfd_create=EPERM; crates/oldsys/src/table.rs lists them";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(name), Some(program)) = (arguments.next(), arguments.next()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let Some(table) = name.to_str().and_then(table::parse) else {
        eprintln!("oldsys: no such table: {}\n{USAGE}", name.display());
        return ExitCode::from(2);
    };
    if let Err(error) = seccompiler::apply_filter(&compile(&table)) {
        eprintln!("oldsys: the kernel refused the filter: {error}");
        return ExitCode::from(2);
    }
    // `exec` returns only if the command could not be started; 127 is what a shell would give.
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("oldsys: {}: {error}", program.display());
    ExitCode::from(127)
}
