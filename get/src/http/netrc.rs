//! `~/.netrc`: logins for hosts, as ftp(1), curl and wget read it.

use std::path::{Path, PathBuf};

/// More than a file of logins has.
const MAX_BYTES: u64 = 1024 * 1024;

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password; may be empty.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login({}, …)", self.user)
    }
}

/// The logins of a file.
#[derive(Clone, Debug, Default)]
pub struct Netrc {
    hosts: Vec<(String, Login)>,
    default: Option<Login>,
}

impl Netrc {
    /// Where the file is by default: `NETRC` of the environment, else `~/.netrc`.
    pub fn usual_path() -> Option<PathBuf> {
        match std::env::var_os("NETRC") {
            Some(path) if !path.is_empty() => Some(path.into()),
            _ => std::env::home_dir().map(|home| home.join(".netrc")),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or is larger than such a file is.
    pub fn read(path: &Path) -> std::io::Result<Self> {
        use std::io::Read as _;
        let mut text = Vec::new();
        let mut file = std::fs::File::open(path)?.take(MAX_BYTES + 1);
        file.read_to_end(&mut text)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(std::io::Error::other("larger than 1 MiB"));
        }
        Ok(Self::parse(&String::from_utf8_lossy(&text)))
    }

    /// The login for `host`: its own entry, else the default one.
    pub fn login(&self, host: &str) -> Option<&Login> {
        let own = self
            .hosts
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(host));
        own.map(|(_, login)| login).or(self.default.as_ref())
    }

    fn parse(text: &str) -> Self {
        let mut netrc = Self::default();
        let mut words = Words(text);
        let mut current: Option<(Option<String>, Login)> = None;
        while let Some(word) = words.next() {
            match word.as_str() {
                "machine" => {
                    netrc.add(current.take());
                    current = words.next().map(|host| (Some(host), Login::empty()));
                }
                "default" => {
                    netrc.add(current.take());
                    current = Some((None, Login::empty()));
                }
                "login" => {
                    if let (Some((_, login)), Some(user)) = (&mut current, words.next()) {
                        login.user = user;
                    }
                }
                "password" => {
                    if let (Some((_, login)), Some(password)) = (&mut current, words.next()) {
                        login.password = password;
                    }
                }
                "account" => drop(words.next()),
                "macdef" => words.skip_macro(),
                comment if comment.starts_with('#') => words.skip_line(),
                _ => {}
            }
        }
        netrc.add(current);
        netrc
    }

    fn add(&mut self, entry: Option<(Option<String>, Login)>) {
        match entry {
            Some((Some(host), login)) if !login.user.is_empty() => self.hosts.push((host, login)),
            Some((None, login)) if !login.user.is_empty() => {
                self.default.get_or_insert(login);
            }
            _ => {}
        }
    }
}

impl Login {
    fn empty() -> Self {
        Self {
            user: String::new(),
            password: String::new(),
        }
    }
}

/// Words between white space; in double quotes they may hold it, `\` takes the next character
/// as it is.
struct Words<'a>(&'a str);

impl Words<'_> {
    fn next(&mut self) -> Option<String> {
        self.0 = self.0.trim_start();
        let quoted = self.0.starts_with('"');
        let text = self.0.strip_prefix('"').unwrap_or(self.0);
        if text.is_empty() {
            return None;
        }
        let mut word = String::new();
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => word.extend(chars.next().map(|(_, c)| c)),
                '"' if quoted => {
                    self.0 = text.get(at + 1..).unwrap_or_default();
                    return Some(word);
                }
                c if !quoted && c.is_whitespace() => {
                    self.0 = text.get(at..).unwrap_or_default();
                    return Some(word);
                }
                c => word.push(c),
            }
        }
        self.0 = "";
        Some(word)
    }

    fn skip_line(&mut self) {
        self.0 = self.0.split_once('\n').map_or("", |(_, rest)| rest);
    }

    /// A macro ends at an empty line.
    fn skip_macro(&mut self) {
        self.0 = self.0.split_once("\n\n").map_or("", |(_, rest)| rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn login(text: &str, host: &str) -> Option<(String, String)> {
        let netrc = Netrc::parse(text);
        let login = netrc.login(host)?;
        Some((login.user.clone(), login.password.clone()))
    }

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn a_host_has_its_own_login_and_others_the_default() {
        let text = "machine a.example login me password secret\n\
                    # machine b.example login no password no\n\
                    machine b.example\n  login you\n  password \"two words\\\"\"\n\
                    default login anonymous password x@y";
        assert_eq!(login(text, "A.example"), pair("me", "secret"));
        assert_eq!(login(text, "b.example"), pair("you", "two words\""));
        assert_eq!(login(text, "c.example"), pair("anonymous", "x@y"));
    }

    #[test]
    fn macros_and_half_entries_are_passed_over() {
        let text = "machine a macdef init\ncd /x\nlogin evil\n\nmachine b login l password";
        assert_eq!(login(text, "a"), None);
        assert_eq!(login(text, "b"), pair("l", ""));
    }

    #[test]
    fn the_debug_form_hides_the_password() {
        let netrc = Netrc::parse("machine a login me password secret");
        assert!(!format!("{netrc:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text: String, host: String) {
            let _ = Netrc::parse(&text).login(&host);
        }
    }
}
