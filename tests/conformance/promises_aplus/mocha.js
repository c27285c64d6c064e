// Runs the files of promises-aplus-tests without node: what they use of mocha, sinon and
// assert, and the promises under test, whose work is done by Python (see adapter.py).
//
// Only numbers, strings and functions cross the border: values stay here, in `values`, and are
// known there by their number. So none is copied or changed on the way.
(python) => {
  "use strict";

  // Promises

  const values = [];
  const keep = (value) => values.push(value) - 1;

  class PromiseOfPython {
    constructor(number) {
      this.number = number;
    }

    then(onFulfilled, onRejected) {
      const number = python.then(this.number, handler(onFulfilled), handler(onRejected));
      return new PromiseOfPython(number);
    }
  }

  // What a value is for the resolution procedure: ["promise" | "object" | "value", number].
  const describe_value = (value) => {
    if (value instanceof PromiseOfPython) return ["promise", value.number];
    const isObject = (typeof value === "object" && value !== null) || typeof value === "function";
    return [isObject ? "object" : "value", keep(value)];
  };

  const handler = (callback) => {
    if (typeof callback !== "function") return null;
    return (number) => {
      try {
        return describe_value((0, callback)(values[number]));
      } catch (error) {
        return ["thrown", keep(error)];
      }
    };
  };

  const callThen = (number, resolve, reject) => {
    const value = values[number];
    try {
      const then = value.then;
      if (typeof then !== "function") return ["value", number];
      then.call(
        value,
        (result) => void resolve(...describe_value(result)),
        (reason) => void reject(keep(reason)),
      );
      return ["called", number];
    } catch (error) {
      return ["thrown", keep(error)];
    }
  };

  const deferred = () => {
    const number = python.deferred();
    return {
      promise: new PromiseOfPython(number),
      resolve: (value) => void python.resolve(number, ...describe_value(value)),
      reject: (reason) => void python.reject(number, keep(reason)),
    };
  };

  const adapter = {
    deferred,
    resolved(value) {
      const made = deferred();
      made.resolve(value);
      return made.promise;
    },
    rejected(reason) {
      const made = deferred();
      made.reject(reason);
      return made.promise;
    },
  };

  // assert and sinon

  const fail = (message) => {
    throw new Error(message);
  };
  const assert = (condition, message) => condition || fail(message || "assert");
  assert.strictEqual = (actual, expected, message) =>
    Object.is(actual, expected) || fail(`${message || ""} not the same: ${String(actual)}`);
  assert.notStrictEqual = (actual, expected, message) =>
    Object.is(actual, expected) && fail(message || "the same");
  assert.deepEqual = (actual, expected) =>
    JSON.stringify(actual) === JSON.stringify(expected) || fail(`not equal: ${String(actual)}`);

  let calls = 0;
  const spy = () => {
    let behaviour = () => undefined;
    const made = function (...callArguments) {
      made.calls.push({ callArguments, order: (calls += 1) });
      return behaviour();
    };
    made.calls = [];
    made.returns = (value) => {
      behaviour = () => value;
      return made;
    };
    made.throws = (error) => {
      behaviour = () => {
        throw error;
      };
      return made;
    };
    Object.defineProperty(made, "called", { get: () => made.calls.length > 0 });
    Object.defineProperty(made, "callCount", { get: () => made.calls.length });
    return made;
  };
  const wasCalledWith = (made, expected) =>
    made.calls.some(({ callArguments }) =>
      expected.every((value, index) => Object.is(value, callArguments[index])),
    );
  const sinon = {
    spy,
    stub: spy,
    match: { same: (value) => value },
    assert: {
      called: (made) => assert(made.called, "not called"),
      notCalled: (made) => assert(!made.called, "called"),
      calledWith: (made, ...expected) => assert(wasCalledWith(made, expected), "called otherwise"),
      callOrder: (...spies) => {
        const orders = spies.map((made) => (made.called ? made.calls[0].order : Infinity));
        assert(
          orders.every((order, index) => index === 0 || orders[index - 1] < order),
          "called in another order",
        );
      },
    },
  };

  // mocha

  const suites = [];
  const tests = [];
  globalThis.describe = (title, body) => {
    suites.push({ title, before: [], after: [] });
    body();
    suites.pop();
  };
  globalThis.specify = globalThis.it = (title, body) => {
    const titles = suites.map((suite) => suite.title).concat(title);
    const before = suites.flatMap((suite) => suite.before);
    const after = suites.flatMap((suite) => suite.after);
    const suite = titles.slice(0, -1).join(" > ");
    tests.push({ title: titles.join(" > "), suite, body, before, after });
  };
  globalThis.beforeEach = (body) => suites[suites.length - 1].before.push(body);
  globalThis.afterEach = (body) => suites[suites.length - 1].after.push(body);
  globalThis.adapter = adapter;
  globalThis.global = globalThis;

  const load = (files, names) => {
    const modules = { assert, sinon };
    const directoryOf = (name) => name.split("/").slice(0, -1);
    const requireFrom = (directory) => (wanted) => {
      if (wanted in modules) return modules[wanted];
      const path = [];
      for (const part of directory.concat(wanted.split("/"))) {
        if (part === "..") path.pop();
        else if (part !== ".") path.push(part);
      }
      const name = `${path.join("/")}.js`;
      if (!(name in modules)) {
        if (!(name in files)) fail(`there is no module ${wanted}`);
        const module = { exports: {} };
        modules[name] = module.exports;
        run(name, module);
        modules[name] = module.exports;
      }
      return modules[name];
    };
    const run = (name, module) =>
      new Function("require", "exports", "module", files[name])(
        requireFrom(directoryOf(name)),
        module.exports,
        module,
      );
    for (const name of names) run(name, { exports: {} });
    return tests.length;
  };

  const runTest = (number, done, timeoutMilliseconds) => {
    const { title, body, before, after } = tests[number];
    let isOver = false;
    const end = (error) => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      after.forEach((clear) => clear());
      done(title, error ? String(error) : "");
    };
    const timer = setTimeout(() => end("the test took too long"), timeoutMilliseconds);
    try {
      before.forEach((prepare) => prepare());
      if (body.length > 0) {
        body(end);
      } else {
        body();
        end();
      }
    } catch (error) {
      end(error || "thrown");
    }
  };

  // Tests of one suite share variables. What is prepared may be of the whole world.
  const groupOf = (number) => {
    const { suite, before, after } = tests[number];
    return before.length + after.length > 0 ? "" : suite;
  };

  return {
    callThen,
    load,
    groupOf,
    runTest,
    typeError: (message) => keep(new TypeError(message)),
  };
}
