//! Policies of well-known services, as data.
//!
//! Each function returns the rules that a service documents or that its own client libraries follow. Its documentation
//! names the source of each number, and has a line for each rule that the policy cannot reproduce.
//!
//! | preset | retried | back-off | retries |
//! |---|---|---|---|
//! | [`flextell`] | 429, 500, 503 | 1 s × 2 ≤ 60 s, ± 500 ms | 5 |
//! | [`common`] | 408, 425, 429, 500, 502–504, 520–524, 529; 403 with a hint | 1 s × 2 ≤ 60 s, ± 500 ms | 5 |
//! | [`aws_standard`] | 429, 500, 502–504 | 50 ms × 2 ≤ 20 s, full; throttles from 1 s | 2 |
//! | [`azure`] | 408, 429, 500, 502–504 | 400 ms × 2 ≤ 30 s, up to 255 ms more | 8 |
//! | [`google`] | 503 | 1 s × 2 ≤ 60 s, full | 5 |
//! | [`grpc`] | UNAVAILABLE | 100 ms × 2 ≤ 1 s, ± 20 % | 3 |
//! | [`kubernetes`] | 429, 500–599, both with a hint only | 1 s, exact | 10 |
//! | [`microsoft_graph`] | 429, 503, 504, 509 | 3 s × 2 ≤ 180 s, up to 1 s more | 3 |
//! | [`github`] | 429, 500, 502–504; 403 with a hint | 1 s × 2 ≤ 60 s; throttles from 60 s; up to 500 ms more | 5 |
//! | [`discord`] | 429, 500–599 | 1 s × 2 ≤ 60 s, ± 500 ms | 3, and 10 after throttles |
//! | [`shopify`] | as [`common`] | as [`common`] | 5 |
//! | [`slack`] | as [`common`] | as [`common`] | 5 |
//! | [`stripe`] | 409, 500–599 | 500 ms × 2 ≤ 5 s, half of it jitter | 2 |
//! | [`openai`] | 408, 409, 429, 500–599 | 500 ms × 2 ≤ 8 s, up to 25 % less | 2 |
//! | [`anthropic`] | 408, 409, 429, 500–599 | 500 ms × 2 ≤ 8 s, up to 25 % less | 2 |
//!
//! A preset is a start. The builder changes any of its settings:
//!
//! ```
//! use core::time::Duration;
//! use retry_machine::presets;
//!
//! let policy = presets::github().into_builder().max_retries(3).deadline(Some(Duration::from_secs(90))).build()?;
//! assert_eq!(policy.max_retries(), 3);
//! # Ok::<(), retry_machine::PolicyError>(())
//! ```
//!
//! # All presets
//!
//! - A service that answers with an error inside a 200, or whose body says more than its status, needs one line of the
//!   driver: [`Reply::with_verdict`](crate::Reply::with_verdict) or [`Reply::with_hint`](crate::Reply::with_hint). Each
//!   preset shows its own.
//! - A service with several limits (for each route, method, shop or model) needs one [`Upstream`](crate::Upstream) for
//!   each of them.
//! - A wait that the server asks for is never shortened, ignored or clamped (rule L1). Beyond the longest server wait
//!   the request fails (rule L3), also where a vendor's library would use its own back-off.
//! - After a throttle the hint decides alone, also where the back-off is longer (rule L2). Up to 500 ms are added, so
//!   that clients that were told the same time come back apart;
//!   [`jitter_spread`](crate::PolicyBuilder::jitter_spread) changes that.
//! - No preset paces first attempts by a rate: only a closed gate holds them.
//! - Where a library repeats every request, *retry if safe* repeats those that are safe. Give the others an idempotency
//!   key, if the service knows such keys, and start them as [idempotent](crate::Idempotency::Idempotent).
//! - Budget, token and gate are those of [`common`], unless the preset says otherwise.

#![allow(clippy::doc_markdown, reason = "the names of services are not code")]

mod cloud;
mod cluster;
mod models;
mod services;

use crate::policy::{Policy, PolicyBuilder};

/// Lists the presets in one place: the functions of the other files are public because this list names them.
macro_rules! list {
    ($($file:ident: $($name:ident),+;)+) => {
        $(pub use self::$file::{$($name),+};)+

        /// All presets, with the names of their functions.
        pub const ALL: &[(&str, fn() -> Policy)] = &[
            ("flextell", flextell),
            ("common", common),
            $($((stringify!($name), $name),)+)+
        ];
    };
}

list! {
    cloud: aws_standard, azure, google, microsoft_graph;
    cluster: grpc, kubernetes;
    services: github, discord, shopify, slack, stripe;
    models: openai, anthropic;
}

/// Returns the preset with the name of its function, for programs that take the name from their settings.
///
/// ```
/// use retry_machine::presets;
///
/// assert_eq!(presets::named("github"), Some(presets::github()));
/// assert_eq!(presets::named("GitHub"), None);
/// ```
#[must_use]
pub fn named(name: &str) -> Option<Policy> {
    ALL.iter().find(|(own, _)| *own == name).map(|(_, preset)| preset())
}

/// Returns [`Policy::flextell`]: the error-handling guide of the Flextell API.
#[must_use]
pub const fn flextell() -> Policy {
    Policy::flextell()
}

/// Returns [`Policy::common`]: common practice for other APIs.
///
/// A rate limit with nothing left is a hint, on a 500 as well. For a service that sends its rate limit with every
/// response, make 5xx [retry if safe](crate::StatusMeaning::RetryIfSafe) with a hint too, as [`github`] does.
#[must_use]
pub const fn common() -> Policy {
    Policy::common()
}

/// Builds a preset in a constant: a setting that the builder refuses does not compile.
const fn built(builder: PolicyBuilder) -> Policy {
    match builder.build() {
        Ok(policy) => policy,
        Err(_) => panic!("a preset has a setting that the builder refuses"),
    }
}
