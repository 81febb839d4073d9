//! Plots of a simulation, as SVG.

use std::fmt::Write as _;

use super::report::Report;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const MARGIN: f64 = 40.0;

/// The share of nodes that are complete, and the use of the uplinks, over time.
pub fn plot(report: &Report) -> String {
    let end = report.makespan.max(f64::MIN_POSITIVE);
    let nodes = u32::try_from(report.times.len()).map_or(1.0, f64::from);
    let complete = (1_u32..)
        .zip(&report.times)
        .map(|(count, at)| (*at, f64::from(count) / nodes));
    let supernode = report.uplinks.iter().map(|(at, share, _)| (*at, *share));
    let uplinks = report.uplinks.iter().map(|(at, _, share)| (*at, *share));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <text x=\"{MARGIN}\" y=\"16\">{}</text>\n",
        escape(&report.title)
    );
    for (tenths, label) in [(0.0, "0"), (0.5, "50 %"), (1.0, "100 %")] {
        let y = y_of(tenths);
        let _ = writeln!(
            svg,
            "<path d=\"M{MARGIN} {y:.1}H{:.1}\" stroke=\"#ccc\"/><text x=\"2\" y=\"{y:.1}\">{label}</text>",
            WIDTH - 10.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\">{:.1} s</text>",
        WIDTH - 50.0,
        HEIGHT - 8.0,
        end
    );
    line(&mut svg, "#0a7", "nodes complete", 1, end, complete);
    line(&mut svg, "#c40", "supernode's uplink", 2, end, supernode);
    line(&mut svg, "#06c", "nodes' uplinks", 3, end, uplinks);
    svg.push_str("</svg>\n");
    svg
}

fn line(
    svg: &mut String,
    colour: &str,
    label: &str,
    number: u8,
    end: f64,
    points: impl Iterator<Item = (f64, f64)>,
) {
    let mut path = String::new();
    for (at, share) in points.filter(|(at, _)| *at <= end) {
        let x = MARGIN + (WIDTH - MARGIN - 10.0) * at / end;
        let _ = write!(
            path,
            "{}{x:.1} {:.1}",
            if path.is_empty() { "M" } else { "L" },
            y_of(share.min(1.0))
        );
    }
    let x = MARGIN + 150.0 * f64::from(number - 1);
    let _ = writeln!(
        svg,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\"/><text x=\"{x:.0}\" y=\"{:.0}\" fill=\"{colour}\">{label}</text>",
        HEIGHT - 8.0
    );
}

fn y_of(share: f64) -> f64 {
    HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * share
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
