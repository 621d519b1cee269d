//! The line between everpage and an S3 server, or between two nodes, which breaks as told.
//!
//! HTTP on both sides, so that a fault can be for one request; each request takes a connection of its own to the server, so
//! that no fault is the pool's. All header fields pass unchanged, `Host` too: a signature covers it.

mod body;
mod refusal;
mod traffic;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::gate::Gate;
pub use refusal::Refusal;

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// Nobody listens: connections are reset, new ones refused. For a single request: its connection is reset, and the server
    /// never hears of it.
    Cut,
    /// Nothing comes through, and nobody says so: connections are taken and never answered. Connections of before stay.
    BlackHole,
    /// Each answer comes late, and its body at so many bytes a second.
    Slow { first_byte: Duration, bytes_per_second: u64 },
    /// Each answer comes late, as from far away; its body at full speed.
    Late(Duration),
    /// The connection is reset after at most so many bytes of the answer's body, if that has more.
    ResetBody { after: u64 },
    /// The server carries the request out; its answer is lost, and the connection ends.
    LoseAnswer,
    /// The link answers in the place of the server, which never hears of the request.
    Refuse(Refusal),
    /// `Date` of each answer differs by so many seconds.
    SkewDate(i64),
    /// The request waits at the gate, and then goes to the server.
    HoldRequest(Gate),
    /// The server carries the request out; its answer waits at the gate.
    HoldAnswer(Gate),
}

/// A request that came to the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passing {
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// What the client said about ranges and conditions: `range`, `if-match`, `if-none-match`, in this order, empty if unsaid.
    pub terms: [String; 3],
}

impl Passing {
    /// Is it of this method, and has this somewhere in path and query?
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }
}

type Predicate = Box<dyn Fn(&Passing) -> bool + Send + Sync>;

/// A fault for so many requests.
struct Planned {
    left: usize,
    matches: Predicate,
    fault: Fault,
}

struct Shared {
    /// `None`: nobody is there, connections end without an answer.
    server: Mutex<Option<SocketAddr>>,
    standing: watch::Sender<Fault>,
    planned: Mutex<Vec<Planned>>,
    passed: Mutex<Vec<Passing>>,
}

impl Shared {
    fn server(&self) -> Option<SocketAddr> {
        *self.server.lock()
    }

    /// Writes the request down, and says what happens to it.
    fn take(&self, passing: Passing) -> Fault {
        let mut planned = self.planned.lock();
        let fault = match planned.iter_mut().find(|plan| plan.left > 0 && (plan.matches)(&passing)) {
            Some(plan) => {
                plan.left -= 1;
                plan.fault.clone()
            }
            None => self.standing.borrow().clone(),
        };
        self.passed.lock().push(passing);
        fault
    }
}

/// A link. It ends with its last handle.
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Faults that have taken hold of the port.
    held: watch::Receiver<usize>,
    traffic: JoinHandle<()>,
}

impl Link {
    /// A link to the server of this endpoint, without a fault.
    pub async fn to(endpoint: &str) -> Self {
        let authority = endpoint.strip_prefix("http://").expect("an http URL").trim_end_matches('/');
        let link = Link::to_nowhere_yet().await;
        link.lead_to(authority.parse().expect("an address and a port"));
        link
    }

    /// A link whose server is started later, with the link's address in its settings.
    pub async fn to_nowhere_yet() -> Self {
        let (standing, faults) = watch::channel(Fault::None);
        let (holds, held) = watch::channel(0);
        let server = Mutex::default();
        let shared = Arc::new(Shared { server, standing, planned: Mutex::default(), passed: Mutex::default() });
        let port = traffic::Port::reserve();
        let address = port.address();
        let traffic = tokio::spawn(traffic::carry(port, Arc::clone(&shared), faults, holds));
        let mut link = Link { address, shared, held, traffic };
        link.held.changed().await.expect("the traffic runs");
        link
    }

    /// From now on requests go there: a server that was started again has another port.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.shared.server.lock() = Some(server);
    }

    /// Where it listens, as an endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, for all requests that no `next` is for. `Cut` and `BlackHole` take hold of connections that are open, too. Returns
    /// when new connections meet it.
    pub async fn set(&self, fault: Fault) {
        let mut held = self.held.clone();
        held.borrow_and_update();
        self.shared.standing.send_replace(fault);
        held.changed().await.expect("the traffic runs");
    }

    /// The next so many requests that match suffer this instead; of several plans, the first that matches.
    pub fn next(&self, count: usize, matches: impl Fn(&Passing) -> bool + Send + Sync + 'static, fault: Fault) {
        self.shared.planned.lock().push(Planned { left: count, matches: Box::new(matches), fault });
    }

    /// What was planned by `next` and has not happened is given up.
    pub fn forget_plans(&self) {
        self.shared.planned.lock().clear();
    }

    /// All requests so far, those with a fault too, in the order of their arrival.
    pub fn requests(&self) -> Vec<Passing> {
        self.shared.passed.lock().clone()
    }

    /// How many of them match.
    pub fn count(&self, matches: impl Fn(&Passing) -> bool) -> usize {
        self.shared.passed.lock().iter().filter(|passing| matches(passing)).count()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.traffic.abort();
    }
}
