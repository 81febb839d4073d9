//! Programs that were started here: their logs, their cost, their end.

pub(crate) mod deadline;
pub(crate) mod flotilla_process;
pub(crate) mod interruption;
pub(crate) mod process;
