//! Searching, sorting and paging.

use std::cmp::Ordering;

use flotilla_torrents::{InfoHash, PeerId};
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::rows::{NodeRow, PartRow, SwarmRow};
use super::schema::parameter;

/// Rows on a page when none are asked for, and at most.
const ROWS: usize = 50;
const MAX_ROWS: usize = 200;
/// Longest search text that is looked at, in characters.
const MAX_SEARCH_LENGTH: usize = 255;

/// Which rows of a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Choice<K> {
    /// Only rows that hold this text, in either case.
    pub(crate) q: String,
    pub(crate) sort: Option<K>,
    pub(crate) order: Order,
    /// From 1 on.
    pub(crate) page: Option<usize>,
    pub(crate) per_page: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    #[default]
    Asc,
    Desc,
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// Rows found, on all pages.
    pub(crate) total: usize,
    pub(crate) page: usize,
    pub(crate) pages: usize,
    pub(crate) per_page: usize,
    pub(crate) items: Vec<T>,
}

/// A row of a list.
pub(crate) trait Row: Clone {
    /// What it may be sorted by.
    type Key: Copy + Default;
    /// Its name; rows that are equal otherwise stay in its order from answer to answer.
    type Id: Ord;

    /// The texts that are searched.
    fn texts(&self) -> impl Iterator<Item = &str>;

    fn id(&self) -> Self::Id;

    /// The name as text, which is searched as well.
    fn id_text(&self) -> String;

    fn compare(&self, other: &Self, key: Self::Key) -> Ordering;
}

impl<K: Copy + Default> Choice<K> {
    /// The rows of the chosen page. A page after the last one is the last one.
    pub(crate) fn of<R: Row<Key = K>>(&self, rows: &[R]) -> Page<R> {
        let search: String = self.q.trim().chars().take(MAX_SEARCH_LENGTH).collect();
        let search = search.to_lowercase();
        let finds = |row: &&R| {
            search.is_empty()
                || row
                    .texts()
                    .any(|text| text.to_lowercase().contains(&search))
                || row.id_text().contains(&search)
        };
        let mut found: Vec<&R> = rows.iter().filter(finds).collect();
        let key = self.sort.unwrap_or_default();
        let by_key = |one: &&R, other: &&R| match self.order {
            Order::Asc => one.compare(other, key),
            Order::Desc => other.compare(one, key),
        };
        found.sort_by(|one, other| by_key(one, other).then_with(|| one.id().cmp(&other.id())));
        let per_page = self.per_page.unwrap_or(ROWS).clamp(1, MAX_ROWS);
        let pages = found.len().div_ceil(per_page).max(1);
        let page = self.page.unwrap_or(1).clamp(1, pages);
        let items = found.iter().skip((page - 1) * per_page).take(per_page);
        Page {
            total: found.len(),
            page,
            pages,
            per_page,
            items: items.map(|row| R::clone(row)).collect(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SwarmKey {
    #[default]
    Name,
    Size,
    Seeders,
    Leechers,
    Progress,
    Rarest,
    Rate,
    TimeLeft,
    FromRegistry,
    FromSupernode,
    FromPeers,
}

impl Row for SwarmRow {
    type Key = SwarmKey;
    type Id = InfoHash;

    fn texts(&self) -> impl Iterator<Item = &str> {
        let images = self.images.iter().map(String::as_str);
        [self.name.as_str(), self.content.as_str()]
            .into_iter()
            .chain(images)
    }

    fn id(&self) -> Self::Id {
        self.id
    }

    fn id_text(&self) -> String {
        self.id.to_string()
    }

    fn compare(&self, other: &Self, key: SwarmKey) -> Ordering {
        let by = |of: fn(&Self) -> u64| of(self).cmp(&of(other));
        match key {
            SwarmKey::Name => (&self.name, &self.content).cmp(&(&other.name, &other.content)),
            SwarmKey::Size => by(|row| row.size_bytes),
            SwarmKey::Seeders => by(|row| row.seeders.into()),
            SwarmKey::Leechers => by(|row| row.leechers.into()),
            SwarmKey::Progress => self.progress.total_cmp(&other.progress),
            SwarmKey::Rarest => by(|row| row.rarest_copies.into()),
            SwarmKey::Rate => by(|row| row.download_bytes_per_second),
            SwarmKey::TimeLeft => by(|row| row.time_left_seconds.unwrap_or(u64::MAX)),
            SwarmKey::FromRegistry => by(|row| row.traffic.from_registry_bytes),
            SwarmKey::FromSupernode => by(|row| row.traffic.from_supernode_bytes),
            SwarmKey::FromPeers => by(|row| row.traffic.from_peers_bytes),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeKey {
    #[default]
    Name,
    Address,
    Version,
    LastHeard,
    Swarms,
    Downloads,
    Down,
    Up,
    FromRegistry,
    FromSupernode,
    FromPeers,
    Uploaded,
    Cache,
    Shunned,
}

impl Row for NodeRow {
    type Key = NodeKey;
    type Id = PeerId;

    fn texts(&self) -> impl Iterator<Item = &str> {
        let address = self.address.as_deref().unwrap_or_default();
        [self.name.as_str(), self.version.as_str(), address].into_iter()
    }

    fn id(&self) -> Self::Id {
        self.id
    }

    fn id_text(&self) -> String {
        self.id.to_string()
    }

    fn compare(&self, other: &Self, key: NodeKey) -> Ordering {
        let by = |of: fn(&Self) -> u64| of(self).cmp(&of(other));
        match key {
            NodeKey::Name => self.name.cmp(&other.name),
            NodeKey::Address => self.address.cmp(&other.address),
            NodeKey::Version => self.version.cmp(&other.version),
            NodeKey::LastHeard => by(|row| row.last_heard_seconds),
            NodeKey::Swarms => by(|row| row.swarms.into()),
            NodeKey::Downloads => by(|row| row.downloads.into()),
            NodeKey::Down => by(|row| row.download_bytes_per_second),
            NodeKey::Up => by(|row| row.upload_bytes_per_second),
            NodeKey::FromRegistry => by(|row| row.traffic.from_registry_bytes),
            NodeKey::FromSupernode => by(|row| row.traffic.from_supernode_bytes),
            NodeKey::FromPeers => by(|row| row.traffic.from_peers_bytes),
            NodeKey::Uploaded => by(|row| row.uploaded_bytes),
            NodeKey::Cache => by(|row| row.cache_bytes),
            NodeKey::Shunned => by(|row| row.shunned_peers.into()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PartKey {
    #[default]
    Name,
    Progress,
    Down,
    Up,
    FromRegistry,
    FromSupernode,
    FromPeers,
    Uploaded,
}

/// The peers of a swarm, or the pulls of a node.
impl Row for PartRow {
    type Key = PartKey;
    type Id = (PeerId, InfoHash);

    fn texts(&self) -> impl Iterator<Item = &str> {
        [&self.node_name, &self.swarm_name, &self.content]
            .into_iter()
            .map(String::as_str)
    }

    fn id(&self) -> Self::Id {
        (self.node, self.swarm)
    }

    fn id_text(&self) -> String {
        format!("{} {}", self.node, self.swarm)
    }

    fn compare(&self, other: &Self, key: PartKey) -> Ordering {
        let by = |of: fn(&Self) -> u64| of(self).cmp(&of(other));
        match key {
            PartKey::Name => {
                (&self.node_name, &self.swarm_name).cmp(&(&other.node_name, &other.swarm_name))
            }
            PartKey::Progress => self.progress.total_cmp(&other.progress),
            PartKey::Down => by(|row| row.download_bytes_per_second),
            PartKey::Up => by(|row| row.upload_bytes_per_second),
            PartKey::FromRegistry => by(|row| row.from_registry_bytes),
            PartKey::FromSupernode => by(|row| row.from_supernode_bytes),
            PartKey::FromPeers => by(|row| row.from_peers_bytes),
            PartKey::Uploaded => by(|row| row.uploaded_bytes),
        }
    }
}

impl<K: PartialSchema> IntoParams for Choice<K> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let number = |least, most| {
            let number = ObjectBuilder::new().schema_type(Type::Integer);
            number.minimum(Some(least)).maximum(most).build()
        };
        vec![
            parameter(
                "q",
                "Only rows that hold this text, in either case.",
                Object::with_type(Type::String),
            ),
            parameter(
                "sort",
                "What to sort by; the first by default.",
                K::schema(),
            ),
            parameter("order", "Ascending by default.", Order::schema()),
            parameter(
                "page",
                "From 1 on; a page after the last one is the last one.",
                number(0, None),
            ),
            parameter("per_page", "50 by default.", number(1, Some(200))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct NamedRow(&'static str, u64);

    impl Row for NamedRow {
        type Key = ();
        type Id = &'static str;

        fn texts(&self) -> impl Iterator<Item = &str> {
            std::iter::once(self.0)
        }

        fn id(&self) -> &'static str {
            self.0
        }

        fn id_text(&self) -> String {
            self.0.to_owned()
        }

        fn compare(&self, other: &Self, (): ()) -> Ordering {
            self.1.cmp(&other.1)
        }
    }

    fn names(choice: &Choice<()>, rows: &[NamedRow]) -> Vec<&'static str> {
        choice.of(rows).items.iter().map(|row| row.0).collect()
    }

    #[test]
    fn rows_are_searched_sorted_and_cut() {
        let rows = [
            NamedRow("b", 1),
            NamedRow("Ca", 2),
            NamedRow("a", 2),
            NamedRow("d", 0),
        ];
        let all = Choice::default();
        assert_eq!(names(&all, &rows), ["d", "b", "Ca", "a"]);
        let descending = Choice {
            order: Order::Desc,
            per_page: Some(3),
            ..Choice::default()
        };
        assert_eq!(names(&descending, &rows), ["Ca", "a", "b"]);
        let searched = Choice {
            q: " A ".to_owned(),
            ..Choice::default()
        };
        assert_eq!(names(&searched, &rows), ["Ca", "a"]);
    }

    #[test]
    fn a_page_after_the_last_is_the_last_and_none_is_longer_than_the_cap() {
        let rows = vec![NamedRow("x", 1); 1001];
        let choice = |page, per_page| Choice {
            page: Some(page),
            per_page: Some(per_page),
            ..Choice::<()>::default()
        };
        let last = choice(usize::MAX, usize::MAX).of(&rows);
        assert_eq!((last.page, last.pages, last.items.len()), (6, 6, 1));
        assert_eq!(choice(0, 0).of(&rows).items.len(), 1);
        let none = choice(3, 10).of(&[] as &[NamedRow]);
        assert_eq!((none.page, none.pages, none.total), (1, 1, 0));
    }
}
