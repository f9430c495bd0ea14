// Socket.IO with its Redis adapter: two servers share their rooms; each message reaches each browser once.
//
// usage: node socket_io.js HOST:PORT
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";
import { io } from "socket.io-client";
import { failOver, pause, waitUntil } from "./failing_over.js";

const [host, port] = process.argv[2].split(/:(?=\d+$)/);
const MESSAGES = 200;
const errors = [];

function connect() {
  const client = new Redis({ host, port: Number(port) });
  client.on("error", (error) => errors.push(error));
  return client;
}

async function serve() {
  const http = createServer();
  const server = new Server(http, { adapter: createAdapter(connect(), connect()) });
  server.on("connection", (socket) => {
    socket.on("join", async (room, joined) => joined(await socket.join(room)));
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  return { server, url: `http://127.0.0.1:${http.address().port}` };
}

async function browse(url, room) {
  const browser = { room, got: [], socket: io(url, { transports: ["websocket"] }) };
  browser.socket.on("message", (n) => browser.got.push(n));
  await once(browser.socket, "connect");
  await new Promise((joined) => browser.socket.emit("join", room, joined));
  return browser;
}

const servers = [await serve(), await serve()];
const rooms = ["red", "blue"];
const browsers = [];
for (const { url } of servers) for (const room of rooms) browsers.push(await browse(url, room), await browse(url, room));
// The adapters count each other by asking over Redis.
await waitUntil(() => "both servers know all browsers", async () =>
  (await servers[0].server.fetchSockets()).length === browsers.length);

// Even numbers go to one room, odd ones to the other, each from both servers in turn.
let sent = 0;
function send() {
  servers[(sent >> 1) % 2].server.to(rooms[sent % 2]).emit("message", sent);
  sent += 1;
}
const allArrived = () => browsers.every(({ got }) => got.length >= sent / 2);

for (let n = 0; n < MESSAGES; n += 1) send();
await waitUntil(() => "the first messages arrive", allArrived);
const failover = failOver("socket.io");
const before = sent;
while (!failover.isOver) {
  send();
  send();
  await pause(2);
}
const meanwhile = sent - before;
for (let n = 0; n < MESSAGES; n += 1) send();
await waitUntil(() => `all messages arrive: ${browsers.map(({ got }) => got.length)} of ${sent / 2} each`, allArrived);

for (const { room, got } of browsers) {
  const wanted = [...Array(sent).keys()].filter((n) => rooms[n % 2] === room);
  assert.deepStrictEqual([...got].sort((a, b) => a - b), wanted, `the messages to room ${room}`);
}
assert.deepStrictEqual(errors, []);
console.log(`${sent} messages in two rooms reached all ${browsers.length} browsers at two servers once, ${meanwhile} of them sent during the failover`);
process.exit(0);
