//! How a registry says that it wants a login: the challenges of a 401 (RFC 9110 section 11.6.1,
//! "Token Authentication Specification" of the Docker Registry v2).

use http::header::{HeaderMap, WWW_AUTHENTICATE};
use http_auth::{ChallengeRef, parse_challenges};
use url::Url;

/// What a registry wants to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User name and password, with each request.
    Basic,
    /// A token of its token service.
    Bearer {
        /// Where tokens are: http or https.
        realm: Url,
        /// What the tokens are for.
        service: Option<String>,
        /// What the refused request needs.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The challenge to take up among those of an answer; `None`: no challenge is
    /// understood. A registry with a token service may take Basic as well; tokens serve longer.
    pub fn of_answer(headers: &HeaderMap) -> Option<Self> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter();
        challenges
            .filter_map(|value| value.to_str().ok())
            .filter_map(|value| parse_challenges(value).ok())
            .flatten()
            .filter_map(|challenge| understood(&challenge))
            .max_by_key(|challenge| matches!(challenge, Self::Bearer { .. }))
    }
}

/// The request for a token at `realm`.
pub fn token_url<'a>(
    mut realm: Url,
    service: Option<&str>,
    scopes: impl IntoIterator<Item = &'a str>,
) -> Url {
    let scopes = scopes.into_iter().map(|scope| ("scope", scope));
    let service = service.map(|service| ("service", service));
    realm
        .query_pairs_mut()
        .extend_pairs(service.into_iter().chain(scopes));
    realm
}

fn understood(challenge: &ChallengeRef<'_>) -> Option<Challenge> {
    if challenge.scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !challenge.scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let parameter = |wanted: &str| {
        let mut all = challenge.params.iter();
        all.find(|(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.to_unescaped())
    };
    let realm: Url = parameter("realm")?.parse().ok()?;
    matches!(realm.scheme(), "http" | "https").then(|| Challenge::Bearer {
        realm,
        service: parameter("service"),
        scope: parameter("scope"),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(lines: &[&'static str]) -> Option<Challenge> {
        let lines = lines
            .iter()
            .map(|line| (WWW_AUTHENTICATE, HeaderValue::from_static(line)));
        Challenge::of_answer(&lines.collect())
    }

    #[test]
    fn a_token_is_preferred_to_the_password_itself() {
        let bearer = r#"Bearer realm="https://harbor.test/service/token",service="harbor-registry",scope="repository:a/b:pull""#;
        let expected = Challenge::Bearer {
            realm: "https://harbor.test/service/token".parse().unwrap(),
            service: Some("harbor-registry".to_owned()),
            scope: Some("repository:a/b:pull".to_owned()),
        };
        let basic = r#"Basic realm="harbor""#;
        assert_eq!(of(&[bearer, basic]), Some(expected.clone()));
        assert_eq!(of(&[basic, bearer]), Some(expected));
        assert_eq!(of(&[basic]), Some(Challenge::Basic));
    }

    #[test]
    fn what_is_not_understood_is_no_challenge() {
        for line in [
            "Negotiate",
            "Bearer service=\"x\"",
            "Bearer realm=\"file:///etc/passwd\"",
            "Bearer realm=\"/token\"",
            "\"",
        ] {
            assert_eq!(of(&[line]), None, "{line}");
        }
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn the_request_for_a_token_keeps_the_realm_s_own_query() {
        let realm = "https://t.test/token?a=1".parse().unwrap();
        let url = token_url(realm, Some("s"), ["repository:a/b:pull"]);
        assert_eq!(
            url.as_str(),
            "https://t.test/token?a=1&service=s&scope=repository%3Aa%2Fb%3Apull"
        );
    }
}
