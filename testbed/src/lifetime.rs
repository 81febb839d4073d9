//! When a testbed and its programs end.

/// How long a testbed lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is dropped; its programs die with the thread that started them.
    Process,
    /// Until it is dropped, or, after [`keep`](crate::Testbed::keep), until [`crate::stop_kept`].
    UntilStopped,
}
