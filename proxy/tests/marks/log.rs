//! What the proxies of this process have on their log: the field `event` of each line.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::{LazyLock, Mutex};

use flotilla_proxy::Mark;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static SEEN: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

struct Collector;

/// Takes the log of all threads.
pub(crate) fn install() {
    tracing::subscriber::set_global_default(Collector).unwrap();
}

/// Whether a line with this mark and its message was written.
pub(crate) fn has(mark: Mark) -> bool {
    SEEN.lock().unwrap().contains(&line(mark))
}

/// A mark that another test sets.
pub(crate) fn skip(mark: Mark) {
    SEEN.lock().unwrap().insert(line(mark));
}

fn line(mark: Mark) -> String {
    format!("{} {} {}", mark.level(), mark.name(), mark.message())
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("flotilla_proxy")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(name) = fields.event {
            let line = format!("{} {name} {}", event.metadata().level(), fields.message);
            SEEN.lock().unwrap().insert(line);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields {
    event: Option<String>,
    message: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            self.event = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}
