//! A token bucket of the governor crate behind a small server. It refuses with 429 and `Retry-After` in whole seconds.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::{Response, StatusCode, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::oneshot;

use crate::workers::Limit;

/// A running server. It stops when it is dropped.
pub struct Server {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(limit: Limit) -> Server {
        let [rate, burst] = [limit.per_second, limit.burst].map(|n| NonZero::new(n as u32).unwrap());
        let limiter = Arc::new(RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)));
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let addr = listener.local_addr().unwrap();
        runtime.spawn(accept(listener, limiter));
        let (stop, stopped) = oneshot::channel();
        // Dropping `stop` ends the wait, and the runtime with all its tasks and sockets.
        let thread = thread::spawn(move || drop(runtime.block_on(stopped)));
        Server { addr, stop: Some(stop), thread: Some(thread) }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, limiter: Arc<DefaultDirectRateLimiter>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let limiter = Arc::clone(&limiter);
        tokio::spawn(async move {
            let service = service_fn(|_| std::future::ready(Ok::<_, Infallible>(answer(&limiter))));
            // An error is a client that has gone.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(limiter: &DefaultDirectRateLimiter) -> Response<Empty<Bytes>> {
    let response = Response::builder();
    let response = match limiter.check() {
        Ok(()) => response.status(StatusCode::OK),
        Err(refused) => {
            let wait = refused.wait_time_from(DefaultClock::default().now());
            let seconds = (wait + Duration::from_nanos(999_999_999)).as_secs();
            response.status(StatusCode::TOO_MANY_REQUESTS).header(header::RETRY_AFTER, seconds)
        }
    };
    response.body(Empty::new()).unwrap()
}
