//! The interface `geomq-plugin-1` for plugins in Zig. A plugin is a struct whose fields have defaults, with
//! `init` and `process`, and `tick` where it is to be called once a second:
//!
//!     const geomq = @import("geomq.zig");
//!
//!     const DropEmpty = struct {
//!         /// The text of an error, null where there is none. The configuration (JSON) stays where it is.
//!         pub fn init(self: *DropEmpty, config: []const u8) ?[*:0]const u8 { ... }
//!         pub fn process(self: *DropEmpty, batch: geomq.Batch, outcome: *geomq.Outcome) !void { ... }
//!         pub fn tick(self: *DropEmpty, now_ns: u64, outcome: *geomq.Outcome) !void { ... }
//!     };
//!
//!     comptime {
//!         geomq.plugin(DropEmpty);
//!     }
//!
//! An error that `process` returns, and every panic, ends the call: the host throws the instance away and
//! applies nothing of it.

const std = @import("std");
pub const json = @import("json.zig");

/// For what a plugin keeps from batch to batch.
pub const gpa = std.heap.wasm_allocator;

/// How many messages a tick may add, or one message of a batch: the entry's `limits.emits`.
pub fn mostEmits() u32 {
    return most_emits;
}

/// Hosts that do not tell take so many.
var most_emits: u32 = 1000;

pub const Stage = enum(u32) { unknown = 0, ingress = 1, egress = 2, store = 4, _ };

pub const Level = enum { debug, info, warning, @"error" };

/// A field of a frame: where it begins, counted from the frame's start, and how long it is.
const Field = extern struct { offset: u32 = 0, length: u32 = 0 };

const RequestHeader = extern struct {
    magic: u32,
    count: u32,
    now_ns: u64,
    batch: u64,
    entries: u32,
    stage: Stage,
    entry_size: u32,
    utc_offset: i32,
    node: Field,
    region: Field,
};

const Entry = extern struct {
    topic: Field,
    payload: Field,
    properties: Field,
    client: Field,
    qos: u8,
    retain: u8,
    flags: u16,
    reserved: u32,
    user: Field,

    const answer = 1;
};

const ResultHeader = extern struct {
    magic: u32 = 0x31524D47,
    count: u32,
    verdicts: u32 = @sizeOf(ResultHeader),
    change_count: u32,
    changes: u32,
    effect_count: u32,
    effects: u32,
    reserved: u32 = 0,
};

const Change = extern struct {
    index: u32,
    what: u32 = 0,
    topic: Field = .{},
    payload: Field = .{},
    properties: Field = .{},
    qos: u8 = 0,
    retain: u8 = 0,
    reserved: [6]u8 = @splat(0),

    const topic_changed = 1;
    const payload_changed = 2;
    const properties_changed = 4;
    const qos_changed = 8;
    const retain_changed = 16;
};

const Effect = extern struct {
    kind: Kind,
    message: u32,
    first: Field,
    second: Field,
    number: u64,

    const Kind = enum(u32) { emit = 1, store, state_put, metric, log, alert };
};

comptime {
    std.debug.assert(@sizeOf(RequestHeader) == 56 and @sizeOf(Entry) == 48);
    std.debug.assert(@sizeOf(ResultHeader) == 32 and @sizeOf(Change) == 40 and @sizeOf(Effect) == 32);
}

/// One message. Properties are in the wire form of MQTT 5, without their length; `client` may be empty, and
/// `user` is for anonymous clients and for messages that no client sent.
pub const Message = struct {
    topic: []const u8,
    payload: []const u8,
    properties: []const u8,
    client: []const u8,
    user: []const u8,
    qos: u8,
    retain: bool,
    /// Whether it was published before, and is told now to a node that asks for it (the history; retained messages).
    /// A plugin does to it what it does to any, and neither counts it nor compares it with what it remembers.
    answer: bool,
};

/// The messages of one call, and what the host says about it.
pub const Batch = struct {
    frame: [*]align(8) const u8,

    fn header(batch: Batch) *const RequestHeader {
        return @ptrCast(batch.frame);
    }

    fn bytes(batch: Batch, field: Field) []const u8 {
        return batch.frame[field.offset..][0..field.length];
    }

    /// How many messages there are.
    pub fn len(batch: Batch) usize {
        return batch.header().count;
    }

    /// The wall clock, nanoseconds since 1970.
    pub fn now(batch: Batch) u64 {
        return batch.header().now_ns;
    }

    /// The batch's identifier.
    pub fn id(batch: Batch) u64 {
        return batch.header().batch;
    }

    pub fn stage(batch: Batch) Stage {
        return batch.header().stage;
    }

    /// How many seconds the node's local time is east of UTC.
    pub fn utcOffset(batch: Batch) i32 {
        return batch.header().utc_offset;
    }

    /// The node's name.
    pub fn node(batch: Batch) []const u8 {
        return batch.bytes(batch.header().node);
    }

    /// The node's region.
    pub fn region(batch: Batch) []const u8 {
        return batch.bytes(batch.header().region);
    }

    pub fn message(batch: Batch, index: usize) Message {
        const head = batch.header();
        std.debug.assert(index < head.count);
        // Later hosts may append fields to an entry: the frame tells where the next one is.
        const entry: *align(4) const Entry = @ptrCast(@alignCast(batch.frame + head.entries + index * head.entry_size));
        return .{
            .topic = batch.bytes(entry.topic),
            .payload = batch.bytes(entry.payload),
            .properties = batch.bytes(entry.properties),
            .client = batch.bytes(entry.client),
            .user = batch.bytes(entry.user),
            .qos = entry.qos,
            .retain = entry.retain != 0,
            .answer = entry.flags & Entry.answer != 0,
        };
    }
};

/// What becomes of a batch. What it is not told about passes unchanged. Effects are done after the call has
/// succeeded; `message` is the index of the message that an effect belongs to.
pub const Outcome = struct {
    /// For what is needed until the call ends.
    arena: std.mem.Allocator,
    verdicts: []u8,
    changes: std.ArrayList(Change) = .empty,
    effects: std.ArrayList(Effect) = .empty,
    data: std.ArrayList(u8) = .empty,

    const pass = 0;
    const dropped = 1;
    const replaced = 2;
    const rejected = 3;
    const no_message = 0xFFFFFFFF;

    fn init(arena: std.mem.Allocator, count: usize) !Outcome {
        const verdicts = try arena.alloc(u8, count);
        @memset(verdicts, pass);
        return .{ .arena = arena, .verdicts = verdicts };
    }

    /// Nobody gets this message.
    pub fn drop(outcome: *Outcome, index: usize) void {
        outcome.verdicts[index] = dropped;
    }

    /// Nobody gets this message, for the plugin cannot work on it: the entry's dead letters do, with the reason.
    pub fn reject(outcome: *Outcome, index: usize, reason: []const u8) !void {
        outcome.verdicts[index] = rejected;
        try outcome.log(index, .warning, reason);
    }

    pub fn setPayload(outcome: *Outcome, index: usize, payload: []const u8) !void {
        (try outcome.change(index, Change.payload_changed)).payload = try outcome.keep(payload);
    }

    /// The rules behind see the message under its new topic.
    pub fn setTopic(outcome: *Outcome, index: usize, topic: []const u8) !void {
        (try outcome.change(index, Change.topic_changed)).topic = try outcome.keep(topic);
    }

    /// In the wire form of MQTT 5, without their length.
    pub fn setProperties(outcome: *Outcome, index: usize, properties: []const u8) !void {
        (try outcome.change(index, Change.properties_changed)).properties = try outcome.keep(properties);
    }

    pub fn setQos(outcome: *Outcome, index: usize, qos: u8) !void {
        (try outcome.change(index, Change.qos_changed)).qos = qos;
    }

    pub fn setRetain(outcome: *Outcome, index: usize, retain: bool) !void {
        (try outcome.change(index, Change.retain_changed)).retain = @intFromBool(retain);
    }

    pub const Publication = struct { qos: u8 = 0, retain: bool = false };

    /// Publish a further message.
    pub fn emit(outcome: *Outcome, message: ?usize, topic: []const u8, payload: []const u8, how: Publication) !void {
        const number = how.qos | @as(u64, @intFromBool(how.retain)) << 2;
        try outcome.effect(.emit, message, topic, payload, number);
    }

    /// Keep something in the local history.
    pub fn store(outcome: *Outcome, message: ?usize, topic: []const u8, payload: []const u8) !void {
        try outcome.effect(.store, message, topic, payload, 0);
    }

    /// Have the host remember a value, for so many milliseconds, 0 for ever.
    pub fn putState(outcome: *Outcome, message: ?usize, key: []const u8, value: []const u8, lifetime_ms: u64) !void {
        try outcome.effect(.state_put, message, key, value, lifetime_ms);
    }

    /// What was remembered under a key, in this batch or before; good until the call ends.
    pub fn state(outcome: *Outcome, key: []const u8) !?[]const u8 {
        // The host knows only what earlier batches wrote.
        var at = outcome.effects.items.len;
        while (at > 0) {
            at -= 1;
            const found = outcome.effects.items[at];
            if (found.kind == .state_put and std.mem.eql(u8, outcome.kept(found.first), key))
                return try outcome.arena.dupe(u8, outcome.kept(found.second));
        }
        var room: usize = 256;
        while (true) {
            const value = try outcome.arena.alloc(u8, room);
            const length = state_get(key.ptr, key.len, value.ptr, value.len);
            if (length < 0) return null;
            if (length <= room) return value[0..@intCast(length)];
            room = @intCast(length);
        }
    }

    /// Add to one of the rule's figures.
    pub fn metric(outcome: *Outcome, name: []const u8, number: f64) !void {
        try outcome.effect(.metric, null, name, "", @bitCast(number));
    }

    /// A line in the node's log.
    pub fn log(outcome: *Outcome, message: ?usize, level: Level, text: []const u8) !void {
        try outcome.effect(.log, message, @tagName(level), text, 0);
    }

    /// Something that somebody has to see. `topic` says what it is about.
    pub fn alert(outcome: *Outcome, message: ?usize, topic: []const u8, text: []const u8) !void {
        try outcome.effect(.alert, message, topic, text, 0);
    }

    fn keep(outcome: *Outcome, bytes: []const u8) !Field {
        const field: Field = .{ .offset = @intCast(outcome.data.items.len), .length = @intCast(bytes.len) };
        try outcome.data.appendSlice(outcome.arena, bytes);
        return field;
    }

    fn kept(outcome: *const Outcome, field: Field) []const u8 {
        return outcome.data.items[field.offset..][0..field.length];
    }

    /// The changed record of a message; they are kept in ascending order.
    fn change(outcome: *Outcome, index: usize, what: u32) !*Change {
        outcome.verdicts[index] = replaced;
        var at = outcome.changes.items.len;
        while (at > 0 and outcome.changes.items[at - 1].index >= index) at -= 1;
        if (at == outcome.changes.items.len or outcome.changes.items[at].index != index)
            try outcome.changes.insert(outcome.arena, at, .{ .index = @intCast(index) });
        const record = &outcome.changes.items[at];
        record.what |= what;
        return record;
    }

    fn effect(outcome: *Outcome, kind: Effect.Kind, message: ?usize, first: []const u8, second: []const u8, number: u64) !void {
        try outcome.effects.append(outcome.arena, .{
            .kind = kind,
            .message = if (message) |index| @intCast(index) else no_message,
            .first = try outcome.keep(first),
            .second = try outcome.keep(second),
            .number = number,
        });
    }

    /// The result frame; nothing where every message passes and there is nothing else to do.
    fn frame(outcome: *Outcome) ![]const u8 {
        outcome.forgetDropped();
        if (outcome.effects.items.len == 0 and std.mem.allEqual(u8, outcome.verdicts, pass)) return "";
        const changes = @sizeOf(ResultHeader) + outcome.verdicts.len;
        const effects = changes + outcome.changes.items.len * @sizeOf(Change);
        const data: u32 = @intCast(effects + outcome.effects.items.len * @sizeOf(Effect));
        for (outcome.changes.items) |*record| {
            record.topic.offset += data;
            record.payload.offset += data;
            record.properties.offset += data;
        }
        for (outcome.effects.items) |*record| {
            record.first.offset += data;
            record.second.offset += data;
        }
        const header: ResultHeader = .{
            .count = @intCast(outcome.verdicts.len),
            .change_count = @intCast(outcome.changes.items.len),
            .changes = @intCast(changes),
            .effect_count = @intCast(outcome.effects.items.len),
            .effects = @intCast(effects),
        };
        return std.mem.concat(outcome.arena, u8, &.{
            std.mem.asBytes(&header),
            outcome.verdicts,
            std.mem.sliceAsBytes(outcome.changes.items),
            std.mem.sliceAsBytes(outcome.effects.items),
            outcome.data.items,
        });
    }

    fn forgetDropped(outcome: *Outcome) void {
        var count: usize = 0;
        for (outcome.changes.items) |record| {
            if (outcome.verdicts[record.index] != replaced) continue;
            outcome.changes.items[count] = record;
            count += 1;
        }
        outcome.changes.shrinkRetainingCapacity(count);
    }
};

extern "geomq" fn state_get(key: [*]const u8, key_length: usize, out: [*]u8, room: usize) i32;

/// Export a plugin's struct to the host.
pub fn plugin(comptime Plugin: type) void {
    const exports = struct {
        var running: Plugin = .{};
        var arena: std.heap.ArenaAllocator = .init(gpa);
        var input: []align(8) u8 = &.{};

        fn abi() callconv(.c) i32 {
            return 1;
        }

        fn emits(most: u32) callconv(.c) void {
            most_emits = most;
        }

        fn alloc(size: u32) callconv(.c) ?[*]u8 {
            // The host calls: nothing of the batch before is in use any more.
            _ = arena.reset(.retain_capacity);
            if (input.len < size or input.len == 0) {
                gpa.free(input);
                input = &.{};
                input = gpa.alignedAlloc(u8, .@"8", @max(size, 4096)) catch return null;
            }
            return input.ptr;
        }

        fn init(config: [*]const u8, length: u32) callconv(.c) ?[*:0]const u8 {
            const text = gpa.dupe(u8, config[0..length]) catch return "there is no memory for the configuration";
            return running.init(text);
        }

        fn process(frame: [*]align(8) const u8, _: u32) callconv(.c) u64 {
            const batch: Batch = .{ .frame = frame };
            return work(batch) catch @trap();
        }

        fn work(batch: Batch) !u64 {
            var outcome: Outcome = try .init(arena.allocator(), batch.len());
            try running.process(batch, &outcome);
            return addressAndLength(try outcome.frame());
        }

        fn tick(now_ns: u64) callconv(.c) u64 {
            return ticked(now_ns) catch @trap();
        }

        fn ticked(now_ns: u64) !u64 {
            _ = arena.reset(.retain_capacity);
            var outcome: Outcome = try .init(arena.allocator(), 0);
            try running.tick(now_ns, &outcome);
            return addressAndLength(try outcome.frame());
        }

        fn addressAndLength(frame: []const u8) u64 {
            if (frame.len == 0) return 0;
            return @as(u64, @intFromPtr(frame.ptr)) << 32 | frame.len;
        }
    };
    @export(&exports.abi, .{ .name = "geomq_abi" });
    @export(&exports.emits, .{ .name = "geomq_emits" });
    @export(&exports.alloc, .{ .name = "geomq_alloc" });
    @export(&exports.init, .{ .name = "geomq_init" });
    @export(&exports.process, .{ .name = "geomq_process" });
    if (@hasDecl(Plugin, "tick")) @export(&exports.tick, .{ .name = "geomq_tick" });
}
