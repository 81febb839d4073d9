//! What can be got.

use std::path::PathBuf;
use std::str::FromStr;

use flotilla_torrents::Magnet;
use url::Url;

/// What to get, as a person names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetSource {
    /// A file at an http or https URL.
    Web(Url),
    /// What a .torrent on this host's disk names.
    TorrentFile(PathBuf),
    /// The content of a .torrent at an http or https URL.
    TorrentUrl(Url),
    /// What a magnet link names (BEP 9).
    Magnet(Magnet),
}

/// Text that names nothing to get.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; expected an http:// or https:// URL, a magnet: link or a .torrent file")]
pub struct GetSourceError {
    reason: String,
}

impl FromStr for GetSource {
    type Err = GetSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |reason: String| GetSourceError { reason };
        if text
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
        {
            let magnet = text.parse().map_err(|e| error(format!("{e}")))?;
            return Ok(Self::Magnet(magnet));
        }
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                Ok(if is_torrent(url.path()) {
                    Self::TorrentUrl(url)
                } else {
                    Self::Web(url)
                })
            }
            Ok(url) => Err(error(format!("{}: is not fetched", url.scheme()))),
            Err(_) if is_torrent(text) => Ok(Self::TorrentFile(PathBuf::from(text))),
            Err(reason) => Err(error(reason.to_string())),
        }
    }
}

fn is_torrent(path: &str) -> bool {
    let ending = path.len().checked_sub(".torrent".len());
    ending
        .and_then(|at| path.get(at..))
        .is_some_and(|ending| ending.eq_ignore_ascii_case(".torrent"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let parse = |text: &str| text.parse::<GetSource>().unwrap();
        assert!(matches!(parse("http://h/f"), GetSource::Web(_)));
        assert!(matches!(
            parse("https://h/f.torrent?x"),
            GetSource::TorrentUrl(_)
        ));
        assert_eq!(
            parse("d/f.torrent"),
            GetSource::TorrentFile("d/f.torrent".into())
        );
        let magnet = format!("magnet:?xt=urn:btih:{}", "a".repeat(40));
        assert!(matches!(parse(&magnet), GetSource::Magnet(_)));
    }

    #[test]
    fn what_cannot_be_got_is_refused_with_what_could() {
        for text in [
            "",
            "file",
            "ftp://h/f",
            "http://",
            "magnet:?xt=nothing",
            "file:///etc/passwd",
        ] {
            let error = text.parse::<GetSource>().unwrap_err().to_string();
            assert!(error.contains("expected"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<GetSource>();
            let _ = format!("magnet:{text}").parse::<GetSource>();
        }
    }
}
