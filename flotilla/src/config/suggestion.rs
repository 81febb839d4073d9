//! What an unknown word of the file was probably meant to be.

use super::section::SectionInfo;

/// Words of more differences are other words.
const MAX_DISTANCE: usize = 3;

/// An error for `[name]`.
pub(super) fn unknown_section(name: &str, sections: &[SectionInfo]) -> String {
    let names = sections.iter().map(|section| section.name);
    match closest(name, names.clone()) {
        Some(meant) => format!("[{name}]: unknown section; did you mean [{meant}]?"),
        None => {
            let names: Vec<_> = names.map(|name| format!("[{name}]")).collect();
            format!("[{name}]: unknown section; expected {}", names.join(", "))
        }
    }
}

/// An error for a key before any section.
pub(super) fn outside_sections(key: &str, sections: &[SectionInfo]) -> String {
    let homes: Vec<_> = sections
        .iter()
        .filter(|section| section.option(key).is_some())
        .map(|section| format!("[{}]", section.name))
        .collect();
    if homes.is_empty() {
        format!("{key}: unknown key outside of [supernode], [proxy] and [registries]")
    } else {
        format!("{key}: no section; put it below {}", homes.join(" or "))
    }
}

/// An error for a key that `section` does not have.
pub(super) fn unknown_key(key: &str, section: &SectionInfo, sections: &[SectionInfo]) -> String {
    let unknown = format!("[{}] {key}: unknown key", section.name);
    let named_like_flag = |section: &SectionInfo| {
        let flag = format!("--{}", key.replace('_', "-"));
        let option = section.options.iter().find(|option| option.flag == flag);
        option.map(|option| option.key.clone())
    };
    let of_other = |other: &SectionInfo| {
        let same = other.option(key).map(|option| option.key.clone());
        let meant = same.or_else(|| named_like_flag(other))?;
        Some(format!("{meant} of [{}]", other.name))
    };
    let keys = section.options.iter().map(|option| option.key.as_str());
    let meant = named_like_flag(section)
        .or_else(|| sections.iter().find_map(of_other))
        .or_else(|| closest(key, keys).map(ToOwned::to_owned));
    match meant {
        Some(meant) => format!("{unknown}; did you mean {meant}?"),
        None => format!("{unknown}; `flotilla config show --default` lists all"),
    }
}

fn closest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.replace('-', "_").to_lowercase();
    let distances = known.map(|known| (strsim::damerau_levenshtein(&word, known), known));
    let allowed = MAX_DISTANCE.min(word.chars().count() / 3);
    let near = distances.filter(|(distance, _)| *distance <= allowed);
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
