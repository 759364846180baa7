//! An aggregate: the numbers `member` of each topic are collected and dropped; when a window of `seconds` is
//! over, a message with their count, minimum, maximum and mean goes to `topic`/<their topic>.
//!
//! Configuration: `{"member": "temperature", "seconds": 60, "topic": "summary"}`

use geomq_plugin::{export, json, most_emits, Batch, Outcome, Plugin};

/// Or what the host takes of a tick.
const MOST_TOPICS: usize = 64;
const LONGEST_TOPIC: usize = 256;

struct Window {
    topic: Vec<u8>,
    count: u64,
    lowest: f64,
    highest: f64,
    sum: f64,
}

struct Aggregate {
    member: String,
    target: String,
    nanoseconds: u64,
    opened: u64,
    windows: Vec<Window>,
}

impl Plugin for Aggregate {
    fn new(config: &[u8]) -> Result<Self, String> {
        let setting = |name| json::member(config, name).ok().flatten();
        let member = setting("member").and_then(json::string);
        let member = member.ok_or("member: the name of a number in the payload is expected")?;
        let seconds = setting("seconds").and_then(json::number).filter(|s| *s > 0.0 && *s < 1e9);
        let seconds = seconds.ok_or("seconds: how long a window is open is expected")?;
        let target = setting("topic").and_then(json::string).filter(|topic| !topic.is_empty());
        Ok(Aggregate {
            member: member.to_string(),
            target: target.ok_or("topic: where the results go is expected")?.to_string(),
            nanoseconds: (seconds * 1e9) as u64,
            opened: 0,
            windows: Vec::new(),
        })
    }

    fn process(&mut self, batch: &Batch, outcome: &mut Outcome) {
        let now = batch.now_ns();
        let mut skipped = 0.0;
        self.close_if_over(now, outcome);
        for (index, message) in batch.messages().enumerate() {
            outcome.drop(index);
            if message.answer {
                continue; // counted when it was published
            }
            let value = json::member(message.payload, &self.member).ok().flatten();
            match value.and_then(json::number) {
                Some(number) if message.topic.len() <= LONGEST_TOPIC => {
                    self.window(message.topic, now, outcome).collect(number)
                }
                _ => skipped += 1.0,
            }
        }
        if skipped > 0.0 {
            outcome.metric("skipped", skipped);
        }
    }

    fn tick(&mut self, now_ns: u64, outcome: &mut Outcome) {
        self.close_if_over(now_ns, outcome);
    }
}

impl Aggregate {
    fn close_if_over(&mut self, now: u64, outcome: &mut Outcome) {
        if !self.windows.is_empty() && now >= self.opened + self.nanoseconds {
            self.close(outcome);
        }
    }

    fn close(&mut self, outcome: &mut Outcome) {
        for window in self.windows.drain(..) {
            let topic = [self.target.as_bytes(), b"/", &window.topic].concat();
            outcome.emit(None, &topic, window.summary().as_bytes(), 0, false);
        }
    }

    fn window(&mut self, topic: &[u8], now: u64, outcome: &mut Outcome) -> &mut Window {
        if let Some(at) = self.windows.iter().position(|window| window.topic == topic) {
            return &mut self.windows[at];
        }
        if self.windows.len() >= MOST_TOPICS.min(most_emits() as usize).max(1) {
            self.close(outcome); // early, but nothing is lost
        }
        if self.windows.is_empty() {
            self.opened = now;
        }
        self.windows.push(Window::new(topic));
        self.windows.last_mut().unwrap()
    }
}

impl Window {
    fn new(topic: &[u8]) -> Self {
        Window { topic: topic.into(), count: 0, lowest: f64::INFINITY, highest: f64::NEG_INFINITY, sum: 0.0 }
    }

    fn collect(&mut self, number: f64) {
        self.count += 1;
        self.sum += number;
        self.lowest = self.lowest.min(number);
        self.highest = self.highest.max(number);
    }

    fn summary(&self) -> String {
        format!(
            "{{\"count\":{},\"min\":{},\"max\":{},\"mean\":{}}}",
            self.count,
            json::decimal(self.lowest),
            json::decimal(self.highest),
            json::decimal(self.sum / self.count as f64),
        )
    }
}

export!(Aggregate, tick);
