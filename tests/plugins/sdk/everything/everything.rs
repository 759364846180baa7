//! Uses all of the SDK: see ../test_everything.py.

use geomq_plugin::{export, Batch, Level, Outcome, Plugin, Stage};

struct Everything;

fn text(bytes: &[u8]) -> String {
    // Properties are bytes: one character each keeps them as they are.
    bytes.iter().map(|byte| *byte as char).collect()
}

impl Plugin for Everything {
    fn new(_config: &[u8]) -> Result<Self, String> {
        Ok(Everything)
    }

    fn process(&mut self, batch: &Batch, outcome: &mut Outcome) {
        let stage = match batch.stage() {
            Stage::Unknown => 0,
            Stage::Ingress => 1,
            Stage::Egress => 2,
            Stage::Store => 4,
        };
        let (node, region) = (text(batch.node()), text(batch.region()));
        let (offset, now, id, count) = (batch.utc_offset(), batch.now_ns(), batch.id(), batch.len());
        outcome.log(None, Level::Info, &format!("{node}|{region}|{offset}|{now}|{id}|{stage}|{count}|"));
        for (index, message) in batch.messages().enumerate() {
            let fields = [message.topic, message.payload, message.properties, message.client, message.user];
            let fields: Vec<String> = fields.into_iter().map(text).collect();
            let flags = (message.retain as u8, message.answer as u8);
            let line = format!("{}|{}|{}|{}|", fields.join("|"), message.qos, flags.0, flags.1);
            outcome.log(Some(index), Level::Debug, &line);
        }
        if batch.len() < 5 {
            return;
        }
        outcome.set_payload(0, b"not seen");
        outcome.drop(0);
        outcome.set_qos(2, 1);
        outcome.set_topic(1, b"new/topic");
        outcome.set_payload(1, b"new payload");
        outcome.set_properties(1, b"\x01\x01");
        outcome.set_qos(1, 2);
        outcome.set_retain(1, true);
        outcome.emit(Some(1), b"emitted", b"e", 1, true);
        outcome.store(None, b"stored", b"s");
        outcome.put_state(Some(2), b"key", b"value", 1500);
        outcome.metric("metric", -2.5);
        outcome.log(Some(3), Level::Warning, "w");
        outcome.log(Some(3), Level::Error, "e");
        outcome.alert(Some(3), b"alert/topic", "a");
        outcome.reject(4, "why");
        assert!(outcome.state(b"none").is_none());
        let key = text(&outcome.state(b"key").unwrap());
        let value = outcome.state(b"long").unwrap();
        let end = text(&value[value.len() - 3..]);
        outcome.log(None, Level::Info, &format!("{key}|{}|{end}|", value.len()));
    }

    fn tick(&mut self, now_ns: u64, outcome: &mut Outcome) {
        outcome.log(None, Level::Info, &format!("{now_ns}|"));
    }
}

export!(Everything, tick);
