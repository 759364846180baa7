//! Uses all of the SDK: see ../test_everything.py.

const std = @import("std");
const geomq = @import("geomq.zig");

const Everything = struct {
    pub fn init(_: *Everything, _: []const u8) ?[*:0]const u8 {
        return null;
    }

    pub fn process(_: *Everything, batch: geomq.Batch, outcome: *geomq.Outcome) !void {
        try say(outcome, null, .info, "{s}|{s}|{d}|{d}|{d}|{d}|{d}|", .{
            batch.node(),
            batch.region(),
            batch.utcOffset(),
            batch.now(),
            batch.id(),
            @intFromEnum(batch.stage()),
            batch.len(),
        });
        for (0..batch.len()) |index| {
            const message = batch.message(index);
            try say(outcome, index, .debug, "{s}|{s}|{s}|{s}|{s}|{d}|{d}|{d}|", .{
                message.topic,
                message.payload,
                message.properties,
                message.client,
                message.user,
                message.qos,
                @intFromBool(message.retain),
                @intFromBool(message.answer),
            });
        }
        if (batch.len() < 5) return;
        try outcome.setPayload(0, "not seen");
        outcome.drop(0);
        try outcome.setQos(2, 1);
        try outcome.setTopic(1, "new/topic");
        try outcome.setPayload(1, "new payload");
        try outcome.setProperties(1, "\x01\x01");
        try outcome.setQos(1, 2);
        try outcome.setRetain(1, true);
        try outcome.emit(1, "emitted", "e", .{ .qos = 1, .retain = true });
        try outcome.store(null, "stored", "s");
        try outcome.putState(2, "key", "value", 1500);
        try outcome.metric("metric", -2.5);
        try outcome.log(3, .warning, "w");
        try outcome.log(3, .@"error", "e");
        try outcome.alert(3, "alert/topic", "a");
        try outcome.reject(4, "why");
        if (try outcome.state("none") != null) return error.Unexpected;
        const key = (try outcome.state("key")).?;
        const value = (try outcome.state("long")).?;
        try say(outcome, null, .info, "{s}|{d}|{s}|", .{ key, value.len, value[value.len - 3 ..] });
    }

    pub fn tick(_: *Everything, now_ns: u64, outcome: *geomq.Outcome) !void {
        try say(outcome, null, .info, "{d}|", .{now_ns});
    }
};

fn say(outcome: *geomq.Outcome, message: ?usize, level: geomq.Level, comptime form: []const u8, values: anytype) !void {
    try outcome.log(message, level, try std.fmt.allocPrint(outcome.arena, form, values));
}

comptime {
    geomq.plugin(Everything);
}
