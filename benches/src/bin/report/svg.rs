//! Two kinds of plots, drawn by hand: lines over an axis, and bars.

use std::fmt::Write;

/// A named line.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// How values are spread over an axis.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    Linear,
    Logarithmic,
}

/// What stands at an axis.
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) scale: Scale,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 240.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 10] = [
    "#0b6e4f", "#c8553d", "#3d5a80", "#e0a458", "#7d4f9e", "#5f7470", "#b23a48", "#1d7874", "#8d6a9f",
    "#444444",
];

/// Lines over an axis. Points that a logarithmic axis cannot show are left out.
pub(crate) fn lines(title: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let shown =
        |&(a, b): &(f64, f64)| (x.scale == Scale::Linear || a > 0.0) && (y.scale == Scale::Linear || b > 0.0);
    let points = || lines.iter().flat_map(|line| line.points.iter().copied().filter(shown));
    let span = |scale: Scale, values: &mut dyn Iterator<Item = f64>| {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        values.for_each(|value| (low, high) = (low.min(value), high.max(value)));
        match scale {
            Scale::Linear => (0.0, if high > 0.0 { high * 1.05 } else { 1.0 }),
            // What is a power of ten but for rounding is one.
            Scale::Logarithmic => {
                (10_f64.powf((low.log10() + 1e-9).floor()), 10_f64.powf((high.log10() - 1e-9).ceil()))
            }
        }
    };
    let (xs, ys) = (span(x.scale, &mut points().map(|p| p.0)), span(y.scale, &mut points().map(|p| p.1)));
    let at_x = |value| LEFT + place(x.scale, xs, value) * (WIDTH - LEFT - RIGHT);
    let at_y = |value| HEIGHT - BOTTOM - place(y.scale, ys, value) * (HEIGHT - TOP - BOTTOM);

    let mut svg = begin(title, HEIGHT);
    for tick in ticks(x.scale, xs) {
        let at = at_x(tick);
        rule(&mut svg, (at, TOP), (at, HEIGHT - BOTTOM));
        text(&mut svg, (at, HEIGHT - BOTTOM + 16.0), "middle", &short(tick));
    }
    for tick in ticks(y.scale, ys) {
        let at = at_y(tick);
        rule(&mut svg, (LEFT, at), (WIDTH - RIGHT, at));
        text(&mut svg, (LEFT - 6.0, at + 4.0), "end", &short(tick));
    }
    text(&mut svg, ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 12.0), "middle", &x.label);
    text(&mut svg, (LEFT, TOP - 6.0), "start", &y.label);
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let path: Vec<_> = line
            .points
            .iter()
            .filter(|p| shown(p))
            .map(|p| format!("{:.1},{:.1}", at_x(p.0), at_y(p.1)))
            .collect();
        let _ = writeln!(
            svg,
            r#"<polyline fill="none" stroke="{colour}" stroke-width="2" points="{}"/>"#,
            path.join(" ")
        );
        let at = TOP + 10.0 + 18.0 * number as f64;
        let from = WIDTH - RIGHT + 12.0;
        let _ =
            writeln!(svg, r#"<rect x="{from}" y="{:.1}" width="12" height="3" fill="{colour}"/>"#, at - 5.0);
        text(&mut svg, (from + 18.0, at), "start", &line.name);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Bars, one below the other, as long as their values.
pub(crate) fn bars(title: &str, unit: &str, bars: &[(String, f64)]) -> String {
    const HIGH: f64 = 24.0;
    let height = TOP + HIGH * bars.len() as f64 + 16.0;
    let longest = bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = begin(title, height);
    for (number, (name, value)) in bars.iter().enumerate() {
        let at = TOP + HIGH * number as f64;
        let from = 250.0;
        let long = value / longest * (WIDTH - from - 140.0);
        text(&mut svg, (from - 8.0, at + 14.0), "end", name);
        let colour = COLOURS[usize::from(!name.starts_with("whizbang"))];
        let _ = writeln!(
            svg,
            r#"<rect x="{from}" y="{at:.1}" width="{long:.1}" height="{:.1}" fill="{colour}"/>"#,
            HIGH - 6.0
        );
        text(&mut svg, (from + long + 6.0, at + 14.0), "start", &format!("{} {unit}", short(*value)));
    }
    svg.push_str("</svg>\n");
    svg
}

fn begin(title: &str, height: f64) -> String {
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
"##
    );
    let _ =
        writeln!(svg, r#"<text x="10" y="18" font-size="14" font-weight="bold">{}</text>"#, escaped(title));
    svg
}

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        r##"<line x1="{:.1}" y1="{:.1}" x2="{:.1}" y2="{:.1}" stroke="#dddddd"/>"##,
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, text: &str) {
    let (x, y, text) = (at.0, at.1, escaped(text));
    let _ = writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Where a value lies between the ends, from 0 to 1.
fn place(scale: Scale, (low, high): (f64, f64), value: f64) -> f64 {
    match scale {
        Scale::Linear => (value - low) / (high - low),
        Scale::Logarithmic if high > low => (value / low).log10() / (high / low).log10(),
        Scale::Logarithmic => 0.5,
    }
}

fn ticks(scale: Scale, (low, high): (f64, f64)) -> Vec<f64> {
    match scale {
        Scale::Logarithmic => {
            let (first, last) = (low.log10().round() as i32, high.log10().round() as i32);
            (first..=last).map(|power| 10_f64.powi(power)).collect()
        }
        Scale::Linear => {
            let rough = (high - low) / 5.0;
            let power = 10_f64.powf(rough.log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough);
            let step = step.unwrap_or(rough);
            (0..).map(|n| low + f64::from(n) * step).take_while(|tick| *tick <= high).collect()
        }
    }
}

/// A number with a letter for its thousands.
pub(crate) fn short(value: f64) -> String {
    let (value, letter) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{letter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 12.5, 120.0, 1_500.0, 2e6].map(short), ["0", "12.5", "120", "1.5k", "2M"]);
    }

    #[test]
    fn ticks_are_round_and_within_the_ends() {
        assert_eq!(ticks(Scale::Linear, (0.0, 105.0)), [0.0, 50.0, 100.0]);
        assert_eq!(ticks(Scale::Logarithmic, (1.0, 1_000.0)), [1.0, 10.0, 100.0, 1_000.0]);
    }

    #[test]
    fn a_plot_names_its_lines_and_escapes_them() {
        let line = Line { name: "a < b".to_owned(), points: vec![(1.0, 1.0), (10.0, 5.0)] };
        let axis = |label: &str| Axis { label: label.to_owned(), scale: Scale::Logarithmic };
        let svg = lines("title", &axis("x"), &axis("y"), &[line]);
        assert!(svg.contains("a &lt; b") && svg.contains("<polyline") && svg.ends_with("</svg>\n"));
    }
}
