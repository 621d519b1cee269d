//! A visitor's end of a connection that is a pipe: reads answers from it as they were sent, byte by byte. It panics at nothing that the other side does.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub struct Ear {
    pub stream: DuplexStream,
    /// Read and not yet taken.
    pub unread: Vec<u8>,
}

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// So many bytes.
    Bytes(usize),
    Chunks,
    /// Whatever comes until the connection is closed.
    All,
}

/// The other side closed the connection in the middle; what was waited for, and what had come.
pub type Early = String;

impl Ear {
    pub fn new(stream: DuplexStream) -> Self {
        Ear { stream, unread: Vec::new() }
    }

    /// Sends; whoever has closed the other end does not want it.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The head of the next answer, to a request with this method, and what follows it; interim ones are passed over.
    pub async fn head(&mut self, method: &str) -> Result<(String, Rest), Early> {
        loop {
            let head = self.until(b"\r\n\r\n").await?;
            if !head.starts_with("HTTP/1.1 1") {
                let rest = rest_after(&head, method);
                return Ok((head, rest));
            }
        }
    }

    /// The next piece of a body; `None`: that was all.
    pub async fn piece(&mut self, rest: &mut Rest) -> Result<Option<Vec<u8>>, Early> {
        let piece = match rest {
            Rest::Bytes(0) => return Ok(None),
            Rest::Bytes(left) => {
                if self.unread.is_empty() && self.read().await == 0 {
                    return Err(format!("{left} bytes are missing"));
                }
                let piece = self.take(self.unread.len().min(*left));
                *left -= piece.len();
                piece
            }
            Rest::Chunks => {
                let size = self.until(b"\r\n").await?;
                let size = usize::from_str_radix(size.trim_end(), 16).map_err(|error| format!("{size:?}: {error}"))?;
                let chunk = self.exactly(size + 2).await?;
                let Some(chunk) = chunk.strip_suffix(b"\r\n") else { return Err("a chunk is too long".to_owned()) };
                chunk.to_vec()
            }
            Rest::All => {
                if self.unread.is_empty() {
                    self.read().await;
                }
                std::mem::take(&mut self.unread)
            }
        };
        Ok((!piece.is_empty()).then_some(piece))
    }

    /// Some more bytes were read; 0 is the end.
    pub async fn read(&mut self) -> usize {
        self.stream.read_buf(&mut self.unread).await.unwrap_or(0)
    }

    async fn until(&mut self, end: &[u8]) -> Result<String, Early> {
        loop {
            if let Some(place) = self.unread.windows(end.len()).position(|window| window == end) {
                return Ok(String::from_utf8_lossy(&self.take(place + end.len())).into_owned());
            }
            if self.read().await == 0 {
                return Err(format!("\"{}\" comes after \"{}\"", end.escape_ascii(), self.unread.escape_ascii()));
            }
        }
    }

    async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Early> {
        while self.unread.len() < count {
            if self.read().await == 0 {
                return Err(format!("{count} bytes come after {}", self.unread.len()));
            }
        }
        Ok(self.take(count))
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.unread.split_off(count);
        std::mem::replace(&mut self.unread, rest)
    }
}

/// RFC 9112, section 6.3.
fn rest_after(head: &str, method: &str) -> Rest {
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(own, _)| *own == name).map(|(_, value)| value)
    };
    if method == "HEAD" || ["204", "304"].contains(&&head[9..12]) {
        Rest::Bytes(0)
    } else if let Some(length) = field("content-length") {
        Rest::Bytes(length.parse().unwrap())
    } else if field("transfer-encoding").is_some() {
        Rest::Chunks
    } else {
        Rest::All
    }
}
