//! The request frame, read where it lies.

/// Where in a node a batch is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// What a device published, before anyone hears it.
    Ingress,
    /// What leaves the node.
    Egress,
    /// What the local history keeps.
    Store,
    Unknown,
}

/// The messages of one call, and what the host says about it.
pub struct Batch<'a> {
    frame: &'a [u8],
}

/// One message. Properties are in the wire form of MQTT 5, without their length.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    pub topic: &'a [u8],
    pub payload: &'a [u8],
    pub properties: &'a [u8],
    /// The publisher's client identifier; may be empty.
    pub client: &'a [u8],
    /// Its user name; empty for anonymous clients and for messages that no client sent.
    pub user: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    /// Whether it was published before, and is told now to a node that asks for it (the history; retained messages).
    /// A plugin does to it what it does to any, and neither counts it nor compares it with what it remembers.
    pub answer: bool,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(frame: &'a [u8]) -> Self {
        Batch { frame }
    }

    /// How many messages there are.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.u32(4) as usize
    }

    /// The wall clock, nanoseconds since 1970.
    pub fn now_ns(&self) -> u64 {
        self.u32(8) as u64 | (self.u32(12) as u64) << 32
    }

    /// The batch's identifier.
    pub fn id(&self) -> u64 {
        self.u32(16) as u64 | (self.u32(20) as u64) << 32
    }

    pub fn stage(&self) -> Stage {
        match self.u32(28) {
            1 => Stage::Ingress,
            2 => Stage::Egress,
            4 => Stage::Store,
            _ => Stage::Unknown,
        }
    }

    /// How many seconds the node's local time is east of UTC.
    pub fn utc_offset(&self) -> i32 {
        self.u32(36) as i32
    }

    /// The node's name.
    pub fn node(&self) -> &'a [u8] {
        self.field(40)
    }

    /// The node's region.
    pub fn region(&self) -> &'a [u8] {
        self.field(48)
    }

    /// The message at an index; panics where there is none.
    pub fn message(&self, index: usize) -> Message<'a> {
        assert!(index < self.len());
        // Later hosts may append fields to an entry: the frame tells where the next one is.
        let at = self.u32(24) as usize + index * self.u32(32) as usize;
        Message {
            topic: self.field(at),
            payload: self.field(at + 8),
            properties: self.field(at + 16),
            client: self.field(at + 24),
            user: self.field(at + 40),
            qos: self.frame[at + 32],
            retain: self.frame[at + 33] != 0,
            answer: self.frame[at + 34] & 1 != 0,
        }
    }

    /// All messages, in their order.
    pub fn messages(&self) -> impl Iterator<Item = Message<'a>> + '_ {
        (0..self.len()).map(move |index| self.message(index))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.frame[at..at + 4].try_into().unwrap())
    }

    fn field(&self, at: usize) -> &'a [u8] {
        let start = self.u32(at) as usize;
        &self.frame[start..start + self.u32(at + 4) as usize]
    }
}
