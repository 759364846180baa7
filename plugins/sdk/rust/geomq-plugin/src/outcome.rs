//! What becomes of a batch, and the result frame that says it.

use alloc::vec::Vec;

const HEADER: usize = 32;
const MAGIC: u32 = 0x3152_4D47;
const NO_MESSAGE: u32 = 0xFFFF_FFFF;

const PASS: u8 = 0;
const DROP: u8 = 1;
const REPLACE: u8 = 2;
const REJECT: u8 = 3;

const TOPIC: u32 = 1;
const PAYLOAD: u32 = 2;
const PROPERTIES: u32 = 4;
const QOS: u32 = 8;
const RETAIN: u32 = 16;

const EMIT: u32 = 1;
const STORE: u32 = 2;
const STATE_PUT: u32 = 3;
const METRIC: u32 = 4;
const LOG: u32 = 5;
const ALERT: u32 = 6;

/// How much a line of the node's log matters.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

/// A part of the frame's data; the offset counts from where the data begin.
#[derive(Clone, Copy, Default)]
struct Field {
    offset: u32,
    length: u32,
}

#[derive(Clone, Copy, Default)]
struct Change {
    index: u32,
    what: u32,
    topic: Field,
    payload: Field,
    properties: Field,
    qos: u8,
    retain: bool,
}

struct Effect {
    kind: u32,
    message: u32,
    first: Field,
    second: Field,
    number: u64,
}

/// What becomes of a batch: verdicts, changes and effects. Effects are done after the call has succeeded;
/// a panic does none of them. `message` is the index of the message that an effect belongs to.
pub struct Outcome {
    verdicts: Vec<u8>,
    changes: Vec<Change>,
    effects: Vec<Effect>,
    data: Vec<u8>,
}

impl Outcome {
    pub(crate) fn new(count: usize) -> Self {
        let mut verdicts = Vec::new();
        verdicts.resize(count, PASS);
        Outcome { verdicts, changes: Vec::new(), effects: Vec::new(), data: Vec::new() }
    }

    /// Nobody gets this message.
    pub fn drop(&mut self, index: usize) {
        self.verdicts[index] = DROP;
    }

    /// Nobody gets this message, for the plugin cannot work on it: the entry's dead letters do, with the reason.
    pub fn reject(&mut self, index: usize, reason: &str) {
        self.verdicts[index] = REJECT;
        self.log(Some(index), Level::Warning, reason);
    }

    /// The message has another payload.
    pub fn set_payload(&mut self, index: usize, payload: &[u8]) {
        let field = self.keep(payload);
        let change = self.change(index, PAYLOAD);
        change.payload = field;
    }

    /// The message has another topic: the rules behind see it under that one.
    pub fn set_topic(&mut self, index: usize, topic: &[u8]) {
        let field = self.keep(topic);
        let change = self.change(index, TOPIC);
        change.topic = field;
    }

    /// The message has other properties, in the wire form of MQTT 5 without their length.
    pub fn set_properties(&mut self, index: usize, properties: &[u8]) {
        let field = self.keep(properties);
        let change = self.change(index, PROPERTIES);
        change.properties = field;
    }

    /// The message has another quality of service, 0 to 2.
    pub fn set_qos(&mut self, index: usize, qos: u8) {
        self.change(index, QOS).qos = qos;
    }

    /// Whether the message is retained.
    pub fn set_retain(&mut self, index: usize, retain: bool) {
        self.change(index, RETAIN).retain = retain;
    }

    /// Publish a further message.
    pub fn emit(&mut self, message: Option<usize>, topic: &[u8], payload: &[u8], qos: u8, retain: bool) {
        self.effect(EMIT, message, topic, payload, qos as u64 | (retain as u64) << 2);
    }

    /// Keep something in the local history.
    pub fn store(&mut self, message: Option<usize>, topic: &[u8], payload: &[u8]) {
        self.effect(STORE, message, topic, payload, 0);
    }

    /// Have the host remember a value, for so many milliseconds, 0 for ever.
    pub fn put_state(&mut self, message: Option<usize>, key: &[u8], value: &[u8], lifetime_ms: u64) {
        self.effect(STATE_PUT, message, key, value, lifetime_ms);
    }

    /// What was remembered under a key, in this batch or before.
    pub fn state(&self, key: &[u8]) -> Option<Vec<u8>> {
        // The host knows only what earlier batches wrote.
        let written = self.effects.iter().rev().find(|e| e.kind == STATE_PUT && self.data_of(e.first) == key);
        match written {
            Some(effect) => Some(self.data_of(effect.second).into()),
            None => host_state(key),
        }
    }

    /// Add to one of the rule's figures.
    pub fn metric(&mut self, name: &str, number: f64) {
        self.effect(METRIC, None, name.as_bytes(), &[], number.to_bits());
    }

    /// A line in the node's log.
    pub fn log(&mut self, message: Option<usize>, level: Level, text: &str) {
        let name: &[u8] = match level {
            Level::Debug => b"debug",
            Level::Info => b"info",
            Level::Warning => b"warning",
            Level::Error => b"error",
        };
        self.effect(LOG, message, name, text.as_bytes(), 0);
    }

    /// Something that somebody has to see. `topic` says what it is about.
    pub fn alert(&mut self, message: Option<usize>, topic: &[u8], text: &str) {
        self.effect(ALERT, message, topic, text.as_bytes(), 0);
    }

    fn keep(&mut self, bytes: &[u8]) -> Field {
        let offset = self.data.len() as u32;
        self.data.extend_from_slice(bytes);
        Field { offset, length: bytes.len() as u32 }
    }

    fn data_of(&self, field: Field) -> &[u8] {
        &self.data[field.offset as usize..(field.offset + field.length) as usize]
    }

    fn change(&mut self, index: usize, what: u32) -> &mut Change {
        self.verdicts[index] = REPLACE;
        let at = match self.changes.binary_search_by_key(&(index as u32), |change| change.index) {
            Ok(at) => at,
            Err(at) => {
                self.changes.insert(at, Change { index: index as u32, ..Change::default() });
                at
            }
        };
        let change = &mut self.changes[at];
        change.what |= what;
        change
    }

    fn effect(&mut self, kind: u32, message: Option<usize>, first: &[u8], second: &[u8], number: u64) {
        let (first, second) = (self.keep(first), self.keep(second));
        let message = message.map_or(NO_MESSAGE, |index| index as u32);
        self.effects.push(Effect { kind, message, first, second, number });
    }

    /// The result frame; nothing where every message passes and there is nothing else to do.
    pub(crate) fn into_frame(mut self) -> Vec<u8> {
        let verdicts = core::mem::take(&mut self.verdicts);
        self.changes.retain(|change| verdicts[change.index as usize] == REPLACE);
        if self.effects.is_empty() && verdicts.iter().all(|verdict| *verdict == PASS) {
            return Vec::new();
        }
        let changes_at = HEADER + verdicts.len();
        let effects_at = changes_at + 40 * self.changes.len();
        let data_at = effects_at + 32 * self.effects.len();
        let mut frame = Vec::with_capacity(data_at + self.data.len());
        for number in [
            MAGIC,
            verdicts.len() as u32,
            HEADER as u32,
            self.changes.len() as u32,
            changes_at as u32,
            self.effects.len() as u32,
            effects_at as u32,
            0,
        ] {
            put(&mut frame, number);
        }
        frame.extend_from_slice(&verdicts);
        for change in &self.changes {
            put(&mut frame, change.index);
            put(&mut frame, change.what);
            for field in [change.topic, change.payload, change.properties] {
                put_field(&mut frame, field, data_at);
            }
            frame.extend_from_slice(&[change.qos, change.retain as u8, 0, 0, 0, 0, 0, 0]);
        }
        for effect in &self.effects {
            put(&mut frame, effect.kind);
            put(&mut frame, effect.message);
            put_field(&mut frame, effect.first, data_at);
            put_field(&mut frame, effect.second, data_at);
            frame.extend_from_slice(&effect.number.to_le_bytes());
        }
        frame.extend_from_slice(&self.data);
        frame
    }
}

fn put(frame: &mut Vec<u8>, number: u32) {
    frame.extend_from_slice(&number.to_le_bytes());
}

fn put_field(frame: &mut Vec<u8>, field: Field, data_at: usize) {
    put(frame, field.offset + data_at as u32);
    put(frame, field.length);
}

#[cfg(target_arch = "wasm32")]
fn host_state(key: &[u8]) -> Option<Vec<u8>> {
    #[link(wasm_import_module = "geomq")]
    extern "C" {
        fn state_get(key: *const u8, key_length: usize, out: *mut u8, room: usize) -> i32;
    }

    let mut value = Vec::new();
    value.resize(256, 0);
    loop {
        // The host writes within the room that it is told, and only where the value fits.
        let length = unsafe { state_get(key.as_ptr(), key.len(), value.as_mut_ptr(), value.len()) };
        if length < 0 {
            return None;
        }
        let fits = length as usize <= value.len();
        value.resize(length as usize, 0);
        if fits {
            return Some(value);
        }
    }
}

/// Where a plugin's own tests run outside a node there is nothing to remember.
#[cfg(not(target_arch = "wasm32"))]
fn host_state(_key: &[u8]) -> Option<Vec<u8>> {
    None
}
