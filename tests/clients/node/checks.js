// A plain ioredis `Redis` runs its usual commands against one address and asserts every reply.
//
// usage: node checks.js HOST:PORT      the server is emptied first: give it one that holds nothing of worth
//
// It knows nothing of clusters: what passes on a single redis-server must pass here unchanged.
import assert from "node:assert/strict";
import { Redis } from "ioredis";

const [host, port] = process.argv[2].split(/:(?=\d+$)/);
const same = assert.deepStrictEqual;
const connect = () => new Redis({ host, port: Number(port), maxRetriesPerRequest: 1, commandTimeout: 30_000 });
const range = (count) => [...Array(count).keys()];

async function waitUntil(what, condition) {
  for (const _ of range(3000)) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`never happened: ${what}`);
}

/** Every check, in the order in which they run. */
const checks = {
  async "an emptied server holds no keys"(r) {
    same(await r.flushall(), "OK");
    same(await r.dbsize(), 0);
  },
  async "ping and echo"(r) {
    same(await r.ping(), "PONG");
    same(await r.echo("hello"), "hello");
  },
  async strings(r) {
    same(await r.set("s", "hello"), "OK");
    same(await r.append("s", " world"), 11);
    same(await r.getrange("s", 0, 4), "hello");
    same(await r.strlen("s"), 11);
    same(await r.getdel("s"), "hello world");
    same(await r.get("s"), null);
  },
  async "set options"(r) {
    same(await r.set("o", "1", "NX"), "OK");
    same(await r.set("o", "2", "NX"), null);
    same(await r.set("o", "3", "XX", "GET"), "1");
    same(await r.setnx("o", "4"), 0);
    same(await r.getset("o", "5"), "3");
  },
  async "binary values"(r) {
    const value = Buffer.from([...range(256), 13, 10, 36, 45, 49, 13, 10]);
    same(await r.set("bin\0\r\n", value), "OK");
    same(await r.getBuffer("bin\0\r\n"), value);
  },
  async expiry(r) {
    same(await r.set("e", "x", "EX", 100), "OK");
    const left = await r.ttl("e");
    same(left > 90 && left <= 100, true);
    same(await r.persist("e"), 1);
    same(await r.ttl("e"), -1);
    same(await r.expire("e", 60), 1);
    same(await r.ttl("no such key"), -2);
    await r.psetex("soon gone", 1, "x");
    await waitUntil("the key expires", async () => (await r.exists("soon gone")) === 0);
  },
  async counters(r) {
    same(await r.incr("n"), 1);
    same(await r.incrby("n", 41), 42);
    same(await r.decr("n"), 41);
    same(await r.incrbyfloat("f", 10.5), "10.5");
    await r.set("text", "not a number");
    await assert.rejects(r.incr("text"), /ERR value is not an integer/);
  },
  async hashes(r) {
    same(await r.hset("h", { a: "1", b: "2" }), 2);
    same(await r.hget("h", "a"), "1");
    same(await r.hmget("h", "a", "none", "b"), ["1", null, "2"]);
    same(await r.hgetall("h"), { a: "1", b: "2" });
    same(await r.hincrby("h", "a", 9), 10);
    same((await r.hkeys("h")).sort(), ["a", "b"]);
    same(await r.hdel("h", "a", "b"), 2);
    same(await r.hgetall("h"), {});
  },
  async lists(r) {
    same(await r.rpush("l", "a", "b", "c"), 3);
    same(await r.lpush("l", "z"), 4);
    same(await r.lrange("l", 0, -1), ["z", "a", "b", "c"]);
    same(await r.lpop("l"), "z");
    same(await r.rpop("l", 2), ["c", "b"]);
    same(await r.lindex("l", 0), "a");
    same(await r.llen("l"), 1);
  },
  async sets(r) {
    same(await r.sadd("set{1}", "a", "b", "c"), 3);
    same(await r.sadd("other{1}", "b", "c", "d"), 3);
    same((await r.smembers("set{1}")).sort(), ["a", "b", "c"]);
    same(await r.sismember("set{1}", "x"), 0);
    same((await r.sinter("set{1}", "other{1}")).sort(), ["b", "c"]);
    same(await r.sunionstore("union{1}", "set{1}", "other{1}"), 4);
    same(await r.srem("set{1}", "a"), 1);
  },
  async "sorted sets"(r) {
    same(await r.zadd("z", 1, "one", 2, "two", 3.5, "three"), 3);
    same(await r.zrange("z", 0, -1, "WITHSCORES"), ["one", "1", "two", "2", "three", "3.5"]);
    same(await r.zscore("z", "three"), "3.5");
    same(await r.zincrby("z", 1.5, "one"), "2.5");
    same(await r.zrevrange("z", 0, 0), ["three"]);
    same(await r.zpopmin("z"), ["two", "2"]);
    same(await r.zcard("z"), 2);
  },
  async streams(r) {
    same(await r.xadd("x", "1-1", "n", "1"), "1-1");
    same(await r.xlen("x"), 1);
    same(await r.xrange("x", "-", "+"), [["1-1", ["n", "1"]]]);
    same(await r.xgroup("CREATE", "x", "group", "0"), "OK");
    const read = await r.xreadgroup("GROUP", "group", "me", "COUNT", 1, "STREAMS", "x", ">");
    same(read, [["x", [["1-1", ["n", "1"]]]]]);
    same(await r.xack("x", "group", "1-1"), 1);
  },
  async "bits and estimates"(r) {
    same(await r.setbit("bits", 7, 1), 0);
    same(await r.bitcount("bits"), 1);
    same(await r.pfadd("hll", "a", "b", "c"), 1);
    same(await r.pfcount("hll"), 3);
  },
  async "many keys at once"(r) {
    const names = range(100).map((i) => `many:${i}`);
    same(await r.mset(Object.fromEntries(names.map((name, i) => [name, i]))), "OK");
    same(await r.mget(...names, "none"), [...range(100).map(String), null]);
    same(await r.exists(...names, "many:0", "none"), 101);
    same(await r.touch(...names), 100);
    same(await r.del(...names.slice(0, 60)), 60);
    same(await r.unlink(...names), 40);
  },
  async "keys and types"(r) {
    await r.set("name{2}", "x");
    same(await r.type("name{2}"), "string");
    same(await r.rename("name{2}", "renamed{2}"), "OK");
    same(await r.copy("renamed{2}", "copy{2}"), 1);
    same(await r.restore("restored{2}", 0, await r.dumpBuffer("copy{2}")), "OK");
    same(await r.get("restored{2}"), "x");
  },
  async "a pipeline of 100 keeps its order"(r) {
    const pipeline = r.pipeline();
    for (const i of range(50)) pipeline.set(`p:${i}`, i).get(`p:${i}`);
    same(await pipeline.exec(), range(50).flatMap((i) => [[null, "OK"], [null, String(i)]]));
  },
  async "an error inside a pipeline stays in its place"(r) {
    await r.set("word", "x");
    const replies = await r.pipeline().set("p1", 1).lpush("word", "y").get("p1").exec();
    same(replies[0], [null, "OK"]);
    assert.match(replies[1][0].message, /^WRONGTYPE/);
    same(replies[2], [null, "1"]);
  },
  async "a transaction on one hash tag"(r) {
    const replies = await r.multi().set("{tx}a", 1).incr("{tx}a").rpush("{tx}l", "x").get("{tx}a").exec();
    same(replies, [[null, "OK"], [null, 2], [null, 1], [null, "2"]]);
  },
  async "a transaction sent command by command"(r) {
    same(await r.multi({ pipeline: false }), "OK");
    same(await r.set("{tx}b", 1), "QUEUED");
    same(await r.incr("{tx}b"), "QUEUED");
    same(await r.exec(), [[null, "OK"], [null, 2]]);
  },
  async "a watched key that changed stops the transaction"(r) {
    const other = connect();
    await r.set("{w}n", 1);
    same(await r.watch("{w}n"), "OK");
    same(await r.get("{w}n"), "1");
    same(await other.set("{w}n", 100), "OK");
    same(await r.multi().set("{w}n", 2).exec(), null);
    same(await r.get("{w}n"), "100");
    other.disconnect();
  },
  async "an optimistic lock goes through"(r) {
    same(await r.watch("{w}n"), "OK");
    const n = Number(await r.get("{w}n"));
    same(await r.multi().set("{w}n", n + 1).exec(), [[null, "OK"]]);
    same(await r.get("{w}n"), "101");
  },
  async "scan meets every key"(r) {
    const names = range(300).map((i) => `scan:${i}`);
    const pipeline = r.pipeline();
    for (const name of names) pipeline.set(name, 1);
    await pipeline.exec();
    const found = new Set();
    for await (const keys of r.scanStream({ match: "scan:*", count: 50 })) keys.forEach((key) => found.add(key));
    same([...found].sort(), names.sort());
    same((await r.keys("scan:29?")).length, 10);
  },
  async "messages reach a subscriber"(r) {
    const listener = connect();
    const got = [];
    listener.on("message", (channel, message) => got.push([channel, message]));
    listener.on("pmessage", (pattern, channel, message) => got.push([pattern, channel, message]));
    same(await listener.subscribe("news"), 1);
    same(await listener.psubscribe("new?"), 2);
    await r.publish("news", "hello");
    await waitUntil("both messages come", () => got.length === 2);
    same(got, [["news", "hello"], ["new?", "news", "hello"]]);
    same(await listener.unsubscribe("news"), 1);
    listener.disconnect();
  },
  async scripts(r) {
    same(await r.eval("return {KEYS[1], ARGV[1]}", 1, "lua", "x"), ["lua", "x"]);
    r.defineCommand("addTo", { numberOfKeys: 1, lua: "return redis.call('INCRBY', KEYS[1], ARGV[1])" });
    same(await r.addTo("lua:n", 5), 5);
    same(await r.addTo("lua:n", 5), 10);
  },
  async "blocking pops wait for pushes of another connection"(r) {
    // Each side pushes only after its own pop: one of the two is always blocked.
    const other = connect();
    const answer = (async () => {
      for (const _ of range(20)) {
        const [, item] = await other.blpop("ping", 20);
        await other.rpush("pong", `${item}!`);
      }
    })();
    for (const i of range(20)) {
      await r.rpush("ping", i);
      same(await r.blpop("pong", 20), ["pong", `${i}!`]);
    }
    await answer;
    other.disconnect();
  },
  async "the server says who it is"(r) {
    const info = await r.info();
    for (const line of ["redis_mode:standalone", "cluster_enabled:0", "role:master"]) {
      same(info.includes(`${line}\r\n`), true, line);
    }
    same((await r.dbsize()) > 300, true);
    same(Math.abs((await r.time())[0] - Date.now() / 1000) < 3600, true);
    same(await r.client("SETNAME", "checks"), "OK");
    same(await r.client("GETNAME"), "checks");
  },
  async "a value of one megabyte"(r) {
    const value = "0123456789abcdef".repeat(65536);
    same(await r.set("big", value), "OK");
    same(await r.strlen("big"), 1 << 20);
    same((await r.get("big")) === value, true);
  },
  async "errors keep their code words"(r) {
    await assert.rejects(r.lpush("word", "y"), /^ReplyError: WRONGTYPE/);
    await assert.rejects(r.call("NOSUCHCOMMAND", "x"), /^ReplyError: ERR unknown command/);
    await assert.rejects(r.call("GET"), /^ReplyError: ERR wrong number of arguments/);
  },
};

const client = connect();
client.on("error", (error) => console.error(`node: ${error}`));
const names = Object.keys(checks);
let failed = 0;
for (const name of names) {
  try {
    await checks[name](client);
  } catch (error) {
    failed += 1;
    console.error(`node: FAILED ${name}\n${error.stack}`);
  }
}
client.disconnect();
console.log(failed ? `node: ${failed} of ${names.length} checks failed` : `node: ${names.length} checks passed`);
// The library keeps a timer per command that it was given a limit for, also after the reply.
process.exit(failed ? 1 : 0);
