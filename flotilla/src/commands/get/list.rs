//! The URLs and lists of a `get`: which file comes from which source.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use flotilla_get::remote_name;
use flotilla_get::{ExpectedDigest, GetSource};

/// A list of a million URLs.
const MAX_LIST_BYTES: u64 = 256 * 1024 * 1024;

/// One source as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) source: String,
    /// The file, below the output directory.
    pub(crate) out: Option<String>,
    pub(crate) digest: Option<String>,
}

/// Reads a list; `-` is standard input.
pub(crate) fn read(path: &Path) -> Result<Vec<Listed>, String> {
    let place = || format!("-i {}", path.display());
    let mut text = String::new();
    let mut reader: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(|error| format!("{}: {error}", place()))?)
    };
    let read = reader
        .by_ref()
        .take(MAX_LIST_BYTES + 1)
        .read_to_string(&mut text);
    match read {
        Ok(bytes) if bytes as u64 > MAX_LIST_BYTES => {
            Err(format!("{}: more than 256 MiB", place()))
        }
        Ok(_) => parse(&text).map_err(|error| format!("{}: {error}", place())),
        Err(error) => Err(format!("{}: {error}", place())),
    }
}

/// A URL a line, `out=` and `digest=` after tabs or on indented lines that follow, as aria2 has it.
fn parse(text: &str) -> Result<Vec<Listed>, String> {
    let mut listed: Vec<Listed> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let is_indented = line.starts_with([' ', '\t']);
        let mut fields = line
            .split('\t')
            .map(str::trim)
            .filter(|field| !field.is_empty());
        if line.trim_start().starts_with('#') {
            continue;
        }
        if !is_indented && let Some(source) = fields.next() {
            listed.push(Listed {
                source: source.to_owned(),
                ..Listed::default()
            });
        }
        for field in fields {
            let Some(last) = listed.last_mut() else {
                return Err(format!(
                    "line {number}: {field:?} stands before the first URL"
                ));
            };
            match field.split_once('=') {
                Some(("out", path)) => last.out = Some(path.to_owned()),
                Some(("digest", digest)) => last.digest = Some(digest.to_owned()),
                _ => {
                    return Err(format!(
                        "line {number}: {field:?}, expected out=PATH or digest=DIGEST"
                    ));
                }
            }
        }
    }
    Ok(listed)
}

/// A source and its file, as a person asked for it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) source: GetSource,
    pub(crate) output: PathBuf,
    /// The file is named after its source.
    pub(crate) names_itself: bool,
    pub(crate) digest: Option<ExpectedDigest>,
}

/// Gives each source its file in `directory`, or the file `output` that was asked for. What is
/// wrong goes to `errors`.
pub(crate) fn name(
    listed: Vec<Listed>,
    output: Option<&Path>,
    directory: &Path,
    errors: &mut Vec<String>,
) -> Vec<Named> {
    let mut taken = HashSet::new();
    let mut named = Vec::new();
    for Listed {
        source,
        out,
        digest,
    } in listed
    {
        let parsed = match source.parse::<GetSource>() {
            Ok(parsed) => parsed,
            Err(error) => {
                errors.push(format!("{}: {error}", redacted(&source)));
                continue;
            }
        };
        let digest = match digest
            .map(|digest| digest.parse::<ExpectedDigest>())
            .transpose()
        {
            Ok(digest) => digest,
            Err(error) => {
                errors.push(format!("digest of {}: {error}", redacted(&source)));
                None
            }
        };
        let wanted = output
            .map(Path::to_owned)
            .or_else(|| out.map(PathBuf::from));
        // A file named .torrent is the .torrent itself.
        let names_itself = wanted.is_none();
        let is_itself = wanted
            .as_deref()
            .is_some_and(|file| file.extension().is_some_and(|ending| ending == "torrent"));
        let parsed = match parsed {
            GetSource::TorrentUrl(url) if is_itself => GetSource::Web(url),
            parsed => parsed,
        };
        let file = match (wanted, own_name(&parsed)) {
            (Some(file), _) if output.is_some() || is_below(&file) => file,
            (Some(file), _) => {
                errors.push(format!(
                    "out={}: expected a path below the output directory",
                    file.display()
                ));
                continue;
            }
            (None, Some(name)) => PathBuf::from(name),
            (None, None) => {
                errors.push(format!(
                    "{}: the URL has no file name; give one with -o",
                    redacted(&source)
                ));
                continue;
            }
        };
        let output = directory.join(file);
        if !taken.insert(output.clone()) {
            errors.push(format!(
                "{}: two URLs would write this file",
                output.display()
            ));
        }
        named.push(Named {
            source: parsed,
            output,
            names_itself,
            digest,
        });
    }
    named
}

fn own_name(source: &GetSource) -> Option<String> {
    match source {
        GetSource::Web(url) => remote_name(url),
        // The torrent says how its content is called; this names where its parts are until then.
        GetSource::TorrentUrl(url) => remote_name(url).map(|name| stem(&name)),
        GetSource::TorrentFile(path) => path.file_name().map(|name| stem(&name.to_string_lossy())),
        GetSource::Magnet(magnet) => {
            let name = magnet.name().map(ToOwned::to_owned);
            let name = name.filter(|name| is_below(Path::new(name)) && !name.contains('/'));
            Some(name.unwrap_or_else(|| magnet.info_hash().to_string()))
        }
    }
}

fn stem(name: &str) -> String {
    Path::new(name).file_stem().map_or_else(
        || name.to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

fn is_below(path: &Path) -> bool {
    let mut components = path.components();
    path.file_name().is_some() && components.all(|part| matches!(part, Component::Normal(_)))
}

/// A source without what may be secret in it: its query and its login.
fn redacted(source: &str) -> String {
    let until_query = source.split(['?', '#']).next().unwrap_or_default();
    match (until_query.split_once("://"), until_query.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => until_query.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> (Vec<String>, Vec<String>) {
        let mut errors = Vec::new();
        let named = name(parse(text).unwrap(), None, Path::new("d"), &mut errors);
        let outputs = named.iter().map(|named| named.output.display().to_string());
        (outputs.collect(), errors)
    }

    #[test]
    fn a_list_has_comments_names_and_digests() {
        let text = "# all of it\nhttp://h/a\n\nhttp://h/b\tout=sub/c\thttp\n";
        assert!(parse(text).unwrap_err().contains("line 4"));
        let text = "# all of it\nhttp://h/a\n\nhttp://h/b\tout=sub/c\n  digest=md5:900150983cd24fb0d6963f7d28e17f72\n  # no\n";
        let listed = parse(text).unwrap();
        assert_eq!(listed.len(), 2);
        assert!(listed[1].digest.is_some());
        assert_eq!(named(text).0, ["d/a", "d/sub/c"]);
    }

    #[test]
    fn every_mistake_is_named_and_no_secret() {
        let text = "ftp://me:secret@h/f?sig=secret\nhttp://h/\nhttp://h/a\nhttp://g/a\nhttp://h/x\tout=../y\nhttp://h/z\tout=/etc/z\nhttp://h/d\tdigest=5\n";
        let (_, errors) = named(text);
        assert_eq!(errors.len(), 6, "{errors:?}");
        assert!(!errors.join("").contains("secret"), "{errors:?}");
    }

    #[test]
    fn who_wants_a_torrent_file_gets_it() {
        let listed = |out: Option<&str>| Listed {
            source: "http://h/f.torrent".to_owned(),
            out: out.map(ToOwned::to_owned),
            digest: None,
        };
        let one = |listed| name(vec![listed], None, Path::new("."), &mut Vec::new()).remove(0);
        assert!(matches!(one(listed(None)).source, GetSource::TorrentUrl(_)));
        assert!(matches!(
            one(listed(Some("f.torrent"))).source,
            GetSource::Web(_)
        ));
    }
}
