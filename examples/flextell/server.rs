//! A loopback server that behaves, and misbehaves, as the Flextell guide says an API may.
//!
//! `/{story}/{key}` plays one story of `script` to the client named `key`: the answer depends on
//! the number of calls that the client has made to that story. `POST /oauth/token` refreshes tokens.
//! All times are those of a [`Clock`] that the clients share, so an hour passes in seconds.

#![allow(clippy::indexing_slicing, reason = "no story is empty, and each token is found before its serial is used")]

mod arrival;
mod clock;
mod oauth;
mod reply;
mod script;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, DATE, HeaderMap};
use hyper::{Method, Request, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

pub use arrival::{Arrival, never_sooner};
pub use clock::Clock;
pub use oauth::Grant;

use oauth::Ledger;
use reply::{Cut, Outcome, Reply};
use script::Answer;

/// A running server. It stops, and cuts every connection, when it is dropped.
#[must_use = "a server stops when it is dropped"]
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on a free loopback port, on a background thread with a runtime of its own. So it
    /// serves blocking and async clients alike.
    ///
    /// # Panics
    ///
    /// If the operating system grants no loopback port or no thread.
    pub fn start(clock: Clock) -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let listener = listen(&runtime).expect("a loopback port");
        let addr = listener.local_addr().expect("a bound listener");
        let shared = Arc::new(Shared { clock, state: Mutex::default() });
        runtime.spawn(accept(listener, Arc::clone(&shared)));
        let (stop, stopped) = oneshot::channel();
        // Dropping `stop` ends the wait, and the runtime with all its tasks and sockets.
        let thread = thread::spawn(move || drop(runtime.block_on(stopped)));
        Self { addr, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns the address of the server.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns an address that refuses connections, unless another program takes the port.
    ///
    /// # Panics
    ///
    /// If the operating system grants no loopback port.
    pub fn closed_port() -> SocketAddr {
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("a loopback port")
    }

    /// Opens a grant whose access tokens are valid for `lifetime` of virtual time each. With zero,
    /// each token has expired when it is issued.
    pub fn grant(&self, lifetime: Duration) -> Grant {
        let now_ms = self.shared.clock.now_ms();
        self.shared.state().ledger.open(lifetime, now_ms)
    }

    /// Expires one access token now. Its grant stays valid, so a refresh gets a new one.
    pub fn expire(&self, access_token: &str) {
        let now_ms = self.shared.clock.now_ms();
        self.shared.state().ledger.expire(access_token, now_ms);
    }

    /// Returns the number of calls of the token endpoint with a refresh token of this grant. Replayed
    /// and refused tokens count, too.
    pub fn refreshes(&self, grant: &Grant) -> usize {
        self.uses(grant).iter().sum()
    }

    /// Returns how often each refresh token of this grant was used, in the order of their issue. A token that was used twice
    /// has revoked its grant.
    pub fn uses(&self, grant: &Grant) -> Vec<usize> {
        self.shared.state().ledger.uses(&grant.refresh_token)
    }

    /// Returns the calls of `story` by `key` so far, in the order of their answers. Empty for an
    /// unknown story or key.
    pub fn arrivals(&self, story: &str, key: &str) -> Vec<Arrival> {
        let route = (story.to_owned(), key.to_owned());
        let state = self.shared.state();
        state.routes.get(&route).map_or_else(Vec::new, |seen| seen.arrivals.clone())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // This ends soon: no task of the runtime blocks.
            let _ = thread.join();
        }
    }
}

/// The state that all connections share.
struct Shared {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    /// By story and key.
    routes: HashMap<(String, String), Route>,
}

#[derive(Default)]
struct Route {
    arrivals: Vec<Arrival>,
    /// The number of answers of the script given so far.
    step: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request, or cuts its connection, or never returns.
    async fn handle(&self, request: Request<Incoming>) -> Result<Reply, Cut> {
        let at_ms = self.clock.now_ms();
        let (head, body) = request.into_parts();
        // Read the body before the story cuts the connection: the POST must have arrived.
        let body = body.collect().await.map_err(|_| Cut)?.to_bytes();

        // One instant for the whole answer, because its dates are relative to its own `Date`.
        let now_ms = self.clock.now_ms();
        let path = head.uri.path();
        let outcome = if head.method == Method::POST && path == "/oauth/token" {
            Outcome::Reply(self.state().ledger.token(&body, now_ms))
        } else {
            self.play(path, bearer(&head.headers), at_ms, now_ms)
        };
        match outcome {
            Outcome::Reply(mut reply) => {
                let date = reply::http_date(self.clock.unix_at(now_ms) / 1000);
                reply.headers_mut().insert(DATE, date);
                Ok(reply)
            }
            Outcome::Cut => Err(Cut),
            Outcome::Hang => std::future::pending().await,
        }
    }

    /// Returns the next answer of a story, and records the arrival. A call without a valid token is
    /// an arrival, too, but does not advance the story.
    fn play(&self, path: &str, access_token: &str, at_ms: u64, now_ms: u64) -> Outcome {
        let Some((story, key)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return script::NOT_FOUND.outcome(self.clock, now_ms);
        };
        let Some(script) = script::of(story) else {
            return script::NOT_FOUND.outcome(self.clock, now_ms);
        };

        let state = &mut *self.state();
        let route = (story.to_owned(), key.to_owned());
        let route = state.routes.entry(route).or_default();
        let scripted = script[route.step.min(script.len() - 1)];
        let answer = if scripted.needs_token() && !state.ledger.is_valid(access_token, now_ms) {
            script::UNAUTHORIZED
        } else {
            route.step += 1;
            scripted
        };
        match answer {
            Answer::RevokeGrant => state.ledger.revoke(access_token),
            Answer::ExpireToken => state.ledger.expire(access_token, now_ms),
            _ => {}
        }
        let outcome = answer.outcome(self.clock, now_ms);
        route.arrivals.push(Arrival {
            at_ms,
            status: outcome.status(),
            not_before_ms: answer.not_before_ms(self.clock, now_ms),
            applied: answer.applies(),
        });
        outcome
    }
}

/// Returns the token of an `Authorization: Bearer` header (RFC 6750 §2.1). Without one, the empty
/// string, which is never valid.
fn bearer(headers: &HeaderMap) -> &str {
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"))
        .map_or("", |(_, token)| token)
}

fn listen(runtime: &Runtime) -> std::io::Result<TcpListener> {
    let _entered = runtime.enter();
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    // In a stampede all clients connect at once. The system lowers this to its own limit.
    socket.listen(u16::MAX.into())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&shared)))),
            // Usually there are too few file descriptors: some close soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| shared.handle(request));
    // An error is a cut of the story, or a client that has gone.
    let _ = http1::Builder::new().auto_date_header(false).serve_connection(TokioIo::new(stream), service).await;
}
