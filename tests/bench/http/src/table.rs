//! What is printed.

use netbootd_lab::{beside, median};

use crate::{rows::Row, server::Kind};

/// Above the table.
pub(crate) const HOW_TO_READ: &str = "Logs: netbootd's as they are by default, to a file; nginx's as its columns say; \
    axum with ServeDir has none. In brackets behind another server's figure: netbootd's figure divided by that one, and \
    the lowest and the highest such ratio of the rounds, each beside the same round.";

/// The first two lines of the table.
pub(crate) fn head(kinds: &[Kind], rounds: usize) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
    format!("\n| HTTP, {rounds} rounds | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()))
}

/// Medians. netbootd's with its lowest and highest figure, the others' with netbootd's ratio.
pub(crate) fn line(row: &Row, figures: &[(Kind, Vec<f64>)], rounds: usize) -> String {
    let ours = figures.iter().find(|(kind, _)| *kind == Kind::Netbootd).map(|(_, figures)| figures.as_slice());
    let cell = |(kind, figures): &(Kind, Vec<f64>)| match median(figures.clone()) {
        None => "–".to_owned(),
        Some(median) if median.is_nan() => "turns clients away".to_owned(),
        Some(median) if *kind == Kind::Netbootd => {
            let (least, most) = figures.iter().fold((f64::MAX, f64::MIN), |(l, m), f| (l.min(*f), m.max(*f)));
            format!("{} ({}–{})", short(median), short(least), short(most))
        }
        Some(median) => match beside(ours.unwrap_or_default(), figures) {
            Some((ratio, least, most)) => format!("{} ({ratio:.2}×; {least:.2}–{most:.2})", short(median)),
            None => short(median),
        },
    };
    let cells: Vec<String> = figures.iter().map(cell).collect();
    let fewer = match row.most_rounds {
        most if most >= rounds => String::new(),
        1 => ", 1 round".to_owned(),
        most => format!(", {most} rounds"),
    };
    format!("| {}: {}{fewer} | {} |", row.name, row.what, cells.join(" | "))
}

/// Three digits at least.
fn short(figure: f64) -> String {
    let places = match figure.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{figure:.places$}")
}
