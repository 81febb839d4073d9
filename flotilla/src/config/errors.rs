//! What is wrong with the command line or the configuration.

/// Everything that is wrong, one line each. The program then ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub(crate) struct ConfigErrors(pub(crate) Vec<String>);
