//! Mistakes: each is one line that names the thing, and an exit code that is not zero.

use std::process::Command;

use anyhow::{Context, Result};
use flotilla_testbed::{Flotilla, Lifetime, NginxOrigin, Supernode, Testbed, random_file};

/// A path that not even root can make a directory of.
const UNWRITABLE: &str = "/dev/null/flotilla";
const PANIC_CODE: i32 = 101;

/// Asserts that the command fails with one line that names each of `named`.
fn assert_refused(mut command: Command, named: &[&str]) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code();
    assert!(
        code.is_some_and(|code| code != 0 && code != PANIC_CODE),
        "{command:?}: {}: {errors}",
        output.status
    );
    // The pointer that clap adds below a mistake on the command line is no second error.
    let lines: Vec<&str> = errors
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with("For more information"))
        .collect();
    assert_eq!(lines.len(), 1, "{command:?}: not one line: {errors}");
    for name in named {
        assert!(
            lines[0].contains(name),
            "{command:?}: {name} is not named: {errors}"
        );
    }
    Ok(())
}

/// A supernode and a file to get.
struct Place {
    supernode: Supernode,
    origin: NginxOrigin,
    node: flotilla_testbed::Host,
    flotilla: Flotilla,
    _testbed: Testbed,
}

impl Place {
    fn build() -> Result<Self> {
        let flotilla = Flotilla::find()?;
        let mut testbed = Testbed::create(Lifetime::Process)?;
        let origin = NginxOrigin::start(&testbed.host("origin")?)?;
        random_file(&origin.files().join("file"), 3 << 20)?;
        let supernode = Supernode::start(&flotilla, &testbed.host("supernode")?)?;
        let node = testbed.host("node")?;
        Ok(Self {
            supernode,
            origin,
            node,
            flotilla,
            _testbed: testbed,
        })
    }

    fn get(&self, url: &str, supernode: &str, further: &[&str]) -> Command {
        let mut command = self.flotilla.command(&self.node);
        command.args(["get", url, "--supernode", supernode, "-o"]);
        command.arg(self.node.directory().join("got"));
        if !further.contains(&"--data-dir") {
            command
                .arg("--data-dir")
                .arg(self.node.directory().join("node"));
        }
        command.args(further);
        command
    }
}

#[test]
fn an_unreachable_supernode_is_named() -> Result<()> {
    let place = Place::build()?;
    let unused = "http://10.77.255.1:8001";
    let closed = format!("http://{}:1", place.node.address());
    let url = place.origin.url("file");
    assert_refused(place.get(&url, &closed, &[]), &[&closed])?;
    assert_refused(place.get(&url, unused, &[]), &[unused])
}

#[test]
fn a_wrong_join_token_is_named() -> Result<()> {
    let place = Place::build()?;
    let mut command = place.get(&place.origin.url("file"), place.supernode.url(), &[]);
    let (variable, _) = place.flotilla.join_token();
    // Long enough to be one: the supernode has to refuse it.
    command.env(variable, "another-secret-altogether");
    assert_refused(command, &["join token", place.supernode.url()])
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() -> Result<()> {
    let place = Place::build()?;
    let url = place.origin.url("file");
    let supernode = place.supernode.url();
    assert_refused(
        place.get(&url, supernode, &["--data-dir", UNWRITABLE]),
        &[UNWRITABLE],
    )?;

    let mut command = place.flotilla.command(&place.node);
    command.args([
        "supernode",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        UNWRITABLE,
    ]);
    assert_refused(command, &[UNWRITABLE])?;

    let mut command = place.flotilla.command(&place.node);
    command.args([
        "proxy",
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
    ]);
    command.args(["--supernode", supernode, "--data-dir", UNWRITABLE]);
    assert_refused(command, &[UNWRITABLE])
}

#[test]
fn a_malformed_address_is_named() -> Result<()> {
    let place = Place::build()?;
    let url = place.origin.url("file");
    let supernode = place.supernode.url();
    assert_refused(place.get("no-address", supernode, &[]), &["no-address"])?;
    assert_refused(place.get("ftp://example.com/f", supernode, &[]), &["ftp"])?;
    assert_refused(place.get(&url, "http//nowhere", &[]), &["http//nowhere"])
}

#[test]
fn a_malformed_rate_or_digest_is_named() -> Result<()> {
    let place = Place::build()?;
    let url = place.origin.url("file");
    let supernode = place.supernode.url();
    assert_refused(
        place.get(&url, supernode, &["--upload-rate", "fast"]),
        &["fast"],
    )?;
    assert_refused(
        place.get(&url, supernode, &["--digest", "sha256:12"]),
        &["sha256:12"],
    )
}

#[test]
fn a_digest_that_does_not_match_is_named() -> Result<()> {
    let place = Place::build()?;
    let wrong = format!("sha256:{}", "0".repeat(64));
    let command = place.get(
        &place.origin.url("file"),
        place.supernode.url(),
        &["--digest", &wrong],
    );
    assert_refused(command, &[&wrong])?;
    assert!(!place.node.directory().join("got").exists());
    Ok(())
}

#[test]
fn a_source_that_refuses_is_named() -> Result<()> {
    let place = Place::build()?;
    let missing = place.origin.url("nothing-here");
    assert_refused(
        place.get(&missing, place.supernode.url(), &[]),
        &["404", "nothing-here"],
    )
}
