// BullMQ: a worker works a queue to the end; each job is done once, one that throws twice.
//
// usage: node bullmq_queue.js HOST:PORT
import assert from "node:assert/strict";
import { Queue, QueueEvents, Worker } from "bullmq";
import { Redis } from "ioredis";
import { failOver, pause, waitUntil } from "./failing_over.js";

const [host, port] = process.argv[2].split(/:(?=\d+$)/);
const JOBS = 300;
// Its scripts change several keys of a queue, also such as they do not declare: they share a slot, as the
// library's documentation wants it for a cluster.
const options = { connection: { host, port: Number(port), maxRetriesPerRequest: null }, prefix: "{jobs}" };
const database = new Redis(options.connection);

const queue = new Queue("work", options);
const events = new QueueEvents("work", options);
const told = new Map();
events.on("completed", ({ jobId }) => told.set(jobId, (told.get(jobId) ?? 0) + 1));
await events.waitUntilReady();

const wantsTwo = (n) => n % 10 === 0;
const worker = new Worker("work", async (job) => {
  const { n } = job.data;
  await database.hincrby("times run", n, 1);
  if (wantsTwo(n) && job.attemptsMade === 0) throw new Error("the first try fails");
  return n * n;
}, { ...options, concurrency: 8 });
const errors = [];
for (const part of [queue, events, worker, database]) part.on("error", (error) => errors.push(error));

const ids = [];
async function send(count) {
  const work = [...Array(count).keys()].map((n) => ({
    name: "square",
    data: { n: ids.length + n },
    // Some come later, by the sorted set of delayed jobs.
    opts: { attempts: 2, delay: n % 7 === 0 ? 50 : 0 },
  }));
  ids.push(...(await queue.addBulk(work)).map((job) => job.id));
}

await send(JOBS);
await waitUntil(() => "a third is done", async () => (await queue.getCompletedCount()) > JOBS / 3);
const failover = failOver("{jobs}:work:wait");
const before = ids.length;
while (!failover.isOver) {
  await send(5);
  await pause(5);
}
const meanwhile = ids.length - before;
await send(JOBS);

await waitUntil(() => `all are done and told of: ${told.size} of ${ids.length}`, () => told.size === ids.length);
const counts = await queue.getJobCounts("completed", "failed", "wait", "active", "delayed");
assert.deepStrictEqual(counts, { completed: ids.length, failed: 0, wait: 0, active: 0, delayed: 0 });
const runs = await database.hgetall("times run");
for (const [n, id] of ids.entries()) {
  assert.equal(Number(runs[n]), wantsTwo(n) ? 2 : 1, `how often job ${n} ran`);
  assert.equal(told.get(id), 1, `how often the end of job ${n} was told`);
}
const last = await queue.getJob(ids.at(-1));
assert.equal(last.returnvalue, (ids.length - 1) ** 2);
assert.deepStrictEqual(errors, []);
await Promise.all([worker.close(), events.close(), queue.close()]);
database.disconnect();
console.log(`${ids.length} jobs were done once each, every tenth at its second try, ${meanwhile} of them sent during the failover`);
process.exit(0);
