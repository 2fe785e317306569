//! The crates that are compared, each behind the calls that a client makes, and the code that one would write by hand.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_runtime::client::retries::TokenBucket;
use aws_smithy_runtime::client::retries::classifiers::HttpStatusCodeClassifier;
use aws_smithy_runtime::client::retries::strategy::StandardRetryStrategy;
use aws_smithy_runtime_api::client::interceptors::context::{Error, Input, InterceptorContext, Output};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::retries::classifiers::SharedRetryClassifier;
use aws_smithy_runtime_api::client::retries::{RequestAttempts, RetryStrategy, ShouldAttempt};
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::{ConfigBag, Layer};
use aws_smithy_types::retry::RetryConfig;
use google_cloud_gax::backoff_policy::BackoffPolicy as _;
use google_cloud_gax::exponential_backoff::ExponentialBackoff as GaxBackoff;
use google_cloud_gax::retry_policy::{Aip194Strict, RetryPolicy, RetryPolicyExt};
use google_cloud_gax::retry_result::RetryResult;
use google_cloud_gax::retry_state::RetryState;
use google_cloud_gax::retry_throttler::{AdaptiveThrottler, RetryThrottler};
use http::header::{HeaderMap, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest_retry::{DefaultRetryableStrategy, Retryable, RetryableStrategy};
use retry_policies::{RetryDecision, RetryPolicy as _};
use throttle_net::provider::HeaderProfile;
use throttle_net::{Backoff, BackoffIter, Jitter, RetryBudget};
use tower::retry::Policy as _;
use tower::retry::backoff::{Backoff as _, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff as _};
use tower::retry::budget::{Budget as _, TpsBudget};
use workloads::Header;

/// The greatest number of retries, the first back-off and the longest: the same for all.
pub const RETRIES: u32 = 5;
pub const FIRST: Duration = Duration::from_secs(1);
pub const LONGEST: Duration = Duration::from_secs(60);

static RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
static RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
static X_RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
static X_RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// Returns what one would write without a crate: five fields that say when to come back and one that names an error, and
/// a back-off. `None`: the response is the answer.
pub fn by_hand<'a>(
    status: u16,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    attempt: u32,
    random: &mut fastrand::Rng,
) -> Option<Duration> {
    let (mut wait, mut reset, mut remaining, mut is_token_bad) = (None, None, None, false);
    for (name, value) in headers {
        if name.eq_ignore_ascii_case("retry-after") {
            wait = value.parse().ok().map(Duration::from_secs);
        } else if name.eq_ignore_ascii_case("retry-after-ms") {
            wait = value.parse().ok().map(Duration::from_millis);
        } else if name.eq_ignore_ascii_case("ratelimit-reset") || name.eq_ignore_ascii_case("x-ratelimit-reset") {
            reset = value.parse().ok().map(Duration::from_secs);
        } else if name.eq_ignore_ascii_case("x-ratelimit-remaining") {
            remaining = value.parse::<u64>().ok();
        } else if name.eq_ignore_ascii_case("www-authenticate") {
            is_token_bad = value.contains("invalid_token");
        }
    }
    if is_token_bad || !is_transient(status) || attempt > RETRIES {
        return None;
    }
    if remaining == Some(0) {
        wait = wait.or(reset);
    }
    Some(back_off_by_hand(attempt, random).max(wait.unwrap_or_default()))
}

/// Returns the same from the map that HTTP clients have.
pub fn by_hand_from_map(
    status: u16,
    headers: &HeaderMap,
    attempt: u32,
    random: &mut fastrand::Rng,
) -> Option<Duration> {
    let value = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let number = |name: &HeaderName| value(name).and_then(|value| value.parse::<u64>().ok());
    let mut wait = number(&RETRY_AFTER_MS).map(Duration::from_millis);
    wait = wait.or(number(&RETRY_AFTER).map(Duration::from_secs));
    if number(&X_RATE_LIMIT_REMAINING) == Some(0) {
        wait = wait.or(number(&X_RATE_LIMIT_RESET).or(number(&RATE_LIMIT_RESET)).map(Duration::from_secs));
    }
    let is_token_bad = value(&WWW_AUTHENTICATE).is_some_and(|value| value.contains("invalid_token"));
    if is_token_bad || !is_transient(status) || attempt > RETRIES {
        return None;
    }
    Some(back_off_by_hand(attempt, random).max(wait.unwrap_or_default()))
}

/// Returns whether to retry, as a client writes it where a crate leaves it to the client.
pub fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Returns the back-off before a retry, with half a second of jitter to either side.
pub fn back_off_by_hand(attempt: u32, random: &mut fastrand::Rng) -> Duration {
    let back_off = FIRST.saturating_mul(1 << (attempt - 1).min(6)).min(LONGEST);
    back_off - Duration::from_millis(500) + Duration::from_millis(random.u64(..1_000))
}

/// reqwest-retry's classification with the back-off of retry-policies, as its middleware combines them.
pub struct Reqwest {
    response: Result<reqwest::Response, reqwest_middleware::Error>,
    policy: retry_policies::policies::ExponentialBackoff,
}

impl Reqwest {
    pub fn new(status: u16, headers: &[Header]) -> Reqwest {
        let mut response = http::Response::new("");
        *response.status_mut() = status.try_into().expect("a status");
        *response.headers_mut() = workloads::header_map(headers);
        Reqwest { response: Ok(response.into()), policy: policies() }
    }

    /// Returns the wait before the next attempt. `None`: the response is the answer.
    pub fn decide(&self, start: SystemTime, retries: u32) -> Option<Duration> {
        match DefaultRetryableStrategy.handle(&self.response) {
            Some(Retryable::Transient) => back_off(&self.policy, start, retries),
            Some(Retryable::Fatal) | None => None,
        }
    }
}

/// Returns the policy of retry-policies with the back-off of all.
pub fn policies() -> retry_policies::policies::ExponentialBackoff {
    retry_policies::policies::ExponentialBackoff::builder().retry_bounds(FIRST, LONGEST).build_with_max_retries(RETRIES)
}

/// Returns the wait before a retry, as reqwest-retry's middleware computes it.
pub fn back_off(
    policy: &retry_policies::policies::ExponentialBackoff,
    start: SystemTime,
    retries: u32,
) -> Option<Duration> {
    match policy.should_retry(start, retries) {
        RetryDecision::Retry { execute_after } => {
            Some(execute_after.duration_since(SystemTime::now()).unwrap_or_default())
        }
        RetryDecision::DoNotRetry => None,
    }
}

/// tower's back-off and budget in a policy of the shape that its documentation shows.
#[derive(Clone)]
pub struct Tower {
    budget: Arc<TpsBudget>,
    back_off: ExponentialBackoff,
}

/// A request and its answer, as tower's retry passes them to a policy.
pub struct Exchange {
    request: http::Request<()>,
    result: Result<http::Response<()>, ()>,
}

impl Exchange {
    pub fn new(status: u16) -> Exchange {
        let mut response = http::Response::new(());
        *response.status_mut() = status.try_into().expect("a status");
        Exchange { request: http::Request::new(()), result: Ok(response) }
    }
}

impl Tower {
    /// Returns a budget that the measurement cannot use up: the time to withdraw does not depend on the balance.
    pub fn budget() -> Arc<TpsBudget> {
        Arc::new(TpsBudget::new(Duration::from_secs(10), i32::MAX as u32 - 1, 0.0))
    }

    pub fn back_off() -> ExponentialBackoff {
        ExponentialBackoffMaker::new(FIRST, LONGEST, 0.99, tower::util::rng::HasherRng::new())
            .expect("valid settings")
            .make_backoff()
    }

    pub fn new(budget: &Arc<TpsBudget>) -> Tower {
        Tower { budget: Arc::clone(budget), back_off: Tower::back_off() }
    }

    /// Returns the sleep before the next attempt. `None`: the response is the answer.
    pub fn decide(&mut self, exchange: &mut Exchange) -> Option<tokio::time::Sleep> {
        self.retry(&mut exchange.request, &mut exchange.result)
    }
}

impl tower::retry::Policy<http::Request<()>, http::Response<()>, ()> for Tower {
    type Future = tokio::time::Sleep;

    fn retry(
        &mut self,
        _: &mut http::Request<()>,
        result: &mut Result<http::Response<()>, ()>,
    ) -> Option<tokio::time::Sleep> {
        match result {
            Ok(response) if !response.status().is_server_error() => {
                self.budget.deposit();
                None
            }
            _ if self.budget.withdraw() => Some(self.back_off.next_backoff()),
            _ => None,
        }
    }

    fn clone_request(&mut self, _: &http::Request<()>) -> Option<http::Request<()>> {
        Some(http::Request::new(()))
    }
}

/// throttle-net's parser of headers, budget and back-off, with a classification by hand.
pub struct ThrottleNet {
    budget: Rc<RetryBudget>,
    back_off: BackoffIter,
}

impl ThrottleNet {
    /// Returns a budget that the measurement cannot use up.
    pub fn budget() -> Rc<RetryBudget> {
        Rc::new(RetryBudget::new(1.0, 4_000_000).with_max_balance(4_000_000))
    }

    pub fn back_off() -> BackoffIter {
        Backoff::exponential(FIRST, 2.0).with_max(LONGEST).with_jitter(Jitter::Equal).iter()
    }

    pub fn new(budget: &Rc<RetryBudget>) -> ThrottleNet {
        ThrottleNet { budget: Rc::clone(budget), back_off: ThrottleNet::back_off() }
    }

    /// Returns the wait before the next attempt. `None`: the response is the answer.
    pub fn decide(&mut self, status: u16, headers: &[Header]) -> Option<Duration> {
        let limits = HeaderProfile::RFC.parse_at(headers, 0);
        self.decide_after(status, limits.retry_after)
    }

    /// Does the same without headers.
    pub fn decide_after(&mut self, status: u16, asked: Option<Duration>) -> Option<Duration> {
        if !is_transient(status) {
            self.budget.deposit();
            return None;
        }
        self.budget.try_withdraw().then(|| self.back_off.next_delay().max(asked.unwrap_or_default()))
    }
}

/// google-cloud-gax's policy, back-off and throttler, as its retry loop calls them.
pub struct Gax {
    policy: Arc<dyn RetryPolicy>,
    back_off: GaxBackoff,
    throttler: Arc<Mutex<dyn RetryThrottler>>,
    /// The policy takes the error and gives it back.
    error: Option<google_cloud_gax::error::Error>,
}

impl Gax {
    pub fn new(headers: &[Header]) -> Gax {
        let headers = workloads::header_map(headers);
        let mut throttler = AdaptiveThrottler::default();
        // A new one throttles half of all retries.
        (0..1_000).for_each(|_| throttler.on_success());
        Gax {
            policy: Arc::new(Aip194Strict.with_attempt_limit(RETRIES + 1)),
            back_off: Gax::back_off(),
            throttler: Arc::new(Mutex::new(throttler)),
            error: Some(google_cloud_gax::error::Error::http(503, headers, Default::default())),
        }
    }

    pub fn back_off() -> GaxBackoff {
        google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder::new()
            .with_initial_delay(FIRST)
            .with_maximum_delay(LONGEST)
            .build()
            .expect("valid settings")
    }

    /// Returns the wait before the next attempt. `None`: the error is the answer.
    pub fn decide(&mut self, start: std::time::Instant, attempt: u32) -> Option<Duration> {
        let state = RetryState::new(true).set_attempt_count(attempt).set_start(start);
        let flow = self.policy.on_error(&state, self.error.take()?);
        let wait = self.back_off.on_failure(&state);
        self.throttler.lock().expect("no panic").on_retry_failure(&flow);
        match flow {
            RetryResult::Continue(error) => {
                self.error = Some(error);
                Some(wait)
            }
            RetryResult::Permanent(_) | RetryResult::Exhausted(_) => None,
        }
    }

    /// Does what the loop does after the wait. Returns whether the retry is sent.
    pub fn is_sent(&self) -> bool {
        !self.throttler.lock().expect("no panic").throttle_retry_attempt()
    }

    pub fn succeed(&self) {
        self.throttler.lock().expect("no panic").on_success();
    }
}

/// The standard retry strategy of the AWS SDK, as its orchestrator calls it.
pub struct Aws {
    components: RuntimeComponents,
    config: ConfigBag,
    unavailable: InterceptorContext,
    ok: InterceptorContext,
}

impl Aws {
    pub fn new() -> Aws {
        let mut layer = Layer::new("peers");
        layer.store_put(
            RetryConfig::standard()
                .with_max_attempts(RETRIES + 1)
                .with_initial_backoff(FIRST)
                .with_max_backoff(LONGEST),
        );
        layer.store_put(TokenBucket::default());
        let components = RuntimeComponentsBuilder::for_tests()
            .with_retry_classifier(SharedRetryClassifier::new(HttpStatusCodeClassifier::default()))
            .with_time_source(Some(SystemTimeSource::new()))
            .build()
            .expect("a builder for tests is complete");
        let mut unavailable = context(503, &workloads::UNAVAILABLE);
        unavailable.set_output_or_error(Err(OrchestratorError::operation(Error::erase(std::fmt::Error))));
        let mut ok = context(200, &workloads::OK);
        ok.set_output_or_error(Ok(Output::erase(())));
        let mut aws = Aws { components, config: ConfigBag::of_layers([layer]), unavailable, ok };
        aws.begin_attempt(1);
        aws
    }

    pub fn begin(&self) -> StandardRetryStrategy {
        let strategy = StandardRetryStrategy::new();
        let decision = strategy.should_attempt_initial_request(&self.components, &self.config);
        assert!(matches!(decision, Ok(ShouldAttempt::Yes)));
        strategy
    }

    pub fn begin_attempt(&mut self, attempt: u32) {
        self.config.interceptor_state().store_put(RequestAttempts::new(attempt));
    }

    /// Returns the wait after a 503.
    pub fn decide(&self, strategy: &StandardRetryStrategy) -> Option<Duration> {
        match strategy.should_attempt_retry(&self.unavailable, &self.components, &self.config) {
            Ok(ShouldAttempt::YesAfterDelay(wait)) => Some(wait),
            _ => None,
        }
    }

    /// Returns whether a 200 is the answer.
    pub fn succeed(&self, strategy: &StandardRetryStrategy) -> bool {
        matches!(strategy.should_attempt_retry(&self.ok, &self.components, &self.config), Ok(ShouldAttempt::No))
    }
}

fn context(status: u16, headers: &[Header]) -> InterceptorContext {
    let mut response = http::Response::new(SdkBody::empty());
    *response.status_mut() = status.try_into().expect("a status");
    *response.headers_mut() = workloads::header_map(headers);
    let mut context = InterceptorContext::new(Input::erase(()));
    context.set_response(response.try_into().expect("the headers are text"));
    context
}
