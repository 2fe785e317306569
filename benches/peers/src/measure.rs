//! Measures contenders side by side: in one process, in short batches, in rounds whose order rotates.
//!
//! This loop is our own because no benchmark library compares this way. `divan` and `criterion` run one contender after
//! the other, so a disturbance of the machine hits one of them only. `tango-bench` does alternate, but between two builds
//! of one program. Here every round measures each contender of a workload, and ratios are taken within a round.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// The least duration of a batch: long enough for the clock, short enough to fit between disturbances.
const BATCH: Duration = Duration::from_millis(1);

/// The number of states that a batch prepares at a time: few enough to stay in the processor's first cache, and enough
/// that reading the clock does not count.
const GROUP: u64 = 32;

/// One way to do the work of a workload.
pub struct Contender {
    pub name: &'static str,
    /// The work that the number covers, and the work that it does not.
    pub remark: &'static str,
    /// Repeats the operation so many times, and returns the time that this took.
    batch: Box<dyn FnMut(u64) -> Duration>,
}

impl Contender {
    /// Makes a contender whose operation can follow itself. Each batch ends with one operation more, and panics if
    /// `is_right` denies its result: so a contender that comes to decide otherwise is not measured.
    pub fn new<R>(
        name: &'static str,
        remark: &'static str,
        mut operation: impl FnMut() -> R + 'static,
        is_right: impl Fn(&R) -> bool + 'static,
    ) -> Contender {
        let batch = move |count| {
            let start = Instant::now();
            for _ in 0..count {
                black_box(operation());
            }
            let time = start.elapsed();
            assert!(is_right(&operation()), "{name} decides something else");
            time
        };
        Contender { name, remark, batch: Box::new(batch) }
    }

    /// Makes a contender whose operation uses its state up. The time to make and to drop states does not count. Each batch
    /// ends as above.
    pub fn on_fresh<S: 'static, R>(
        name: &'static str,
        remark: &'static str,
        mut make: impl FnMut() -> S + 'static,
        mut operation: impl FnMut(&mut S) -> R + 'static,
        is_right: impl Fn(&R) -> bool + 'static,
    ) -> Contender {
        let mut states = Vec::new();
        let batch = move |count: u64| {
            let mut time = Duration::ZERO;
            // Counts are powers of two: one below the group takes no time, and so is not enough.
            for _ in 0..count / GROUP {
                states.clear();
                states.extend((0..GROUP).map(|_| make()));
                let start = Instant::now();
                for state in &mut states {
                    black_box(operation(black_box(state)));
                }
                time += start.elapsed();
            }
            assert!(is_right(&operation(&mut make())), "{name} decides something else");
            time
        };
        Contender { name, remark, batch: Box::new(batch) }
    }
}

/// The time of a contender's operation, in nanoseconds.
#[derive(Clone, Copy)]
pub struct Figure {
    pub median: f64,
    pub quartiles: (f64, f64),
    /// The median of the ratios to the first contender of the same round.
    pub ratio: f64,
}

/// Measures the contenders of one workload, and returns a figure for each.
pub fn measure(contenders: &mut [Contender], rounds: usize) -> Vec<Figure> {
    let counts: Vec<u64> = contenders.iter_mut().map(calibrate).collect();
    let mut samples = vec![Vec::new(); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            let time = (contenders[index].batch)(counts[index]);
            samples[index].push(time.as_secs_f64() * 1e9 / counts[index] as f64);
        }
    }
    let first = samples[0].clone();
    samples.into_iter().map(|own| figure(own, &first)).collect()
}

/// Returns the number of operations in a batch, after a warm-up.
fn calibrate(contender: &mut Contender) -> u64 {
    let mut count = 1;
    while (contender.batch)(count) < BATCH {
        count *= 2;
    }
    count
}

fn figure(own: Vec<f64>, first: &[f64]) -> Figure {
    let ratios = own.iter().zip(first).map(|(own, first)| own / first).collect();
    let (low, median, high) = quartiles(own);
    Figure { median, quartiles: (low, high), ratio: quartiles(ratios).1 }
}

fn quartiles(mut samples: Vec<f64>) -> (f64, f64, f64) {
    samples.sort_by(f64::total_cmp);
    let at = |quarter: usize| samples[(samples.len() - 1) * quarter / 4];
    (at(1), at(2), at(3))
}
