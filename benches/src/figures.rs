//! Samples, and what is said about them: medians and percentiles, never means, because a machine that others use too adds
//! to single samples what it likes.

use serde::{Deserialize, Serialize};

/// What a set of samples says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// How many samples there were.
    pub count: usize,
    /// A tenth of them was below.
    pub p10: f64,
    /// The median.
    pub p50: f64,
    /// A tenth of them was above.
    pub p90: f64,
    /// One in a hundred was above.
    pub p99: f64,
    /// One in a thousand was above.
    pub p999: f64,
    /// The largest one.
    pub max: f64,
    /// The percentiles 0 to 100, for plots.
    pub curve: Vec<f64>,
}

impl Figures {
    /// The figures of some samples; `None` when there are none.
    ///
    /// ```
    /// use whizbang_benches::figures::Figures;
    ///
    /// let figures = Figures::of((0..=1_000).map(f64::from).collect()).unwrap();
    /// assert_eq!((figures.p10, figures.p50, figures.p99, figures.max), (100.0, 500.0, 990.0, 1_000.0));
    /// assert!(Figures::of(Vec::new()).is_none());
    /// ```
    pub fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let last = samples.len().checked_sub(1)?;
        let at = |part: f64| samples[(last as f64 * part).round() as usize];
        let curve = (0..=100).map(|percent| at(f64::from(percent) / 100.0)).collect();
        Some(Self {
            count: samples.len(),
            p10: at(0.1),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: samples[last],
            curve,
        })
    }
}
