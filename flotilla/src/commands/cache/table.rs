//! The list of layers as people read it.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flotilla_client::control::cache::{CacheReport, LayerReport};
use indicatif::{BinaryBytes, HumanDuration};

use crate::sanitize::Sanitized;

/// Digits of a digest that are shown, and that name the layer.
const SHOWN_DIGITS: usize = 12;

/// Writes one line for each layer and one for all.
pub(super) fn write(out: &mut dyn Write, held: &CacheReport) -> io::Result<()> {
    let mut rows =
        vec![["CONTENT", "SIZE", "HELD", "STATE", "LAST USED", "SOURCE"].map(str::to_owned)];
    rows.extend(held.layers.iter().map(row));
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    for row in &rows {
        let cells = row.iter().zip(widths);
        let padded: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", padded.join("  ").trim_end())?;
    }
    let bytes = held.layers.iter().map(|layer| layer.held).sum();
    let layers = match held.layers.len() {
        1 => "1 layer".to_owned(),
        count => format!("{count} layers"),
    };
    let quota = match held.quota {
        Some(quota) if quota != u64::MAX => format!(" of {}", BinaryBytes(quota)),
        _ => String::new(),
    };
    writeln!(out, "{layers}, {}{quota}", BinaryBytes(bytes))
}

/// The name that the list shows, and that the commands take.
pub(super) fn short_name(layer: &LayerReport) -> String {
    let full = layer.content.as_str();
    let digits = full.rfind(':').map_or(0, |colon| colon + 1);
    full.chars().take(digits + SHOWN_DIGITS).collect()
}

/// Time since the layer was last used.
pub(super) fn unused_for(layer: &LayerReport) -> Duration {
    let used = UNIX_EPOCH.checked_add(Duration::from_millis(layer.last_used));
    let since = used.and_then(|used| SystemTime::now().duration_since(used).ok());
    since.unwrap_or_default()
}

fn row(layer: &LayerReport) -> [String; 6] {
    let source = layer.url.as_deref().unwrap_or(&layer.origin);
    [
        short_name(layer),
        BinaryBytes(layer.length).to_string(),
        format!("{} %", percent(layer.held, layer.length)),
        state(layer),
        format!("{} ago", HumanDuration(unused_for(layer))),
        Sanitized(source).to_string(),
    ]
}

/// Rounded down: 100 is all of it.
fn percent(held: u64, length: u64) -> u128 {
    (u128::from(held) * 100)
        .checked_div(u128::from(length))
        .unwrap_or(100)
}

fn state(layer: &LayerReport) -> String {
    let mut words = vec![if layer.sealed.is_some() {
        "sealed"
    } else {
        "partial"
    }];
    words.extend(layer.pinned.then_some("pinned"));
    words.extend(layer.in_use.then_some("in use"));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_of_it_is_a_hundred_percent() {
        assert_eq!(percent(999_999, 1_000_000), 99);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
        assert_eq!(percent(0, 0), 100);
    }

    #[test]
    fn a_layer_is_a_line() {
        let held: CacheReport = serde_json::from_value(serde_json::json!({
            "layers": [{
                "content": format!("sha256:{:0<64}", "0123456789abcdef"),
                "url": null, "origin": "http://registry\u{1b}[31m", "length": 3_u64 << 30,
                "held": 1_u64 << 30, "sealed": null, "last_used": 0, "pinned": true, "in_use": false,
            }],
            "quota": 64_u64 << 30,
        }))
        .unwrap();
        let mut out = Vec::new();
        write(&mut out, &held).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("sha256:0123456789ab  3.00 GiB  33 %  partial, pinned  "));
        assert!(
            lines[1].ends_with("ago  http://registry\\u{1b}[31m"),
            "{text}"
        );
        assert_eq!(lines[2], "1 layer, 1.00 GiB of 64.00 GiB");
    }
}
