// Uses all of the SDK: see ../test_everything.py.

import { Batch, Outcome, Plugin, Span, register } from "./geomq";

export { geomq_abi, geomq_alloc, geomq_init, geomq_process, geomq_tick } from "./geomq";

class Everything extends Plugin {
  process(batch: Batch, outcome: Outcome): void {
    const place = `${batch.node.text()}|${batch.region.text()}|${batch.utcOffset}`;
    outcome.log(-1, "info", `${place}|${batch.now}|${batch.id}|${batch.stage}|${batch.length}|`);
    for (let i = 0; i < batch.length; i++) {
      const about = `${batch.topic(i).text()}|${batch.payload(i).text()}|${batch.properties(i).text()}`;
      const who = `${batch.client(i).text()}|${batch.user(i).text()}`;
      outcome.log(i, "debug", `${about}|${who}|${batch.qos(i)}|${i32(batch.retain(i))}|${i32(batch.isAnswer(i))}|`);
    }
    if (batch.length < 5) return;
    outcome.setPayload(0, Span.of("not seen"));
    outcome.drop(0);
    outcome.setQos(2, 1);
    outcome.setTopic(1, Span.of("new/topic"));
    outcome.setPayload(1, Span.of("new payload"));
    outcome.setProperties(1, Span.of("\x01\x01"));
    outcome.setQos(1, 2);
    outcome.setRetain(1, true);
    outcome.emit(1, Span.of("emitted"), Span.of("e"), 1, true);
    outcome.store(-1, Span.of("stored"), Span.of("s"));
    outcome.putState(2, Span.of("key"), Span.of("value"), 1500);
    outcome.metric("metric", -2.5);
    outcome.log(3, "warning", "w");
    outcome.log(3, "error", "e");
    outcome.alert(3, Span.of("alert/topic"), "a");
    outcome.reject(4, "why");
    if (outcome.state(Span.of("none"))) unreachable();
    const key = outcome.state(Span.of("key"))!.text();
    const value = outcome.state(Span.of("long"))!;
    outcome.log(-1, "info", `${key}|${value.length}|${value.slice(value.length - 3, value.length).text()}|`);
  }

  tick(now: u64, outcome: Outcome): void {
    outcome.log(-1, "info", `${now}|`);
  }
}

register((config: Span): Plugin | null => new Everything());
