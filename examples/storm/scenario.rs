//! A row of the matrix.

use crate::bounds::Bounds;
use crate::clients::Clients;
use crate::service::Kind;
use crate::simulation::Trouble;

#[derive(Clone, Debug)]
pub struct Scenario {
    pub group: Group,
    pub name: String,
    pub sharing: Sharing,
    pub clients: Clients,
    pub service: Kind,
    pub trouble: Trouble,
    /// The second in which a fleet begins its first request.
    pub begins: u64,
    /// The length of the run in virtual seconds.
    pub seconds: u64,
    pub bounds: Bounds,
    /// Whether the small matrix has the row.
    pub is_telling: bool,
}

/// The kind of scenario: it decides the figures that a cell shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    Disturbance,
    Limit,
    Errors,
    Quiet,
    ColdStart,
    Trouble,
}

/// The clients that share an upstream value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Each client has its own.
    Own,
    /// So many share one.
    By(u32),
    /// There are so many, one for each process.
    Processes(u32),
}

impl Group {
    pub const ALL: [Group; 6] =
        [Group::Disturbance, Group::Limit, Group::Errors, Group::Quiet, Group::ColdStart, Group::Trouble];

    pub fn title(self) -> &'static str {
        match self {
            Group::Disturbance => "A service that is disturbed for a minute",
            Group::Limit => "Honest limits, workers without a pause",
            Group::Errors => "Random errors",
            Group::Quiet => "Quiet clients",
            Group::ColdStart => "Cold starts and batches",
            Group::Trouble => "Requests that end while they wait, late drivers and mixed clients",
        }
    }

    /// Returns the meaning of the figures in a cell.
    pub fn legend(self) -> &'static str {
        match self {
            Group::Disturbance => "recovers · lost (+ still waiting) · p99 · attempts per request",
            Group::Limit | Group::Trouble => "use of the limit · worst latency · lost requests · 429s",
            Group::Errors => "lost · attempts per request",
            Group::Quiet => "succeeded · worst latency",
            Group::ColdStart => "last success · lost requests · 429s",
        }
    }
}

impl Scenario {
    /// Returns the number of upstream values.
    pub fn upstreams(&self) -> u32 {
        match self.sharing {
            Sharing::Own => self.clients.count(),
            Sharing::By(number) => self.clients.count().div_ceil(number),
            Sharing::Processes(number) => number,
        }
    }

    /// Returns the sharing as words.
    pub fn sharing(&self) -> String {
        match self.sharing {
            Sharing::Own => "own".into(),
            Sharing::By(10_000) => "10,000".into(),
            Sharing::By(number) => number.to_string(),
            Sharing::Processes(1) => format!("1 process of {}", self.clients.count()),
            Sharing::Processes(number) => format!("{number} processes of {}", self.clients.count() / number),
        }
    }
}
