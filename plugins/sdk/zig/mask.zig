//! A mask with state: whatever stands in `member` is replaced by a pseudonym, the same for the same value:
//! driver-1, driver-2... Which is whose is remembered by the host, so a restart changes nothing.
//!
//! Configuration: {"member": "driver", "prefix": "driver-"}

const std = @import("std");
const geomq = @import("geomq.zig");
const json = geomq.json;

const longest = 256;

const Mask = struct {
    member: []const u8 = "",
    prefix: []const u8 = "",

    pub fn init(self: *Mask, config: []const u8) ?[*:0]const u8 {
        const member = json.member(config, "member") catch null orelse "";
        const prefix = json.member(config, "prefix") catch null orelse "";
        self.member = json.text(member) orelse return "member: the name of what is masked is expected";
        self.prefix = json.text(prefix) orelse return "prefix: a text without escapes is expected";
        return null;
    }

    pub fn process(self: *Mask, batch: geomq.Batch, outcome: *geomq.Outcome) !void {
        for (0..batch.len()) |index| {
            const payload = batch.message(index).payload;
            // What cannot be masked does not leave.
            const value = json.member(payload, self.member) catch {
                try outcome.reject(index, "the payload is no object that can be read");
                continue;
            };
            const person = value orelse continue;
            if (person.len > longest) {
                try outcome.reject(index, "what is masked is too long");
            } else {
                try self.mask(index, payload, person, outcome);
            }
        }
    }

    fn mask(self: *Mask, index: usize, payload: []const u8, person: []const u8, outcome: *geomq.Outcome) !void {
        const number = try knownAs(person, index, outcome);
        const start = json.position(payload, person);
        const behind = payload[start + person.len ..];
        const masked = try std.mem.concat(outcome.arena, u8, &.{ payload[0..start], "\"", self.prefix, number, "\"", behind });
        try outcome.setPayload(index, masked);
    }
};

fn knownAs(person: []const u8, index: usize, outcome: *geomq.Outcome) ![]const u8 {
    const key = try std.mem.concat(outcome.arena, u8, &.{ "is:", person });
    if (try outcome.state(key)) |known| return known;
    const last = try outcome.state("last") orelse "0";
    const number = try std.fmt.allocPrint(outcome.arena, "{d}", .{try std.fmt.parseInt(u64, last, 10) + 1});
    try outcome.putState(index, "last", number, 0);
    try outcome.putState(index, key, number, 0);
    return number;
}

comptime {
    geomq.plugin(Mask);
}
