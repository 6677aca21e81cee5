//! Sockets of ordinary servers: of many that want one path one listens, whatever lies there, and a forked child leaves it alone.

use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Barrier;

use crate::harness::*;
use ringbell::listen::{address, answers, client, listen, listen_abstract};

#[test]
fn role() {
    let Some((role, path)) = my_role() else { return };
    match role.as_str() {
        "fork" => {
            let (_listener, file) = listen(&path.join("x.sock"), 0o600).unwrap();
            // SAFETY: this process has no other thread that holds a lock.
            #[allow(unsafe_code)]
            if let nix::unistd::ForkResult::Child = unsafe { nix::unistd::fork() }.unwrap() {
                drop(file);
                std::process::exit(0);
            }
            nix::sys::wait::wait().unwrap();
            say(&format!(
                "{} {}",
                path.join("x.sock").exists(),
                listen(&path.join("x.sock"), 0o600).is_err()
            ));
            drop(file);
            say(&path.join("x.sock").exists().to_string());
        }
        _ => unreachable!(),
    }
}

#[test]
fn of_many_one_listens_and_a_stale_socket_is_replaced() {
    const MANY: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.sock");
    for _ in 0..20 {
        // What a server without a lock leaves when it is killed.
        drop(UnixListener::bind(&path).unwrap());
        let together = Barrier::new(MANY);
        let results: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                together.wait();
                listen(&path, 0o600)
            };
            let threads: Vec<_> = (0..MANY).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let refused = results.iter().filter_map(|result| result.as_ref().err());
        assert_eq!(refused.filter(|error| error.errno() == Some(libc::EADDRINUSE)).count(), MANY - 1);
        assert!(UnixStream::connect(&path).is_ok() && answers(&path).unwrap());
        drop(results);
        assert!(!path.exists() && !answers(&path).unwrap());
    }
}

#[test]
fn a_forked_child_removes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut parent = Role::start("fork", folder.path(), &[]);
    assert_eq!(parent.heard(), "true true");
    assert_eq!(parent.heard(), "false");
    parent.succeed();
}

#[test]
fn both_sides_are_known() {
    let name = format!("ringbell-listen-{}", std::process::id());
    let listener = listen_abstract(name.as_bytes()).unwrap();
    assert_eq!(listen_abstract(name.as_bytes()).unwrap_err().errno(), Some(libc::EADDRINUSE));
    assert_eq!(address(&listener).unwrap(), Some(format!("@{name}")));
    assert!(answers(format!("\0{name}").as_ref()).unwrap());
    assert!(!answers(format!("\0{name}x").as_ref()).unwrap());
    let socket = {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        UnixStream::connect_addr(&address).unwrap()
    };
    let (mut accepted, _) = listener.accept().unwrap();
    assert_eq!(client(&accepted).unwrap().pid, std::process::id() as i32);
    assert_eq!(address(&accepted).unwrap(), None, "it does not listen");
    drop(socket);
    assert_eq!(accepted.read(&mut [0; 1]).unwrap(), 0);
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(address(&tcp).unwrap(), None);
    assert_eq!(client(&tcp).unwrap_err().code(), "ERR_RINGBELL_SYSTEM");
}
