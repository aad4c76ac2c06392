//! Pins why the TFTP stage is our own: EDK2 asks for a file's size, ends that transfer by ERROR 8, and ROMs that count
//! their ports from a fixed start then ask again from the same port. async-tftp 0.4.2 does not take the ERROR in, and
//! drops the new request in silence; ours answers it at once.
//!
//! Should the first test fail with a newer async-tftp, the reason is gone and the choice is open again.

#![expect(clippy::indexing_slicing, reason = "a test that reads past a packet fails, as it should")]

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use async_tftp::server::TftpServerBuilder;
use netbootd::{
    boot::{
        answer::Key,
        live::Live,
        loader::{Loader, LoaderFile},
        loaders::Loaders,
        machine::Rules,
        roster::Roster,
    },
    net::port::Port,
    offers::attempts::{Attempts, Rates},
    tftp::{
        serve::{Listener, Ports, Stage, doors},
        transfer::Limits,
    },
};
use tokio::{net::UdpSocket, sync::mpsc, time::timeout};

#[tokio::test]
async fn async_tftp_leaves_a_client_that_probed_the_size_without_an_answer() -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join(NAME), loader())?;
    let server = TftpServerBuilder::with_dir_ro(folder.path())
        .and_then(|builder| builder.std_socket(std::net::UdpSocket::bind("127.0.0.1:0")?))
        .map_err(io::Error::other)?
        .build()
        .await
        .map_err(io::Error::other)?;
    let asked = server.listen_addr().map_err(io::Error::other)?;
    let serving = tokio::spawn(server.serve());

    let client = Client::new().await?;
    client.probe_the_size(asked).await?;
    client.socket.send_to(REQUEST, asked).await?;
    let answer = client.within(Duration::from_secs(2)).await?;
    assert_eq!(answer, None, "async-tftp has fixed it");
    serving.abort();
    Ok(())
}

#[tokio::test]
async fn ours_answers_it_at_once_and_leaves_nothing_behind() -> io::Result<()> {
    let port = Arc::new(Port::open(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), 64 << 10)?);
    let asked = SocketAddr::V4(port.address()?);
    let (events, _recorder) = mpsc::channel(16);
    let listener = Listener {
        port,
        address: Ipv4Addr::LOCALHOST,
        base_url: "http://127.0.0.1:8080".into(),
        limits: Limits { block_size: 1468, window_size: 64 },
        link_block_size: Arc::new(u16::MAX.into()),
    };
    let stage = Stage {
        attempts: Arc::new(Mutex::new(Attempts::new(Rates::default(), []))),
        answer_key: Key::new([0; 64]),
        live: Live::new(rules(), Roster::default()),
        assets: None,
        ports: Ports::Any,
        max_transfers: 8,
        max_transfers_per_client: 8,
        events,
    };
    let (outside, inside) = doors()?;
    outside.open(listener)?;
    let serving = thread::spawn(|| stage.serve(inside));

    let client = Client::new().await?;
    client.probe_the_size(asked).await?;
    let began = Instant::now();
    client.socket.send_to(REQUEST, asked).await?;
    assert_eq!(client.fetch().await?, loader());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // Longer than the first retransmission timeout of either transfer.
    assert_eq!(client.within(Duration::from_millis(2500)).await?, None, "a stray packet");
    drop(outside);
    serving.join().expect("no panic")
}

/// Firmware that asks from one port all the time.
struct Client {
    socket: UdpSocket,
}

impl Client {
    async fn new() -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::bind("127.0.0.1:0").await? })
    }

    /// EDK2's first request: `tsize`, and ERROR 8 once the size is known (MdeModulePkg Mtftp4Dxe,
    /// EfiMtftp4GetInfo).
    async fn probe_the_size(&self, asked: SocketAddr) -> io::Result<()> {
        let request = b"\0\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0";
        self.socket.send_to(request, asked).await?;
        let (answer, from) = self.packet().await?;
        assert!(answer.starts_with(b"\0\x06"), "not an OACK: {answer:?}");
        self.socket.send_to(b"\0\x05\0\x08User aborted the transfer\0", from).await?;
        Ok(())
    }

    /// The answer to [`REQUEST`] to its end.
    async fn fetch(&self) -> io::Result<Vec<u8>> {
        let mut file = Vec::new();
        let (oack, from) = self.packet().await?;
        assert_eq!(oack, b"\0\x06blksize\x001468\0");
        self.socket.send_to(&[0, 4, 0, 0], from).await?;
        loop {
            let (packet, sender) = self.packet().await?;
            assert!(sender == from && packet.starts_with(&[0, 3]), "{packet:?} from {sender}");
            file.extend_from_slice(&packet[4..]);
            self.socket.send_to(&[0, 4, packet[2], packet[3]], from).await?;
            if packet.len() < 1468 + 4 {
                return Ok(file);
            }
        }
    }

    async fn packet(&self) -> io::Result<(Vec<u8>, SocketAddr)> {
        timeout(Duration::from_secs(10), self.receive()).await?
    }

    async fn within(&self, time: Duration) -> io::Result<Option<Vec<u8>>> {
        timeout(time, self.receive()).await.ok().map(|got| got.map(|(packet, _)| packet)).transpose()
    }

    async fn receive(&self) -> io::Result<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; 2000];
        let (length, from) = self.socket.recv_from(&mut buffer).await?;
        buffer.truncate(length);
        Ok((buffer, from))
    }
}

fn rules() -> Rules {
    let loader = LoaderFile {
        name: NAME.into(),
        loader: Loader::EfiX86_64,
        bytes: loader().into(),
        origin: "this test".into(),
        version: None,
        sha256: String::new(),
        program: None,
    };
    Rules { loaders: Loaders::new(vec![loader]), ..Rules::default() }
}

fn loader() -> Vec<u8> {
    (0..100_000_u32).map(|i| (i * 7 + i / 251) as u8).collect()
}

const NAME: &str = "snponly.efi";
/// EDK2's second request.
const REQUEST: &[u8] = b"\0\x01snponly.efi\0octet\0blksize\x001468\0";
