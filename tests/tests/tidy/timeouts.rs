//! docs/timeouts.md: its figures are the code's, and each table ascends.

use std::time::Duration;

use crate::finding::Finding;
use crate::tree::Tree;

const DOCUMENT: &str = "docs/timeouts.md";

/// Rows whose constant has another value or is not there, and rows out of order.
pub(crate) fn timeouts(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut before = Duration::ZERO;
    let mut rows = 0;
    for (index, line) in tree.text(DOCUMENT).unwrap_or_default().lines().enumerate() {
        if line.starts_with('#') {
            before = Duration::ZERO;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(shown) = cells.get(1).and_then(|cell| duration(cell)) else {
            continue;
        };
        rows += 1;
        let named: Vec<&str> = cells
            .get(2)
            .map_or_else(Vec::new, |cell| cell.split('`').collect());
        let [_, constant, _, file, ..] = named.as_slice() else {
            findings.push(finding(index, "names no constant and its file".to_owned()));
            continue;
        };
        let found = tree.text(file).and_then(|text| value(text, constant));
        if found != Some(shown) {
            findings.push(finding(index, format!("{constant} in {file} is {found:?}")));
        }
        if shown < before {
            findings.push(finding(
                index,
                format!("{constant} is shorter than what it waits for"),
            ));
        }
        before = shown;
    }
    if rows == 0 {
        findings.push(finding(0, "there is no row".to_owned()));
    }
    findings
}

fn finding(index: usize, what: String) -> Finding {
    Finding {
        path: DOCUMENT.to_owned(),
        line: index + 1,
        what,
        mend: "keep the order, and write the figure of the code".to_owned(),
    }
}

/// `250 ms`, `5 s`, `15 min`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_once(' ')?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "min" => Some(Duration::from_secs(number * 60)),
        _ => None,
    }
}

/// The value of a constant `NAME: Duration = Duration::from_secs(A * B + C);`.
fn value(text: &str, constant: &str) -> Option<Duration> {
    let (_, after) = text.split_once(&format!("const {constant}: Duration = Duration::from_"))?;
    let (unit, after) = after.split_once('(')?;
    let (sum, _) = after.split_once(')')?;
    let product = |factors: &str| -> Option<u64> {
        factors
            .split('*')
            .map(|factor| factor.trim().parse::<u64>().ok())
            .product()
    };
    let sum: Option<u64> = sum.split('+').map(product).sum();
    match unit {
        "secs" => sum.map(Duration::from_secs),
        "millis" => sum.map(Duration::from_millis),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rows: &str) -> usize {
        let code = "const A: Duration = Duration::from_secs(5 * 60 + 10);\nconst B: Duration = Duration::from_millis(500);\n";
        timeouts(&Tree::of(&[(DOCUMENT, rows), ("a.rs", code)])).len()
    }

    #[test]
    fn figures_and_order_are_compared() {
        let (a, b) = (
            "| 310 s | `A` in `a.rs` | x |\n",
            "| 500 ms | `B` in `a.rs` | x |\n",
        );
        assert_eq!(found(&format!("{b}{a}")), 0);
        assert_eq!(found(&format!("{a}{b}")), 1, "out of order");
        assert_eq!(found(&format!("{a}# Next\n{b}")), 0);
        assert_eq!(
            found("| 5 min | `A` in `a.rs` | x |\n"),
            1,
            "another figure"
        );
        assert_eq!(
            found("| 5 s | `C` in `a.rs` | x |\n"),
            1,
            "no such constant"
        );
        assert_eq!(found("| 5 s | x | x |\n"), 1, "no constant");
        assert_eq!(found(""), 1, "no row");
    }
}
