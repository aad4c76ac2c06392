//! Clients that cost as little as they can.

use std::{
    io::{Read, Write},
    mem::MaybeUninit,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use socket2::SockRef;

fn connect() -> Result<TcpStream> {
    let stream = TcpStream::connect(("10.77.0.2", 8080))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream, path: &str, length: usize) -> Result<()> {
    let range = format!("bytes=0-{}", length - 1);
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

/// MB that `clients` got, `length` bytes each.
pub(crate) fn download(clients: usize, path: &str, length: usize) -> Result<f64> {
    on_threads(clients, || {
        let mut stream = connect()?;
        ask(&mut stream, path, length)?;
        let mut left = length;
        let mut buffer = vec![MaybeUninit::uninit(); 1 << 20];
        while left > 0 {
            // Counted by the kernel and not copied (MSG_TRUNC, tcp(7)).
            let count = SockRef::from(&stream).recv_with_flags(&mut buffer, MSG_TRUNC)?;
            ensure!(count > 0, "{left} bytes short");
            left = left.saturating_sub(count);
        }
        Ok(length as f64 / 1e6)
    })
}

/// How many small files `clients` got, one after the other on one connection each.
pub(crate) fn small(clients: usize, path: &str, time: Duration) -> Result<f64> {
    on_threads(clients, || {
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
    })
}

/// Clients that ask for a file and read no more than the header of the answer.
pub(crate) fn stall(clients: usize, path: &str) -> Result<Vec<TcpStream>> {
    let stalled = (0..clients)
        .map(|_| {
            let mut stream = connect()?;
            ask(&mut stream, path, 512 << 20)?;
            Ok(stream)
        })
        .collect();
    // Until the server has filled what it will fill.
    thread::sleep(Duration::from_secs(1));
    stalled
}

/// The median of a fresh connection and a small file.
pub(crate) fn latency(path: &str) -> Result<Duration> {
    let once = || -> Result<Duration> {
        let began = Instant::now();
        let mut stream = connect()?;
        ask(&mut stream, path, 4096)?;
        stream.read_exact(&mut [0; 4096])?;
        Ok(began.elapsed())
    };
    let mut times = (0..51).map(|_| once()).collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    times.get(times.len() / 2).copied().context("a time")
}

fn on_threads(clients: usize, work: impl Fn() -> Result<f64> + Sync) -> Result<f64> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(&work)).collect();
        threads.into_iter().map(|thread| thread.join().ok().context("a client panicked")?).sum()
    })
}

/// linux/socket.h.
const MSG_TRUNC: i32 = 0x20;
