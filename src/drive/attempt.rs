//! An attempt, as its sender sees it.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::time::Duration;

use super::answer::SendResult;
use super::service::SharedService;
use super::sync::Mutex;
use crate::reply::Reply;
use crate::time::Timestamp;

/// An attempt to send.
pub struct Attempt<T> {
    pub(super) number: u32,
    pub(super) generation: Option<u32>,
    pub(super) until: Option<Timestamp>,
    pub(super) token: Option<Arc<T>>,
    pub(super) call: Arc<Call>,
}

/// The parts that the attempts of a request share.
pub(super) struct Call {
    pub(super) service: Arc<SharedService>,
    /// The challenge of the last 401, for the refresh.
    pub(super) www_authenticate: Mutex<Vec<u8>>,
}

impl<T> Attempt<T> {
    /// Returns the number of the attempt, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns the token to send. `None`: the login has no token (rule K9).
    #[must_use]
    pub fn token(&self) -> Option<&T> {
        self.token.as_deref()
    }

    /// Returns the generation of the token (rule K4).
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        self.generation
    }

    /// Returns the time that is left for the attempt, if it has a limit (rule S4). A blocking client must give up after it;
    /// the async driver drops the attempt by itself.
    ///
    /// `None`: neither [`attempt_timeout`](crate::PolicyBuilder::attempt_timeout) nor a deadline is set, and only the HTTP
    /// client's own timeouts end a call that hangs. Many clients take `None` as "without a limit", in place of a timeout of
    /// their own.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let clock = &self.call.service.clock;
        self.until.map(|until| clock.real_time(until.saturating_duration_since(clock.now())))
    }

    /// Reads a response with the policy's dialect and the wall clock, as [`Policy::read_at`](crate::Policy::read_at) does:
    /// its status and its headers, in any order.
    pub fn read<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        status: u16,
        headers: impl IntoIterator<Item = (N, V)>,
    ) -> Reply {
        let service = &self.call.service;
        let mut reader = service.policy.reader(service.clock.unix_time(), status);
        let mut challenges = Vec::new();
        for (name, value) in headers {
            let (name, value) = (name.as_ref(), value.as_ref());
            reader.feed(name, value);
            if status == 401 && name.eq_ignore_ascii_case(b"www-authenticate") {
                if !challenges.is_empty() {
                    challenges.extend_from_slice(b", ");
                }
                challenges.extend_from_slice(value);
            }
        }
        *self.call.www_authenticate.lock() = challenges;
        reader.reply()
    }
}

/// H9: without the token.
impl<T> fmt::Debug for Attempt<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attempt { number, generation, until, .. } = self;
        f.debug_struct("Attempt")
            .field("number", number)
            .field("generation", generation)
            .field("until", until)
            .finish_non_exhaustive()
    }
}

/// Sends the attempts of one request, for a type of its own in place of a closure: it can keep what an attempt needs and the
/// next one reuses. [`future::Api::send`](super::future::Api) takes it.
pub trait Sender<T> {
    /// The client's response type.
    type Response;
    /// The client's error type.
    type Error;

    /// Sends the request. The driver drops the future when the attempt has reached its limit.
    fn send(&mut self, attempt: Attempt<T>) -> impl Future<Output = SendResult<Self::Response, Self::Error>>;
}
