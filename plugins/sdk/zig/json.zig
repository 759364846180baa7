//! Members of JSON objects, numbers and text, without building a tree.

const std = @import("std");

/// No JSON object, or one of which readers may think differently: the member stands there twice, or a name
/// is written with an escape. A mask must not let such a message through.
pub const Error = error{Unreadable};

/// Find a member of a JSON object by its name: its value as it is written, quotes included. It is a part of
/// `object`.
pub fn member(object: []const u8, name: []const u8) Error!?[]const u8 {
    var found: ?[]const u8 = null;
    var at = skipSpace(object, 0);
    try expect(object, at, '{');
    at = skipSpace(object, at + 1);
    if (is(object, at, '}')) return ended(object, at, found);
    while (true) {
        try expect(object, at, '"');
        var behind = try skipString(object, at);
        const key = object[at + 1 .. behind - 1];
        if (std.mem.findScalar(u8, key, '\\') != null) return error.Unreadable;
        at = skipSpace(object, behind);
        try expect(object, at, ':');
        at = skipSpace(object, at + 1);
        behind = try skipValue(object, at);
        if (std.mem.eql(u8, key, name)) {
            if (found != null) return error.Unreadable;
            found = object[at..behind];
        }
        at = skipSpace(object, behind);
        if (is(object, at, '}')) return ended(object, at, found);
        try expect(object, at, ',');
        at = skipSpace(object, at + 1);
    }
}

/// Where in `object` the value begins that `member` has found in it.
pub fn position(object: []const u8, value: []const u8) usize {
    return @intFromPtr(value.ptr) - @intFromPtr(object.ptr);
}

/// The text of a JSON string; null where the value is none, or is written with an escape.
pub fn text(value: []const u8) ?[]const u8 {
    if (value.len < 2 or value[0] != '"') return null;
    const inner = value[1 .. value.len - 1];
    return if (std.mem.findAny(u8, inner, "\\\"") == null) inner else null;
}

/// The value of a JSON number; null where the value is none.
pub fn number(value: []const u8) ?f64 {
    const digits = value[@intFromBool(is(value, 0, '-'))..];
    var whole: usize = 0;
    while (isDigit(digits, whole)) whole += 1;
    if (whole == 0 or (whole > 1 and digits[0] == '0')) return null;
    const continued = whole == digits.len or switch (digits[whole]) {
        'e', 'E' => true,
        '.' => isDigit(digits, whole + 1),
        else => false,
    };
    // Zig's own numbers may have underscores between their digits.
    if (!continued or std.mem.findScalar(u8, value, '_') != null) return null;
    return std.fmt.parseFloat(f64, value) catch null;
}

/// A number with three decimals, rounded half away from zero; `null` where that has no such form.
pub fn decimal(arena: std.mem.Allocator, value: f64) ![]const u8 {
    const scaled = @abs(value) * 1000 + 0.5;
    if (!(scaled < 9007199254740992)) return "null";
    const thousandths: u64 = @intFromFloat(scaled);
    const sign = if (value < 0 and thousandths > 0) "-" else "";
    return std.fmt.allocPrint(arena, "{s}{d}.{d:0>3}", .{ sign, thousandths / 1000, thousandths % 1000 });
}

fn is(object: []const u8, at: usize, byte: u8) bool {
    return at < object.len and object[at] == byte;
}

fn isDigit(object: []const u8, at: usize) bool {
    return at < object.len and std.ascii.isDigit(object[at]);
}

fn expect(object: []const u8, at: usize, byte: u8) Error!void {
    if (!is(object, at, byte)) return error.Unreadable;
}

fn ended(object: []const u8, at: usize, found: ?[]const u8) Error!?[]const u8 {
    return if (skipSpace(object, at + 1) == object.len) found else error.Unreadable;
}

fn skipSpace(object: []const u8, start: usize) usize {
    var at = start;
    while (at < object.len) : (at += 1) {
        switch (object[at]) {
            ' ', '\t', '\n', '\r' => {},
            else => break,
        }
    }
    return at;
}

/// Behind the string that begins at `start`.
fn skipString(object: []const u8, start: usize) Error!usize {
    var at = start + 1;
    while (at < object.len) : (at += 1) {
        switch (object[at]) {
            '"' => return at + 1,
            0...0x1f => break,
            '\\' => at += 1,
            else => {},
        }
    }
    return error.Unreadable;
}

/// Behind the value that begins at `start`.
fn skipValue(object: []const u8, start: usize) Error!usize {
    var at = start;
    var depth: usize = 0;
    while (at < object.len) : (at += 1) {
        switch (object[at]) {
            '"' => {
                at = try skipString(object, at);
                if (depth == 0) return at;
                at -= 1;
            },
            '{', '[' => depth += 1,
            '}', ']' => {
                if (depth == 0) break;
                depth -= 1;
                if (depth == 0) return at + 1;
            },
            0...' ', ',' => if (depth == 0) break,
            else => {},
        }
    }
    return if (depth == 0 and at > start) at else error.Unreadable;
}
