//! A network that fails on command: a TCP proxy between two processes.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Shutdown, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::stack::port;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes.
    Pass,
    /// Open connections are reset, new ones are reset as soon as they are made: a peer that went away.
    Cut,
    /// Open connections are reset, and new ones can't be made: nobody listens.
    Refuse,
    /// Open connections are reset, new ones when they have lived for so long: a middlebox that forgets.
    Reset(Duration),
    /// Each piece of data waits this long, in both directions.
    Delay(Duration),
    /// Connections are accepted and stay open, but nothing passes in the silent direction, no end either: a peer that
    /// has vanished without a word. What was sent meanwhile passes afterwards, as TCP sends it again.
    HalfOpen(Silent),
}

/// Where a half-open connection passes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// Neither way.
    Both,
    /// The target hears nothing, and can speak.
    ToTarget,
    /// The target hears everything, and nobody hears it.
    FromTarget,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToTarget,
    FromTarget,
}

impl Mode {
    fn silences(self, way: Way) -> bool {
        match self {
            Self::HalfOpen(Silent::Both) => true,
            Self::HalfOpen(Silent::ToTarget) => way == Way::ToTarget,
            Self::HalfOpen(Silent::FromTarget) => way == Way::FromTarget,
            _ => false,
        }
    }

    /// Whether connections that are open when it begins are reset.
    fn resets(self) -> bool {
        matches!(self, Self::Cut | Self::Refuse | Self::Reset(_))
    }
}

/// A proxy for one target; its mode is switched while it runs. It ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free port, one that outgoing connections don't take while it refuses, and passes everything on to `target`, `host:port`.
    pub async fn start(target: &str) -> Result<Self> {
        Self::start_on(port::free()?, target).await
    }

    /// [`FaultProxy::start`] on a given port.
    pub async fn start_on(port: u16, target: &str) -> Result<Self> {
        let target: SocketAddr =
            tokio::net::lookup_host(target).await?.next().with_context(|| format!("no address: {target}"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let (mode, modes) = watch::channel(Mode::Pass);
        let accepting = tokio::spawn(async move {
            if let Err(error) = accept(listener, target, modes).await {
                // Nobody waits for this task: a proxy that can't listen is a broken test.
                panic!("the fault proxy of {target}: {error}");
            }
        });
        Ok(Self { port, mode, accepting })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Switches what happens, to open connections too.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Takes connections while the mode is not [`Mode::Refuse`].
async fn accept(
    mut listener: TcpListener,
    target: SocketAddr,
    mut modes: watch::Receiver<Mode>,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    loop {
        let mut refusing = modes.clone();
        tokio::select! {
            () = accept_while_listening(&listener, target, &modes) => {}
            closed = refusing.wait_for(|mode| *mode == Mode::Refuse) => if closed.is_err() { return Ok(()) },
        }
        drop(listener);
        if modes.wait_for(|mode| *mode != Mode::Refuse).await.is_err() {
            return Ok(());
        }
        listener = TcpListener::bind(address).await?;
    }
}

async fn accept_while_listening(listener: &TcpListener, target: SocketAddr, modes: &watch::Receiver<Mode>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        if matches!(*modes.borrow(), Mode::Cut | Mode::Refuse) {
            reset(&client);
            continue;
        }
        tokio::spawn(connect(client, target, modes.clone()));
    }
}

async fn connect(client: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Mode>) {
    // The mode now is what this connection was made under; only a later one resets it at once.
    let made_under = *modes.borrow_and_update();
    let Ok(server) = TcpStream::connect(target).await else { return reset(&client) };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let passing = async {
        tokio::join!(
            pass(&client, &server, Way::ToTarget, modes.clone()),
            pass(&server, &client, Way::FromTarget, modes.clone())
        )
    };
    tokio::select! {
        _ = passing => {}
        () = until_reset(made_under, modes.clone()) => {
            reset(&client);
            reset(&server);
        }
    }
}

/// Ends when a connection that was made under this mode is to be reset, also when the proxy is dropped.
async fn until_reset(made_under: Mode, mut modes: watch::Receiver<Mode>) {
    let Mode::Reset(lifetime) = made_under else {
        let _ = modes.wait_for(|mode| mode.resets()).await;
        return;
    };
    tokio::select! {
        () = tokio::time::sleep(lifetime) => {}
        _ = modes.wait_for(|mode| matches!(mode, Mode::Cut | Mode::Refuse)) => {}
    }
}

/// Passes bytes on in one direction until their end.
async fn pass(from: &TcpStream, to: &TcpStream, way: Way, mut modes: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = read(from, &mut buffer).await.unwrap_or(0);
        let Ok(mode) = modes.wait_for(|mode| !mode.silences(way)).await.map(|mode| *mode) else { return };
        if length == 0 {
            break;
        }
        if let Mode::Delay(delay) = mode {
            tokio::time::sleep(delay).await;
        }
        if write_all(to, &buffer[..length]).await.is_err() {
            return;
        }
    }
    // The other direction may go on.
    let _ = SockRef::from(to).shutdown(Shutdown::Write);
}

/// Reads from a stream that is shared by both directions.
async fn read(from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        from.readable().await?;
        match from.try_read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Writes to a stream that is shared by both directions.
async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the close that follows a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests;
