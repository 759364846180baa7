//! A mask without state: see ../../../bench/rules.py.

const std = @import("std");
const geomq = @import("geomq.zig");
const json = geomq.json;

const members = [_][]const u8{ "vehicle", "driver", "phone" };

const Redact = struct {
    pub fn init(_: *Redact, _: []const u8) ?[*:0]const u8 {
        return null;
    }

    pub fn process(_: *Redact, batch: geomq.Batch, outcome: *geomq.Outcome) !void {
        for (0..batch.len()) |index| {
            const payload = batch.message(index).payload;
            const masked = redacted(payload, outcome.arena) catch |mistake| {
                if (mistake == error.OutOfMemory) return mistake;
                try outcome.reject(index, "the payload is no object that can be read");
                continue;
            };
            if (masked.ptr != payload.ptr) try outcome.setPayload(index, masked);
        }
    }
};

fn redacted(payload: []const u8, arena: std.mem.Allocator) ![]const u8 {
    var whole = payload;
    for (members) |name| {
        const value = try json.member(whole, name) orelse continue;
        const start = json.position(whole, value);
        whole = try std.mem.concat(arena, u8, &.{ whole[0..start], "\"***\"", whole[start + value.len ..] });
    }
    return whole;
}

comptime {
    geomq.plugin(Redact);
}
