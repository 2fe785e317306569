//! Policies of well-known services, as data.

use crate::policy::Policy;

/// Returns the preset with the name of its function, as the trace format writes it.
#[cfg(feature = "replay")]
pub(crate) fn named(name: &str) -> Option<Policy> {
    Some(match name {
        "flextell" => Policy::flextell(),
        "common" => Policy::common(),
        _ => return None,
    })
}
