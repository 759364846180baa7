//! A mask without state: see ../../../bench/rules.py.

use geomq_plugin::{export, json, Batch, Outcome, Plugin};

const MEMBERS: [&str; 3] = ["vehicle", "driver", "phone"];

struct Redact;

/// The payload with the members masked, None where there are none of them.
fn redacted(payload: &[u8]) -> Result<Option<Vec<u8>>, json::Unreadable> {
    let mut masked: Option<Vec<u8>> = None;
    for name in MEMBERS {
        let whole = masked.as_deref().unwrap_or(payload);
        if let Some(value) = json::member(whole, name)? {
            let start = json::position(whole, value);
            let end = start + value.len();
            masked = Some(json::spliced(whole, start, end, b"\"***\""));
        }
    }
    Ok(masked)
}

impl Plugin for Redact {
    fn new(_config: &[u8]) -> Result<Self, String> {
        Ok(Redact)
    }

    fn process(&mut self, batch: &Batch, outcome: &mut Outcome) {
        for (index, message) in batch.messages().enumerate() {
            match redacted(message.payload) {
                Ok(Some(payload)) => outcome.set_payload(index, &payload),
                Ok(None) => {}
                Err(_) => outcome.reject(index, "the payload is no object that can be read"),
            }
        }
    }
}

export!(Redact);
