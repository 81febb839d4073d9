//! Which layers the names on the command line mean.

use std::collections::HashSet;

use anyhow::bail;
use flotilla_client::control::cache::{CacheReport, LayerReport};
use flotilla_torrents::ContentId;

use super::table::short_name;

/// Fewer digits do not name a layer, so that a typo does not.
const MIN_DIGITS: usize = 4;

/// The layers that the names mean, each once.
///
/// # Errors
/// A name means none or several; all such names are in the error.
pub(super) fn select(held: &CacheReport, names: &[String]) -> anyhow::Result<Vec<ContentId>> {
    let mut errors = Vec::new();
    let mut selected = Vec::new();
    let mut seen = HashSet::new();
    for name in names {
        let meant: Vec<_> = held.layers.iter().filter(|l| is_meant(l, name)).collect();
        match meant.as_slice() {
            [] => errors.push(format!("no layer has the name {name:?}")),
            [one] => {
                if seen.insert(&one.content) {
                    selected.push(one.content.clone());
                }
            }
            several => {
                let several: Vec<_> = several.iter().map(|layer| short_name(layer)).collect();
                errors.push(format!("{name:?} is ambiguous: {}", several.join(" or ")));
            }
        }
    }
    if errors.is_empty() {
        Ok(selected)
    } else {
        bail!("{}; `flotilla cache ls` lists all", errors.join("; "))
    }
}

/// By the beginning of the digest, with or without its algorithm, or by the whole URL.
fn is_meant(layer: &LayerReport, name: &str) -> bool {
    if layer.url.as_deref() == Some(name) {
        return true;
    }
    let full = layer.content.as_str();
    let digits = full.rsplit_once(':').map_or(full, |(_, digits)| digits);
    let given = name.rsplit_once(':').map_or(name, |(_, digits)| digits);
    given.len() >= MIN_DIGITS && (full.starts_with(name) || digits.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> CacheReport {
        let layer = |content: &str, url: Option<&str>| {
            serde_json::json!({
                "content": content, "url": url, "origin": "http://a", "length": 1, "held": 1,
                "sealed": null, "last_used": 0, "pinned": false, "in_use": false,
            })
        };
        let name = |prefix: &str, digits: &str| format!("{prefix}{digits:0<64}");
        let layers = [
            layer(&name("sha256:", "abcd1"), None),
            layer(&name("sha256:", "abcd2"), None),
            layer(&name("url-sha256:", "abcd3"), Some("http://a/file")),
        ];
        serde_json::from_value(serde_json::json!({ "layers": layers, "quota": null })).unwrap()
    }

    fn selected(names: &[&str]) -> Result<usize, String> {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let selected = select(&held(), &names);
        selected.map(|s| s.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_beginning_of_a_digest_or_a_url_names_a_layer() {
        assert_eq!(selected(&["abcd1", "sha256:abcd2", "http://a/file"]), Ok(3));
        assert_eq!(selected(&["abcd1", "sha256:abcd10"]), Ok(1));
    }

    #[test]
    fn what_names_none_or_several_is_said_all_at_once() {
        let error = selected(&["abcd", "ffff", "abcd1", "sha256:", "a"]).unwrap_err();
        for part in ["\"abcd\" is ambiguous", "\"ffff\"", "\"sha256:\"", "\"a\""] {
            assert!(error.contains(part), "{part} is missing in {error}");
        }
        assert!(!error.contains("abcd1\" "), "{error}");
    }
}
