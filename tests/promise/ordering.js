// Runs the programs of test_ordering.py on the promises of node and prints what they log.
"use strict";

const value = (number) => number;
const tell = (outcome) => {
  if (Array.isArray(outcome)) return `[${outcome.map(tell).join(" ")}]`;
  if (outcome instanceof AggregateError) return `any(${outcome.errors.map(tell).join(" ")})`;
  if (outcome instanceof Error) return `!${outcome.message}`;
  if (outcome !== null && typeof outcome === "object") {
    return outcome.status === "fulfilled" ? tell(outcome.value) : tell(outcome.reason);
  }
  return String(outcome);
};

const run = async (program) => {
  const log = [];
  const promises = [];
  const resolvers = {};
  const handler = (name, [kind, argument]) => (outcome) => {
    log.push(`${name} ${tell(outcome)}`);
    if (kind === "throw") throw new Error(argument);
    return kind === "promise" ? promises[argument] : value(argument);
  };
  const operations = {
    deferred: () => {
      promises.push(
        new Promise((resolve, reject) => {
          resolvers[promises.length] = { resolve, reject };
        }),
      );
    },
    then: (source, name, result) => promises.push(promises[source].then(handler(name, result))),
    catch: (source, name, result) => promises.push(promises[source].catch(handler(name, result))),
    both: (source, name, result) => {
      const either = handler(name, result);
      promises.push(promises[source].then(either, either));
    },
    all: (sources) => promises.push(Promise.all(sources.map((source) => promises[source]))),
    all_settled: (sources) =>
      promises.push(Promise.allSettled(sources.map((source) => promises[source]))),
    any: (sources) => promises.push(Promise.any(sources.map((source) => promises[source]))),
    race: (sources) => promises.push(Promise.race(sources.map((source) => promises[source]))),
    resolve: (target, [kind, argument]) => {
      if (kind === "throw") resolvers[target].reject(new Error(argument));
      else resolvers[target].resolve(kind === "promise" ? promises[argument] : value(argument));
    },
  };
  for (const turn of program) {
    for (const [name, ...parameters] of turn) operations[name](...parameters);
    await new Promise((resume) => setImmediate(resume));
    log.push("--");
  }
  return log;
};

const main = async () => {
  let input = "";
  for await (const piece of process.stdin) input += piece;
  const logs = [];
  for (const program of JSON.parse(input)) logs.push(await run(program));
  process.stdout.write(JSON.stringify(logs));
};

main();
