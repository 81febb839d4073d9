//! What the values of options are: the names that the help gives them, their units and bounds.

/// A form of values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValueForm {
    /// As in the help: `--upload-rate <RATE>`.
    pub(crate) name: &'static str,
    /// The form, its unit and its bounds.
    pub(crate) meaning: &'static str,
}

/// Every form that an option of the configuration has.
pub(crate) const FORMS: [ValueForm; 14] = [
    form(
        "ADDR:PORT",
        "IP address and port, such as 10.0.0.1:8001 or [fd00::1]:8001; port 0 is any free port",
    ),
    form(
        "RATE",
        "bytes per second, such as 200MB/s or 20MiB/s, at least 1kB/s, or unlimited",
    ),
    form(
        "SIZE",
        "bytes, such as 64GiB or 500MB; B, kB, MB, GB, TB are powers of 1000, KiB to TiB of 1024",
    ),
    form("RATIO", "a number from 0 to 1"),
    form("DIR", "path of a directory; flotilla makes it"),
    form("FILE", "path of a file"),
    form("URL", "http://HOST[:PORT] or https://HOST[:PORT]"),
    form(
        "HOST",
        "HOST[:PORT], the port is 443 unless given; IPv6 addresses in brackets",
    ),
    form(
        "HOST/REPOSITORY",
        "HOST[:PORT]/REPOSITORY, or HOST[:PORT]/PREFIX/* for all repositories below PREFIX",
    ),
    form("HOST=FILE", "HOST[:PORT]=FILE, a PEM file"),
    form("HOST=CERT,KEY", "HOST[:PORT]=CERT,KEY, two PEM files"),
    form("OS/ARCH", "OS/ARCH[/VARIANT], such as linux/arm64/v8"),
    form("GLOB", "pattern of names; * stands for any characters"),
    form("NAME", "any text"),
];

const fn form(name: &'static str, meaning: &'static str) -> ValueForm {
    ValueForm { name, meaning }
}

/// The meaning of a value of this name.
pub(crate) fn meaning_of(name: &str) -> Option<&'static str> {
    let form = FORMS.iter().find(|form| form.name == name)?;
    Some(form.meaning)
}
