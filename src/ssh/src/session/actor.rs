//! The thread that owns a session. In each turn it does for every channel what can be done without waiting, and then waits
//! for the socket and for its callers together.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::MethodType;
use tokio::sync::{mpsc, oneshot};

use super::channel::{Channel, Inlet, pair};
use super::failure::{is_again, is_fatal, lost};
use super::lent::{Lender, Request};
use super::login::{Attempt, methods};
use super::request::{ExecRequest, Login, LoginMethod, SessionSettings};
use super::slot::{self, READ, Setup, Slot, Turn};
use super::socket;
use super::wake::Wake;
use crate::{HostKey, SshError};

/// What the peer may send on a channel before it hears that it was read, in bytes; it bounds the memory of a channel that
/// nobody reads, and with the round trip the speed.
const WINDOW: u32 = 2 * 1024 * 1024;

/// The largest packet that is taken, in bytes.
const PACKET: u32 = 32 * 1024;

/// How often a channel is asked for where no other one is open.
const OPEN_TRIES: u32 = 10;

/// How many connections to a port that the peer listens on may wait.
const LISTEN_QUEUE: u32 = 16;

/// What takes longer in a login was waiting for a person, or for an agent that asks one.
const PROMPT: Duration = Duration::from_millis(100);

/// How long a connection is waited for that is told to close, to take what is still on its way.
const GOODBYE: Duration = Duration::from_secs(1);

pub(super) type Reply<T> = oneshot::Sender<Result<T, SshError>>;

/// What callers ask of a session.
pub(super) enum Order {
    Login(String, LoginMethod, Reply<Login>),
    Methods(String, Reply<Vec<String>>),
    Exec(ExecRequest, Inlet),
    Direct(String, u16, Reply<Channel>),
    Listen(String, u16, Reply<(u16, mpsc::Receiver<Channel>)>),
    Close(oneshot::Sender<()>),
}

/// What is shared with the handles and the channels.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) wake: Wake,
    pub(super) end: OnceLock<SshError>,
}

/// What is under way with the peer; one at a time, for libssh2 keeps the state of these in the session.
enum Job {
    Login(Attempt, Reply<Login>),
    Methods(String, Reply<Vec<String>>),
    Open(ExecRequest, Inlet, u32),
    /// A channel for the next command, and for what the peer sends while there is none.
    Spare(u32),
    Direct(String, u16, Reply<Channel>),
    Listen {
        host: String,
        port: u16,
        reply: Reply<(u16, mpsc::Receiver<Channel>)>,
        tries: u32,
    },
}

/// How a job goes on.
enum Next {
    Done,
    /// The peer has to answer first.
    Wait(Job),
    /// Once more from the start.
    Again(Job),
}

struct Listening {
    listener: ssh2::Listener,
    channels: mpsc::Sender<Channel>,
}

pub(super) struct Actor {
    session: ssh2::Session,
    settings: SessionSettings,
    shared: Arc<Shared>,
    orders: mpsc::Receiver<Order>,
    jobs: VecDeque<Job>,
    slots: Vec<Slot>,
    listeners: Vec<Listening>,
    spare: Option<ssh2::Channel>,
    /// The peer did not open one more channel beside the others.
    is_full: bool,
    offered: Vec<String>,
    last_asked: Instant,
    /// Signs of life that were asked for: libssh2 keeps each answer where it may be taken for another one's.
    asked: u32,
    /// Nothing is read for now, so that nothing is known of the peer.
    is_deaf: bool,
    goodbye: Option<oneshot::Sender<()>>,
    lender: Option<Lender>,
}

/// Starts the thread; it answers over `ready` when the keys are exchanged.
pub(super) fn start(
    socket: OwnedFd,
    settings: SessionSettings,
    shared: Arc<Shared>,
    orders: mpsc::Receiver<Order>,
    agent: Option<mpsc::Sender<Request>>,
    ready: Reply<HostKey>,
) -> std::io::Result<()> {
    let work = move || {
        let session = match prepare(&settings) {
            Ok(session) => session,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        socket::attach(&session, socket);
        let handshaken = handshake(session, &settings, &shared, &orders);
        let sent = match handshaken {
            Ok((session, key)) => ready.send(Ok(key)).map(|()| session),
            Err(error) => ready.send(Err(error)).and(Err(Err(SshError::Closed))),
        };
        if let Ok(session) = sent {
            let lender = agent.map(|agent| Lender::new(&session, Arc::clone(&shared), agent));
            Actor::new(session, settings, shared, orders, lender).run();
        }
        socket::detach();
    };
    std::thread::Builder::new().name("kiln-ssh".to_owned()).spawn(work).map(drop)
}

fn prepare(settings: &SessionSettings) -> Result<ssh2::Session, SshError> {
    let unusable = |what: &str| {
        let what = what.to_owned();
        move |error: ssh2::Error| SshError::Unusable { what, reason: error.message().to_owned() }
    };
    let session = ssh2::Session::new().map_err(unusable("libssh2"))?;
    session.set_blocking(false);
    session.set_keepalive(true, 1);
    let prefer = |kind, list: &[String], what: &str| match list {
        [] => Ok(()),
        list => session.method_pref(kind, &list.join(",")).map_err(unusable(what)),
    };
    prefer(MethodType::CryptCs, &settings.ciphers, "the list of ciphers")?;
    prefer(MethodType::CryptSc, &settings.ciphers, "the list of ciphers")?;
    prefer(MethodType::Kex, &settings.key_exchange, "the list of key exchange algorithms")?;
    prefer(MethodType::HostKey, &settings.host_key_algorithms, "the list of host key algorithms")?;
    Ok(session)
}

fn handshake(
    mut session: ssh2::Session,
    settings: &SessionSettings,
    shared: &Shared,
    orders: &mpsc::Receiver<Order>,
) -> Result<(ssh2::Session, HostKey), SshError> {
    let deadline = Instant::now() + settings.handshake_timeout;
    // libssh2 looks at a descriptor of its own only where it blocks.
    session.set_tcp_stream(
        shared
            .wake
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| SshError::Host { action: "copy a descriptor".to_owned(), reason: error.to_string() })?,
    );
    loop {
        let done = session.handshake();
        socket::flush();
        match done {
            Ok(()) => break,
            Err(error) if !is_again(&error) => return Err(SshError::Handshake(error.message().to_owned())),
            Err(_) => {}
        }
        if let Some(reason) = socket::end() {
            return Err(SshError::Handshake(reason));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SshError::HandshakeTimeout(settings.handshake_timeout));
        }
        shared.wake.clear();
        if orders.is_closed() {
            return Err(SshError::Lost("it was given up".to_owned()));
        }
        wait(&shared.wake, true, Some(left));
    }
    let key = session.host_key().and_then(|(blob, _)| HostKey::from_blob(blob));
    let key = key.ok_or_else(|| SshError::Handshake("the machine showed no host key".to_owned()))?;
    Ok((session, key))
}

/// Waits for the socket (to send what waits, and to receive where somebody takes it) or for a caller.
fn wait(wake: &Wake, receives: bool, timeout: Option<Duration>) {
    if wake.is_pending() {
        return;
    }
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    // Without a reader only the end is looked for: what came stays in the kernel.
    let mut events = if receives { PollFlags::IN } else { PollFlags::RDHUP };
    events.set(PollFlags::OUT, socket::is_waiting());
    let is_gone = socket::with_descriptor(|descriptor| {
        let waker = PollFd::new(wake, PollFlags::IN);
        // An interruption is one more turn.
        let Some(descriptor) = &descriptor else {
            let _ = poll(&mut [waker], timeout.as_ref());
            return false;
        };
        let mut both = [waker, PollFd::new(descriptor, events)];
        let woken = poll(&mut both, timeout.as_ref()).is_ok();
        woken && !receives && both[1].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
    });
    if is_gone {
        socket::give_up();
    }
}

impl Actor {
    fn new(
        session: ssh2::Session,
        settings: SessionSettings,
        shared: Arc<Shared>,
        orders: mpsc::Receiver<Order>,
        lender: Option<Lender>,
    ) -> Actor {
        Actor {
            session,
            settings,
            shared,
            orders,
            jobs: VecDeque::new(),
            slots: Vec::new(),
            listeners: Vec::new(),
            spare: None,
            is_full: false,
            offered: Vec::new(),
            last_asked: Instant::now(),
            asked: 0,
            is_deaf: false,
            goodbye: None,
            lender,
        }
    }

    /// Until the connection ends or nobody wants it any more.
    fn run(mut self) {
        let error = self.serve();
        if let SshError::Closed = error {
            self.part();
        }
        let _ = self.shared.end.set(error);
        // From now on libssh2 hears that the connection is gone, so that it frees everything at once.
        socket::detach();
        if let Some(goodbye) = self.goodbye.take() {
            let _ = goodbye.send(());
        }
    }

    fn serve(&mut self) -> SshError {
        let mut buffer = vec![0; READ];
        loop {
            self.shared.wake.clear();
            let is_wanted = self.take_orders();
            if self.goodbye.is_some() {
                return SshError::Closed;
            }
            let moved = self.turn(&mut buffer);
            socket::flush();
            // What one channel took from the socket may have been for another one, whose turn was over already.
            let received = socket::take_received();
            match moved {
                Ok(moved) if moved || received => continue,
                Ok(_) => {}
                Err(error) => return error,
            }
            if let Some(reason) = socket::end() {
                // Told first: whose channel ends by this looks here for the reason.
                let _ = self.shared.end.set(SshError::Lost(reason.clone()));
                // All that came was read; but what a caller had no room for is still to be fetched.
                self.slots.retain(Slot::is_stalled);
                if self.slots.is_empty() {
                    return SshError::Lost(reason);
                }
            }
            if !is_wanted && self.slots.is_empty() && self.listeners.is_empty() {
                return SshError::Closed;
            }
            match self.watch() {
                Ok(timeout) => wait(&self.shared.wake, self.receives(), timeout),
                Err(error) => return error,
            }
        }
    }

    /// Takes what callers ask for; `false` when there is no handle left.
    fn take_orders(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Login(user, method, reply)) => {
                    self.jobs.push_back(Job::Login(Attempt::new(user, method), reply));
                }
                Ok(Order::Methods(user, reply)) => self.jobs.push_back(Job::Methods(user, reply)),
                Ok(Order::Exec(request, inlet)) => self.jobs.push_back(Job::Open(request, inlet, 0)),
                Ok(Order::Direct(host, port, reply)) => self.jobs.push_back(Job::Direct(host, port, reply)),
                Ok(Order::Listen(host, port, reply)) => {
                    self.jobs.push_back(Job::Listen { host, port, reply, tries: 0 });
                }
                Ok(Order::Close(reply)) => self.goodbye = Some(reply),
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Whether something reads from the connection in each turn.
    fn receives(&self) -> bool {
        let is_lending = self.lender.as_ref().is_some_and(|lender| !lender.is_idle());
        is_lending
            || self.spare.is_some()
            || !self.slots.is_empty()
            || !self.jobs.is_empty()
            || !self.listeners.is_empty()
    }

    /// Does everything that can be done without waiting; `true` where something moved.
    fn turn(&mut self, buffer: &mut [u8]) -> Result<bool, SshError> {
        let mut moved = false;
        while self.job()? {
            moved = true;
        }
        let mut index = 0;
        while let Some(slot) = self.slots.get_mut(index) {
            match slot.turn(buffer)? {
                Turn::Idle => index += 1,
                Turn::Progress => {
                    moved = true;
                    index += 1;
                }
                Turn::Done => {
                    moved = true;
                    self.slots.swap_remove(index);
                    self.is_full = false;
                }
            }
        }
        if let Some(lender) = &mut self.lender {
            moved |= lender.turn(buffer)?;
        }
        moved |= self.accept()?;
        if let Some(spare) = &self.spare {
            slot::pump(spare)?;
            if spare.eof() {
                self.spare = None;
            }
        } else if self.session.authenticated() && !self.is_full && self.jobs.is_empty() {
            self.jobs.push_back(Job::Spare(0));
            moved = true;
        }
        Ok(moved)
    }

    /// Goes on with the first job; `true` where there may be more to do at once.
    fn job(&mut self) -> Result<bool, SshError> {
        let Some(job) = self.jobs.pop_front() else { return Ok(false) };
        let (job, is_waiting) = match self.go_on(job)? {
            Next::Done => return Ok(true),
            Next::Wait(job) => (job, true),
            Next::Again(job) => (job, false),
        };
        self.jobs.push_front(job);
        Ok(!is_waiting)
    }

    fn go_on(&mut self, job: Job) -> Result<Next, SshError> {
        match job {
            Job::Login(mut attempt, reply) => {
                let since = Instant::now();
                let turn = attempt.turn(&self.session, &mut self.offered);
                if since.elapsed() > PROMPT {
                    socket::listen_anew();
                }
                match turn {
                    Ok(None) => Ok(Next::Wait(Job::Login(attempt, reply))),
                    Ok(Some(login)) => Ok(answer(reply, Ok(login))),
                    Err(error) => fail(reply, error),
                }
            }
            Job::Methods(user, reply) => match methods(&self.session, &user) {
                Ok(None) => Ok(Next::Wait(Job::Methods(user, reply))),
                Ok(Some(list)) => {
                    self.offered.clone_from(&list);
                    Ok(answer(reply, Ok(list)))
                }
                Err(error) => fail(reply, error),
            },
            Job::Open(request, inlet, tries) => self.open(request, inlet, tries),
            Job::Spare(tries) => match self.session.channel_open("session", WINDOW, PACKET, None) {
                Ok(channel) => {
                    self.spare = Some(channel);
                    Ok(Next::Done)
                }
                Err(error) if is_again(&error) => Ok(Next::Wait(Job::Spare(tries))),
                Err(error) if is_fatal(&error) => Err(lost(&error)),
                Err(_) if self.may_have_room(tries) => Ok(Next::Again(Job::Spare(tries + 1))),
                Err(_) => {
                    self.is_full = true;
                    Ok(Next::Done)
                }
            },
            Job::Direct(host, port, reply) => match self.session.channel_direct_tcpip(&host, port, None) {
                Ok(channel) => {
                    let (caller, inlet) = pair(&self.shared);
                    self.slots.push(Slot::new(channel, inlet, VecDeque::new()));
                    Ok(answer(reply, Ok(caller)))
                }
                Err(error) if is_again(&error) => Ok(Next::Wait(Job::Direct(host, port, reply))),
                Err(error) => fail(reply, refused(&error, format!("connect to {host}:{port}"))),
            },
            Job::Listen { host, port, reply, tries } => self.listen(host, port, reply, tries),
        }
    }

    fn open(&mut self, request: ExecRequest, inlet: Inlet, tries: u32) -> Result<Next, SshError> {
        let channel = match self.spare.take().filter(|spare| !spare.eof()) {
            Some(spare) => spare,
            None => match self.session.channel_open("session", WINDOW, PACKET, None) {
                Ok(channel) => channel,
                Err(error) if is_again(&error) => return Ok(Next::Wait(Job::Open(request, inlet, tries))),
                Err(error) if is_fatal(&error) => return Err(lost(&error)),
                Err(_) if self.may_have_room(tries) => return Ok(Next::Again(Job::Open(request, inlet, tries + 1))),
                Err(error) => {
                    inlet.fail(refused(&error, "open one more channel".to_owned()));
                    return Ok(Next::Done);
                }
            },
        };
        let mut setup = VecDeque::new();
        setup.extend(self.lender.as_ref().and_then(Lender::ask).map(Setup::Agent));
        setup.extend(request.terminal.map(Setup::Terminal));
        setup.push_back(Setup::Start(request.start));
        self.slots.push(Slot::new(channel, inlet, setup));
        Ok(Next::Done)
    }

    /// Whether a refused channel is worth another try: OpenSSH counts one that is closed until it looked at it again.
    fn may_have_room(&self, tries: u32) -> bool {
        self.slots.is_empty() && tries < OPEN_TRIES
    }

    fn listen(
        &mut self,
        host: String,
        port: u16,
        reply: Reply<(u16, mpsc::Receiver<Channel>)>,
        tries: u32,
    ) -> Result<Next, SshError> {
        let to = Some(host.as_str()).filter(|host| !host.is_empty());
        match self.session.channel_forward_listen(port, to, Some(LISTEN_QUEUE)) {
            Ok((listener, port)) => {
                let (channels, receiver) = mpsc::channel(1);
                self.listeners.push(Listening { listener, channels });
                Ok(answer(reply, Ok((port, receiver))))
            }
            Err(error) if is_again(&error) => Ok(Next::Wait(Job::Listen { host, port, reply, tries })),
            // It may be the answer to an earlier question for a sign of life.
            Err(error) if !is_fatal(&error) && tries < self.asked => {
                Ok(Next::Again(Job::Listen { host, port, reply, tries: tries + 1 }))
            }
            Err(error) => fail(reply, refused(&error, format!("listen on port {port}"))),
        }
    }

    /// Takes connections that came in.
    fn accept(&mut self) -> Result<bool, SshError> {
        let mut moved = false;
        let mut index = 0;
        while let Some(Listening { listener, channels }) = self.listeners.get_mut(index) {
            if channels.is_closed() {
                self.listeners.swap_remove(index);
                moved = true;
                continue;
            }
            index += 1;
            let Ok(permit) = channels.try_reserve() else { continue };
            match listener.accept() {
                Ok(channel) => {
                    let (caller, inlet) = pair(&self.shared);
                    self.slots.push(Slot::new(channel, inlet, VecDeque::new()));
                    permit.send(caller);
                    moved = true;
                }
                Err(error) if is_fatal(&error) => return Err(lost(&error)),
                // Nobody came.
                Err(_) => {}
            }
        }
        Ok(moved)
    }

    /// Asks for a sign of life where one is due; gives how long to wait until there is more to do here.
    fn watch(&mut self) -> Result<Option<Duration>, SshError> {
        if !self.receives() || socket::end().is_some() {
            self.is_deaf = true;
            return Ok(None);
        }
        if std::mem::take(&mut self.is_deaf) {
            socket::listen_anew();
        }
        let Some(interval) = self.settings.keep_alive else {
            let Some(limit) = self.settings.read_write_timeout else { return Ok(None) };
            let silent = socket::last_received().elapsed();
            return if silent < limit { Ok(Some(limit - silent)) } else { Err(SshError::Silent(limit)) };
        };
        let limit = self
            .settings
            .read_write_timeout
            .map_or(self.settings.dead_after, |timeout| timeout.min(self.settings.dead_after));
        // Nobody is dead who was not asked.
        let limit = limit.max(2 * interval);
        let silent = socket::last_received().elapsed();
        if silent >= limit {
            return Err(SshError::Silent(limit));
        }
        if silent >= interval && self.last_asked.elapsed() >= interval {
            match self.session.keepalive_send() {
                Err(error) if is_fatal(&error) => return Err(lost(&error)),
                _ => self.asked += 1,
            }
            self.last_asked = Instant::now();
            socket::flush();
        }
        let asks_in = interval.saturating_sub(silent).max(interval.saturating_sub(self.last_asked.elapsed()));
        Ok(Some(asks_in.min(limit - silent)))
    }

    /// Says goodbye; the peer has a moment to take what is still on its way.
    fn part(&mut self) {
        let _ = self.session.disconnect(None, "done", None);
        let deadline = Instant::now() + GOODBYE;
        loop {
            socket::flush();
            let left = deadline.saturating_duration_since(Instant::now());
            if !socket::is_waiting() || left.is_zero() {
                break;
            }
            self.shared.wake.clear();
            wait(&self.shared.wake, false, Some(left));
        }
    }
}

/// What libssh2 says to one thing; the connection's end where it is that.
fn refused(error: &ssh2::Error, action: String) -> SshError {
    if is_fatal(error) { lost(error) } else { SshError::Refused { action, reason: error.message().to_owned() } }
}

/// Answers; the job is done then.
fn answer<T>(reply: Reply<T>, result: Result<T, SshError>) -> Next {
    // Nobody waits any more: a channel is closed by being dropped.
    let _ = reply.send(result);
    Next::Done
}

/// Answers with an error, and gives it on where the connection is broken.
fn fail<T>(reply: Reply<T>, error: SshError) -> Result<Next, SshError> {
    let is_broken = error.is_disconnected();
    let _ = reply.send(Err(error.clone()));
    if is_broken { Err(error) } else { Ok(Next::Done) }
}
