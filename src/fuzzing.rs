//! The private readers, for fuzz targets and tests. This module is not part of the API.

/// Reads `WWW-Authenticate`.
pub mod challenge {
    pub use crate::reply::challenge::{BearerErrorCode, Challenges, Malformed, Part, Value, bearer_error};
}

/// Reads HTTP-dates.
pub mod http_date {
    pub use crate::reply::http_date::{HttpDate, year_of};
}

/// Reads structured fields.
pub mod structured_field {
    pub use crate::reply::structured_field::{Bare, Dictionary, List, Malformed, Member};
}
