//! What does the machine allow? A responder that answers fixed bytes to whatever it reads: no parsing, no runtime, one thread.
//!
//! One read is one request: right for a load without pipelining whose requests are small. It is no server.
//!
//! Where each request has a connection, it is accepted with its first bytes, watched only if it must be waited for, and the answer leaves with the end.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::ValueEnum;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpNoDelay;
use nix::{libc, setsockopt_impl, sockopt_impl};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

use crate::origin;
use crate::pages::{self, Pages};

const LISTENER: Token = Token(usize::MAX);
/// More than any request of the load.
const REQUEST_BYTES: usize = 16 << 10;

sockopt_impl!(DeferAccept, SetOnly, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, u32);

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Manner {
    /// A page, and on with the next.
    Keep,
    /// A page, and the connection ends.
    Close,
    /// 304.
    NotModified,
    /// Pages of the sizes of the mix.
    Mix,
}

struct Answer {
    head: Vec<u8>,
    body: Bytes,
}

struct Connection {
    stream: TcpStream,
    /// Of the answer under way: which one, and how much of it is sent.
    under_way: Option<(usize, usize)>,
}

/// What is answered, and how.
struct Desk {
    answers: Vec<Answer>,
    next: usize,
    request: Vec<u8>,
    /// The connection, after an answer.
    ends: bool,
}

/// What came of an event.
enum Turn {
    /// For a request, or for room to send more.
    Waits,
    /// The last byte is sent.
    Answered,
    /// The visitor went away.
    Ended,
}

/// Answers on this port of loopback until it is killed.
///
/// # Errors
/// The port is taken, or the system has no more descriptors.
pub(crate) fn serve(port: u16, manner: Manner, bytes: usize) -> Result<()> {
    let answers = answers(manner, bytes);
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).context("cannot listen")?;
    let mut poll = Poll::new()?;
    // Accepted connections inherit it.
    setsockopt(&listener, TcpNoDelay, &true)?;
    if manner == Manner::Close {
        setsockopt(&listener, DeferAccept, &1)?;
    }
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut connections, mut events) = (Vec::new(), Events::with_capacity(1024));
    let mut desk = Desk { answers, next: 0, request: vec![0; REQUEST_BYTES], ends: manner == Manner::Close };
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            done => done?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections, &mut desk)?;
                continue;
            }
            let Some(slot) = connections.get_mut(event.token().0) else { continue };
            let Some(connection) = slot else { continue };
            match connection.turn(event.is_readable(), &mut desk) {
                Ok(Turn::Waits) => {}
                Ok(Turn::Answered) if !desk.ends => {}
                _ => *slot = None,
            }
        }
    }
}

/// Edges are told once, so everyone who waits is taken in.
fn accept(
    listener: &TcpListener,
    poll: &Poll,
    connections: &mut Vec<Option<Connection>>,
    desk: &mut Desk,
) -> Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("cannot accept"),
        };
        let mut connection = Connection { stream, under_way: None };
        if desk.ends && !matches!(connection.turn(true, desk), Ok(Turn::Waits)) {
            continue;
        }
        let place = connections.iter().position(Option::is_none).unwrap_or(connections.len());
        poll.registry().register(&mut connection.stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
        let connection = Some(connection);
        if place == connections.len() {
            connections.push(connection);
        } else {
            connections[place] = connection;
        }
    }
}

impl Connection {
    /// Reads a request if there is one, and sends what can be sent.
    fn turn(&mut self, readable: bool, desk: &mut Desk) -> io::Result<Turn> {
        if self.under_way.is_none() {
            if !readable {
                return Ok(Turn::Waits);
            }
            match self.stream.read(&mut desk.request) {
                Ok(0) => return Ok(Turn::Ended),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Waits),
                Err(error) => return Err(error),
            }
            self.under_way = Some((desk.next, 0));
            desk.next = (desk.next + 1) % desk.answers.len();
        }
        self.send(desk)
    }

    fn send(&mut self, desk: &Desk) -> io::Result<Turn> {
        while let Some((which, sent)) = self.under_way {
            let Answer { head, body } = &desk.answers[which];
            let (head_sent, body_sent) = (sent.min(head.len()), sent.saturating_sub(head.len()));
            let rest = [IoSlice::new(&head[head_sent..]), IoSlice::new(&body[body_sent..])];
            let written = if desk.ends {
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
                sendmsg(&self.stream, &rest, &mut SendAncillaryBuffer::default(), flags).map_err(io::Error::from)
            } else {
                self.stream.write_vectored(&rest)
            };
            match written {
                Ok(written) if sent + written == head.len() + body.len() => self.under_way = None,
                Ok(written) => self.under_way = Some((which, sent + written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Waits),
                Err(error) => return Err(error),
            }
        }
        Ok(Turn::Answered)
    }
}

fn answers(manner: Manner, bytes: usize) -> Vec<Answer> {
    let pages = Pages::new();
    let one = |path: String| {
        let body = pages.body(&path).expect("it is one of the pages");
        let (status, body) =
            if manner == Manner::NotModified { ("304 Not Modified", Bytes::new()) } else { ("200 OK", body) };
        let mut head = format!("HTTP/1.1 {status}\r\ndate: Mon, 06 Jan 2025 10:00:00 GMT\r\netag: \"page\"\r\n");
        if manner != Manner::NotModified {
            head += &format!("content-length: {}\r\n", body.len());
        }
        for (name, value) in origin::FIELDS {
            head += &format!("{name}: {value}\r\n");
        }
        head += if manner == Manner::Close { "connection: close\r\n\r\n" } else { "\r\n" };
        Answer { head: head.into_bytes(), body }
    };
    match manner {
        Manner::Mix => {
            pages::draws().iter().take(pages::MIX_PAGES).map(|number| one(format!("/mix/{number}"))).collect()
        }
        _ => vec![one(format!("/page/{bytes}"))],
    }
}
