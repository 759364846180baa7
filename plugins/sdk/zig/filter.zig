//! A filter: messages whose payload has no number `member`, or one below `at_least`, are dropped.
//!
//! Configuration: {"member": "speed", "at_least": 5}

const geomq = @import("geomq.zig");
const json = geomq.json;

const Filter = struct {
    member: []const u8 = "",
    at_least: f64 = 0,

    pub fn init(self: *Filter, config: []const u8) ?[*:0]const u8 {
        const member = json.member(config, "member") catch null orelse "";
        const at_least = json.member(config, "at_least") catch null orelse "";
        self.member = json.text(member) orelse return "member: the name of a number in the payload is expected";
        self.at_least = json.number(at_least) orelse return "at_least: a number is expected";
        return null;
    }

    pub fn process(self: *Filter, batch: geomq.Batch, outcome: *geomq.Outcome) !void {
        var dropped: f64 = 0;
        for (0..batch.len()) |index| {
            if (self.isWanted(batch.message(index).payload)) continue;
            outcome.drop(index);
            dropped += 1;
        }
        if (dropped > 0) try outcome.metric("dropped", dropped);
    }

    fn isWanted(self: *const Filter, payload: []const u8) bool {
        const value = json.member(payload, self.member) catch null orelse return false;
        const number = json.number(value) orelse return false;
        return number >= self.at_least;
    }
};

comptime {
    geomq.plugin(Filter);
}
