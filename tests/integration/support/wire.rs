//! Bytes as they are on the wire, played by the test itself: a visitor that no client would be, an app that no server would be.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// Nothing is waited for longer: a hang is a failure.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing must happen before it is believed that nothing will.
const SILENCE: Duration = Duration::from_millis(150);
/// What the test's end of a connection holds in the kernel, each way; a request to it, which it doubles.
const SOCKET_BYTES: u32 = 64 << 10;

/// One end of a connection.
pub struct Wire {
    stream: TcpStream,
    /// Read and not yet taken.
    unread: Vec<u8>,
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> Self {
        Wire::over(small_socket().connect(address).await.expect("somebody listens"))
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Wire { stream, unread: Vec::new() }
    }

    /// A connection on which this request was sent.
    pub async fn asking(address: SocketAddr, request: &str) -> Self {
        let mut wire = Wire::connect(address).await;
        wire.send(request).await;
        wire
    }

    /// Sends; whoever has closed the other end does not want it.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await;
        let _ = sent.expect("the other side takes the bytes");
    }

    /// Sends again and again until the other side takes no more for a while, or `most` bytes are sent; returns how many were taken.
    pub async fn send_until_stuck(&mut self, piece: &[u8], most: usize) -> usize {
        let mut sent = 0;
        while sent < most {
            let part = &piece[sent % piece.len()..];
            match timeout(2 * SILENCE, self.stream.write(&part[..part.len().min(most - sent)])).await {
                Ok(taken) => sent += taken.expect("the connection stands"),
                Err(_) => break,
            }
        }
        sent
    }

    /// Sends the same again and again until the other side closes.
    pub async fn flood(&mut self, bytes: impl AsRef<[u8]>) {
        let flood = async { while self.stream.write_all(bytes.as_ref()).await.is_ok() {} };
        timeout(PATIENCE, flood).await.expect("the other side closes");
    }

    /// No more will be sent.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// A head, up to and with its empty line.
    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Everything up to and with `end`; panics if the connection ends before.
    pub async fn until(&mut self, end: &str) -> String {
        let mut searched = 0;
        loop {
            let found = self.unread[searched..].windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(place) = found {
                return String::from_utf8_lossy(&self.take(searched + place + end.len())).into_owned();
            }
            searched = self.unread.len().saturating_sub(end.len() - 1);
            let so_far = self.unread.escape_ascii().to_string();
            assert!(self.read(PATIENCE).await.is_some_and(|count| count > 0), "{end:?} comes after {so_far:?}");
        }
    }

    /// So many bytes.
    pub async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            let read = self.read(PATIENCE).await;
            assert!(read.is_some_and(|count| count > 0), "{count} bytes come after {}", self.unread.len());
        }
        self.take(count)
    }

    /// Everything until the other side closes; a reset is an end too.
    pub async fn rest(&mut self) -> String {
        loop {
            match self.read(PATIENCE).await {
                Some(0) => return String::from_utf8_lossy(&self.take(self.unread.len())).into_owned(),
                Some(_) => {}
                None => panic!("the connection is closed after {:?}", self.unread.escape_ascii().to_string()),
            }
        }
    }

    /// Nothing comes, for a while.
    pub async fn is_silent(&mut self) -> bool {
        self.unread.is_empty() && self.read(SILENCE).await.is_none()
    }

    /// So many bytes were read; 0 is the end; `None` if nothing came in time.
    async fn read(&mut self, patience: Duration) -> Option<usize> {
        Some(timeout(patience, self.stream.read_buf(&mut self.unread)).await.ok()?.unwrap_or(0))
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.unread.split_off(count);
        std::mem::replace(&mut self.unread, rest)
    }
}

/// The app's door: the test lets each of the proxy's connections in and speaks for the app.
pub struct Door {
    listener: TcpListener,
}

impl Door {
    pub async fn open() -> Self {
        Door::at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    pub async fn at(address: SocketAddr) -> Self {
        let socket = small_socket();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        Door { listener: socket.listen(64).unwrap() }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The proxy's next connection.
    pub async fn enter(&self) -> Wire {
        let accepted = timeout(PATIENCE, self.listener.accept()).await.expect("the proxy connects");
        Wire::over(accepted.unwrap().0)
    }

    /// Nobody comes, for a while.
    pub async fn is_silent(&self) -> bool {
        timeout(SILENCE, self.listener.accept()).await.is_err()
    }
}

/// A socket that holds little itself: what is taken from it is then with the proxy.
fn small_socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SOCKET_BYTES).unwrap();
    socket.set_send_buffer_size(SOCKET_BYTES).unwrap();
    socket
}

/// An app that answers every connection's first request with these bytes and closes.
pub async fn canned(answer: impl Into<Vec<u8>>) -> String {
    let (door, answer) = (Door::open().await, answer.into());
    let url = door.url();
    tokio::spawn(async move {
        loop {
            let (stream, _) = door.listener.accept().await.unwrap();
            let (mut wire, answer) = (Wire::over(stream), answer.clone());
            tokio::spawn(async move {
                wire.head().await;
                wire.send(answer).await;
                wire.finish().await;
                wire.rest().await;
            });
        }
    });
    url
}
