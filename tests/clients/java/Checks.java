import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import redis.clients.jedis.DefaultJedisClientConfig;
import redis.clients.jedis.HostAndPort;
import redis.clients.jedis.Jedis;
import redis.clients.jedis.JedisPubSub;
import redis.clients.jedis.Protocol;
import redis.clients.jedis.RedisProtocol;
import redis.clients.jedis.StreamEntryID;
import redis.clients.jedis.exceptions.JedisDataException;
import redis.clients.jedis.params.ScanParams;
import redis.clients.jedis.params.SetParams;
import redis.clients.jedis.params.XAddParams;
import redis.clients.jedis.params.XReadGroupParams;
import redis.clients.jedis.resps.ScanResult;
import redis.clients.jedis.resps.Tuple;

/**
 * A plain Jedis runs its usual commands against one address and asserts every reply.
 *
 * <p>usage: java Checks HOST:PORT -- the server is emptied first: give it one that holds nothing of
 * worth. It knows nothing of clusters: what passes on a single redis-server must pass here unchanged.
 */
public final class Checks {
    private interface Check {
        void run(Jedis r) throws Exception;
    }

    private static HostAndPort address;

    /** Every check, in the order in which they run. */
    private static final Map<String, Check> CHECKS = new LinkedHashMap<>();

    static {
        CHECKS.put("an emptied server holds no keys", r -> {
            same(r.flushAll(), "OK");
            same(r.dbSize(), 0L);
        });
        CHECKS.put("ping and echo", r -> {
            same(r.ping(), "PONG");
            same(r.echo("hello"), "hello");
        });
        CHECKS.put("strings", r -> {
            same(r.set("s", "hello"), "OK");
            same(r.append("s", " world"), 11L);
            same(r.getrange("s", 0, 4), "hello");
            same(r.strlen("s"), 11L);
            same(r.getDel("s"), "hello world");
            same(r.get("s"), null);
        });
        CHECKS.put("set options", r -> {
            same(r.set("o", "1", SetParams.setParams().nx()), "OK");
            same(r.set("o", "2", SetParams.setParams().nx()), null);
            same(r.setGet("o", "3", SetParams.setParams().xx()), "1");
            same(r.setnx("o", "4"), 0L);
        });
        CHECKS.put("binary values", r -> {
            byte[] key = {'b', 0, '\r', '\n'};
            byte[] value = new byte[256];
            for (int i = 0; i < 256; i++) value[i] = (byte) i;
            same(r.set(key, value), "OK");
            same(Arrays.equals(r.get(key), value), true);
        });
        CHECKS.put("expiry", r -> {
            same(r.setex("e", 100, "x"), "OK");
            long left = r.ttl("e");
            same(left > 90 && left <= 100, true);
            same(r.persist("e"), 1L);
            same(r.ttl("e"), -1L);
            same(r.expire("e", 60), 1L);
            same(r.ttl("no such key"), -2L);
            r.psetex("soon gone", 1, "x");
            waitUntil("the key expires", () -> !r.exists("soon gone"));
        });
        CHECKS.put("counters", r -> {
            same(r.incr("n"), 1L);
            same(r.incrBy("n", 41), 42L);
            same(r.decr("n"), 41L);
            same(r.incrByFloat("f", 10.5), 10.5);
            r.set("text", "not a number");
            refused("ERR value is not an integer", () -> r.incr("text"));
        });
        CHECKS.put("hashes", r -> {
            same(r.hset("h", Map.of("a", "1", "b", "2")), 2L);
            same(r.hget("h", "a"), "1");
            same(r.hmget("h", "a", "none", "b"), Arrays.asList("1", null, "2"));
            same(r.hgetAll("h"), Map.of("a", "1", "b", "2"));
            same(r.hincrBy("h", "a", 9), 10L);
            same(r.hkeys("h"), Set.of("a", "b"));
            same(r.hdel("h", "a", "b"), 2L);
            same(r.hgetAll("h"), Map.of());
        });
        CHECKS.put("lists", r -> {
            same(r.rpush("l", "a", "b", "c"), 3L);
            same(r.lpush("l", "z"), 4L);
            same(r.lrange("l", 0, -1), List.of("z", "a", "b", "c"));
            same(r.lpop("l"), "z");
            same(r.rpop("l", 2), List.of("c", "b"));
            same(r.lindex("l", 0), "a");
            same(r.llen("l"), 1L);
        });
        CHECKS.put("sets", r -> {
            same(r.sadd("set{1}", "a", "b", "c"), 3L);
            same(r.sadd("other{1}", "b", "c", "d"), 3L);
            same(r.smembers("set{1}"), Set.of("a", "b", "c"));
            same(r.sismember("set{1}", "x"), false);
            same(r.sinter("set{1}", "other{1}"), Set.of("b", "c"));
            same(r.sunionstore("union{1}", "set{1}", "other{1}"), 4L);
            same(r.srem("set{1}", "a"), 1L);
        });
        CHECKS.put("sorted sets", r -> {
            same(r.zadd("z", Map.of("one", 1.0, "two", 2.0, "three", 3.5)), 3L);
            same(r.zrangeWithScores("z", 0, 1), List.of(new Tuple("one", 1.0), new Tuple("two", 2.0)));
            same(r.zscore("z", "three"), 3.5);
            same(r.zincrby("z", 1.5, "one"), 2.5);
            same(r.zrevrange("z", 0, 0), List.of("three"));
            same(r.zpopmin("z"), new Tuple("two", 2.0));
            same(r.zcard("z"), 2L);
        });
        CHECKS.put("streams", r -> {
            StreamEntryID first = new StreamEntryID(1, 1);
            same(r.xadd("x", XAddParams.xAddParams().id(first), Map.of("n", "1")), first);
            same(r.xlen("x"), 1L);
            same(r.xrange("x", "-", "+").get(0).getFields(), Map.of("n", "1"));
            same(r.xgroupCreate("x", "group", new StreamEntryID(0, 0), false), "OK");
            var read = r.xreadGroup("group", "me", XReadGroupParams.xReadGroupParams().count(1),
                    Map.of("x", StreamEntryID.XREADGROUP_UNDELIVERED_ENTRY));
            same(read.get(0).getKey(), "x");
            same(read.get(0).getValue().get(0).getID(), first);
            same(r.xack("x", "group", first), 1L);
        });
        CHECKS.put("bits and estimates", r -> {
            same(r.setbit("bits", 7, true), false);
            same(r.bitcount("bits"), 1L);
            same(r.pfadd("hll", "a", "b", "c"), 1L);
            same(r.pfcount("hll"), 3L);
        });
        CHECKS.put("many keys at once", r -> {
            List<String> names = new ArrayList<>(), pairs = new ArrayList<>(), wanted = new ArrayList<>();
            for (int i = 0; i < 100; i++) {
                names.add("many:" + i);
                pairs.addAll(List.of("many:" + i, "" + i));
                wanted.add("" + i);
            }
            same(r.mset(array(pairs)), "OK");
            wanted.add(null);
            same(r.mget(array(names, "none")), wanted);
            same(r.exists(array(names, "many:0", "none")), 101L);
            same(r.touch(array(names)), 100L);
            same(r.del(array(names.subList(0, 60))), 60L);
            same(r.unlink(array(names)), 40L);
        });
        CHECKS.put("keys and types", r -> {
            r.set("name{2}", "x");
            same(r.type("name{2}"), "string");
            same(r.rename("name{2}", "renamed{2}"), "OK");
            same(r.copy("renamed{2}", "copy{2}", false), true);
            same(r.restore("restored{2}", 0, r.dump("copy{2}")), "OK");
            same(r.get("restored{2}"), "x");
        });
        CHECKS.put("a pipeline of 100 keeps its order", r -> {
            var pipeline = r.pipelined();
            List<Object> wanted = new ArrayList<>();
            for (int i = 0; i < 50; i++) {
                pipeline.set("p:" + i, "" + i);
                pipeline.get("p:" + i);
                wanted.addAll(List.of("OK", "" + i));
            }
            same(pipeline.syncAndReturnAll(), wanted);
        });
        CHECKS.put("an error inside a pipeline stays in its place", r -> {
            r.set("word", "x");
            var pipeline = r.pipelined();
            pipeline.set("p1", "1");
            pipeline.lpush("word", "y");
            pipeline.get("p1");
            List<Object> replies = pipeline.syncAndReturnAll();
            same(replies.get(0), "OK");
            same(((JedisDataException) replies.get(1)).getMessage().startsWith("WRONGTYPE"), true);
            same(replies.get(2), "1");
        });
        CHECKS.put("a transaction on one hash tag", r -> {
            var transaction = r.multi();
            transaction.set("{tx}a", "1");
            transaction.incr("{tx}a");
            transaction.rpush("{tx}l", "x");
            transaction.get("{tx}a");
            same(transaction.exec(), List.of("OK", 2L, 1L, "2"));
        });
        CHECKS.put("a watched key that changed stops the transaction", r -> {
            r.set("{w}n", "1");
            same(r.watch("{w}n"), "OK");
            same(r.get("{w}n"), "1");
            try (Jedis other = connect(RedisProtocol.RESP3)) {
                same(other.set("{w}n", "100"), "OK");
            }
            var transaction = r.multi();
            transaction.set("{w}n", "2");
            same(transaction.exec(), null);
            same(r.get("{w}n"), "100");
        });
        CHECKS.put("an optimistic lock goes through", r -> {
            same(r.watch("{w}n"), "OK");
            int n = Integer.parseInt(r.get("{w}n"));
            var transaction = r.multi();
            transaction.set("{w}n", "" + (n + 1));
            same(transaction.exec(), List.of("OK"));
            same(r.get("{w}n"), "101");
        });
        CHECKS.put("scan meets every key", r -> {
            Set<String> wanted = new HashSet<>(), found = new HashSet<>();
            var pipeline = r.pipelined();
            for (int i = 0; i < 300; i++) {
                wanted.add("scan:" + i);
                pipeline.set("scan:" + i, "1");
            }
            pipeline.sync();
            String cursor = ScanParams.SCAN_POINTER_START;
            do {
                ScanResult<String> page = r.scan(cursor, new ScanParams().match("scan:*").count(50));
                found.addAll(page.getResult());
                cursor = page.getCursor();
            } while (!cursor.equals(ScanParams.SCAN_POINTER_START));
            same(new TreeSet<>(found), new TreeSet<>(wanted));
            same(r.keys("scan:29?").size(), 10);
        });
        CHECKS.put("messages reach a subscriber", Checks::messagesReachASubscriber);
        CHECKS.put("scripts", r -> {
            same(r.eval("return {KEYS[1], ARGV[1]}", 1, "lua", "x"), List.of("lua", "x"));
            String sha = r.scriptLoad("return redis.call('INCRBY', KEYS[1], ARGV[1])");
            same(r.evalsha(sha, 1, "lua:n", "5"), 5L);
            same(r.evalsha(sha, 1, "lua:n", "5"), 10L);
            same(r.scriptExists(sha), true);
        });
        CHECKS.put("blocking pops wait for pushes of another connection", r -> {
            // Each side pushes only after its own pop: one of the two is always blocked.
            var answer = CompletableFuture.runAsync(() -> {
                try (Jedis other = connect(RedisProtocol.RESP3)) {
                    for (int i = 0; i < 20; i++) other.rpush("pong", other.blpop(20, "ping").get(1) + "!");
                }
            });
            for (int i = 0; i < 20; i++) {
                r.rpush("ping", "" + i);
                same(r.blpop(20, "pong"), List.of("pong", i + "!"));
            }
            answer.get(30, TimeUnit.SECONDS);
        });
        CHECKS.put("both protocol versions give their types", r -> {
            r.zadd("proto", 1.5, "m");
            for (RedisProtocol protocol : RedisProtocol.values()) {
                try (Jedis client = connect(protocol)) {
                    same(client.zscore("proto", "m"), 1.5);
                    same(client.hgetAll("none"), new HashMap<>());
                    same(client.smembers("none"), new HashSet<>());
                }
            }
            same(r.sendCommand(Protocol.Command.ZSCORE, "proto", "m"), 1.5);
        });
        CHECKS.put("the server says who it is", r -> {
            String info = r.info();
            for (String line : List.of("redis_mode:standalone", "cluster_enabled:0", "role:master")) {
                same(info.contains(line + "\r\n"), true);
            }
            same(r.dbSize() > 300, true);
            same(Math.abs(Long.parseLong(r.time().get(0)) - System.currentTimeMillis() / 1000) < 3600, true);
            same(r.clientSetname("checks"), "OK");
            same(r.clientGetname(), "checks");
        });
        CHECKS.put("a value of one megabyte", r -> {
            String value = "0123456789abcdef".repeat(65536);
            same(r.set("big", value), "OK");
            same(r.strlen("big"), 1L << 20);
            same(r.get("big").equals(value), true);
        });
        CHECKS.put("errors keep their code words", r -> {
            refused("WRONGTYPE", () -> r.lpush("word", "y"));
            refused("ERR unknown command", () -> r.sendCommand(() -> "NOSUCHCOMMAND".getBytes(StandardCharsets.US_ASCII), "x"));
            refused("ERR wrong number of arguments", () -> r.sendCommand(Protocol.Command.GET));
        });
    }

    private static void messagesReachASubscriber(Jedis r) throws Exception {
        var got = new LinkedBlockingQueue<String>();
        JedisPubSub listener = new JedisPubSub() {
            @Override
            public void onSubscribe(String channel, int count) {
                got.add("subscribed " + channel + " " + count);
            }

            @Override
            public void onMessage(String channel, String message) {
                got.add(channel + " " + message);
                unsubscribe();
            }
        };
        var listening = CompletableFuture.runAsync(() -> {
            try (Jedis other = connect(RedisProtocol.RESP3)) {
                other.subscribe(listener, "news");
            }
        });
        same(got.poll(30, TimeUnit.SECONDS), "subscribed news 1");
        r.publish("news", "hello");
        same(got.poll(30, TimeUnit.SECONDS), "news hello");
        listening.get(30, TimeUnit.SECONDS);
    }

    private static Jedis connect(RedisProtocol protocol) {
        return new Jedis(address, DefaultJedisClientConfig.builder().protocol(protocol).socketTimeoutMillis(30_000).build());
    }

    private static String[] array(List<String> words, String... more) {
        List<String> all = new ArrayList<>(words);
        all.addAll(List.of(more));
        return all.toArray(new String[0]);
    }

    private static void same(Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) throw new AssertionError("got " + got + ", wanted " + wanted);
    }

    private static void refused(String words, Runnable call) {
        try {
            call.run();
        } catch (JedisDataException error) {
            if (error.getMessage().startsWith(words)) return;
            throw new AssertionError("wanted an error with '" + words + "', got: " + error.getMessage());
        }
        throw new AssertionError("wanted an error with '" + words + "', got none");
    }

    private static void waitUntil(String what, BooleanSupplier condition) throws InterruptedException {
        for (int i = 0; i < 3000; i++) {
            if (condition.getAsBoolean()) return;
            Thread.sleep(10);
        }
        throw new AssertionError("never happened: " + what);
    }

    public static void main(String[] args) {
        address = HostAndPort.from(args[0]);
        int failed = 0;
        for (var check : CHECKS.entrySet()) {
            // A connection each: a check that fails half-way leaves nothing behind for the next one.
            try (Jedis client = connect(RedisProtocol.RESP3)) {
                check.getValue().run(client);
            } catch (Throwable error) {
                failed++;
                System.err.println("java: FAILED " + check.getKey());
                error.printStackTrace();
            }
        }
        System.out.println(failed > 0
                ? "java: " + failed + " of " + CHECKS.size() + " checks failed"
                : "java: " + CHECKS.size() + " checks passed");
        System.exit(failed > 0 ? 1 : 0);
    }
}
