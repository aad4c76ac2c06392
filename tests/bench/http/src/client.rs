//! Clients that cost as little as they can.

use std::{
    io::{Read, Write},
    mem::MaybeUninit,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use socket2::{Domain, SockRef, Socket, Type};

fn connect() -> Result<TcpStream> {
    let stream = TcpStream::connect(SERVER)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// With a receive buffer that does not grow.
fn connect_small() -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(64 << 10)?;
    socket.connect(&SocketAddr::from(SERVER).into())?;
    Ok(socket.into())
}

fn ask(stream: &mut TcpStream, path: &str, length: usize) -> Result<()> {
    ask_for(stream, path, 0, length)
}

fn ask_for(stream: &mut TcpStream, path: &str, start: usize, length: usize) -> Result<()> {
    let range = format!("bytes={start}-{}", start + length - 1);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nRange: {range}\r\n\r\n")?;
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    ensure!(head.starts_with(b"HTTP/1.1 206"), "{path}: {}", String::from_utf8_lossy(&head));
    Ok(())
}

/// Reads what was asked for, and tells of each part.
fn take(stream: &TcpStream, length: usize, mut took: impl FnMut(usize)) -> Result<()> {
    let mut left = length;
    let mut buffer = vec![MaybeUninit::uninit(); 1 << 20];
    while left > 0 {
        // Counted by the kernel and not copied (MSG_TRUNC, tcp(7)).
        let room = buffer.get_mut(..left.min(1 << 20)).context("room")?;
        let count = SockRef::from(stream).recv_with_flags(room, MSG_TRUNC)?;
        ensure!(count > 0, "{left} bytes short");
        left = left.saturating_sub(count);
        took(count);
    }
    Ok(())
}

/// MB that a client got.
pub(crate) fn download(path: &str, length: usize) -> Result<f64> {
    let mut stream = connect()?;
    ask(&mut stream, path, length)?;
    take(&stream, length, |_| ())?;
    Ok(length as f64 / 1e6)
}

/// MB that a client got in so many ranges of 1 MB, one after the other on one connection, from all over a file of so
/// many bytes. Each client has ranges of its own.
pub(crate) fn ranges(path: &str, size: usize, client: usize, count: usize) -> Result<f64> {
    let mut stream = connect()?;
    for number in client * count..(client + 1) * count {
        // Each is far from the one before it. Few begin where a page does, as those of an installer.
        let start = (number * 97 * 1_000_003) % (size - MEGABYTE);
        ask_for(&mut stream, path, start, MEGABYTE)?;
        take(&stream, MEGABYTE, |_| ())?;
    }
    Ok((count * MEGABYTE) as f64 / 1e6)
}

/// How many small files a client got, one after the other on one connection.
pub(crate) fn small(path: &str, time: Duration) -> Result<f64> {
    let mut stream = connect()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
    let (began, mut count, mut buffer) = (Instant::now(), 0.0, vec![0; 65536]);
    let mut size = None;
    while began.elapsed() < time {
        stream.write_all(request.as_bytes())?;
        let mut got = 0;
        while size.is_none_or(|size| got < size) {
            got += stream.read(buffer.get_mut(got..).context("room")?)?;
            // All answers are as long as the first.
            let head = buffer.windows(4).position(|four| four == b"\r\n\r\n");
            size = size.or(head.map(|head| head + 4 + 4096));
        }
        count += 1.0;
    }
    Ok(count)
}

/// Clients that ask for a file and read no more than the header of the answer.
pub(crate) fn stall(clients: usize, path: &str) -> Result<Vec<TcpStream>> {
    let stalled = (0..clients)
        .map(|_| {
            let mut stream = connect_small()?;
            ask(&mut stream, path, 512 << 20)?;
            Ok(stream)
        })
        .collect();
    // Until the server has filled what it will fill.
    thread::sleep(Duration::from_secs(1));
    stalled
}

/// The times of so many fresh connections with a small file each.
pub(crate) fn fresh(path: &str, count: usize) -> Result<Vec<Duration>> {
    let mut left = count;
    fresh_while(path, || {
        let more = left > 0;
        left = left.saturating_sub(1);
        more
    })
}

/// The same as long as it is wanted.
pub(crate) fn fresh_while(path: &str, mut wanted: impl FnMut() -> bool) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    while wanted() {
        let began = Instant::now();
        let mut stream = connect()?;
        ask(&mut stream, path, 4096)?;
        stream.read_exact(&mut [0; 4096])?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// A client that takes so many bytes a second, and gets every byte.
pub(crate) fn at_a_rate(path: &str, length: usize, rate: usize) -> Result<f64> {
    let mut stream = connect_small()?;
    ask(&mut stream, path, length)?;
    let (began, mut got, mut buffer) = (Instant::now(), 0, vec![0; rate / 10]);
    while got < length {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "{} bytes short", length - got);
        got += count;
        let due = Duration::from_secs_f64(got as f64 / rate as f64);
        thread::sleep(due.saturating_sub(began.elapsed()));
    }
    Ok(got as f64)
}

/// A client that takes the first bytes, then none for a while, and then the rest. Its buffer is small, so that it is
/// the server that waits, and not the kernel.
pub(crate) fn with_a_pause(path: &str, first: usize, pause: Duration, length: usize) -> Result<f64> {
    let mut stream = connect_small()?;
    ask(&mut stream, path, length)?;
    take(&stream, first, |_| ())?;
    thread::sleep(pause);
    take(&stream, length - first, |_| ())?;
    Ok(length as f64)
}

/// What the slowest of many clients with one connection gets beside one client with many, as a part of what each
/// connection would get if all got the same.
pub(crate) fn beside_a_greedy_one(path: &str, clients: usize, connections: usize, length: usize) -> Result<f64> {
    let (taken, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut stream = connect()?;
                while !is_over.load(Ordering::Relaxed) {
                    ask(&mut stream, path, length)?;
                    take(&stream, length, |count| {
                        taken.fetch_add(count, Ordering::Relaxed);
                    })?;
                }
                Ok::<_, anyhow::Error>(())
            });
        }
        // All of the greedy one's are under way.
        let began = Instant::now();
        while taken.load(Ordering::Relaxed) < connections * length / 2 && began.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(1));
        }
        let (began, before) = (Instant::now(), taken.load(Ordering::Relaxed));
        let others = on_threads(clients, |_| {
            download(path, length)?;
            taken.fetch_add(length, Ordering::Relaxed);
            Ok(length as f64)
        });
        // The last of them, and so the slowest.
        let slowest = length as f64 / began.elapsed().as_secs_f64();
        let in_all = (taken.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
        others?;
        Ok(slowest / (in_all / (clients + connections) as f64))
    })
}

/// The sum of what `clients` count, each with its number.
pub(crate) fn on_threads(clients: usize, work: impl Fn(usize) -> Result<f64> + Sync) -> Result<f64> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|client| scope.spawn(move || work(client))).collect();
        threads.into_iter().map(|thread| thread.join().ok().context("a client panicked")?).sum()
    })
}

const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 77, 0, 2), 8080);
const MEGABYTE: usize = 1_000_000;
/// linux/socket.h.
const MSG_TRUNC: i32 = 0x20;
