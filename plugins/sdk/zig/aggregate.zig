//! An aggregate: the numbers `member` of each topic are collected and dropped; when a window of `seconds` is
//! over, a message with their count, minimum, maximum and mean goes to `topic`/<their topic>.
//!
//! Configuration: {"member": "temperature", "seconds": 60, "topic": "summary"}

const std = @import("std");
const geomq = @import("geomq.zig");
const json = geomq.json;

const most_topics = 64; // or what the host takes of a tick
const longest_topic = 256;

const Window = struct {
    topic: []const u8,
    count: u64 = 0,
    lowest: f64 = std.math.inf(f64),
    highest: f64 = -std.math.inf(f64),
    sum: f64 = 0,

    fn collect(window: *Window, number: f64) void {
        window.count += 1;
        window.sum += number;
        window.lowest = @min(window.lowest, number);
        window.highest = @max(window.highest, number);
    }

    fn summary(window: *const Window, arena: std.mem.Allocator) ![]const u8 {
        const count: f64 = @floatFromInt(window.count);
        return std.fmt.allocPrint(arena, "{{\"count\":{d},\"min\":{s},\"max\":{s},\"mean\":{s}}}", .{
            window.count,
            try json.decimal(arena, window.lowest),
            try json.decimal(arena, window.highest),
            try json.decimal(arena, window.sum / count),
        });
    }
};

const Aggregate = struct {
    member: []const u8 = "",
    target: []const u8 = "",
    nanoseconds: u64 = 0,
    opened: u64 = 0,
    windows: std.ArrayList(Window) = .empty,

    pub fn init(self: *Aggregate, config: []const u8) ?[*:0]const u8 {
        const member = json.member(config, "member") catch null orelse "";
        self.member = json.text(member) orelse return "member: the name of a number in the payload is expected";
        const seconds = json.number(json.member(config, "seconds") catch null orelse "") orelse 0;
        if (!(seconds > 0 and seconds < 1e9)) return "seconds: how long a window is open is expected";
        self.nanoseconds = @intFromFloat(seconds * 1e9);
        self.target = json.text(json.member(config, "topic") catch null orelse "") orelse "";
        return if (self.target.len == 0) "topic: where the results go is expected" else null;
    }

    pub fn process(self: *Aggregate, batch: geomq.Batch, outcome: *geomq.Outcome) !void {
        var skipped: f64 = 0;
        try self.closeIfOver(batch.now(), outcome);
        for (0..batch.len()) |index| {
            const message = batch.message(index);
            const value = json.member(message.payload, self.member) catch null orelse "";
            outcome.drop(index);
            if (message.answer) continue; // counted when it was published
            if (json.number(value)) |number| {
                if (message.topic.len <= longest_topic) {
                    const window = try self.windowOf(message.topic, batch.now(), outcome);
                    window.collect(number);
                    continue;
                }
            }
            skipped += 1;
        }
        if (skipped > 0) try outcome.metric("skipped", skipped);
    }

    pub fn tick(self: *Aggregate, now_ns: u64, outcome: *geomq.Outcome) !void {
        try self.closeIfOver(now_ns, outcome);
    }

    fn closeIfOver(self: *Aggregate, now_ns: u64, outcome: *geomq.Outcome) !void {
        if (self.windows.items.len > 0 and now_ns >= self.opened + self.nanoseconds) try self.close(outcome);
    }

    fn close(self: *Aggregate, outcome: *geomq.Outcome) !void {
        for (self.windows.items) |*window| {
            const topic = try std.mem.concat(outcome.arena, u8, &.{ self.target, "/", window.topic });
            try outcome.emit(null, topic, try window.summary(outcome.arena), .{});
            geomq.gpa.free(window.topic);
        }
        self.windows.clearRetainingCapacity();
    }

    fn windowOf(self: *Aggregate, topic: []const u8, now_ns: u64, outcome: *geomq.Outcome) !*Window {
        for (self.windows.items) |*window| {
            if (std.mem.eql(u8, window.topic, topic)) return window;
        }
        const most = @max(1, @min(most_topics, geomq.mostEmits()));
        if (self.windows.items.len >= most) try self.close(outcome); // early, but nothing is lost
        if (self.windows.items.len == 0) self.opened = now_ns;
        try self.windows.append(geomq.gpa, .{ .topic = try geomq.gpa.dupe(u8, topic) });
        return &self.windows.items[self.windows.items.len - 1];
    }
};

comptime {
    geomq.plugin(Aggregate);
}
