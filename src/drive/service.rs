//! The service that requests share, with the handle's clock and seeds.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::clock::Clock;
use super::sync::Mutex;
use crate::policy::Policy;
use crate::seed::derive_seed;
use crate::upstream::Service;

/// The parts that all requests to one service share.
pub struct SharedService {
    /// A copy to read responses with, without the lock.
    pub(super) policy: Policy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) state: Mutex<Service>,
    seed: u64,
    requests: AtomicUsize,
}

impl SharedService {
    pub(super) fn new(service: Service, clock: Arc<dyn Clock>) -> SharedService {
        let policy = service.policy().clone();
        SharedService {
            policy,
            clock,
            state: Mutex::new(service),
            seed: fastrand::u64(..),
            requests: AtomicUsize::new(0),
        }
    }

    /// Returns the seed of the next request (T5).
    pub(super) fn next_seed(&self) -> u64 {
        derive_seed(self.seed, self.requests.fetch_add(1, Ordering::Relaxed) as u64)
    }
}
