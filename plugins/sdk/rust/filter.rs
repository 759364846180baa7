//! A filter: messages whose payload has no number `member`, or one below `at_least`, are dropped.
//!
//! Configuration: `{"member": "speed", "at_least": 5}`

use geomq_plugin::{export, json, Batch, Outcome, Plugin};

struct Filter {
    member: String,
    at_least: f64,
}

impl Plugin for Filter {
    fn new(config: &[u8]) -> Result<Self, String> {
        let setting = |name| json::member(config, name).ok().flatten();
        let member = setting("member").and_then(json::string);
        let at_least = setting("at_least").and_then(json::number);
        Ok(Filter {
            member: member.ok_or("member: the name of a number in the payload is expected")?.to_string(),
            at_least: at_least.ok_or("at_least: a number is expected")?,
        })
    }

    fn process(&mut self, batch: &Batch, outcome: &mut Outcome) {
        let mut dropped = 0.0;
        for (index, message) in batch.messages().enumerate() {
            if !self.is_wanted(message.payload) {
                outcome.drop(index);
                dropped += 1.0;
            }
        }
        if dropped > 0.0 {
            outcome.metric("dropped", dropped);
        }
    }
}

impl Filter {
    fn is_wanted(&self, payload: &[u8]) -> bool {
        let value = json::member(payload, &self.member).ok().flatten();
        value.and_then(json::number).map_or(false, |number| number >= self.at_least)
    }
}

export!(Filter);
