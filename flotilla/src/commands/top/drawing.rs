//! Draws a [`State`].

use std::time::Instant;

use flotilla_cluster::statistics_client::{Chart, Totals};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect, Size};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, TableState};

use super::cell_text::cell_text;
use super::columns::{self, Column, Width};
use super::event::Rows;
use super::listing::View;
use super::state::State;

/// Lines of text above the chart.
const HEADER: u16 = 3;
/// A chart of one line less says nothing.
const CHART: u16 = 4;
/// Terminals of fewer lines have no chart, so that rows fit.
const MIN_HEIGHT_FOR_CHART: u16 = 16;
/// The line of the list, and the titles of its columns.
const ABOVE_ROWS: u16 = 2;
const FOOTER: u16 = 1;

const KEYS: &str =
    "q quit  1 swarms  2 nodes  ↑↓ PgUp PgDn rows, pages  s sort  r reverse  / search";

/// Rows of a table that fit into a terminal of this size.
pub(super) fn rows_in(size: Size) -> u16 {
    let [_, _, rows, _] = areas(Rect::from((ratatui::layout::Position::ORIGIN, size)));
    rows.height.saturating_sub(ABOVE_ROWS)
}

/// Header, chart, list and footer.
fn areas(area: Rect) -> [Rect; 4] {
    let chart = if area.height >= MIN_HEIGHT_FOR_CHART {
        CHART
    } else {
        0
    };
    Layout::vertical([
        Constraint::Length(HEADER),
        Constraint::Length(chart),
        Constraint::Min(0),
        Constraint::Length(FOOTER),
    ])
    .areas(area)
}

pub(super) fn draw(frame: &mut Frame<'_>, state: &State, now: Instant) {
    let [header, chart, list, footer] = areas(frame.area());
    frame.render_widget(Paragraph::new(header_lines(state)), header);
    if let Some(totals) = &state.totals {
        draw_chart(frame, &totals.chart, chart);
    }
    let [title, table] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(list);
    frame.render_widget(list_line(state), title);
    match &state.rows {
        Some(Rows::Swarms(list)) => {
            draw_table(frame, state, &columns::SWARMS, &list.items, table);
        }
        Some(Rows::Nodes(list)) => draw_table(frame, state, &columns::NODES, &list.items, table),
        None => {}
    }
    frame.render_widget(last_line(state, now), footer);
}

fn bold(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Style::new().add_modifier(Modifier::BOLD))
}

fn header_lines(state: &State) -> Vec<Line<'static>> {
    let (supernode, number, of) = state.supernode();
    let mut first = vec![
        bold("flotilla top"),
        Span::raw("  "),
        bold(cell_text(supernode)),
    ];
    if of > 1 {
        first.push(Span::raw(format!(" ({number} of {of}, n: the next)")));
    }
    let Some(totals) = &state.totals else {
        return vec![Line::from(first)];
    };
    let Totals {
        nodes,
        silent_nodes,
        leechers,
        layers,
        complete_layers,
        now,
        ..
    } = totals;
    first.push(Span::raw(format!(
        "  version {}, up {}",
        cell_text(&totals.version),
        columns::duration(totals.uptime_seconds)
    )));
    let arriving = layers.saturating_sub(*complete_layers);
    let rate = columns::rate;
    vec![
        Line::from(first),
        Line::raw(format!(
            "nodes {nodes} ({silent_nodes} silent)  layers {layers} ({arriving} arriving)  downloads {leechers}  saved in the last hour {}",
            columns::bytes(totals.last_hour.saved_bytes)
        )),
        Line::raw(format!(
            "now: registry {}  supernodes {}  nodes {}",
            rate(now.from_registry_bytes_per_second),
            rate(now.from_supernode_bytes_per_second),
            rate(now.from_peers_bytes_per_second)
        )),
    ]
}

fn draw_chart(frame: &mut Frame<'_>, chart: &Chart, area: Rect) {
    let rates = throughput(chart);
    let most = rates.iter().copied().max().unwrap_or(0);
    let [title, bars] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let title_text = format!(
        "to nodes, the last {}: at most {}",
        columns::duration(chart.slot_seconds.saturating_mul(rates.len() as u64)),
        columns::rate(most)
    );
    frame.render_widget(Line::raw(title_text), title);
    // The newest is at the right edge, also when not all fit.
    let shown = rates.len().min(usize::from(bars.width));
    let newest = rates.get(rates.len() - shown..).unwrap_or_default();
    frame.render_widget(Sparkline::default().data(newest).max(most.max(1)), bars);
}

/// Bytes per second that nodes received, oldest first.
fn throughput(chart: &Chart) -> Vec<u64> {
    let from_supernode = chart.from_supernode_bytes.iter();
    let sums = from_supernode.zip(&chart.from_peers_bytes);
    let mut rates: Vec<u64> = sums
        .map(|(one, other)| one.saturating_add(*other) / chart.slot_seconds.max(1))
        .collect();
    // The last slot is still being filled.
    rates.pop();
    rates
}

fn list_line(state: &State) -> Line<'static> {
    let list = state.listing();
    let total = match &state.rows {
        Some(Rows::Swarms(rows)) => Some((rows.total, rows.pages)),
        Some(Rows::Nodes(rows)) => Some((rows.total, rows.pages)),
        None => None,
    };
    let tab = |view, text: &str| {
        let chosen = Style::new().add_modifier(Modifier::REVERSED);
        let style = if list.view == view {
            chosen
        } else {
            Style::new()
        };
        Span::styled(format!(" {text} "), style)
    };
    let mut spans = vec![tab(View::Swarms, "1 swarms"), tab(View::Nodes, "2 nodes")];
    let direction = if list.is_descending {
        "descending"
    } else {
        "ascending"
    };
    spans.push(Span::raw(match total {
        Some((total, pages)) => format!(
            "  {total}, page {} of {pages}, by {}, {direction}",
            list.page,
            list.sort_key()
        ),
        None => "  …".to_owned(),
    }));
    if state.is_searching || !list.search.is_empty() {
        let cursor = if state.is_searching { "_" } else { "" };
        spans.push(bold(format!("  /{}{cursor}", cell_text(&list.search))));
    }
    Line::from(spans)
}

fn draw_table<T>(
    frame: &mut Frame<'_>,
    state: &State,
    columns: &[Column<T>],
    items: &[T],
    area: Rect,
) {
    let list = state.listing();
    let shown = || {
        columns
            .iter()
            .filter(|column| column.least_terminal <= area.width)
    };
    let widths = shown().map(|column| match column.width {
        Width::Rest => Constraint::Fill(1),
        Width::Text(cells) | Width::Number(cells) => Constraint::Length(cells),
    });
    let titles = shown().map(|column| {
        let is_sorted = column.key == Some(list.sort_key());
        let mark = match (is_sorted, list.is_descending) {
            (false, _) => "",
            (true, true) => "↓",
            (true, false) => "↑",
        };
        cell(column, format!("{}{mark}", column.title))
    });
    let titles = Row::new(titles).style(Style::new().add_modifier(Modifier::BOLD));
    let rows = items
        .iter()
        .map(|item| Row::new(shown().map(|column| cell(column, (column.text)(item)))));
    let table = Table::new(rows, widths)
        .header(titles)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let marked = (!items.is_empty()).then_some(list.row);
    let mut marked = TableState::default().with_selected(marked);
    frame.render_stateful_widget(table, area, &mut marked);
}

fn cell<T>(column: &Column<T>, text: String) -> Cell<'static> {
    let alignment = match column.width {
        Width::Rest | Width::Text(_) => Alignment::Left,
        Width::Number(_) => Alignment::Right,
    };
    Cell::new(Line::raw(text).alignment(alignment))
}

fn last_line(state: &State, now: Instant) -> Line<'static> {
    match &state.trouble {
        None if state.totals.is_none() => Line::raw("asking …  q quit"),
        None if state.is_searching => Line::raw("Enter keep the search  Esc end it  Ctrl-C quit"),
        None => Line::raw(KEYS),
        Some(trouble) => {
            let since = now.saturating_duration_since(trouble.since).as_secs();
            let text = format!(
                "no answer for {}, trying again: {}",
                columns::duration(since),
                cell_text(&trouble.reason)
            );
            Line::styled(text, Style::new().add_modifier(Modifier::REVERSED))
        }
    }
}

#[cfg(test)]
mod tests;
