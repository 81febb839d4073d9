//! `/etc/dragonfly.conf`, the file of the system that flotilla succeeds: its list of
//! supernodes is still understood.

use std::path::Path;

use ini::Ini;

/// The port of a flotilla supernode when the file names none.
const DEFAULT_PORT: u16 = 8001;

/// The supernodes in `[node] address=a,b`; none when there is no such file.
///
/// # Errors
/// The file exists and cannot be read.
pub(crate) fn supernodes(path: &Path) -> Result<Vec<String>, String> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let file = Ini::load_from_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let addresses = file.get_from(Some("node"), "address").unwrap_or_default();
    Ok(addresses
        .split(',')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(url)
        .collect())
}

fn url(address: &str) -> String {
    if address.contains("://") {
        return address.to_owned();
    }
    let has_port = address.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port {
        format!("http://{address}")
    } else {
        format!("http://{address}:{DEFAULT_PORT}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        supernodes(file.path()).unwrap()
    }

    #[test]
    fn the_predecessors_list_is_understood() {
        assert_eq!(
            read("[node]\naddress=10.0.0.1,10.0.0.2:8002, harbor-b\n"),
            [
                "http://10.0.0.1:8001",
                "http://10.0.0.2:8002",
                "http://harbor-b:8001"
            ]
        );
        assert_eq!(
            read("[node]\naddress=[fd00::1],[fd00::2]:8002\n"),
            ["http://[fd00::1]:8001", "http://[fd00::2]:8002"]
        );
    }

    #[test]
    fn other_sections_and_no_file_name_no_supernode() {
        assert!(read("[other]\naddress=10.0.0.1\n").is_empty());
        assert!(
            supernodes(Path::new("/nonexistent/dragonfly.conf"))
                .unwrap()
                .is_empty()
        );
    }
}
