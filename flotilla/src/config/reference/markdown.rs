//! docs/configuration.md.

use std::fmt::Write as _;

use super::{about, default_of, environment_of, sentence, usage, value_of};
use crate::config::environment::VARIABLES;
use crate::config::file::{DEFAULT_PATH, sections};
use crate::config::section::{OptionInfo, SectionInfo};
use crate::config::values::FORMS;

const HEAD: &str = "\
# Configuration

Every option of `flotilla supernode` and `flotilla proxy`. This page and
[deploy/flotilla.toml](../deploy/flotilla.toml) are written from the code:
`FLOTILLA_WRITE_DOCS=1 cargo test -p flotilla documentation` renews them.

An option is a flag of the role and a key of the configuration file. A flag wins over the environment,
the environment over the file, the file over the default. Repeatable flags add to the list of the file;
`--supernode` replaces it.
";

/// The whole page.
pub(crate) fn page() -> String {
    let mut text = HEAD.to_owned();
    let _ = writeln!(
        text,
        "\nThe file is `{DEFAULT_PATH}`, or that of `--config FILE`. `flotilla config check FILE` reports\n\
         every mistake in it with its line. `flotilla config show proxy` (or `supernode`) prints what is in\n\
         force and where each value comes from. `flotilla config show --default` prints the file with all\n\
         options, their documentation and their defaults. A role does not start with a file that is wrong.\n\
         \n\
         `get`, `status`, `top` and `cache` read the same file: `supernodes` and `join_token_file` of\n\
         `[proxy]`, and `data_dir` of the role.\n\
         \n\
         Exit codes of all commands: 0 done, or stopped by a signal; 1 failed; 2 the command line or the\n\
         configuration is wrong. `flotilla get --help` lists more of its own."
    );
    let _ = writeln!(
        text,
        "\n## Values\n\n| value | form, unit, bounds |\n|---|---|"
    );
    for form in FORMS {
        let _ = writeln!(text, "| `{}` | {} |", form.name, form.meaning);
    }
    let _ = writeln!(
        text,
        "\n## Environment\n\n| variable | what it holds |\n|---|---|"
    );
    for (name, what) in VARIABLES {
        let names: Vec<_> = name.split(", ").map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| {} | {what} |", names.join(", "));
    }
    for section in sections() {
        write_section(&mut text, &section);
    }
    text
}

fn write_section(text: &mut String, section: &SectionInfo) {
    let _ = writeln!(text, "\n## [{}]\n\n{}", section.name, about(section.name));
    let _ = writeln!(text, "\n| key | flag | default | |\n|---|---|---|---|");
    for option in &section.options {
        let _ = writeln!(
            text,
            "| [`{key}`](#{}-{key}) | `{}` | {} | {} |",
            section.name,
            usage(option),
            shown_default(option),
            sentence(&option.summary),
            key = option.key,
        );
    }
    for option in &section.options {
        write_option(text, section, option);
    }
}

fn write_option(text: &mut String, section: &SectionInfo, option: &OptionInfo) {
    let _ = writeln!(
        text,
        "\n### <a id=\"{}-{key}\"></a>{key}\n\n{}",
        section.name,
        sentence(&option.summary),
        key = option.key
    );
    for paragraph in &option.details {
        let _ = writeln!(text, "{}", paragraph.replace('*', "\\*"));
    }
    let _ = writeln!(text);
    let _ = writeln!(text, "- Flag: `{}`", usage(option));
    let _ = writeln!(text, "- Value: {}", value_of(option).replace('*', "\\*"));
    let _ = writeln!(text, "- Default: {}", shown_default(option));
    if let Some(environment) = environment_of(option) {
        let _ = writeln!(text, "- Environment: {}", sentence(&environment));
    }
    if let Some(example) = &option.example {
        let _ = writeln!(text, "- Example: `{example}`");
    }
}

fn shown_default(option: &OptionInfo) -> String {
    if option.default.is_some() {
        format!("`{}`", default_of(option))
    } else {
        default_of(option)
    }
}
