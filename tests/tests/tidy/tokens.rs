//! Rust source as a row of tokens: enough to see its modules and paths, without comments.

/// A name, a literal in quotes, `::`, or one other character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    /// From 1.
    pub(crate) line: usize,
}

impl Token<'_> {
    pub(crate) fn is_name(&self) -> bool {
        !self.text.starts_with(|first: char| first.is_numeric())
            && name(self.text) == self.text.len()
    }
}

/// The tokens of a source that compiles. Numbers and lifetimes are left out.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, is_token) = match first {
            '/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            '/' if rest.starts_with("/*") => (block_comment(rest), false),
            '"' => (quoted(rest), true),
            '\'' => (character_or_lifetime(rest), false),
            ':' if rest.starts_with("::") => (2, true),
            _ if first.is_ascii_digit() => (name(rest), false),
            _ if first == '_' || first.is_alphabetic() => match prefixed_literal(rest) {
                Some(length) => (length, true),
                None if rest.starts_with("r#") => (2, false),
                None => (name(rest), true),
            },
            _ => (first.len_utf8(), !first.is_whitespace()),
        };
        let (text, after) = rest.split_at(length);
        if is_token {
            tokens.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

fn name(rest: &str) -> usize {
    rest.find(|c: char| c != '_' && !c.is_alphanumeric())
        .unwrap_or(rest.len())
}

/// Comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    loop {
        let Some(next) = rest[at..].find(['/', '*']) else {
            return rest.len();
        };
        at += next;
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
}

/// The length of a literal that begins with its quotes.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `c"…"`, `b'…'`.
fn prefixed_literal(rest: &str) -> Option<usize> {
    let prefix = rest.find(|c: char| !matches!(c, 'r' | 'b' | 'c'))?;
    let after = &rest[prefix..];
    if rest[..prefix].ends_with('r') {
        let hashes = after.find(|c| c != '#')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let content = after[hashes..].strip_prefix('"')?;
        return Some(prefix + hashes + 1 + content.find(&end)? + end.len());
    }
    match after.chars().next()? {
        '"' if prefix == 1 => Some(prefix + quoted(after)),
        '\'' if &rest[..prefix] == "b" => Some(prefix + character_or_lifetime(after)),
        _ => None,
    }
}

/// `'x'` and `'\u{1f600}'` are characters, `'x` is a lifetime.
fn character_or_lifetime(rest: &str) -> usize {
    let after = &rest[1..];
    if after.starts_with('\\') {
        return after[2..].find('\'').map_or(rest.len(), |end| end + 4);
    }
    let Some(first) = after.chars().next() else {
        return 1;
    };
    if after[first.len_utf8()..].starts_with('\'') {
        return first.len_utf8() + 2;
    }
    1 + name(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_numbers_characters_and_lifetimes_are_left_out() {
        assert_eq!(texts("a /* b /* c */ d */ e // f\n g"), ["a", "e", "g"]);
        assert_eq!(
            texts("fn a<'b>(c: &'b u8) { '{'; '\\''; b'}'; 0x1f }"),
            [
                "fn", "a", "<", ">", "(", "c", ":", "&", "u8", ")", "{", ";", ";", "b'}'", ";",
                "}",
            ]
        );
    }

    #[test]
    fn what_is_in_a_literal_is_one_token() {
        let source = r####"a("crate::b \" }", r#"crate::c " "#, br"d", b"e") c::r#type"####;
        let expected = [
            "a",
            "(",
            "\"crate::b \\\" }\"",
            ",",
            "r#\"crate::c \" \"#",
            ",",
            "br\"d\"",
            ",",
            "b\"e\"",
            ")",
            "c",
            "::",
            "type",
        ];
        assert_eq!(texts(source), expected);
    }

    #[test]
    fn lines_are_counted_through_comments_and_literals() {
        let found = tokens("a /*\n*/ \"\n\" b\nc");
        let lines: Vec<_> = found.iter().map(|token| (token.text, token.line)).collect();
        assert_eq!(lines, [("a", 1), ("\"\n\"", 2), ("b", 3), ("c", 4)]);
    }
}
