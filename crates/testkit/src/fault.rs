//! A network that fails on command: a TCP proxy between two processes.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, Shutdown, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes.
    Pass,
    /// Open connections are reset, new ones are reset as soon as they are made.
    Cut,
    /// Each piece of data waits this long, in both directions.
    Delay(Duration),
    /// Connections are accepted and stay open, but nothing passes: a peer that has vanished without a word.
    Stall,
}

/// A proxy for one target; its mode is switched while it runs. It ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a free port and passes everything on to `target`, `host:port`.
    pub async fn start(target: &str) -> Result<Self> {
        Self::start_on(0, target).await
    }

    /// [`FaultProxy::start`] on a given port.
    pub async fn start_on(port: u16, target: &str) -> Result<Self> {
        let target: SocketAddr =
            tokio::net::lookup_host(target).await?.next().with_context(|| format!("no address: {target}"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        let (mode, modes) = watch::channel(Mode::Pass);
        let accepting = tokio::spawn(accept(listener, target, modes));
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

async fn accept(listener: TcpListener, target: SocketAddr, modes: watch::Receiver<Mode>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        if *modes.borrow() == Mode::Cut {
            reset(&client);
            continue;
        }
        tokio::spawn(connect(client, target, modes.clone()));
    }
}

async fn connect(client: TcpStream, target: SocketAddr, modes: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let mut cut = modes.clone();
    tokio::select! {
        _ = async {
            tokio::join!(pass(&client, &server, modes.clone()), pass(&server, &client, modes.clone()))
        } => {}
        // Also when the proxy is dropped.
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {
            reset(&client);
            reset(&server);
        }
    }
}

/// Passes bytes on in one direction until their end.
async fn pass(from: &TcpStream, to: &TcpStream, mut modes: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = read(from, &mut buffer).await {
        if modes.wait_for(|mode| *mode != Mode::Stall).await.is_err() {
            return;
        }
        let mode = *modes.borrow();
        if let Mode::Delay(delay) = mode {
            tokio::time::sleep(delay).await;
        }
        if write_all(to, &buffer[..length]).await.is_err() {
            return;
        }
    }
    // The other direction may go on.
    let _ = socket2::SockRef::from(to).shutdown(Shutdown::Write);
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
mod tests {
    use super::*;
    use crate::receiver::Receiver;

    #[tokio::test]
    async fn each_mode_does_what_it_says() {
        let receiver = Receiver::start().await.unwrap();
        let proxy = FaultProxy::start(&format!("127.0.0.1:{}", receiver.port())).await.unwrap();
        let client = crate::http_client().unwrap();
        let url = format!("http://{}/", proxy.address());
        let ask = || client.get(&url).timeout(Duration::from_millis(300)).send();

        assert!(ask().await.unwrap().status().is_success());

        proxy.set(Mode::Stall);
        assert!(ask().await.unwrap_err().is_timeout());

        proxy.set(Mode::Cut);
        assert!(!ask().await.unwrap_err().is_timeout());

        proxy.set(Mode::Delay(Duration::from_millis(100)));
        let asked = tokio::time::Instant::now();
        assert!(ask().await.unwrap().status().is_success());
        assert!(asked.elapsed() >= Duration::from_millis(200), "both directions wait");

        proxy.set(Mode::Pass);
        assert!(ask().await.unwrap().status().is_success());
    }
}
