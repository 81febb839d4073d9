//! The columns of both tables.

use std::time::Duration;

use flotilla_cluster::statistics_client::{Node, Swarm};
use indicatif::BinaryBytes;

use super::cell_text::cell_text;

/// Digits of a digest that tell layers apart.
const DIGITS: usize = 12;

/// What swarms are sorted by, in the API's words, as the key `s` goes through them.
pub(super) const SWARM_KEYS: [&str; 8] = [
    "name",
    "size",
    "seeders",
    "leechers",
    "progress",
    "rarest",
    "rate",
    "time-left",
];
pub(super) const BY_RATE: usize = 6;

/// What nodes are sorted by.
pub(super) const NODE_KEYS: [&str; 8] = [
    "name",
    "address",
    "version",
    "swarms",
    "down",
    "up",
    "cache",
    "last-heard",
];
pub(super) const BY_DOWN: usize = 4;

/// One column of a table of `T`.
pub(super) struct Column<T> {
    pub(super) title: &'static str,
    /// What the API sorts it by.
    pub(super) key: Option<&'static str>,
    pub(super) width: Width,
    /// In narrower terminals it is left out.
    pub(super) least_terminal: u16,
    pub(super) text: fn(&T) -> String,
}

/// Cells.
#[derive(Clone, Copy)]
pub(super) enum Width {
    /// What is left, and to the left.
    Rest,
    /// So many, to the left.
    Text(u16),
    /// So many, to the right.
    Number(u16),
}

pub(super) const SWARMS: [Column<Swarm>; 11] = [
    column("NAME", Some("name"), Width::Rest, 0, |swarm| {
        named(&swarm.name)
    }),
    column("DIGEST", None, Width::Text(12), 100, |swarm| {
        let digits = swarm.content.rsplit(':').next().unwrap_or_default();
        let digits: String = digits.chars().take(DIGITS).collect();
        cell_text(&digits)
    }),
    column("SIZE", Some("size"), Width::Number(11), 0, |swarm| {
        bytes(swarm.size_bytes)
    }),
    column("PHASE", None, Width::Text(9), 115, |swarm| {
        cell_text(&swarm.phase)
    }),
    column("SEED", Some("seeders"), Width::Number(6), 70, |swarm| {
        swarm.seeders.to_string()
    }),
    column("LEECH", Some("leechers"), Width::Number(6), 70, |swarm| {
        swarm.leechers.to_string()
    }),
    column("DONE", Some("progress"), Width::Number(7), 0, |swarm| {
        format!("{:.1} %", swarm.progress * 100.0)
    }),
    column("RAREST", Some("rarest"), Width::Number(7), 105, |swarm| {
        swarm.rarest_copies.to_string()
    }),
    column("RATE", Some("rate"), Width::Number(13), 0, |swarm| {
        rate(swarm.download_bytes_per_second)
    }),
    column("LEFT", Some("time-left"), Width::Number(7), 85, |swarm| {
        let left = swarm.time_left_seconds;
        left.map_or_else(|| "–".to_owned(), duration)
    }),
    column("FROM REGISTRY", None, Width::Text(20), 140, why_registry),
];

pub(super) const NODES: [Column<Node>; 8] = [
    column("NAME", Some("name"), Width::Rest, 0, |node| {
        named(&node.name)
    }),
    column("ADDRESS", Some("address"), Width::Text(22), 85, |node| {
        node.address
            .as_deref()
            .map_or_else(|| "–".to_owned(), cell_text)
    }),
    column("VERSION", Some("version"), Width::Text(10), 110, |node| {
        cell_text(&node.version)
    }),
    column("SWARMS", Some("swarms"), Width::Number(7), 70, |node| {
        node.swarms.to_string()
    }),
    column("DOWN", Some("down"), Width::Number(13), 0, |node| {
        rate(node.download_bytes_per_second)
    }),
    column("UP", Some("up"), Width::Number(13), 0, |node| {
        rate(node.upload_bytes_per_second)
    }),
    column("CACHE", Some("cache"), Width::Number(11), 95, |node| {
        bytes(node.cache_bytes)
    }),
    column("HEARD", Some("last-heard"), Width::Text(15), 0, |node| {
        let ago = duration(node.last_heard_seconds);
        let silent = if node.is_heard { "" } else { " silent" };
        format!("{ago} ago{silent}")
    }),
];

const fn column<T>(
    title: &'static str,
    key: Option<&'static str>,
    width: Width,
    least_terminal: u16,
    text: fn(&T) -> String,
) -> Column<T> {
    Column {
        title,
        key,
        width,
        least_terminal,
        text,
    }
}

fn named(name: &str) -> String {
    if name.is_empty() {
        "(unnamed)".to_owned()
    } else {
        cell_text(name)
    }
}

/// Why bytes came from the registry.
fn why_registry(swarm: &Swarm) -> String {
    match &swarm.registry_reason {
        Some(reason) => cell_text(reason),
        None if swarm.first_copy_bytes > 0 => "the first copy".to_owned(),
        None => "–".to_owned(),
    }
}

pub(super) fn bytes(count: u64) -> String {
    BinaryBytes(count).to_string()
}

pub(super) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", BinaryBytes(bytes_per_second))
}

/// At most six characters for anything below three years, in its two largest units.
pub(super) fn duration(seconds: u64) -> String {
    const UNITS: [(u64, char); 4] = [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')];
    let whole = Duration::from_secs(seconds).as_secs();
    let largest = UNITS.iter().position(|(unit, _)| whole >= *unit);
    let mut units = UNITS.iter().skip(largest.unwrap_or(UNITS.len() - 1));
    let (Some((unit, letter)), below) = (units.next(), units.next()) else {
        return String::new();
    };
    let below = below.filter(|(smaller, _)| whole % unit >= *smaller);
    let below = below.map(|(smaller, letter)| format!("{}{letter}", whole % unit / smaller));
    format!("{}{letter}{}", whole / unit, below.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m59s"),
            (3600 + 59, "1h"),
            (86_400 + 7200, "1d2h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert!(!duration(u64::MAX).is_empty());
    }

    #[test]
    fn s_goes_through_the_columns_that_can_be_sorted_as_they_stand() {
        let keys: Vec<_> = SWARMS.iter().filter_map(|column| column.key).collect();
        assert_eq!(
            (keys.as_slice(), SWARM_KEYS[BY_RATE]),
            (&SWARM_KEYS[..], "rate")
        );
        let keys: Vec<_> = NODES.iter().filter_map(|column| column.key).collect();
        assert_eq!(
            (keys.as_slice(), NODE_KEYS[BY_DOWN]),
            (&NODE_KEYS[..], "down")
        );
    }

    #[test]
    fn digests_are_short_and_names_are_harmless() {
        let swarm = Swarm {
            name: "reg.test/\u{1b}[31m".to_owned(),
            content: format!("url-sha256:{}", "ab".repeat(32)),
            ..Swarm::default()
        };
        let texts: Vec<_> = SWARMS.iter().map(|column| (column.text)(&swarm)).collect();
        assert_eq!(texts[..2], ["reg.test/\\u{1b}[31m", "abababababab"]);
    }
}
