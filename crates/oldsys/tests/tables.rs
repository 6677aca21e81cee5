//! Each table, seen from inside: `oldsys` runs this test binary again, as the probe.

#![allow(clippy::expect_used)] // a test's own set-up may end the test

use std::process::{Command, Output};

/// Runs `probe` below under a table. The probe prints one `name=result` on each line.
fn under(table: &str) -> Output {
    let itself = std::env::current_exe().expect("the path of this test");
    Command::new(env!("CARGO_BIN_EXE_oldsys"))
        .arg(table)
        .arg(itself)
        .args(["--exact", "probe", "--ignored", "--nocapture"])
        .output()
        .expect("oldsys starts")
}

fn seen(table: &str) -> String {
    let output = under(table);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn result_of(call: libc::c_long, first: i64, second: i64) -> i32 {
    // SAFETY: every probe below passes integers and null pointers only; the kernel answers with an errno.
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(call, first, second, 0, 0, 0) };
    if result >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
}

#[test]
#[ignore = "run by the other tests, inside of oldsys"]
fn probe() {
    let pid = i64::from(std::process::id());
    // -1 is not a pidfd: EBADF says that the call exists.
    println!("pidfd_getfd={}", result_of(libc::SYS_pidfd_getfd, -1, 0));
    println!("pidfd_open={}", result_of(libc::SYS_pidfd_open, pid, 0));
    println!("pidfd_open_nonblock={}", result_of(libc::SYS_pidfd_open, pid, i64::from(libc::O_NONBLOCK)));
    // A null name gives EFAULT, unless the flags are refused before it is read.
    println!("memfd_create={}", result_of(libc::SYS_memfd_create, 0, 1));
    println!("memfd_noexec={}", result_of(libc::SYS_memfd_create, 0, 0x9));
    println!("close_range={}", result_of(libc::SYS_close_range, 1 << 20, 1 << 20));
}

#[test]
fn linux_5_4_has_no_pidfd_getfd() {
    let seen = seen("5.4");
    assert!(seen.contains(&format!("pidfd_getfd={}\n", libc::ENOSYS)), "{seen}");
    assert!(seen.contains(&format!("close_range={}\n", libc::ENOSYS)), "{seen}");
    assert!(seen.contains("pidfd_open=0\n"), "{seen}");
    assert!(seen.contains(&format!("pidfd_open_nonblock={}\n", libc::EINVAL)), "{seen}");
    assert!(seen.contains(&format!("memfd_create={}\n", libc::EFAULT)), "{seen}");
    assert!(seen.contains(&format!("memfd_noexec={}\n", libc::EINVAL)), "{seen}");
}

#[test]
fn docker_forbids_pidfd_getfd() {
    let seen = seen("docker");
    assert!(seen.contains(&format!("pidfd_getfd={}\n", libc::EPERM)), "{seen}");
    assert!(seen.contains("pidfd_open=0\n"), "{seen}");
}

#[test]
fn a_list_removes_the_calls_it_names() {
    let seen = seen("pidfd_open=ENOSYS,pidfd_getfd=EPERM,memfd_create=EMFILE");
    assert!(seen.contains(&format!("pidfd_open={}\n", libc::ENOSYS)), "{seen}");
    assert!(seen.contains(&format!("pidfd_getfd={}\n", libc::EPERM)), "{seen}");
    assert!(seen.contains(&format!("memfd_create={}\n", libc::EMFILE)), "{seen}");
}

#[test]
fn a_wrong_table_or_command_is_said() {
    for table in
        ["5.5", "", "memfd_create", "memfd_create=1", "319=EPERM", "x=EPERM", "SYS_mmap=EPERM", "mmap=ENONE"]
    {
        assert_eq!(under(table).status.code(), Some(2), "{table}");
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_oldsys")).args(["docker", "/nowhere"]).output().expect("starts");
    assert_eq!(output.status.code(), Some(127));
}
