// The interface `geomq-plugin-1` for plugins in AssemblyScript. A plugin is a class derived from `Plugin`;
// the entry file registers how one is made, and exports the interface's functions:
//
//   import { Batch, Outcome, Plugin, Span, register } from "./geomq";
//   export { geomq_abi, geomq_alloc, geomq_init, geomq_process } from "./geomq"; // and geomq_tick, geomq_emits
//
//   class DropEmpty extends Plugin {
//     process(batch: Batch, outcome: Outcome): void {
//       for (let i = 0; i < batch.length; i++) {
//         if (batch.payload(i).length == 0) outcome.drop(i);
//       }
//     }
//   }
//
//   register((config: Span) => new DropEmpty());
//
// Build with `--runtime minimal --use abort=`: what a batch leaves behind is collected before a later one.
// With `--runtime stub` nothing ever is, and the host ends the module when its memory is full.

@external("geomq", "state_get")
declare function state_get(key: usize, keyLength: i32, out: usize, room: i32): i32;

const NO_MESSAGE: i32 = -1;

const RESULT_MAGIC: u32 = 0x31524d47;
const HEADER: i32 = 32;
const CHANGE: i32 = 40;
const EFFECT: i32 = 32;

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

/** Bytes in the module's memory. Those of a batch are good until the call ends; `copy` keeps them. */
export class Span {
  constructor(
    public start: usize,
    public length: i32,
    /** What the bytes belong to, so that it is not collected before them. */
    private owner: ArrayBuffer | null = null,
  ) {}

  /** A text in UTF-8. */
  static of(text: string): Span {
    return Span.whole(String.UTF8.encode(text));
  }

  static whole(bytes: ArrayBuffer): Span {
    return new Span(changetype<usize>(bytes), bytes.byteLength, bytes);
  }

  /** The byte at an index, which must be below `length`. */
  @inline
  at(index: i32): i32 {
    return load<u8>(this.start + index);
  }

  equals(other: Span): bool {
    return this.length == other.length && memory.compare(this.start, other.start, this.length) == 0;
  }

  /** The bytes `from` to before `to`. */
  slice(from: i32, to: i32): Span {
    return new Span(this.start + from, to - from, this.owner);
  }

  /** The same bytes in memory of their own. */
  copy(): Span {
    const bytes = new ArrayBuffer(this.length);
    memory.copy(changetype<usize>(bytes), this.start, this.length);
    return Span.whole(bytes);
  }

  /** These bytes and others behind them. */
  concat(other: Span): Span {
    const bytes = new ArrayBuffer(this.length + other.length);
    memory.copy(changetype<usize>(bytes), this.start, this.length);
    memory.copy(changetype<usize>(bytes) + this.length, other.start, other.length);
    return Span.whole(bytes);
  }

  /** The bytes as text. */
  text(): string {
    return String.UTF8.decodeUnsafe(this.start, this.length);
  }
}

/** The messages of one call, and what the host says about it. */
export class Batch {
  constructor(private frame: usize) {}

  /** How many messages there are. */
  get length(): i32 {
    return load<i32>(this.frame, 4);
  }

  /** The wall clock, nanoseconds since 1970. */
  get now(): u64 {
    return load<u64>(this.frame, 8);
  }

  /** The batch's identifier. */
  get id(): u64 {
    return load<u64>(this.frame, 16);
  }

  /** 1: ingress, 2: egress, 4: store, 0: unknown. */
  get stage(): u32 {
    return load<u32>(this.frame, 28);
  }

  /** How many seconds the node's local time is east of UTC. */
  get utcOffset(): i32 {
    return load<i32>(this.frame, 36);
  }

  /** The node's name. */
  get node(): Span {
    return this.field(this.frame + 40);
  }

  /** The node's region. */
  get region(): Span {
    return this.field(this.frame + 48);
  }

  topic(index: i32): Span {
    return this.field(this.entry(index));
  }

  payload(index: i32): Span {
    return this.field(this.entry(index) + 8);
  }

  /** In the wire form of MQTT 5, without their length. */
  properties(index: i32): Span {
    return this.field(this.entry(index) + 16);
  }

  /** The publisher's client identifier; may be empty. */
  client(index: i32): Span {
    return this.field(this.entry(index) + 24);
  }

  /** Its user name; empty for anonymous clients and for messages that no client sent. */
  user(index: i32): Span {
    return this.field(this.entry(index) + 40);
  }

  qos(index: i32): u8 {
    return load<u8>(this.entry(index), 32);
  }

  retain(index: i32): bool {
    return load<u8>(this.entry(index), 33) != 0;
  }

  /**
   * Whether a message was published before, and is told now to a node that asks for it (the history; retained messages).
   * A plugin does to it what it does to any, and neither counts it nor compares it with what it remembers.
   */
  isAnswer(index: i32): bool {
    return (load<u16>(this.entry(index), 34) & 1) != 0;
  }

  // Later hosts may append fields to an entry: the frame tells where the next one is.
  private entry(index: i32): usize {
    return this.frame + load<u32>(this.frame, 24) + index * load<u32>(this.frame, 32);
  }

  private field(at: usize): Span {
    return new Span(this.frame + load<u32>(at), load<i32>(at, 4));
  }
}

/** Bytes that grow, outside the collector's reach. */
@final
class Bytes {
  start: usize = 0;
  length: i32 = 0;
  private room: i32 = 0;

  /** Make the end so much later; where the new bytes begin. */
  extend(size: i32): usize {
    const length = this.length + size;
    if (length > this.room) {
      this.room = max(length, 2 * this.room);
      this.start = this.start ? heap.realloc(this.start, this.room) : heap.alloc(this.room);
    }
    const at = this.start + this.length;
    this.length = length;
    return at;
  }

  append(start: usize, length: i32): i32 {
    const offset = this.length;
    memory.copy(this.extend(length), start, length);
    return offset;
  }
}

/** What becomes of a batch. Effects are done after the call has succeeded; where it traps, none is.
 * `message` is the index of the message that an effect belongs to, -1 for none. */
export class Outcome {
  private verdicts: Bytes = new Bytes();
  private changes: Bytes = new Bytes();
  private effects: Bytes = new Bytes();
  private data: Bytes = new Bytes();
  private frame: Bytes = new Bytes();

  /** Nobody gets this message. */
  drop(index: i32): void {
    store<u8>(this.verdicts.start + index, DROP);
  }

  /** Nobody gets this message, for the plugin cannot work on it: the entry's dead letters do, with the reason. */
  reject(index: i32, reason: string): void {
    store<u8>(this.verdicts.start + index, REJECT);
    this.log(index, "warning", reason);
  }

  setPayload(index: i32, payload: Span): void {
    this.keep(payload, this.change(index, PAYLOAD) + 16);
  }

  /** The rules behind see the message under its new topic. */
  setTopic(index: i32, topic: Span): void {
    this.keep(topic, this.change(index, TOPIC) + 8);
  }

  /** In the wire form of MQTT 5, without their length. */
  setProperties(index: i32, properties: Span): void {
    this.keep(properties, this.change(index, PROPERTIES) + 24);
  }

  setQos(index: i32, qos: u8): void {
    store<u8>(this.change(index, QOS), qos, 32);
  }

  setRetain(index: i32, retain: bool): void {
    store<u8>(this.change(index, RETAIN), retain, 33);
  }

  /** Publish a further message. */
  emit(message: i32, topic: Span, payload: Span, qos: i32 = 0, retain: bool = false): void {
    this.effect(EMIT, message, topic, payload, qos | (i32(retain) << 2));
  }

  /** Keep something in the local history. */
  store(message: i32, topic: Span, payload: Span): void {
    this.effect(STORE, message, topic, payload, 0);
  }

  /** Have the host remember a value, for so many milliseconds, 0 for ever. */
  putState(message: i32, key: Span, value: Span, lifetime: u64 = 0): void {
    this.effect(STATE_PUT, message, key, value, lifetime);
  }

  /** What was remembered under a key, in this batch or before. */
  state(key: Span): Span | null {
    // The host knows only what earlier batches wrote.
    for (let at = this.effects.length - EFFECT; at >= 0; at -= EFFECT) {
      const effect = this.effects.start + at;
      if (load<u32>(effect) == STATE_PUT && this.kept(effect + 8).equals(key)) return this.kept(effect + 16).copy();
    }
    let room = 256;
    while (true) {
      const value = new ArrayBuffer(room);
      const length = state_get(key.start, key.length, changetype<usize>(value), room);
      if (length < 0) return null;
      if (length <= room) return Span.whole(value).slice(0, length);
      room = length;
    }
  }

  /** Add to one of the rule's figures. */
  metric(name: string, number: f64): void {
    this.effect(METRIC, NO_MESSAGE, Span.of(name), new Span(0, 0), reinterpret<u64>(number));
  }

  /** A line in the node's log; the level is `debug`, `info`, `warning` or `error`. */
  log(message: i32, level: string, text: string): void {
    this.effect(LOG, message, Span.of(level), Span.of(text), 0);
  }

  /** Something that somebody has to see. `topic` says what it is about. */
  alert(message: i32, topic: Span, text: string): void {
    this.effect(ALERT, message, topic, Span.of(text), 0);
  }

  /** Begin anew; only the functions below call it. */
  begin(count: i32): void {
    this.verdicts.length = this.changes.length = this.effects.length = this.data.length = 0;
    memory.fill(this.verdicts.extend(count), PASS, count);
  }

  /** The result frame as the host takes it; 0 where all pass and there is nothing else to do. */
  end(): u64 {
    this.forgetDropped();
    if (!this.effects.length && !this.isAnyTouched()) return 0;
    const changes = HEADER + this.verdicts.length;
    const effects = changes + this.changes.length;
    const data = effects + this.effects.length;
    this.move(this.changes, CHANGE, 8, 3, data);
    this.move(this.effects, EFFECT, 8, 2, data);
    this.frame.length = 0;
    const head = this.frame.extend(HEADER);
    store<u32>(head, RESULT_MAGIC);
    store<i32>(head, this.verdicts.length, 4);
    store<i32>(head, HEADER, 8);
    store<i32>(head, this.changes.length / CHANGE, 12);
    store<i32>(head, changes, 16);
    store<i32>(head, this.effects.length / EFFECT, 20);
    store<i32>(head, effects, 24);
    store<i32>(head, 0, 28);
    this.frame.append(this.verdicts.start, this.verdicts.length);
    this.frame.append(this.changes.start, this.changes.length);
    this.frame.append(this.effects.start, this.effects.length);
    this.frame.append(this.data.start, this.data.length);
    return ((this.frame.start as u64) << 32) | this.frame.length;
  }

  /** The changed record of a message; they are kept in ascending order. */
  private change(index: i32, what: u32): usize {
    store<u8>(this.verdicts.start + index, REPLACE);
    let at = this.changes.length;
    while (at > 0 && load<i32>(this.changes.start + at - CHANGE) >= index) at -= CHANGE;
    if (at == this.changes.length || load<i32>(this.changes.start + at) != index) {
      this.changes.extend(CHANGE);
      const record = this.changes.start + at;
      memory.copy(record + CHANGE, record, this.changes.length - CHANGE - at);
      memory.fill(record, 0, CHANGE);
      store<i32>(record, index);
    }
    const record = this.changes.start + at;
    store<u32>(record, load<u32>(record, 4) | what, 4);
    return record;
  }

  private effect(kind: u32, message: i32, first: Span, second: Span, number: u64): void {
    const record = this.effects.extend(EFFECT);
    store<u32>(record, kind);
    store<i32>(record, message, 4);
    this.keep(first, record + 8);
    this.keep(second, record + 16);
    store<u64>(record, number, 24);
  }

  private keep(span: Span, field: usize): void {
    store<i32>(field, this.data.append(span.start, span.length));
    store<i32>(field, span.length, 4);
  }

  private kept(field: usize): Span {
    return new Span(this.data.start + load<u32>(field), load<i32>(field, 4));
  }

  private forgetDropped(): void {
    let to = 0;
    for (let from = 0; from < this.changes.length; from += CHANGE) {
      const record = this.changes.start + from;
      if (load<u8>(this.verdicts.start + load<u32>(record)) != REPLACE) continue;
      memory.copy(this.changes.start + to, record, CHANGE);
      to += CHANGE;
    }
    this.changes.length = to;
  }

  private isAnyTouched(): bool {
    for (let i = 0; i < this.verdicts.length; i++) {
      if (load<u8>(this.verdicts.start + i) != PASS) return true;
    }
    return false;
  }

  /** Fields count from the data's beginning until it is known where the data stand in the frame. */
  private move(records: Bytes, size: i32, first: i32, fields: i32, by: i32): void {
    for (let at = first; at < records.length; at += size) {
      for (let i = 0; i < fields; i++) {
        const field = records.start + at + i * 8;
        store<i32>(field, load<i32>(field) + by);
      }
    }
  }
}

/** A rule at work. It lives as long as its instance: until the rule is loaded anew, or a call traps. */
export abstract class Plugin {
  /** Work on a batch. What `outcome` is not told about passes unchanged. */
  abstract process(batch: Batch, outcome: Outcome): void;

  /** Called about once a second where the entry file exports `geomq_tick`. */
  tick(now: u64, outcome: Outcome): void {}
}

/** How the plugin is made of its configuration (JSON); `refuse` tells what is wrong with one. */
export function register(create: (config: Span) => Plugin | null): void {
  factory = create;
}

/** How many messages a tick may add, or one message of a batch: the entry's `limits.emits`. */
export function mostEmits(): u32 {
  return emits;
}

/** Tell the operator what is wrong with the configuration. */
export function refuse(text: string): Plugin | null {
  problem = String.UTF8.encode(text, true);
  return null;
}

const COLLECT_AFTER: i32 = 256 << 10;

let factory: ((config: Span) => Plugin | null) | null = null;
let plugin: Plugin | null = null;
let problem: ArrayBuffer = String.UTF8.encode("the plugin was not registered", true);
const outcome: Outcome = new Outcome();
const input: Bytes = new Bytes();
let handed: i32 = 0;
let emits: u32 = 1000; // for hosts that do not tell

export function geomq_abi(): i32 {
  return 1;
}

/** Where the entry file exports it, the host tells what `mostEmits` returns. */
export function geomq_emits(most: u32): void {
  emits = most;
}

export function geomq_alloc(size: i32): usize {
  // The host calls: nothing but what globals reach is in use, so this is the moment to collect.
  handed += size + 4096;
  if (handed > COLLECT_AFTER) {
    __collect();
    handed = 0;
  }
  input.length = 0;
  return input.extend(max(size, 8));
}

export function geomq_init(config: usize, length: i32): usize {
  const create = factory;
  if (create) plugin = create(new Span(config, length).copy());
  return plugin ? 0 : changetype<usize>(problem);
}

export function geomq_process(frame: usize, length: i32): u64 {
  const batch = new Batch(frame);
  outcome.begin(batch.length);
  plugin!.process(batch, outcome);
  return outcome.end();
}

export function geomq_tick(now: u64): u64 {
  outcome.begin(0);
  plugin!.tick(now, outcome);
  return outcome.end();
}
