//! Text from elsewhere, on a terminal.

use std::fmt::{self, Write as _};

/// Displays text of other origin without letting it control the terminal: control characters and
/// those that change the direction of writing appear as escapes.
pub(crate) struct Sanitized<'a>(pub(crate) &'a str);

impl fmt::Display for Sanitized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if controls(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Whether it would move, colour or turn what follows.
pub(crate) fn controls(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_control_the_terminal_is_escaped() {
        let text = "a\u{1b}[31mb\n\u{202e}ö 語\u{9b}";
        assert_eq!(
            Sanitized(text).to_string(),
            "a\\u{1b}[31mb\\n\\u{202e}ö 語\\u{9b}"
        );
    }
}
