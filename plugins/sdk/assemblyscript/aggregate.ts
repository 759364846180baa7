// An aggregate: the numbers `member` of each topic are collected and dropped; when a window of `seconds` is
// over, a message with their count, minimum, maximum and mean goes to `topic`/<their topic>.
//
// Configuration: {"member": "temperature", "seconds": 60, "topic": "summary"}

import { Batch, Outcome, Plugin, Span, mostEmits, refuse, register } from "./geomq";
import * as json from "./json";

export { geomq_abi, geomq_alloc, geomq_emits, geomq_init, geomq_process, geomq_tick } from "./geomq";

const MOST_TOPICS = 64; // or what the host takes of a tick
const LONGEST_TOPIC = 256;
const SLASH = Span.of("/");

class Window {
  count: i32 = 0;
  lowest: f64 = Infinity;
  highest: f64 = -Infinity;
  sum: f64 = 0;

  constructor(public topic: Span) {}

  collect(number: f64): void {
    this.count++;
    this.sum += number;
    this.lowest = min(this.lowest, number);
    this.highest = max(this.highest, number);
  }

  summary(): Span {
    const lowest = json.decimal(this.lowest);
    const highest = json.decimal(this.highest);
    const mean = json.decimal(this.sum / this.count);
    return Span.of(`{"count":${this.count},"min":${lowest},"max":${highest},"mean":${mean}}`);
  }
}

class Aggregate extends Plugin {
  private opened: u64 = 0;
  private windows: Window[] = [];

  constructor(
    private member: Span,
    private target: Span,
    private nanoseconds: u64,
  ) {
    super();
  }

  process(batch: Batch, outcome: Outcome): void {
    let skipped = 0;
    this.closeIfOver(batch.now, outcome);
    for (let i = 0; i < batch.length; i++) {
      outcome.drop(i);
      if (batch.isAnswer(i)) continue; // counted when it was published
      const topic = batch.topic(i);
      const number = json.number(json.valueOf(batch.payload(i), this.member));
      if (topic.length <= LONGEST_TOPIC && !isNaN(number)) {
        this.window(topic, batch.now, outcome).collect(number);
      } else {
        skipped++;
      }
    }
    if (skipped) outcome.metric("skipped", skipped);
  }

  tick(now: u64, outcome: Outcome): void {
    this.closeIfOver(now, outcome);
  }

  private closeIfOver(now: u64, outcome: Outcome): void {
    if (this.windows.length && now >= this.opened + this.nanoseconds) this.close(outcome);
  }

  private close(outcome: Outcome): void {
    for (let i = 0; i < this.windows.length; i++) {
      const window = this.windows[i];
      outcome.emit(-1, this.target.concat(SLASH).concat(window.topic), window.summary());
    }
    this.windows = [];
  }

  private window(topic: Span, now: u64, outcome: Outcome): Window {
    for (let i = 0; i < this.windows.length; i++) {
      if (this.windows[i].topic.equals(topic)) return this.windows[i];
    }
    const most = max(1, min(MOST_TOPICS, i32(mostEmits())));
    if (this.windows.length >= most) this.close(outcome); // early, but nothing is lost
    if (!this.windows.length) this.opened = now;
    const window = new Window(topic.copy());
    this.windows.push(window);
    return window;
  }
}

register((config: Span): Plugin | null => {
  const member = json.text(json.valueOf(config, Span.of("member")));
  if (!member) return refuse("member: the name of a number in the payload is expected");
  const seconds = json.number(json.valueOf(config, Span.of("seconds")));
  if (!(seconds > 0 && seconds < 1e9)) return refuse("seconds: how long a window is open is expected");
  const target = json.text(json.valueOf(config, Span.of("topic")));
  if (!target || target.length == 0) return refuse("topic: where the results go is expected");
  return new Aggregate(member, target, u64(seconds * 1e9));
});
