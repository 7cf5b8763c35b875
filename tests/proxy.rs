//! A proxy between Kafka clients and the broker that reads the protocol's frames and interferes
//! with single requests.
//!
//! One proxy serves all clients of a test process. Each request carries its client's id, and rules
//! apply to one client id: deployments that run at the same time do not see each other's faults.
//! The broker advertises the proxy's address to clients that come through the proxy, so they stay
//! behind it. Readers that judge connect to the broker directly.
//!
//! Frames (<https://kafka.apache.org/protocol>): four bytes of size, then for a request `api_key
//! i16, api_version i16, correlation_id i32, client_id nullable string`, for a response
//! `correlation_id i32`. The proxy reads headers only.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::harness::kafka;

/// Limit of the broker's answer to a request that was held and released.
const RELEASED_ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Bytes that pass at once while a client's bandwidth is limited.
const THROTTLED_CHUNK: usize = 1024;

/// A kind of request: its API key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Api(pub i16);

impl Api {
    pub const PRODUCE: Self = Self(0);
    pub const FETCH: Self = Self(1);
    pub const LIST_OFFSETS: Self = Self(2);
    pub const METADATA: Self = Self(3);
    pub const OFFSET_FETCH: Self = Self(9);
    pub const FIND_COORDINATOR: Self = Self(10);
    pub const API_VERSIONS: Self = Self(18);
    pub const INIT_PRODUCER_ID: Self = Self(22);
    pub const ADD_PARTITIONS_TO_TXN: Self = Self(24);
    pub const ADD_OFFSETS_TO_TXN: Self = Self(25);
    pub const END_TXN: Self = Self(26);
    pub const TXN_OFFSET_COMMIT: Self = Self(28);
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::PRODUCE => "Produce",
            Self::FETCH => "Fetch",
            Self::LIST_OFFSETS => "ListOffsets",
            Self::METADATA => "Metadata",
            Self::OFFSET_FETCH => "OffsetFetch",
            Self::FIND_COORDINATOR => "FindCoordinator",
            Self::API_VERSIONS => "ApiVersions",
            Self::INIT_PRODUCER_ID => "InitProducerId",
            Self::ADD_PARTITIONS_TO_TXN => "AddPartitionsToTxn",
            Self::ADD_OFFSETS_TO_TXN => "AddOffsetsToTxn",
            Self::END_TXN => "EndTxn",
            Self::TXN_OFFSET_COMMIT => "TxnOffsetCommit",
            Self(key) => return write!(f, "Api({key})"),
        };
        f.write_str(name)
    }
}

/// The client's side of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientSees {
    /// The connection ends at once.
    Reset,
    /// The connection stays open, and no answer comes on it any more.
    Silence,
}

/// The fate of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The proxy keeps the request until [`Client::release_before`].
    Hold(ClientSees),
    /// The broker gets the request and answers; the client does not get the answer.
    SwallowAnswer(ClientSees),
    /// The connection ends, and the broker never gets the request.
    Cut,
    /// The request passes after a while.
    Delay(Duration),
    /// From this request on nothing passes in either direction, on any connection of the client,
    /// until [`Client::thaw`].
    Freeze,
    /// Like [`Fault::Freeze`], for a while.
    FreezeFor(Duration),
}

struct Rule {
    api: Api,
    /// Requests of this kind that pass before the fault.
    passing: usize,
    fault: Fault,
}

/// A request that the broker has not got yet.
struct Held {
    api: Api,
    frame: Vec<u8>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    held: VecDeque<Held>,
    release_before: Option<Api>,
    /// Set while a request is held, once its transaction has ended for the client: an EndTxn or
    /// InitProducerId was answered.
    next_transaction: bool,
    frozen: bool,
    bytes_per_second: Option<u64>,
    /// Moment from which the next bytes may pass under `bytes_per_second`.
    free_at: Option<Instant>,
    /// Requests, answers and faults so far, in order.
    seen: Vec<Seen>,
}

/// An event of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A request was passed to the broker.
    Request(Api),
    /// An answer was passed to the client.
    Answer(Api),
    /// A fault was applied to a request.
    Faulted(Api, Fault),
    /// A held request reached the broker; whether the broker answered, and the answer's bytes
    /// without the correlation id.
    Released(Api, Option<Vec<u8>>),
}

/// The clients with one client id.
pub struct Client {
    state: Mutex<State>,
    changed: Condvar,
}

/// A running proxy.
pub struct Proxy {
    address: SocketAddr,
    broker: SocketAddr,
    clients: Mutex<HashMap<String, Arc<Client>>>,
}

/// The proxy in front of the tests' broker; `None` means: skip the test.
pub fn proxy() -> Option<&'static Proxy> {
    static PROXY: OnceLock<Option<&'static Proxy>> = OnceLock::new();
    *PROXY.get_or_init(|| {
        let Some(proxied) = &kafka()?.proxied else {
            eprintln!("SKIPPED: the tests behind a proxy; they need a broker of their own (unset LEADPULSE_TEST_BROKERS)");
            return None;
        };
        Some(Proxy::start(proxied.listener.try_clone().expect("a listener can be cloned"), proxied.broker))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// Serves a listener until the process ends.
    pub fn start(listener: TcpListener, broker: SocketAddr) -> &'static Self {
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let proxy: &'static Self = Box::leak(Box::new(Self {
            address,
            broker,
            clients: Mutex::default(),
        }));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || proxy.serve(client));
            }
        });
        proxy
    }

    /// Address for clients.
    pub fn servers(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.address.port())
    }

    /// The clients with this `client.id`, also before the first of them connects.
    pub fn client(&self, id: &str) -> Arc<Client> {
        let new = || {
            Arc::new(Client {
                state: Mutex::default(),
                changed: Condvar::new(),
            })
        };
        lock(&self.clients)
            .entry(id.to_owned())
            .or_insert_with(new)
            .clone()
    }

    /// Carries the requests of one connection. Another thread carries the answers.
    fn serve(&'static self, client: TcpStream) {
        let Ok(broker) = TcpStream::connect(self.broker) else {
            return;
        };
        let connection = Arc::new(Connection {
            client,
            broker,
            asked: Mutex::default(),
        });
        for stream in [&connection.client, &connection.broker] {
            let _ = stream.set_nodelay(true);
        }
        let answers = connection.clone();
        std::thread::spawn(move || {
            let _ = answers.carry_answers();
            answers.end();
        });
        let _ = connection.carry_requests(self);
        connection.end();
    }

    /// Sends a held request on a connection of its own, and waits for the broker's answer.
    fn deliver(&self, frame: &[u8]) -> io::Result<Vec<u8>> {
        let mut broker = TcpStream::connect(self.broker)?;
        broker.set_read_timeout(Some(RELEASED_ANSWER_LIMIT))?;
        broker.write_all(frame)?;
        let answer = read_frame(&mut broker)?;
        Ok(answer[8..].to_vec())
    }
}

/// A request that was passed and not answered yet.
struct Asked {
    api: Api,
    client: Arc<Client>,
    swallow: Option<ClientSees>,
}

struct Connection {
    client: TcpStream,
    broker: TcpStream,
    /// By correlation id.
    asked: Mutex<HashMap<i32, Asked>>,
}

/// A frame with its size.
fn read_frame(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame)?;
    let size = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + size, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

/// API key, correlation id and client id of a request.
fn parse_request(frame: &[u8]) -> Option<(Api, i32, String)> {
    let api = i16::from_be_bytes(frame.get(4..6)?.try_into().ok()?);
    let correlation = i32::from_be_bytes(frame.get(8..12)?.try_into().ok()?);
    let length = i16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let id = frame.get(14..14 + usize::try_from(length).unwrap_or_default())?;
    Some((
        Api(api),
        correlation,
        String::from_utf8_lossy(id).into_owned(),
    ))
}

impl Connection {
    fn end(&self) {
        for stream in [&self.client, &self.broker] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn carry_requests(&self, proxy: &Proxy) -> io::Result<()> {
        loop {
            let frame = read_frame(&self.client)?;
            let (api, correlation, id) = parse_request(&frame).ok_or(io::ErrorKind::InvalidData)?;
            let client = proxy.client(&id);
            client.release(api, proxy);
            let fault = client.fault(api);
            let mut swallow = None;
            match fault {
                Some(Fault::Hold(sees)) => {
                    client.hold(Held { api, frame });
                    return self.refuse(sees);
                }
                Some(Fault::Cut) => return Ok(()),
                Some(Fault::SwallowAnswer(sees)) => swallow = Some(sees),
                Some(Fault::Delay(time)) => std::thread::sleep(time),
                Some(Fault::Freeze) => client.freeze(),
                Some(Fault::FreezeFor(time)) => {
                    client.freeze();
                    let client = client.clone();
                    std::thread::spawn(move || {
                        std::thread::sleep(time);
                        client.thaw();
                    });
                }
                None => {}
            }
            client.note(Seen::Request(api));
            lock(&self.asked).insert(
                correlation,
                Asked {
                    api,
                    client: client.clone(),
                    swallow,
                },
            );
            client.pass(&frame, &self.broker)?;
        }
    }

    /// Ends the connection, or keeps it open without passing anything until the client gives it up:
    /// requests behind a delayed one are delayed with it.
    fn refuse(&self, sees: ClientSees) -> io::Result<()> {
        match sees {
            ClientSees::Reset => Ok(()),
            ClientSees::Silence => io::copy(&mut &self.client, &mut io::sink()).map(drop),
        }
    }

    fn carry_answers(&self) -> io::Result<()> {
        loop {
            let frame = read_frame(&self.broker)?;
            let correlation = frame
                .get(4..8)
                .and_then(|bytes| bytes.try_into().ok())
                .map(i32::from_be_bytes);
            let asked = correlation
                .and_then(|correlation| lock(&self.asked).remove(&correlation))
                .ok_or(io::ErrorKind::InvalidData)?;
            match asked.swallow {
                Some(ClientSees::Reset) => return Ok(()),
                // Later answers stay away too, but the connection remains.
                Some(ClientSees::Silence) => {
                    return io::copy(&mut &self.broker, &mut io::sink()).map(drop);
                }
                None => {}
            }
            asked.client.answered(asked.api);
            asked.client.pass(&frame, &self.client)?;
        }
    }
}

impl Client {
    /// Applies a fault to the request of a kind that comes after `passing` others of that kind,
    /// counted from now.
    pub fn fault_after(&self, passing: usize, api: Api, fault: Fault) {
        lock(&self.state).rules.push(Rule {
            api,
            passing,
            fault,
        });
    }

    /// Drops every fault that has not come and every held request, and lets all pass.
    pub fn forgive(&self) {
        let mut state = lock(&self.state);
        state.rules.clear();
        state.held.clear();
        state.bytes_per_second = None;
        drop(state);
        self.thaw();
    }

    /// Delivers the held requests before the next transaction's first request of this kind.
    pub fn release_before(&self, api: Api) {
        lock(&self.state).release_before = Some(api);
    }

    /// Lets nothing pass, in either direction, until [`Self::thaw`]. Connections stay open.
    pub fn freeze(&self) {
        lock(&self.state).frozen = true;
        self.changed.notify_all();
    }

    /// Lets waiting and later requests and answers pass.
    pub fn thaw(&self) {
        lock(&self.state).frozen = false;
        self.changed.notify_all();
    }

    /// Waits until an event was seen, at most `limit`; false after the limit.
    pub fn await_seen(&self, wanted: impl Fn(&Seen) -> bool, limit: Duration) -> bool {
        let state = lock(&self.state);
        let waited = self
            .changed
            .wait_timeout_while(state, limit, |state| !state.seen.iter().any(&wanted));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Limits the bandwidth of both directions and all connections together; `None` sets no limit.
    pub fn set_bytes_per_second(&self, limit: Option<u64>) {
        lock(&self.state).bytes_per_second = limit;
    }

    /// The events so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state).seen.clone()
    }

    fn note(&self, seen: Seen) {
        lock(&self.state).seen.push(seen);
        self.changed.notify_all();
    }

    /// The fault of this request, if a rule has its turn.
    fn fault(&self, api: Api) -> Option<Fault> {
        let mut state = lock(&self.state);
        let mut due = None;
        for (index, rule) in state
            .rules
            .iter_mut()
            .enumerate()
            .filter(|(_, rule)| rule.api == api)
        {
            match rule.passing.checked_sub(1) {
                Some(left) => rule.passing = left,
                None => due = due.or(Some(index)),
            }
        }
        let fault = state.rules.remove(due?).fault;
        state.seen.push(Seen::Faulted(api, fault));
        self.changed.notify_all();
        Some(fault)
    }

    fn hold(&self, held: Held) {
        let mut state = lock(&self.state);
        state.next_transaction = false;
        state.held.push_back(held);
    }

    /// Delivers the held requests, if their moment has come.
    fn release(&self, api: Api, proxy: &Proxy) {
        let held = {
            let mut state = lock(&self.state);
            if !state.next_transaction || state.release_before != Some(api) {
                return;
            }
            std::mem::take(&mut state.held)
        };
        for Held { api, frame } in held {
            let answer = proxy.deliver(&frame).ok();
            self.note(Seen::Released(api, answer));
        }
    }

    fn answered(&self, api: Api) {
        let mut state = lock(&self.state);
        if [Api::END_TXN, Api::INIT_PRODUCER_ID].contains(&api) && !state.held.is_empty() {
            state.next_transaction = true;
        }
        state.seen.push(Seen::Answer(api));
    }

    /// Writes a frame, within the limit of the bandwidth.
    fn pass(&self, frame: &[u8], mut to: &TcpStream) -> io::Result<()> {
        let mut rest = frame;
        while !rest.is_empty() {
            let mut state = lock(&self.state);
            while state.frozen {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let now = Instant::now();
            let (length, pause) = match state.bytes_per_second {
                None => (rest.len(), Duration::ZERO),
                Some(limit) => {
                    let length = rest.len().min(THROTTLED_CHUNK);
                    let from = state.free_at.unwrap_or(now).max(now);
                    state.free_at =
                        Some(from + Duration::from_secs_f64(length as f64 / limit as f64));
                    (length, from - now)
                }
            };
            drop(state);
            std::thread::sleep(pause);
            to.write_all(&rest[..length])?;
            rest = &rest[length..];
        }
        Ok(())
    }
}
