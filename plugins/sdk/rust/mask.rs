//! A mask with state: whatever stands in `member` is replaced by a pseudonym, the same for the same value:
//! driver-1, driver-2... Which is whose is remembered by the host, so a restart changes nothing.
//!
//! Configuration: `{"member": "driver", "prefix": "driver-"}`

use geomq_plugin::{export, json, Batch, Outcome, Plugin};

const LONGEST: usize = 256;

struct Mask {
    member: String,
    prefix: String,
}

impl Plugin for Mask {
    fn new(config: &[u8]) -> Result<Self, String> {
        let setting = |name| json::member(config, name).ok().flatten().and_then(json::string);
        Ok(Mask {
            member: setting("member").ok_or("member: the name of what is masked is expected")?.to_string(),
            prefix: setting("prefix").ok_or("prefix: a text without escapes is expected")?.to_string(),
        })
    }

    fn process(&mut self, batch: &Batch, outcome: &mut Outcome) {
        for (index, message) in batch.messages().enumerate() {
            match json::member(message.payload, &self.member) {
                Ok(Some(person)) if person.len() <= LONGEST => {
                    let pseudonym = format!("\"{}{}\"", self.prefix, known_as(person, index, outcome));
                    let start = json::position(message.payload, person);
                    let end = start + person.len();
                    let masked = json::spliced(message.payload, start, end, pseudonym.as_bytes());
                    outcome.set_payload(index, &masked);
                }
                Ok(None) => {}
                // What cannot be masked does not leave.
                Ok(Some(_)) => outcome.reject(index, "what is masked is too long"),
                Err(_) => outcome.reject(index, "the payload is no object that can be read"),
            }
        }
    }
}

fn known_as(person: &[u8], index: usize, outcome: &mut Outcome) -> String {
    let key = [b"is:", person].concat();
    if let Some(number) = outcome.state(&key) {
        return String::from_utf8_lossy(&number).into_owned();
    }
    let last = outcome.state(b"last").and_then(|value| json::number(&value)).unwrap_or(0.0);
    let number = (last as u64 + 1).to_string();
    outcome.put_state(Some(index), b"last", number.as_bytes(), 0);
    outcome.put_state(Some(index), &key, number.as_bytes(), 0);
    number
}

export!(Mask);
