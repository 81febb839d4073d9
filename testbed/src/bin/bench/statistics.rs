//! Figures of repeated measurements.

use std::time::Duration;

/// The middle one, in seconds.
pub(crate) fn median(times: &[Duration]) -> f64 {
    let seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
    middle(&seconds)
}

/// The middle one of any numbers.
pub(crate) fn middle(numbers: &[f64]) -> f64 {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// Every one, in seconds, in the order in which they were measured.
pub(crate) fn all(times: &[Duration]) -> String {
    let times = times.iter().map(Duration::as_secs_f64);
    let times: Vec<String> = times.map(|time| format!("{time:.2}")).collect();
    times.join(" ")
}
