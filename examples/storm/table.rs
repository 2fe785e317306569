//! The figures side by side, for people and for programs.

use serde_json::{Value, json};

use crate::bounds::{self, EXCEPTIONS};
use crate::cells::{Condition, Matrix};
use crate::figures::Figures;
use crate::policies::DEFAULT;
use crate::scenario::{Group, Scenario};

pub fn print(matrix: &Matrix) {
    println!("seed {}", matrix.seed);
    for group in Group::ALL {
        let rows: Vec<usize> = (0..matrix.rows.len()).filter(|n| matrix.rows[*n].group == group).collect();
        if rows.is_empty() {
            continue;
        }
        println!("\n{} ({})", group.title(), group.legend());
        print!("  {:<47}{:<20}", "scenario", "shared by");
        matrix.columns.iter().for_each(|column| print!("{:<38}", column.name));
        println!();
        for n in rows {
            let row = &matrix.rows[n];
            print!("  {:<47}{:<20}", row.name, row.sharing());
            for column in 0..matrix.columns.len() {
                print!("{:<38}", format!("{} {}", mark(matrix, n, column), cell(row, matrix.figures(n, column))));
            }
            println!();
        }
    }
    println!(
        "\n+ within the bounds, - beyond one, ! does not recover, loses more than without retries, or is far beyond, * a named exception."
    );
    let (mut outside, mut count) = (matrix.outside(), 0);
    for (row, breaches) in &mut outside {
        count += 1;
        for breach in breaches {
            println!("{}, {}: {}", row.name, row.sharing(), breach.text);
        }
    }
    for row in matrix.toothless() {
        println!(
            "{}, {}: the service recovers under back-off alone, so the simulation shows nothing",
            row.name,
            row.sharing()
        );
    }
    println!("{count} of {} rows are outside their bounds under the default policy.", matrix.rows.len());
}

/// Returns a character for the condition of a cell.
fn mark(matrix: &Matrix, row: usize, column: usize) -> String {
    let exception = if column == DEFAULT && bounds::exception(&matrix.rows[row]).is_some() { "*" } else { "" };
    let mark = match matrix.condition(row, column) {
        Condition::Green => "+",
        Condition::Yellow => "-",
        Condition::Red => "!",
    };
    format!("{mark}{exception}")
}

/// Returns the figures of a cell, as its group has them.
pub fn cell(row: &Scenario, figures: &Figures) -> String {
    let worst = seconds(figures.latency(100));
    match row.group {
        Group::Disturbance => {
            let recovery = match figures.recovery() {
                _ if row.bounds.recovers.is_none() => "–".into(),
                Some(seconds) => format!("{seconds} s"),
                None => "never".into(),
            };
            let waiting =
                if figures.waiting() >= 0.5 { format!(" (+{:.0})", figures.waiting()) } else { String::new() };
            let p99 = seconds(figures.latency(99));
            format!("{recovery} · {:.1} %{waiting} · {p99} · {:.2}", figures.lost(), figures.attempts_per_request())
        }
        Group::Limit | Group::Trouble => {
            let used = bounds::used(row, figures);
            format!("{used:.0} % · {worst} · {} · {:.0} %", figures.lost, figures.throttled())
        }
        Group::Errors => format!("{:.2} % · {:.2}", figures.lost(), figures.attempts_per_request()),
        Group::Quiet => format!("{:.1} % · {worst}", figures.succeeded()),
        Group::ColdStart => {
            // Batches come again: only the latency says how long one takes.
            let last = if row.bounds.last_success.is_some() {
                figures.last_done as f64 / 1_000.0
            } else {
                figures.latency(100)
            };
            format!("{} · {} · {:.0} %", seconds(last), figures.lost, figures.throttled())
        }
    }
}

fn seconds(seconds: f64) -> String {
    if seconds < 9.95 { format!("{seconds:.1} s") } else { format!("{seconds:.0} s") }
}

/// Returns the tables as Markdown.
pub fn markdown(matrix: &Matrix) -> String {
    let mut text = String::new();
    for group in Group::ALL {
        let rows: Vec<usize> = (0..matrix.rows.len()).filter(|n| matrix.rows[*n].group == group).collect();
        if rows.is_empty() {
            continue;
        }
        let names: Vec<&str> = matrix.columns.iter().map(|column| column.name).collect();
        text += &format!("### {}\n\nFigures: {}.\n\n", group.title(), group.legend());
        text += &format!("| scenario | shared by | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
        for n in rows {
            let row = &matrix.rows[n];
            let cells = (0..names.len()).map(|column| {
                let text = cell(row, matrix.figures(n, column));
                let star = if column == DEFAULT && bounds::exception(row).is_some() { " \\*" } else { "" };
                match matrix.condition(n, column) {
                    Condition::Green => format!("{text}{star}"),
                    Condition::Yellow => format!("*{text}*{star}"),
                    Condition::Red => format!("**{text}**{star}"),
                }
            });
            text += &format!("| {} | {} | {} |\n", row.name, row.sharing(), cells.collect::<Vec<_>>().join(" | "));
        }
        text += "\n";
    }
    text += "### Named exceptions\n\nThese rows have wider bounds:\n\n";
    for exception in EXCEPTIONS {
        let sharing = if exception.sharing.is_empty() { String::new() } else { format!(", {}", exception.sharing) };
        let reason = exception.reason;
        text += &format!("- {}, *{}{sharing}*: {reason}\n", exception.group.title(), exception.name);
    }
    text
}

pub fn json(matrix: &Matrix) -> Value {
    let cell = |row: usize, column: usize| {
        let figures = matrix.figures(row, column);
        json!({
            "policy": matrix.columns[column].name,
            "recovery_s": figures.recovery(),
            "lost_percent": figures.lost(),
            "waiting_percent": figures.waiting(),
            "succeeded_percent": figures.succeeded(),
            "used_percent": bounds::used(&matrix.rows[row], figures),
            "requests": figures.requests(),
            "done": figures.done(),
            "lost": figures.lost,
            "cancelled": figures.cancelled,
            "expired": figures.expired,
            "p50_s": figures.latency(50),
            "p99_s": figures.latency(99),
            "worst_s": figures.latency(100),
            "last_done_ms": figures.last_done,
            "longest_wait_ms": figures.longest_wait,
            "attempts_per_request": figures.attempts_per_request(),
            "throttled_percent": figures.throttled(),
            "breaches": matrix.breaches(row, column).into_iter().map(|breach| breach.text).collect::<Vec<_>>(),
        })
    };
    let row = |(n, row): (usize, &Scenario)| {
        json!({
            "group": row.group.title(),
            "scenario": row.name,
            "shared_by": row.sharing(),
            "exception": bounds::exception(row).map(|exception| exception.reason),
            "cells": (0..matrix.columns.len()).map(|column| cell(n, column)).collect::<Vec<_>>(),
        })
    };
    json!({
        "seed": matrix.seed,
        "good": matrix.is_good(),
        "rows": matrix.rows.iter().enumerate().map(row).collect::<Vec<_>>(),
    })
}
