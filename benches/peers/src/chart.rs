//! The chart: what an item costs on the recording thread, a bar for each peer, on a logarithmic
//! scale, with the clock as a line. Its ground is opaque, so that it reads in light and in dark.

use std::path::Path;

use hotspan_peers::Result;
use hotspan_peers::peer::Mode;
use hotspan_peers::peers::PEERS;
use hotspan_peers::work::Work;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::results::{Results, median};

const WIDTH: u32 = 900;
const BAR: i32 = 34;
const TOP: i32 = 64;
const BOTTOM: i32 = 56;
const LEFT: i32 = 200;
const RIGHT: i32 = 100;

const GROUND: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(36, 41, 47);
const FAINT: RGBColor = RGBColor(208, 215, 222);
const OURS: RGBColor = RGBColor(9, 105, 218);
const THEIRS: RGBColor = RGBColor(140, 149, 159);
const FLOOR: RGBColor = RGBColor(207, 34, 46);

/// # Errors
/// The file cannot be written, or there is nothing to draw.
pub fn draw(results: &Results, path: &Path) -> Result<()> {
    let wall = |peer: &str| {
        results.cell(peer, Mode::Sampled, Work::USUAL).and_then(|cell| median(&cell.walls))
    };
    let floor = wall("clock").ok_or("the clock was not measured")?;
    let mut bars: Vec<(&str, f64)> = PEERS
        .iter()
        .filter(|entry| entry.name != "clock")
        .filter_map(|entry| Some((entry.name, wall(entry.name)?)))
        .collect();
    bars.sort_by(|one, other| one.1.total_cmp(&other.1));
    let most = bars.last().ok_or("no peer was measured")?.1.max(floor);

    let height = TOP + BAR * bars.len() as i32 + BOTTOM;
    let root = SVGBackend::new(path, (WIDTH, height as u32)).into_drawing_area();
    root.fill(&GROUND)?;
    let text = |size: i32, color: RGBColor, at: HPos| TextStyle {
        font: ("sans-serif", size).into_font(),
        color: color.to_backend_color(),
        pos: Pos::new(at, VPos::Center),
    };
    let title = "One item on the recording thread: a root, three children, five attributes";
    root.draw_text(title, &text(18, INK, HPos::Left), (20, 22))?;
    let scale = "nanoseconds, logarithmic: each line to the right is ten times the one before it";
    root.draw_text(scale, &text(13, INK, HPos::Left), (20, 44))?;

    // From the power of ten that leaves the floor room.
    let first = (floor / 2.0).log10().floor();
    let decades = (most.log10() - first).max(1.0);
    let width = f64::from(WIDTH as i32 - LEFT - RIGHT);
    let x = |ns: f64| LEFT + ((ns.log10() - first) / decades * width).round() as i32;
    let bottom = height - BOTTOM;
    let mut decade = 10_f64.powf(first);
    while decade <= most {
        let line = vec![(x(decade), TOP), (x(decade), bottom)];
        root.draw(&PathElement::new(line, FAINT))?;
        root.draw_text(&figure(decade), &text(13, INK, HPos::Center), (x(decade), bottom + 14))?;
        decade *= 10.0;
    }
    for (row, &(peer, ns)) in bars.iter().enumerate() {
        let (top, middle) = (TOP + BAR * row as i32, TOP + BAR * row as i32 + BAR / 2);
        let color = if peer.starts_with("hotspan") { OURS } else { THEIRS };
        let corners = [(x(decade_of(first)), top + 5), (x(ns), top + BAR - 5)];
        root.draw(&Rectangle::new(corners, color.filled()))?;
        root.draw_text(&label(peer), &text(15, INK, HPos::Right), (LEFT - 10, middle))?;
        root.draw_text(&figure(ns), &text(15, INK, HPos::Left), (x(ns) + 8, middle))?;
    }
    let line = vec![(x(floor), TOP - 4), (x(floor), bottom + 4)];
    root.draw(&PathElement::new(line, FLOOR.stroke_width(2)))?;
    let floor_text = format!("red: the eight clock reads alone, {}", figure(floor));
    root.draw_text(&floor_text, &text(13, FLOOR, HPos::Left), (x(floor), bottom + 34))?;
    Ok(root.present()?)
}

/// Those that deliver nothing say so.
fn label(peer: &str) -> String {
    match peer {
        "tracing" => "tracing (keeps nothing)".to_owned(),
        "tracy" => "tracy (no viewer)".to_owned(),
        "hotspan-str" => "hotspan, &str names".to_owned(),
        _ => peer.to_owned(),
    }
}

fn decade_of(exponent: f64) -> f64 {
    10_f64.powf(exponent)
}

fn figure(ns: f64) -> String {
    let text = format!("{ns:.0}");
    match text.len() {
        // A narrow space between thousands.
        4.. => {
            let (thousands, rest) = text.split_at(text.len() - 3);
            format!("{thousands}\u{2009}{rest}")
        }
        _ => text,
    }
}
