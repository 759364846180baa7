// A filter: messages whose payload has no number `member`, or one below `at_least`, are dropped.
//
// Configuration: {"member": "speed", "at_least": 5}

import { Batch, Outcome, Plugin, Span, refuse, register } from "./geomq";
import * as json from "./json";

export { geomq_abi, geomq_alloc, geomq_init, geomq_process } from "./geomq";

class Filter extends Plugin {
  constructor(
    private member: Span,
    private atLeast: f64,
  ) {
    super();
  }

  process(batch: Batch, outcome: Outcome): void {
    let dropped = 0;
    for (let i = 0; i < batch.length; i++) {
      const number = json.number(json.valueOf(batch.payload(i), this.member));
      if (number >= this.atLeast) continue; // no number is NaN, which is not
      outcome.drop(i);
      dropped++;
    }
    if (dropped) outcome.metric("dropped", dropped);
  }
}

register((config: Span): Plugin | null => {
  const member = json.text(json.valueOf(config, Span.of("member")));
  if (!member) return refuse("member: the name of a number in the payload is expected");
  const atLeast = json.number(json.valueOf(config, Span.of("at_least")));
  if (isNaN(atLeast)) return refuse("at_least: a number is expected");
  return new Filter(member, atLeast);
});
