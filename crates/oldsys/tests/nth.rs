//! The n-th call fails, and no other: this test binary again, as the supervised command.

#![allow(clippy::expect_used)] // a test's own set-up may end the test

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use oldsys::nth::{self, Failure, Outcome};
use oldsys::table::KINDS;

/// Ends with the number whose bits say which of four openings failed, in two rounds. What a child opens does not count.
#[test]
#[ignore = "run by the other test, under the supervisor"]
fn probe() {
    let mut failed = Vec::new();
    for _ in 0..2 {
        let before = File::open("/dev/null").is_err();
        nth::begin();
        failed.extend((0..4).map(|_| File::open("/dev/null").is_err()));
        let child = Command::new("/bin/true").status().is_ok_and(|status| status.success());
        nth::end();
        let after = File::open("/dev/null").is_err();
        if before || after || !child {
            std::process::exit(99);
        }
    }
    let bits = failed.iter().enumerate().map(|(at, failed)| i32::from(*failed) << at).sum();
    std::process::exit(bits);
}

fn run(nth: u32, onwards: bool) -> Outcome {
    let mut command = Command::new(std::env::current_exe().expect("the path of this test"));
    command.args(["--exact", "probe", "--ignored", "--nocapture"]).stdout(Stdio::null());
    let (kind, _) = KINDS.iter().find(|(kind, _)| kind.short() == "openat").expect("a kind");
    let failure = Failure { kind, errno: libc::EMFILE, nth, onwards, sparse: false };
    nth::run(command, failure, Duration::from_secs(120)).expect("supervised")
}

#[test]
fn the_nth_call_fails() {
    if let Err(error) = nth::supported() {
        let line = format!(
            "\n*** NOT TESTED, because the kernel refuses to supervise system calls ({error}): nth ***\n"
        );
        std::io::stderr().write_all(line.as_bytes()).expect("stderr");
        return;
    }
    for (nth, onwards, failed) in
        [(0, false, 0), (1, false, 0x21), (3, false, 0x84), (3, true, 0x8c), (5, true, 0)]
    {
        let outcome = run(nth, onwards);
        let code = outcome.status.and_then(|status| status.code());
        assert_eq!((outcome.calls, code), (4, Some(failed)), "{nth} {onwards}");
    }
}
