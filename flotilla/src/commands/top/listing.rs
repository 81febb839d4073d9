//! Which rows of which list are looked at; the supernode searches, sorts and pages.

use url::form_urlencoded;

/// Longest search that the API looks at, in characters.
pub(super) const MAX_SEARCH: usize = 255;
/// Rows on a page, however large the terminal is: such an answer is read whole.
const MAX_ROWS: u16 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Swarms,
    Nodes,
}

/// A question to a supernode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// Its place in the list of supernodes.
    pub(super) supernode: usize,
    pub(super) view: View,
    sort: &'static str,
    is_descending: bool,
    page: u64,
    rows: u16,
    search: String,
}

impl Query {
    /// As `/api/v1/` takes them.
    pub(super) fn parameters(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("sort", self.sort);
        query.append_pair("order", if self.is_descending { "desc" } else { "asc" });
        query.append_pair("page", &self.page.to_string());
        query.append_pair("per_page", &self.rows.to_string());
        if !self.search.is_empty() {
            query.append_pair("q", &self.search);
        }
        query.finish()
    }
}

/// A list as it is looked at.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) view: View,
    /// What the API can sort it by.
    keys: &'static [&'static str],
    sorted_by: usize,
    pub(super) is_descending: bool,
    /// From 1 on.
    pub(super) page: u64,
    /// As the last answer said.
    pages: u64,
    /// The marked row of the page, and how many there are.
    pub(super) row: usize,
    rows: usize,
    pub(super) search: String,
}

impl Listing {
    /// A list that is sorted by the key of this place, largest first.
    pub(super) fn new(view: View, keys: &'static [&'static str], sorted_by: usize) -> Self {
        Self {
            view,
            keys,
            sorted_by,
            is_descending: true,
            page: 1,
            pages: 1,
            row: 0,
            rows: 0,
            search: String::new(),
        }
    }

    pub(super) fn sort_key(&self) -> &'static str {
        self.keys.get(self.sorted_by).copied().unwrap_or("name")
    }

    /// The question for these rows, when so many fit.
    pub(super) fn query(&self, supernode: usize, rows: u16) -> Query {
        Query {
            supernode,
            view: self.view,
            sort: self.sort_key(),
            is_descending: self.is_descending,
            page: self.page,
            rows: rows.clamp(1, MAX_ROWS),
            search: self.search.trim().to_owned(),
        }
    }

    /// The answer has `rows` rows, on this page of so many.
    pub(super) fn arrived(&mut self, page: u64, pages: u64, rows: usize) {
        self.pages = pages.max(1);
        self.page = page.clamp(1, self.pages);
        self.rows = rows;
        self.row = self.row.min(rows.saturating_sub(1));
    }

    pub(super) fn sort_by_next(&mut self) {
        self.sorted_by = (self.sorted_by + 1) % self.keys.len().max(1);
        self.turn_to(1);
    }

    pub(super) fn reverse(&mut self) {
        self.is_descending = !self.is_descending;
        self.turn_to(1);
    }

    /// Up to the last row of the page before.
    pub(super) fn up(&mut self) {
        if self.row > 0 {
            self.row -= 1;
        } else if self.page > 1 {
            self.turn_to(self.page - 1);
            self.row = usize::from(MAX_ROWS);
        }
    }

    /// Down to the first row of the page after.
    pub(super) fn down(&mut self) {
        if self.row + 1 < self.rows {
            self.row += 1;
        } else if self.page < self.pages {
            self.turn_to(self.page + 1);
        }
    }

    /// To a page, or the last one.
    pub(super) fn turn_to(&mut self, page: u64) {
        self.page = page.clamp(1, self.pages);
        self.row = 0;
    }

    pub(super) fn last_page(&self) -> u64 {
        self.pages
    }

    pub(super) fn typed(&mut self, c: char) {
        if self.search.chars().count() < MAX_SEARCH {
            self.search.push(c);
            self.turn_to(1);
        }
    }

    pub(super) fn erased(&mut self) {
        self.search.pop();
        self.turn_to(1);
    }

    pub(super) fn search_ended(&mut self) {
        self.search.clear();
        self.turn_to(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_cannot_change_the_question() {
        let mut list = Listing::new(View::Swarms, &["rate"], 0);
        for c in "a&page=9 ö".chars() {
            list.typed(c);
        }
        assert_eq!(
            list.query(0, 7).parameters(),
            "sort=rate&order=desc&page=1&per_page=7&q=a%26page%3D9+%C3%B6"
        );
    }

    #[test]
    fn the_marked_row_walks_over_pages_and_stays_in_the_list() {
        let mut list = Listing::new(View::Nodes, &["name"], 0);
        list.up();
        assert_eq!((list.page, list.row), (1, 0));
        list.arrived(1, 2, 2);
        list.down();
        assert_eq!((list.page, list.row), (1, 1));
        list.down();
        assert_eq!((list.page, list.row), (2, 0));
        list.arrived(2, 2, 1);
        list.down();
        assert_eq!((list.page, list.row), (2, 0));
        list.up();
        list.arrived(1, 2, 2);
        assert_eq!((list.page, list.row), (1, 1));
        // The list has become shorter.
        list.turn_to(2);
        list.arrived(1, 1, 1);
        assert_eq!((list.page, list.row), (1, 0));
    }

    #[test]
    fn no_terminal_asks_for_more_rows_than_are_read() {
        let list = Listing::new(View::Nodes, &["name"], 0);
        assert!(
            list.query(0, u16::MAX)
                .parameters()
                .contains("per_page=100")
        );
        assert!(list.query(0, 0).parameters().contains("per_page=1"));
    }

    #[test]
    fn a_search_has_an_end() {
        let mut list = Listing::new(View::Nodes, &["name"], 0);
        for _ in 0..1000 {
            list.typed('x');
        }
        assert_eq!(list.search.len(), MAX_SEARCH);
    }
}
