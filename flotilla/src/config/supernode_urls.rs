//! Addresses of supernodes.

use url::Url;

const EXPECTED: &str = "expected a URL such as http://10.0.0.1:8001";

/// # Errors
/// What is wrong with the text, and what was expected.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    match Url::parse(text.trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        Ok(_) => Err(EXPECTED.to_owned()),
        Err(error) => Err(format!("{error}; {EXPECTED}")),
    }
}

/// The URLs of `--supernode`; what is wrong goes to `errors`.
pub(crate) fn of_flag(texts: &[String], errors: &mut Vec<String>) -> Vec<Url> {
    let mut urls = Vec::new();
    for text in texts {
        match parse(text) {
            Ok(url) => urls.push(url),
            Err(wrong) => errors.push(format!("--supernode {text}: {wrong}")),
        }
    }
    urls
}

/// The URLs of texts that were checked before.
pub(crate) fn of_checked(texts: &[String]) -> Vec<Url> {
    texts.iter().filter_map(|text| parse(text).ok()).collect()
}
