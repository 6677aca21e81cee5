//! Floors: what this machine allows at best, without any messaging library.
//! `memcpy` (one core; hot, or `--into fresh`: new pages each time), `line` (cache-line ping-pong), `eventfd` (bare
//! eventfd ping-pong, blocking), `socket` (bare Unix socket ping-pong, blocking), `ring` (a C-like ring of one publisher
//! and one subscriber, spinning; `--batch` messages a commit), `attach` (many processes connect to one socket at once).

use std::hint::{black_box, spin_loop};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use memmap2::MmapMut;
use nix::sys::eventfd::{EfdFlags, EventFd};
use ringbell_benches::floors::{Ring, Shared};
use ringbell_benches::{
    Arguments, Outcome, Peer, barrier, oneway, payload, pin, print, raise_descriptors, roundtrip, say,
    sockets, stop_on_eof,
};
use serde_json::json;

fn main() -> Outcome<()> {
    let arguments = Arguments::parse()?;
    match arguments.scenario.as_str() {
        "memcpy" => memcpy(&arguments),
        "line" => line(&arguments),
        "line-peer" => line_peer(&arguments),
        "eventfd" => eventfd(&arguments),
        "eventfd-peer" => eventfd_peer(&arguments),
        "socket" => socket(&arguments),
        "echo-peer" => echo_peer(&arguments),
        "attach" => attach(&arguments),
        "attach-peer" => attach_peer(&arguments),
        "ring" => ring(&arguments),
        "ring-peer" => ring_peer(&arguments),
        other => Err(format!("no scenario {other}").into()),
    }
}

fn memcpy(arguments: &Arguments) -> Outcome<()> {
    let size = arguments.number("size", 65536)?;
    pin(arguments.cores()?.1)?;
    let from = vec![7_u8; size];
    let mut to = vec![0_u8; size];
    let fresh = arguments.text("into", "hot") == "fresh";
    let group = ((64 << 20) / size).max(1);
    let (warm, window) = (arguments.warm()?, arguments.window()?);
    let begun = Instant::now();
    let mut mark = None;
    let mut copies = 0_u64;
    loop {
        for _ in 0..group {
            if fresh {
                // Mapped by hand: an allocator would soon give the same pages again.
                black_box(&mut MmapMut::map_anon(size)?[..]).copy_from_slice(black_box(&from));
            } else {
                black_box(&mut to).copy_from_slice(black_box(&from));
            }
        }
        copies += group as u64;
        let now = Instant::now();
        match mark {
            None if now - begun >= warm => mark = Some((now, copies)),
            Some((at, count)) if now - at >= window => {
                let per_second = (copies - count) as f64 / (now - at).as_secs_f64();
                return print(
                    &json!({ "perSecond": per_second, "bytesPerSecond": per_second * size as f64 }),
                );
            }
            _ => {}
        }
    }
}

fn scratch(arguments: &Arguments) -> Outcome<PathBuf> {
    let directory = arguments.text("dir", "");
    if directory.is_empty() {
        return Err("--dir is needed: a directory on tmpfs".into());
    }
    Ok(PathBuf::from(directory).join(format!("floor-{}", std::process::id())))
}

fn line(arguments: &Arguments) -> Outcome<()> {
    let (peer_core, own_core) = arguments.cores()?;
    let path = scratch(arguments)?;
    let shared = Shared::open(&path, 4096)?;
    let mut peer = Peer::start(
        "line-peer",
        &[("path", path.display().to_string()), ("cores", format!("{peer_core},{peer_core}"))],
    )?;
    peer.line()?;
    pin(own_core)?;
    let (ping, pong) = (shared.counter(0), shared.counter(1));
    let mut value = 0_u64;
    let result = roundtrip::measure(arguments, 64, |_| {
        value += 1;
        ping.store(value, Ordering::Release);
        while pong.load(Ordering::Acquire) != value {
            spin_loop();
        }
        Ok(())
    })?;
    ping.store(u64::MAX, Ordering::Release);
    peer.finish()?;
    std::fs::remove_file(path)?;
    print(&result)
}

fn line_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let shared = Shared::open(&PathBuf::from(arguments.text("path", "")), 4096)?;
    let (ping, pong) = (shared.counter(0), shared.counter(1));
    say("ready")?;
    let mut seen = 0;
    loop {
        let value = ping.load(Ordering::Acquire);
        if value == u64::MAX {
            return Ok(());
        }
        if value == seen {
            spin_loop();
            continue;
        }
        seen = value;
        pong.store(value, Ordering::Release);
    }
}

fn eventfd(arguments: &Arguments) -> Outcome<()> {
    let (peer_core, own_core) = arguments.cores()?;
    // No close-on-exec: the peer re-opens nothing, it inherits both.
    let ping = EventFd::from_flags(EfdFlags::empty())?;
    let pong = EventFd::from_flags(EfdFlags::empty())?;
    let mut peer = Peer::start(
        "eventfd-peer",
        &[
            ("ping", ping.as_raw_fd().to_string()),
            ("pong", pong.as_raw_fd().to_string()),
            ("cores", format!("{peer_core},{peer_core}")),
        ],
    )?;
    peer.line()?;
    pin(own_core)?;
    let result = roundtrip::measure(arguments, 1, |_| {
        ping.write(1)?;
        pong.read()?;
        Ok(())
    })?;
    ping.write(1 << 32)?;
    peer.finish()?;
    print(&result)
}

fn eventfd_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let inherited = |key: &str| -> Outcome<EventFd> {
        use std::os::fd::FromRawFd;
        let raw = arguments.number(key, 0)? as i32;
        // SAFETY: the parent left this descriptor open for us and nothing else in this process knows it.
        let owned = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: the parent made it with eventfd(2).
        Ok(unsafe { EventFd::from_owned_fd(owned) })
    };
    let (ping, pong) = (inherited("ping")?, inherited("pong")?);
    say("ready")?;
    while ping.read()? < 1 << 32 {
        pong.write(1)?;
    }
    Ok(())
}

fn socket(arguments: &Arguments) -> Outcome<()> {
    let (peer_core, own_core) = arguments.cores()?;
    let (size, path) = (arguments.number("size", 64)?, scratch(arguments)?);
    let mut peer = echo_server(&path, size, &format!("{peer_core},{peer_core}"))?;
    peer.line()?;
    pin(own_core)?;
    let mut socket = UnixStream::connect(&path)?;
    let mut message = vec![7_u8; size];
    let mut check = payload::Check::new(size);
    let result = roundtrip::measure(arguments, 1, |sequence| {
        payload::stamp(&mut message, sequence);
        socket.write_all(&message)?;
        socket.read_exact(&mut message)?;
        check.take(&message);
        Ok(())
    })?;
    peer.finish()?;
    roundtrip::checked(&check)?;
    print(&result)
}

fn echo_server(path: &Path, size: usize, cores: &str) -> Outcome<Peer> {
    let path = path.display().to_string();
    Peer::start("echo-peer", &[("path", path), ("size", size.to_string()), ("cores", cores.to_owned())])
}

fn echo_peer(arguments: &Arguments) -> Outcome<()> {
    if !arguments.text("cores", "").is_empty() {
        pin(arguments.cores()?.0)?;
    }
    raise_descriptors()?;
    let path = PathBuf::from(arguments.text("path", ""));
    let stop = stop_on_eof();
    sockets::echo(&path, arguments.number("size", 64)?, || say("ready"), || stop.load(Ordering::Relaxed))
}

fn attach(arguments: &Arguments) -> Outcome<()> {
    let (count, path) = (arguments.number("clients", 1000)?, scratch(arguments)?);
    let mut server = echo_server(&path, 64, "")?;
    server.line()?;
    barrier::run("attach-peer", count, &[("path", path.display().to_string())])?;
    server.finish()?;
    Ok(())
}

fn attach_peer(arguments: &Arguments) -> Outcome<()> {
    let path = arguments.text("path", "");
    barrier::peer(arguments, |attached| {
        let mut socket = UnixStream::connect(&path)?;
        attached()?;
        let mut message = [7_u8; 64];
        payload::stamp(&mut message, 0);
        let mut check = payload::Check::new(message.len());
        socket.write_all(&message)?;
        socket.read_exact(&mut message)?;
        check.take(&message);
        roundtrip::checked(&check)?;
        Ok(socket)
    })
}

fn ring(arguments: &Arguments) -> Outcome<()> {
    let (peer_core, own_core) = arguments.cores()?;
    let (size, capacity) = (arguments.number("size", 256)?, arguments.number("capacity", 1 << 20)?);
    let path = scratch(arguments)?;
    let mut ring = Ring::open(&path, capacity, size)?;
    let mut peer = Peer::start(
        "ring-peer",
        &[
            ("path", path.display().to_string()),
            ("size", size.to_string()),
            ("capacity", capacity.to_string()),
            ("batch", arguments.text("batch", "1")),
            ("cores", format!("{peer_core},{peer_core}")),
        ],
    )?;
    peer.line()?;
    pin(own_core)?;
    let result = oneway::count(arguments, size, peer, |check| Ok(ring.drain(|message| check.take(message))))?;
    std::fs::remove_file(path)?;
    print(&result)
}

fn ring_peer(arguments: &Arguments) -> Outcome<()> {
    pin(arguments.cores()?.0)?;
    let size = arguments.number("size", 256)?;
    let path = PathBuf::from(arguments.text("path", ""));
    let mut ring = Ring::open(&path, arguments.number("capacity", 1 << 20)?, size)?;
    say("ready")?;
    oneway::pump(size, arguments.number("batch", 1)?, &mut ring)
}
