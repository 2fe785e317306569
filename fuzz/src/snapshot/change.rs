//! Changes of a stored form.

use arbitrary::{Result, Unstructured};
use serde_json::{Value, json};

use super::session::ORIGIN;

/// Changes, removes or adds one value.
pub fn one(u: &mut Unstructured<'_>, value: &mut Value) -> Result<()> {
    match value {
        Value::Object(fields) if !u.ratio(1, 16)? => {
            let chosen = u.choose_index(fields.len())?;
            let Some((name, field)) = fields.iter_mut().nth(chosen) else { return Ok(()) };
            match u.int_in_range(0..=23)? {
                0 => {
                    let name = name.clone();
                    fields.remove(&name);
                }
                1 => _ = fields.insert("color".into(), json!(1)),
                _ => one(u, field)?,
            }
        }
        other => *other = another(u, other)?,
    }
    Ok(())
}

fn another(u: &mut Unstructured<'_>, value: &Value) -> Result<Value> {
    let origin = ORIGIN.as_nanos();
    Ok(match u.int_in_range(0..=9)? {
        0..=2 => json!(u.choose(&[0, 1, 2, 3, 7, 254, 255, 256, 65_535, u64::from(u32::MAX), origin, u64::MAX])?),
        // Instants near the present.
        3 => json!(origin.saturating_add_signed(i64::from(u.arbitrary::<i16>()?) * 1_000_000)),
        4 => json!(origin.saturating_add_signed(u.arbitrary::<i8>()?.into())),
        5 => json!(u.arbitrary::<u64>()?),
        6 => match value.as_u64() {
            Some(number) => json!(number.saturating_add_signed(u.arbitrary::<i8>()?.into())),
            None => json!(!value.as_bool().unwrap_or_default()),
        },
        7 => u.choose(&[json!(-1), json!(0.5), json!(null), json!(true), json!([]), json!({}), json!("")])?.clone(),
        _ => name(u)?,
    })
}

/// Chooses a phase, a cause, or a state of the breaker.
fn name(u: &mut Unstructured<'_>) -> Result<Value> {
    let names = [
        "Ready",
        "InFlight",
        "Leading",
        "Done",
        "status",
        "timed_out",
        "broken",
        "not_sent",
        "other",
        "unprocessed",
        "permanent",
        "backoff",
        "gate",
        "Backoff",
        "Gate",
        "cancelled",
        "unavailable",
        "abandoned",
    ];
    let until = ORIGIN.as_nanos().saturating_add(u.arbitrary()?);
    Ok(match u.int_in_range(0..=8)? {
        0 => json!({"Waiting": "Backoff"}),
        1 => json!({"Waiting": {"Hint": u.choose(&["retry_after", "told", "pushback"])?}}),
        2 => json!({"Waiting": "Gate"}),
        3 => json!({"Following": u.arbitrary::<u8>()?}),
        4 => json!({"Failed": u.choose(&["deadline", "exhausted", "ambiguous"])?}),
        5 => json!({"Closed": {"failures_in_a_row": u.arbitrary::<u32>()?, "since": until}}),
        6 => json!({"Open": {"until": until}}),
        7 => json!({"Probing": {"epoch": u.arbitrary::<u8>()?, "until": until}}),
        _ => json!(u.choose(&names)?),
    })
}
