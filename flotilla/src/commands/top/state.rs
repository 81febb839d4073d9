//! What is shown: a function of the answers, the keys and the size of the terminal.

use std::ops::ControlFlow;
use std::time::Instant;

use flotilla_cluster::statistics_client::Totals;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::columns;
use super::event::{Answer, Rows};
use super::listing::{Listing, Query, View};

/// Until the size of the terminal is known.
const ROWS: u16 = 20;

#[derive(Debug)]
pub(super) struct State {
    supernodes: Vec<String>,
    /// The one that is looked at.
    at: usize,
    view: View,
    swarms: Listing,
    nodes: Listing,
    pub(super) is_searching: bool,
    /// Rows of a table that fit.
    room: u16,
    pub(super) totals: Option<Totals>,
    /// Of [`Self::view`].
    pub(super) rows: Option<Rows>,
    pub(super) trouble: Option<Trouble>,
}

/// The supernode does not answer.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) since: Instant,
    /// What happened last.
    pub(super) reason: String,
}

impl State {
    pub(super) fn new(supernodes: Vec<String>) -> Self {
        Self {
            supernodes,
            at: 0,
            view: View::Swarms,
            swarms: Listing::new(View::Swarms, &columns::SWARM_KEYS, columns::BY_RATE),
            nodes: Listing::new(View::Nodes, &columns::NODE_KEYS, columns::BY_DOWN),
            is_searching: false,
            room: ROWS,
            totals: None,
            rows: None,
            trouble: None,
        }
    }

    /// What to ask.
    pub(super) fn query(&self) -> Query {
        self.listing().query(self.at, self.room)
    }

    /// The name of the supernode that is looked at, its number from 1 on, and how many there are.
    pub(super) fn supernode(&self) -> (&str, usize, usize) {
        let name = self.supernodes.get(self.at).map_or("", String::as_str);
        (name, self.at + 1, self.supernodes.len())
    }

    /// The list that is looked at.
    pub(super) fn listing(&self) -> &Listing {
        match self.view {
            View::Swarms => &self.swarms,
            View::Nodes => &self.nodes,
        }
    }

    fn listing_mut(&mut self) -> &mut Listing {
        match self.view {
            View::Swarms => &mut self.swarms,
            View::Nodes => &mut self.nodes,
        }
    }

    /// So many rows of a table fit.
    pub(super) fn handle_room(&mut self, rows: u16) {
        self.room = rows;
    }

    /// Takes an answer. One to another question than the present one tells the totals at most.
    pub(super) fn handle_answer(&mut self, answer: Answer, now: Instant) {
        if answer.query.supernode != self.at {
            return;
        }
        let (totals, rows) = match answer.result {
            Ok(result) => result,
            Err(reason) => {
                let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
                self.trouble = Some(Trouble { since, reason });
                return;
            }
        };
        self.trouble = None;
        self.totals = Some(totals);
        if answer.query == self.query() {
            let (page, pages, count) = match &rows {
                Rows::Swarms(list) => (list.page, list.pages, list.items.len()),
                Rows::Nodes(list) => (list.page, list.pages, list.items.len()),
            };
            self.listing_mut().arrived(page, pages, count);
            self.rows = Some(rows);
        }
    }

    /// Takes a key; breaks when it quits.
    pub(super) fn handle_key(&mut self, key: KeyEvent) -> ControlFlow<()> {
        if key.kind == KeyEventKind::Release {
            return ControlFlow::Continue(());
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && key.code == KeyCode::Char('c') {
            return ControlFlow::Break(());
        }
        if is_control || key.modifiers.contains(KeyModifiers::ALT) {
            return ControlFlow::Continue(());
        }
        match key.code {
            KeyCode::Up => self.listing_mut().up(),
            KeyCode::Down => self.listing_mut().down(),
            KeyCode::PageUp => self.turn(|list| list.page.saturating_sub(1)),
            KeyCode::PageDown => self.turn(|list| list.page.saturating_add(1)),
            KeyCode::Home => self.turn(|_| 1),
            KeyCode::End => self.turn(Listing::last_page),
            code if self.is_searching => self.handle_search(code),
            KeyCode::Char('q') | KeyCode::Esc => return ControlFlow::Break(()),
            KeyCode::Char('1') => self.look_at(View::Swarms),
            KeyCode::Char('2') => self.look_at(View::Nodes),
            KeyCode::Tab | KeyCode::BackTab => self.look_at(match self.view {
                View::Swarms => View::Nodes,
                View::Nodes => View::Swarms,
            }),
            KeyCode::Char('n') => self.ask_next_supernode(),
            KeyCode::Char('s') => self.listing_mut().sort_by_next(),
            KeyCode::Char('r') => self.listing_mut().reverse(),
            KeyCode::Char('/') => self.is_searching = true,
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn handle_search(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_searching = false,
            KeyCode::Esc => {
                self.is_searching = false;
                self.listing_mut().search_ended();
            }
            KeyCode::Backspace => self.listing_mut().erased(),
            KeyCode::Char(c) => self.listing_mut().typed(c),
            _ => {}
        }
    }

    fn turn(&mut self, to: impl Fn(&Listing) -> u64) {
        let list = self.listing_mut();
        list.turn_to(to(list));
    }

    fn look_at(&mut self, view: View) {
        if self.view != view {
            self.view = view;
            self.rows = None;
        }
    }

    fn ask_next_supernode(&mut self) {
        if self.supernodes.len() > 1 {
            self.at = (self.at + 1) % self.supernodes.len();
            (self.totals, self.rows, self.trouble) = (None, None, None);
            self.swarms.turn_to(1);
            self.nodes.turn_to(1);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use flotilla_cluster::statistics_client::{List, Node, Swarm};

    use super::*;

    pub(in crate::commands::top) fn press(state: &mut State, codes: &[KeyCode]) {
        for code in codes {
            assert!(state.handle_key(KeyEvent::from(*code)).is_continue());
        }
    }

    fn type_text(state: &mut State, text: &str) {
        press(state, &text.chars().map(KeyCode::Char).collect::<Vec<_>>());
    }

    /// Answers the present question with a page of these swarms.
    pub(in crate::commands::top) fn answer(
        state: &mut State,
        swarms: Vec<Swarm>,
        (page, pages): (u64, u64),
    ) {
        let list = List {
            total: swarms.len() as u64,
            page,
            pages,
            items: swarms,
        };
        let result = Ok((Totals::default(), Rows::Swarms(list)));
        let query = state.query();
        state.handle_answer(Answer { query, result }, Instant::now());
    }

    fn state() -> State {
        State::new(vec!["http://a/".to_owned(), "http://b/".to_owned()])
    }

    fn asks(state: &State, part: &str) -> bool {
        state.query().parameters().contains(part)
    }

    #[test]
    fn keys_choose_what_is_asked() {
        let mut state = state();
        assert!(asks(&state, "sort=rate&order=desc&page=1&per_page=20"));
        type_text(&mut state, "sr");
        assert!(asks(&state, "sort=time-left&order=asc"));
        press(&mut state, &[KeyCode::Tab]);
        assert_eq!(state.query().view, View::Nodes);
        assert!(asks(&state, "sort=down&order=desc"), "each list its own");
        type_text(&mut state, "1");
        assert_eq!(state.query().view, View::Swarms);
        answer(&mut state, vec![Swarm::default(); 2], (1, 3));
        press(&mut state, &[KeyCode::PageDown]);
        assert!(asks(&state, "page=2&"));
        press(&mut state, &[KeyCode::End, KeyCode::PageDown]);
        assert!(asks(&state, "page=3&"), "there is no fourth");
        press(&mut state, &[KeyCode::Home]);
        assert!(asks(&state, "page=1&"));
    }

    #[test]
    fn a_search_takes_the_keys_that_would_quit_and_esc_ends_it() {
        let mut state = state();
        type_text(&mut state, "/qs");
        assert!(asks(&state, "q=qs"));
        press(&mut state, &[KeyCode::Backspace, KeyCode::Enter]);
        assert!(asks(&state, "q=q") && !state.is_searching);
        type_text(&mut state, "/");
        press(&mut state, &[KeyCode::Esc]);
        assert!(!asks(&state, "q=") && !state.is_searching);
    }

    #[test]
    fn q_esc_and_control_c_quit_the_last_also_from_a_search() {
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert!(state().handle_key(KeyEvent::from(code)).is_break());
        }
        let mut state = state();
        type_text(&mut state, "/");
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(state.handle_key(control_c).is_break());
    }

    #[test]
    fn an_answer_to_an_earlier_question_does_not_become_the_list() {
        let mut state = state();
        let earlier = state.query();
        type_text(&mut state, "s");
        let result = Ok((Totals::default(), Rows::Swarms(List::default())));
        let late = Answer {
            query: earlier.clone(),
            result,
        };
        state.handle_answer(late, Instant::now());
        assert!(state.rows.is_none() && state.totals.is_some());
        type_text(&mut state, "n");
        assert!(state.totals.is_none(), "another supernode");
        let result = Err("away".to_owned());
        let query = earlier;
        state.handle_answer(Answer { query, result }, Instant::now());
        assert!(state.trouble.is_none(), "of the supernode before");
    }

    #[test]
    fn trouble_lasts_from_its_first_failure_to_the_next_answer_and_keeps_what_was_there() {
        let mut state = state();
        answer(&mut state, vec![Swarm::default()], (1, 1));
        let began = Instant::now();
        for (second, reason) in [(0, "refused"), (1, "silent")] {
            let result = Err(reason.to_owned());
            let query = state.query();
            let now = began + Duration::from_secs(second);
            state.handle_answer(Answer { query, result }, now);
        }
        let trouble = state.trouble.as_ref().unwrap();
        assert_eq!((trouble.since, trouble.reason.as_str()), (began, "silent"));
        assert!(state.rows.is_some());
        answer(&mut state, Vec::new(), (1, 1));
        assert!(state.trouble.is_none());
    }

    #[test]
    fn an_answer_of_the_other_list_is_not_shown_in_this_one() {
        let mut state = state();
        let swarms = state.query();
        press(&mut state, &[KeyCode::Tab]);
        let result = Ok((Totals::default(), Rows::Nodes(List::<Node>::default())));
        let query = state.query();
        state.handle_answer(Answer { query, result }, Instant::now());
        assert!(matches!(state.rows, Some(Rows::Nodes(_))));
        let result = Ok((Totals::default(), Rows::Swarms(List::default())));
        let late = Answer {
            query: swarms,
            result,
        };
        state.handle_answer(late, Instant::now());
        assert!(matches!(state.rows, Some(Rows::Nodes(_))));
    }
}
