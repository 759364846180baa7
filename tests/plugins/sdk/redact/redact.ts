// A mask without state: see ../../../bench/rules.py.

import { Batch, Outcome, Plugin, Span, register } from "./geomq";
import * as json from "./json";

export { geomq_abi, geomq_alloc, geomq_init, geomq_process } from "./geomq";

const MEMBERS = [Span.of("vehicle"), Span.of("driver"), Span.of("phone")];
const STARS = Span.of('"***"');

class Redact extends Plugin {
  process(batch: Batch, outcome: Outcome): void {
    for (let i = 0; i < batch.length; i++) this.redact(i, batch.payload(i), outcome);
  }

  private redact(index: i32, payload: Span, outcome: Outcome): void {
    let changed = false;
    for (let i = 0; i < MEMBERS.length; i++) {
      const found = json.member(payload, MEMBERS[i]);
      if (found == json.Found.FOUND) {
        const before = payload.slice(0, json.valueStart);
        const behind = payload.slice(json.valueEnd, payload.length);
        payload = before.concat(STARS).concat(behind);
        changed = true;
      } else if (found != json.Found.ABSENT) {
        outcome.reject(index, "the payload is no object that can be read");
        return;
      }
    }
    if (changed) outcome.setPayload(index, payload);
  }
}

register((config: Span): Plugin | null => new Redact());
