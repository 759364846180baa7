// Members of JSON objects, numbers and text, without building a tree.

import { Span } from "./geomq";

enum Byte {
  TAB = 0x09,
  LINE_FEED = 0x0a,
  RETURN = 0x0d,
  SPACE = 0x20,
  QUOTE = 0x22,
  PLUS = 0x2b,
  COMMA = 0x2c,
  MINUS = 0x2d,
  POINT = 0x2e,
  ZERO = 0x30,
  NINE = 0x39,
  COLON = 0x3a,
  LARGE_E = 0x45,
  OPEN_LIST = 0x5b,
  BACKSLASH = 0x5c,
  CLOSE_LIST = 0x5d,
  SMALL_E = 0x65,
  OPEN = 0x7b,
  CLOSE = 0x7d,
}

/** UNREADABLE: no JSON object, or one of which readers may think differently: the member stands there twice,
 * or a name is written with an escape. A mask must not let such a message through. */
export enum Found {
  UNREADABLE,
  ABSENT,
  FOUND,
}

/** Where the value that `member` found begins, and where it ends. */
export let valueStart: i32 = 0;
export let valueEnd: i32 = 0;

/** Find a member of a JSON object by its name. */
export function member(object: Span, name: Span): Found {
  let found = Found.ABSENT;
  let at = skipSpace(object, 0);
  if (!is(object, at, Byte.OPEN)) return Found.UNREADABLE;
  at = skipSpace(object, at + 1);
  if (is(object, at, Byte.CLOSE)) return ended(object, at, found);
  while (true) {
    if (!is(object, at, Byte.QUOTE)) return Found.UNREADABLE;
    let behind = skipString(object, at);
    if (behind < 0) return Found.UNREADABLE;
    const key = object.slice(at + 1, behind - 1);
    if (contains(key, Byte.BACKSLASH)) return Found.UNREADABLE;
    at = skipSpace(object, behind);
    if (!is(object, at, Byte.COLON)) return Found.UNREADABLE;
    at = skipSpace(object, at + 1);
    behind = skipValue(object, at);
    if (behind < 0) return Found.UNREADABLE;
    if (key.equals(name)) {
      if (found == Found.FOUND) return Found.UNREADABLE;
      found = Found.FOUND;
      valueStart = at;
      valueEnd = behind;
    }
    at = skipSpace(object, behind);
    if (is(object, at, Byte.CLOSE)) return ended(object, at, found);
    if (!is(object, at, Byte.COMMA)) return Found.UNREADABLE;
    at = skipSpace(object, at + 1);
  }
}

/** The value of a member as it is written, quotes included; `null` where there is none that can be read. */
export function valueOf(object: Span, name: Span): Span | null {
  return member(object, name) == Found.FOUND ? object.slice(valueStart, valueEnd) : null;
}

/** The text of a JSON string; `null` where the value is none, or is written with an escape. */
export function text(value: Span | null): Span | null {
  if (!value || value.length < 2 || !is(value, 0, Byte.QUOTE)) return null;
  const inner = value.slice(1, value.length - 1);
  return contains(inner, Byte.BACKSLASH) || contains(inner, Byte.QUOTE) ? null : inner;
}

/** The value of a JSON number, exact up to 15 digits; NaN where the value is none. */
export function number(value: Span | null): f64 {
  if (!value) return NaN;
  const negative = is(value, 0, Byte.MINUS);
  let at = i32(negative);
  const begin = at;
  let result: f64 = 0;
  let power = 0;
  for (; isDigit(value, at); at++) result = result * 10 + (value.at(at) - Byte.ZERO);
  if (at == begin || (at > begin + 1 && value.at(begin) == Byte.ZERO)) return NaN;
  if (is(value, at, Byte.POINT)) {
    const point = ++at;
    for (; isDigit(value, at); at++) result = result * 10 + (value.at(at) - Byte.ZERO);
    if (at == point) return NaN;
    power = point - at;
  }
  if (is(value, at, Byte.SMALL_E) || is(value, at, Byte.LARGE_E)) {
    const down = is(value, ++at, Byte.MINUS);
    if (down || is(value, at, Byte.PLUS)) at++;
    let exponent = 0;
    const digits = at;
    for (; isDigit(value, at); at++) exponent = min(exponent * 10 + (value.at(at) - Byte.ZERO), 400);
    if (at == digits) return NaN;
    power += down ? -exponent : exponent;
  }
  if (at != value.length) return NaN;
  let scale: f64 = 1;
  for (let i = abs(power); i > 0; i--) scale *= 10;
  result = power < 0 ? result / scale : result * scale;
  return negative ? -result : result;
}

/** A number with three decimals, rounded half away from zero; `null` where that has no such form. */
export function decimal(value: f64): string {
  const scaled = abs(value) * 1000 + 0.5;
  if (!(scaled < 9007199254740992)) return "null";
  const thousandths = u64(scaled);
  const sign = value < 0 && thousandths > 0 ? "-" : "";
  return `${sign}${thousandths / 1000}.${(thousandths % 1000).toString().padStart(3, "0")}`;
}

// @ts-ignore: a decorator of AssemblyScript
@inline
function is(text: Span, at: i32, byte: Byte): bool {
  return at < text.length && text.at(at) == byte;
}

function isDigit(text: Span, at: i32): bool {
  return at < text.length && text.at(at) >= Byte.ZERO && text.at(at) <= Byte.NINE;
}

function contains(text: Span, byte: Byte): bool {
  for (let at = 0; at < text.length; at++) {
    if (is(text, at, byte)) return true;
  }
  return false;
}

function ended(text: Span, at: i32, found: Found): Found {
  return skipSpace(text, at + 1) == text.length ? found : Found.UNREADABLE;
}

function skipSpace(text: Span, at: i32): i32 {
  while (is(text, at, Byte.SPACE) || is(text, at, Byte.TAB) || is(text, at, Byte.LINE_FEED) || is(text, at, Byte.RETURN)) at++;
  return at;
}

/** Behind the string that begins at `at`, -1 where it does not end. */
function skipString(text: Span, at: i32): i32 {
  for (at++; at < text.length; at++) {
    if (is(text, at, Byte.QUOTE)) return at + 1;
    if (text.at(at) < Byte.SPACE) return -1;
    if (is(text, at, Byte.BACKSLASH)) at++;
  }
  return -1;
}

/** Behind the value that begins at `at`, -1 where it does not end. */
function skipValue(text: Span, start: i32): i32 {
  let at = start;
  let depth = 0;
  while (at < text.length) {
    if (is(text, at, Byte.QUOTE)) {
      at = skipString(text, at);
      if (at < 0 || depth == 0) return at;
      continue;
    }
    if (is(text, at, Byte.OPEN) || is(text, at, Byte.OPEN_LIST)) {
      depth++;
    } else if (is(text, at, Byte.CLOSE) || is(text, at, Byte.CLOSE_LIST)) {
      if (depth == 0) break;
      if (--depth == 0) return at + 1;
    } else if (depth == 0 && (is(text, at, Byte.COMMA) || text.at(at) <= Byte.SPACE)) {
      break;
    }
    at++;
  }
  return depth == 0 && at > start ? at : -1;
}
