//! The entries of a directory listing: HTML of nginx and Apache and whatever looks like it, or
//! nginx's JSON.

use html5gum::{Token, Tokenizer};
use serde::Deserialize;
use url::Url;

use super::remote_name::safe_name;

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Decoded; one plain file name.
    pub(crate) name: String,
    pub(crate) url: Url,
    pub(crate) is_directory: bool,
}

/// The links in `html` to entries directly below `base`, the directory's own URL: same origin, no
/// query (Apache's columns sort by `?C=N`), a name that is safe.
pub(crate) fn entries_of_html(html: &[u8], base: &Url) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    // The tokenizer takes what is in scripts for markup.
    let mut in_script = false;
    for Ok(token) in Tokenizer::new(html) {
        let tag = match token {
            Token::EndTag(tag) if tag.name.as_slice() == b"script" => {
                in_script = false;
                continue;
            }
            Token::StartTag(tag) if !in_script => tag,
            _ => continue,
        };
        if tag.name.as_slice() != b"a" {
            in_script = tag.name.as_slice() == b"script";
            continue;
        }
        let href = tag.attributes.get(b"href".as_slice());
        let href = href.and_then(|href| std::str::from_utf8(href.as_slice()).ok());
        let entry = href.and_then(|href| entry_of_link(href, base));
        entries.extend(entry);
    }
    sorted(entries)
}

/// The entries of nginx's `autoindex_format json`; none: it is something else.
pub(crate) fn entries_of_json(json: &[u8], base: &Url) -> Option<Vec<Entry>> {
    #[derive(Deserialize)]
    struct Listed {
        name: String,
        #[serde(rename = "type")]
        kind: String,
    }
    let listed: Vec<Listed> = serde_json::from_slice(json).ok()?;
    let entries = listed.into_iter().filter_map(|listed| {
        let is_directory = match listed.kind.as_str() {
            "directory" => true,
            "file" => false,
            _ => return None,
        };
        let mut url = base.clone();
        // As one segment: whatever the name holds is encoded, and `..` leads nowhere.
        let mut segments = url.path_segments_mut().ok()?;
        segments.pop_if_empty().push(&listed.name);
        if is_directory {
            segments.push("");
        }
        drop(segments);
        entry_of(url, base)
    });
    Some(sorted(entries.collect()))
}

fn entry_of_link(href: &str, base: &Url) -> Option<Entry> {
    let url = base.join(href.trim()).ok()?;
    (url.query().is_none()).then(|| entry_of(url, base))?
}

fn entry_of(mut url: Url, base: &Url) -> Option<Entry> {
    url.set_fragment(None);
    if url.origin() != base.origin() || url.username() != base.username() {
        return None;
    }
    let rest = url.path().strip_prefix(base.path())?;
    let (name, is_directory) = match rest.strip_suffix('/') {
        Some(name) => (name, true),
        None => (rest, false),
    };
    Some(Entry {
        name: safe_name(name)?,
        is_directory,
        url,
    })
}

/// A page links to an entry as often as it likes.
fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| (&a.name, a.is_directory).cmp(&(&b.name, b.is_directory)));
    entries.dedup_by(|a, b| a.name == b.name);
    entries
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> Url {
        Url::parse("http://h/pub/").unwrap()
    }

    fn names(html: &str) -> Vec<(String, bool)> {
        let entries = entries_of_html(html.as_bytes(), &base());
        let name = |entry: Entry| (entry.name, entry.is_directory);
        entries.into_iter().map(name).collect()
    }

    fn named(names: &[(&str, bool)]) -> Vec<(String, bool)> {
        names
            .iter()
            .map(|(name, dir)| ((*name).to_owned(), *dir))
            .collect()
    }

    #[test]
    fn listings_of_nginx_are_read() {
        let html = "<html><head><title>Index of /pub/</title></head><body>\n<h1>Index of /pub/</h1><hr><pre><a href=\"../\">../</a>\n<a href=\"sub/\">sub/</a>  01-Jan-2024 00:00  -\n<a href=\"a%20b.bin\">a b.bin</a> 01-Jan-2024 00:00 12\n<a href=\"x&amp;y\">x&amp;y</a></pre><hr></body></html>";
        assert_eq!(
            names(html),
            named(&[("a b.bin", false), ("sub", true), ("x&y", false)])
        );
    }

    #[test]
    fn listings_of_apache_are_read() {
        let html = "<table><tr><th><a href=\"?C=N;O=D\">Name</a></th></tr><tr><td><a href=\"/\">Parent Directory</a></td></tr><tr><td><a href='one.iso'>one.iso</a></td></tr><tr><td><A HREF=two/>two/</A></td></tr></table>";
        assert_eq!(names(html), named(&[("one.iso", false), ("two", true)]));
    }

    #[test]
    fn what_leads_elsewhere_is_left_alone() {
        for href in [
            "http://other/pub/f",
            "https://h/pub/f",
            "//other/f",
            "/etc/passwd",
            "../f",
            "%2e%2e/f",
            "..%2ff",
            "a%2f..%2f..%2fetc",
            "sub/deeper",
            "f%00",
            "mailto:x@y",
            "javascript:alert(1)",
            "http://me@h/pub/f",
            "",
            "#top",
            "./",
        ] {
            assert_eq!(names(&format!("<a href=\"{href}\">x</a>")), [], "{href}");
        }
        let absolute = "<a href=\"/pub/f\">x</a><a href=\"http://h/pub/f#x\">x</a>";
        assert_eq!(names(absolute), named(&[("f", false)]));
        assert_eq!(
            names("<!-- <a href=f> --><script>'<a href=g>'</script>"),
            []
        );
    }

    #[test]
    fn listings_in_json_are_read() {
        let json = br#"[{"name":"sub","type":"directory","mtime":"x"},{"name":"a b?.bin","type":"file","size":1},{"name":"..","type":"directory"},{"name":"x/y","type":"file"},{"name":"s","type":"socket"}]"#;
        let entries = entries_of_json(json, &base()).unwrap();
        let urls: Vec<_> = entries.iter().map(|entry| entry.url.as_str()).collect();
        assert_eq!(urls, ["http://h/pub/a%20b%3F.bin", "http://h/pub/sub/"]);
        assert_eq!(entries[0].name, "a b?.bin");
        assert!(entries_of_json(b"<html>", &base()).is_none());
    }

    proptest! {
        #[test]
        fn any_page_gives_only_safe_names_below_the_base(page: Vec<u8>, href: String) {
            let link = format!("<a href=\"{href}\">");
            for html in [page.as_slice(), link.as_bytes()] {
                for entry in entries_of_html(html, &base()) {
                    prop_assert!(!entry.name.contains('/') && entry.name != "..");
                    prop_assert!(entry.url.as_str().starts_with("http://h/pub/"));
                }
            }
            let _ = entries_of_json(&page, &base());
        }
    }
}
