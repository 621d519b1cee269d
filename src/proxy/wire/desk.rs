//! Buffers that a thread lends to the connection at hand: none of them needs any of its own while it is still.

use std::cell::RefCell;

/// Bytes of requests that are read at once. A head that is larger goes to hyper in pieces.
const INCOMING_BYTES: usize = 16 << 10;

/// What is on the desk.
pub(super) struct Desk {
    /// The bytes that came.
    pub(super) incoming: Box<[u8]>,
    /// The head of the answer to them.
    pub(super) head: Vec<u8>,
}

thread_local! {
    static DESK: RefCell<Desk> =
        RefCell::new(Desk { incoming: vec![0; INCOMING_BYTES].into(), head: Vec::with_capacity(INCOMING_BYTES) });
}

/// Works at this thread's desk.
pub(super) fn with<T>(work: impl FnOnce(&mut Desk) -> T) -> T {
    DESK.with_borrow_mut(work)
}
