//! Text from elsewhere, in cells of a table.

use unicode_width::UnicodeWidthChar as _;

use crate::sanitize;

/// Longest text that is looked at: no terminal has more columns to spare.
const MAX_LENGTH: usize = 300;

/// The text with escapes for all that would not take the cells that are counted for it: besides what
/// controls the terminal, what joins with its neighbours (terminals differ in how wide that is) and
/// what is written from right to left (some terminals turn the whole line round).
pub(super) fn cell_text(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(MAX_LENGTH) {
        if sanitize::controls(c) || joins(c) || is_right_to_left(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn joins(c: char) -> bool {
    // Skin tones, and letters that make flags in pairs.
    let in_pairs = matches!(c, '\u{1f3fb}'..='\u{1f3ff}' | '\u{1f1e6}'..='\u{1f1ff}');
    in_pairs || c.width().unwrap_or(0) == 0
}

/// The blocks of the scripts that are (Unicode Standard Annex 9, `Bidi_Class` R and AL, by default).
fn is_right_to_left(c: char) -> bool {
    matches!(
        c,
        '\u{590}'..='\u{8ff}'
            | '\u{fb1d}'..='\u{fdff}'
            | '\u{fe70}'..='\u{feff}'
            | '\u{10800}'..='\u{10fff}'
            | '\u{1e800}'..='\u{1efff}'
    )
}

#[cfg(test)]
mod tests {
    use ratatui::text::Line;

    use super::*;

    #[test]
    fn only_what_has_a_width_of_its_own_is_shown_as_it_is() {
        assert_eq!(cell_text("reg.test/ä/語 é"), "reg.test/ä/語 é");
        for hostile in [
            "\u{1b}[2J",
            "\u{9b}2J",
            "\n",
            "\u{202e}",
            "\u{200d}",
            "\u{fe0f}",
            "e\u{301}",
            "\u{5d0}",
            "\u{627}",
            "\u{1f1e9}",
            "\u{1f3fd}",
            "\u{ad}",
        ] {
            let shown = cell_text(hostile);
            assert!(shown.contains("\\u{") && shown.is_ascii(), "{shown:?}");
        }
    }

    #[test]
    fn each_character_takes_the_cells_that_ratatui_counts() {
        let shown = cell_text("a語👩\u{200d}👧e\u{301}\u{1f1e9}\u{1f1ea}");
        let sum: usize = shown.chars().filter_map(|c| c.width()).sum();
        assert_eq!(Line::raw(shown).width(), sum);
    }

    #[test]
    fn no_name_is_longer_than_a_line() {
        assert_eq!(cell_text(&"x".repeat(100_000)).len(), MAX_LENGTH);
    }
}
