//! Changing how transactions are sampled while the program runs.

use crate::error::ConfigError;
use crate::guard;
use crate::sampling::{Sampling, live};

/// Changes how transactions are sampled from now on: rate, sampler, rules, cap and floor. `change`
/// gets what is in force; what it leaves there is checked, and then applies to every transaction
/// that starts later, on any thread. One that is open goes on as it began.
///
/// `change` may be called more than once, if another thread changes the sampling at the same
/// moment. Caps and floors that stay as they were go on counting. A `traces_sample_rate` of `None`
/// keeps nothing, as 0 does. Allocates, and takes some time for many rules; threads that record
/// never wait for it.
///
/// # Errors
/// What is wrong with the new sampling ([`ConfigError::is_sampling`]), the old one stays in force;
/// nothing is sampled ([`ConfigError::is_not_running`]): the library is not running, or `init` had
/// neither a rate, nor a sampler, nor rules, or nowhere to send to.
///
/// ```
/// use hotspan::{Config, Delivery, Rule};
///
/// let guard = hotspan::init(Config {
///     transport: Delivery::Null,
///     traces_sample_rate: Some(0.01),
///     ..Config::default()
/// })?;
/// hotspan::reconfigure(|sampling| {
///     sampling.traces_sample_rate = Some(0.5);
///     let health = Rule { op: Some("health*".into()), rate: Some(0.0), ..Rule::default() };
///     sampling.rules.push(health);
/// })?;
/// assert_eq!(hotspan::sampling().unwrap().traces_sample_rate, Some(0.5));
/// # drop(guard);
/// # Ok::<(), hotspan::ConfigError>(())
/// ```
pub fn reconfigure(change: impl FnMut(&mut Sampling)) -> Result<(), ConfigError> {
    match live::change(change) {
        Ok(true) => {
            changed();
            Ok(())
        }
        Ok(false) => Err(ConfigError::not_running()),
        Err(error) => Err(ConfigError::sampling(error)),
    }
}

/// Has caps and floors that are new be looked after.
pub(crate) fn changed() {
    if let Some(client) = guard::client() {
        client.nudge();
    }
}

/// How transactions are sampled now; `None` while nothing is. Allocates a copy.
#[must_use]
pub fn sampling() -> Option<Sampling> {
    live::source()
}
