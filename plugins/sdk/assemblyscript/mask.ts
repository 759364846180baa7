// A mask with state: whatever stands in `member` is replaced by a pseudonym, the same for the same value:
// driver-1, driver-2... Which is whose is remembered by the host, so a restart changes nothing.
//
// Configuration: {"member": "driver", "prefix": "driver-"}

import { Batch, Outcome, Plugin, Span, refuse, register } from "./geomq";
import * as json from "./json";

export { geomq_abi, geomq_alloc, geomq_init, geomq_process } from "./geomq";

const LONGEST = 256;
const IS = Span.of("is:");
const LAST = Span.of("last");
const QUOTE = Span.of('"');

class Mask extends Plugin {
  constructor(
    private member: Span,
    private prefix: Span,
  ) {
    super();
  }

  process(batch: Batch, outcome: Outcome): void {
    for (let i = 0; i < batch.length; i++) {
      const payload = batch.payload(i);
      const found = json.member(payload, this.member);
      if (found == json.Found.ABSENT) continue;
      // What cannot be masked does not leave.
      if (found != json.Found.FOUND) {
        outcome.reject(i, "the payload is no object that can be read");
      } else if (json.valueEnd - json.valueStart > LONGEST) {
        outcome.reject(i, "what is masked is too long");
      } else {
        const before = payload.slice(0, json.valueStart);
        const behind = payload.slice(json.valueEnd, payload.length);
        const number = knownAs(payload.slice(json.valueStart, json.valueEnd), i, outcome);
        const pseudonym = QUOTE.concat(this.prefix).concat(number).concat(QUOTE);
        outcome.setPayload(i, before.concat(pseudonym).concat(behind));
      }
    }
  }
}

function knownAs(person: Span, message: i32, outcome: Outcome): Span {
  const key = IS.concat(person);
  const known = outcome.state(key);
  if (known) return known;
  const last = json.number(outcome.state(LAST));
  const number = Span.of((isNaN(last) ? 1 : i64(last) + 1).toString());
  outcome.putState(message, LAST, number);
  outcome.putState(message, key, number);
  return number;
}

register((config: Span): Plugin | null => {
  const member = json.text(json.valueOf(config, Span.of("member")));
  if (!member) return refuse("member: the name of what is masked is expected");
  const prefix = json.text(json.valueOf(config, Span.of("prefix")));
  if (!prefix) return refuse("prefix: a text without escapes is expected");
  return new Mask(member, prefix);
});
