//! eStargz: a gzip member for each file, a table of contents, a footer that says where it is
//! (stargz-snapshotter, docs/estargz.md).

use std::io::{Read as _, Write as _};
use std::ops::Range;

use flate2::read::{GzDecoder, MultiGzDecoder};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use flotilla_torrents::DigestHasher;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{LazyFormat, Part, Reader};

const CONTENTS: &str = "stargz.index.json";
const FOOTER: usize = 51;
const BLOCK: usize = 512;

pub(super) struct Estargz;

impl LazyFormat for Estargz {
    fn layer(&self, files: &[Vec<u8>]) -> Vec<u8> {
        let mut archive = Vec::new();
        // Each member begins with a file's bytes and ends with the next one's header.
        let mut starts = Vec::new();
        for (number, file) in files.iter().enumerate() {
            archive.extend(tar_header(&format!("opt/file-{number}"), file.len()));
            starts.push(archive.len());
            append_padded(&mut archive, file);
        }
        let mut layer = gzipped(&archive[..starts[0]]);
        let mut entries = Vec::new();
        let ends = starts.iter().skip(1).copied().chain([archive.len()]);
        for ((file, start), end) in files.iter().zip(&starts).zip(ends) {
            let digest = DigestHasher::sha256_of(file).to_string();
            entries.push(json!({
                "name": format!("opt/file-{}", entries.len()), "type": "reg",
                "size": file.len(), "offset": layer.len(),
                "digest": digest, "chunkDigest": digest,
            }));
            layer.extend(gzipped(&archive[*start..end]));
        }
        let contents_at = layer.len();
        let contents = json!({"version": 1, "entries": entries}).to_string();
        let mut last = tar_header(CONTENTS, contents.len());
        append_padded(&mut last, contents.as_bytes());
        last.extend([0; 2 * BLOCK]);
        layer.extend(gzipped(&last));
        layer.extend(footer(contents_at));
        layer
    }

    fn contents<'a>(&'a self, reader: &'a Reader<'_>) -> BoxFuture<'a, Vec<Part>> {
        async move {
            let footer_at = reader.layer.len() - FOOTER;
            let footer = reader.range(footer_at..reader.layer.len()).await;
            let header = GzDecoder::new(footer.as_slice()).header().cloned();
            let extra = header.and_then(|header| header.extra().map(<[u8]>::to_vec));
            // "SG", the length, the number.
            let extra = String::from_utf8(extra.unwrap()[4..].to_vec()).unwrap();
            let number = extra.strip_suffix("STARGZ").unwrap();
            let contents_at = usize::from_str_radix(number, 16).unwrap();
            let contents = reader.range(contents_at..footer_at).await;
            let archive = self.decompressed(&contents);
            parts(&archive, contents_at)
        }
        .boxed()
    }

    fn decompressed(&self, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        plain
    }
}

fn parts(archive: &[u8], contents_at: usize) -> Vec<Part> {
    let end = BLOCK + archive[BLOCK..].iter().position(|byte| *byte == 0).unwrap();
    let contents: Value = serde_json::from_slice(&archive[BLOCK..end]).unwrap();
    let entries = contents["entries"].as_array().unwrap();
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let starts: Vec<usize> = entries
        .iter()
        .map(|entry| number(&entry["offset"]))
        .collect();
    let ends = starts.iter().skip(1).copied().chain([contents_at]);
    let ranges = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| Range { start: *start, end });
    entries
        .iter()
        .zip(ranges)
        .map(|(entry, range)| Part {
            range,
            size: number(&entry["size"]),
            digest: entry["chunkDigest"].as_str().unwrap().to_owned(),
        })
        .collect()
}

fn tar_header(name: &str, size: usize) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn append_padded(archive: &mut Vec<u8>, bytes: &[u8]) {
    archive.extend_from_slice(bytes);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn footer(contents_at: usize) -> Vec<u8> {
    let number = format!("{contents_at:016x}STARGZ");
    let mut extra = b"SG".to_vec();
    extra.extend(u16::try_from(number.len()).unwrap().to_le_bytes());
    extra.extend(number.as_bytes());
    let gzip = GzBuilder::new()
        .extra(extra)
        .write(Vec::new(), Compression::none());
    let footer = gzip.finish().unwrap();
    assert_eq!(footer.len(), FOOTER);
    footer
}
