//! Docker Hub: the one registry whose API is at another host than its name says.

/// What it is called in images.
pub const NAME: &str = "docker.io";
/// Where its index was: credentials and other programs' configurations call it so.
pub const INDEX_HOST: &str = "index.docker.io";
/// Where its API is.
pub const API_HOST: &str = "registry-1.docker.io";
/// What Docker keeps its credentials by, in files and in credential helpers.
pub(crate) const CREDENTIALS_KEY: &str = "https://index.docker.io/v1/";
/// What it is called in images, in files of credentials, and by its API.
const NAMES: [&str; 3] = [NAME, INDEX_HOST, API_HOST];

/// The host of the API of the registry that is called `host`.
pub fn api_host(host: &str) -> &str {
    let is_hub = NAMES.iter().any(|name| host.eq_ignore_ascii_case(name));
    if is_hub { API_HOST } else { host }
}

/// What people call the registry whose API is at `host`.
pub fn name_of(host: &str) -> &str {
    if host == API_HOST { NAME } else { host }
}
