//! What happens: answers of supernodes, and keys.

use std::io;

use flotilla_cluster::statistics_client::{List, Node, Swarm, Totals};
use ratatui::crossterm::event::Event as TerminalEvent;

use super::listing::Query;

/// What the drawing thread waits for.
pub(super) enum Event {
    Terminal(TerminalEvent),
    /// The terminal cannot be read any more.
    Gone(io::Error),
    Answer(Box<Answer>),
}

/// What a supernode answered, or why it did not.
#[derive(Debug)]
pub(super) struct Answer {
    /// The question.
    pub(super) query: Query,
    pub(super) result: Result<(Totals, Rows), String>,
}

/// Rows of one of the views.
#[derive(Clone, Debug)]
pub(super) enum Rows {
    Swarms(List<Swarm>),
    Nodes(List<Node>),
}
