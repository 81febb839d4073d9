//! The URL that names a swarm's content.

use url::Url;

/// `url` without its fragment and without the query parameters in `left_out`, which say how it
/// may be fetched and not what it is, such as signatures. What is left of the query stays as it
/// was written.
pub fn content_url(url: &Url, left_out: &[String]) -> Url {
    let mut named = url.clone();
    if left_out.is_empty() {
        return named;
    }
    named.set_fragment(None);
    let kept = url.query().map(|query| {
        let kept = query.split('&').filter(|pair| {
            let mut pair = url::form_urlencoded::parse(pair.as_bytes());
            let name = pair.next().map(|(name, _)| name);
            !name.is_some_and(|name| left_out.iter().any(|left_out| *left_out == name))
        });
        kept.collect::<Vec<_>>().join("&")
    });
    named.set_query(kept.as_deref().filter(|kept| !kept.is_empty()));
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_does_not_name_the_content() {
        let named = |text: &str, left_out: &[&str]| {
            let left_out: Vec<String> = left_out.iter().map(|name| (*name).to_owned()).collect();
            content_url(&Url::parse(text).unwrap(), &left_out).to_string()
        };
        assert_eq!(
            named("http://h/f?a=1&sig=x&b", &["sig"]),
            "http://h/f?a=1&b"
        );
        assert_eq!(
            named("http://h/f?s%69g=x&exp=1", &["sig", "exp"]),
            "http://h/f"
        );
        assert_eq!(named("http://h/f?sig=x", &[]), "http://h/f?sig=x");
        assert_eq!(
            named("http://h/f?a=%2f+&sig", &["sig"]),
            "http://h/f?a=%2f+"
        );
    }
}
