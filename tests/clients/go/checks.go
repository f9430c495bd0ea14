package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// checks is every check in the order in which they run.
var checks = []struct {
	name string
	body func(*redis.Client)
}{
	{"an emptied server holds no keys", func(r *redis.Client) {
		same(ok(r.FlushAll(ctx).Result()), "OK")
		same(ok(r.DBSize(ctx).Result()), 0)
	}},
	{"ping and echo", func(r *redis.Client) {
		same(ok(r.Ping(ctx).Result()), "PONG")
		same(ok(r.Echo(ctx, "hello").Result()), "hello")
	}},
	{"strings", func(r *redis.Client) {
		same(ok(r.Set(ctx, "s", "hello", 0).Result()), "OK")
		same(ok(r.Append(ctx, "s", " world").Result()), 11)
		same(ok(r.GetRange(ctx, "s", 0, 4).Result()), "hello")
		same(ok(r.StrLen(ctx, "s").Result()), 11)
		same(ok(r.GetDel(ctx, "s").Result()), "hello world")
		none(r.Get(ctx, "s").Err())
	}},
	{"set options", func(r *redis.Client) {
		same(ok(r.SetNX(ctx, "o", "1", 0).Result()), true)
		same(ok(r.SetNX(ctx, "o", "2", 0).Result()), false)
		same(ok(r.SetArgs(ctx, "o", "3", redis.SetArgs{Mode: "XX", Get: true}).Result()), "1")
		same(ok(r.GetSet(ctx, "o", "4").Result()), "3")
	}},
	{"binary values", func(r *redis.Client) {
		value := string([]byte{0, 255, '\r', '\n'}) + "$-1\r\n"
		same(ok(r.Set(ctx, "bin\x00\r\n", value, 0).Result()), "OK")
		same(ok(r.Get(ctx, "bin\x00\r\n").Result()), value)
	}},
	{"expiry", func(r *redis.Client) {
		r.Set(ctx, "e", "x", 100*time.Second)
		left := ok(r.TTL(ctx, "e").Result())
		same(left > 90*time.Second && left <= 100*time.Second, true)
		same(ok(r.Persist(ctx, "e").Result()), true)
		same(ok(r.TTL(ctx, "e").Result()), -1)
		same(ok(r.Expire(ctx, "e", time.Minute).Result()), true)
		same(ok(r.TTL(ctx, "no such key").Result()), -2)
		r.Set(ctx, "soon gone", "x", time.Millisecond)
		waitUntil("the key expires", func() bool { return ok(r.Exists(ctx, "soon gone").Result()) == 0 })
	}},
	{"counters", func(r *redis.Client) {
		same(ok(r.Incr(ctx, "n").Result()), 1)
		same(ok(r.IncrBy(ctx, "n", 41).Result()), 42)
		same(ok(r.Decr(ctx, "n").Result()), 41)
		same(ok(r.IncrByFloat(ctx, "f", 10.5).Result()), 10.5)
		r.Set(ctx, "text", "not a number", 0)
		refused(r.Incr(ctx, "text").Err(), "not an integer")
	}},
	{"hashes", func(r *redis.Client) {
		same(ok(r.HSet(ctx, "h", "a", "1", "b", "2").Result()), 2)
		same(ok(r.HGet(ctx, "h", "a").Result()), "1")
		same(ok(r.HMGet(ctx, "h", "a", "none").Result()), []any{"1", nil})
		same(ok(r.HGetAll(ctx, "h").Result()), map[string]string{"a": "1", "b": "2"})
		same(ok(r.HIncrBy(ctx, "h", "a", 9).Result()), 10)
		same(sorted(ok(r.HKeys(ctx, "h").Result())), []string{"a", "b"})
		same(ok(r.HDel(ctx, "h", "a", "b").Result()), 2)
		same(ok(r.HGetAll(ctx, "h").Result()), map[string]string{})
	}},
	{"lists", func(r *redis.Client) {
		same(ok(r.RPush(ctx, "l", "a", "b", "c").Result()), 3)
		same(ok(r.LPush(ctx, "l", "z").Result()), 4)
		same(ok(r.LRange(ctx, "l", 0, -1).Result()), []string{"z", "a", "b", "c"})
		same(ok(r.LPop(ctx, "l").Result()), "z")
		same(ok(r.RPopCount(ctx, "l", 2).Result()), []string{"c", "b"})
		same(ok(r.LIndex(ctx, "l", 0).Result()), "a")
		same(ok(r.LLen(ctx, "l").Result()), 1)
	}},
	{"sets", func(r *redis.Client) {
		same(ok(r.SAdd(ctx, "set{1}", "a", "b", "c").Result()), 3)
		same(ok(r.SAdd(ctx, "other{1}", "b", "c", "d").Result()), 3)
		same(sorted(ok(r.SMembers(ctx, "set{1}").Result())), []string{"a", "b", "c"})
		same(ok(r.SIsMember(ctx, "set{1}", "x").Result()), false)
		same(sorted(ok(r.SInter(ctx, "set{1}", "other{1}").Result())), []string{"b", "c"})
		same(ok(r.SUnionStore(ctx, "union{1}", "set{1}", "other{1}").Result()), 4)
		same(ok(r.SRem(ctx, "set{1}", "a").Result()), 1)
	}},
	{"sorted sets", func(r *redis.Client) {
		same(ok(r.ZAdd(ctx, "z", redis.Z{Score: 1, Member: "one"}, redis.Z{Score: 3.5, Member: "three"}).Result()), 2)
		same(ok(r.ZRangeWithScores(ctx, "z", 0, -1).Result()),
			[]redis.Z{{Score: 1, Member: "one"}, {Score: 3.5, Member: "three"}})
		same(ok(r.ZScore(ctx, "z", "three").Result()), 3.5)
		same(ok(r.ZIncrBy(ctx, "z", 1.5, "one").Result()), 2.5)
		same(ok(r.ZRevRange(ctx, "z", 0, 0).Result()), []string{"three"})
		same(ok(r.ZPopMin(ctx, "z").Result()), []redis.Z{{Score: 2.5, Member: "one"}})
		none(r.ZScore(ctx, "z", "one").Err())
	}},
	{"streams", func(r *redis.Client) {
		same(ok(r.XAdd(ctx, &redis.XAddArgs{Stream: "x", ID: "1-1", Values: []string{"n", "1"}}).Result()), "1-1")
		same(ok(r.XLen(ctx, "x").Result()), 1)
		entry := redis.XMessage{ID: "1-1", Values: map[string]any{"n": "1"}}
		same(ok(r.XRange(ctx, "x", "-", "+").Result()), []redis.XMessage{entry})
		same(ok(r.XGroupCreate(ctx, "x", "group", "0").Result()), "OK")
		read := &redis.XReadGroupArgs{Group: "group", Consumer: "me", Streams: []string{"x", ">"}, Count: 1, Block: -1}
		same(ok(r.XReadGroup(ctx, read).Result()), []redis.XStream{{Stream: "x", Messages: []redis.XMessage{entry}}})
		same(ok(r.XAck(ctx, "x", "group", "1-1").Result()), 1)
	}},
	{"bits and estimates", func(r *redis.Client) {
		same(ok(r.SetBit(ctx, "bits", 7, 1).Result()), 0)
		same(ok(r.BitCount(ctx, "bits", nil).Result()), 1)
		same(ok(r.PFAdd(ctx, "hll", "a", "b", "c").Result()), 1)
		same(ok(r.PFCount(ctx, "hll").Result()), 3)
	}},
	{"many keys at once", func(r *redis.Client) {
		var pairs, names []string
		var wanted []any
		for i := 0; i < 100; i++ {
			names = append(names, fmt.Sprintf("many:%d", i))
			pairs = append(pairs, names[i], fmt.Sprint(i))
			wanted = append(wanted, fmt.Sprint(i))
		}
		same(ok(r.MSet(ctx, pairs).Result()), "OK")
		same(ok(r.MGet(ctx, append(names[:100:100], "none")...).Result()), append(wanted, nil))
		same(ok(r.Exists(ctx, append(names[:100:100], "many:0", "none")...).Result()), 101)
		same(ok(r.Touch(ctx, names...).Result()), 100)
		same(ok(r.Del(ctx, names[:60]...).Result()), 60)
		same(ok(r.Unlink(ctx, names...).Result()), 40)
	}},
	{"keys and types", func(r *redis.Client) {
		r.Set(ctx, "name{2}", "x", 0)
		same(ok(r.Type(ctx, "name{2}").Result()), "string")
		same(ok(r.Rename(ctx, "name{2}", "renamed{2}").Result()), "OK")
		same(ok(r.Copy(ctx, "renamed{2}", "copy{2}", 0, false).Result()), 1)
		same(ok(r.Restore(ctx, "restored{2}", 0, ok(r.Dump(ctx, "copy{2}").Result())).Result()), "OK")
		same(ok(r.Get(ctx, "restored{2}").Result()), "x")
	}},
	{"a pipeline of 100 keeps its order", func(r *redis.Client) {
		pipe := r.Pipeline()
		var gets []*redis.StringCmd
		for i := 0; i < 50; i++ {
			pipe.Set(ctx, fmt.Sprintf("p:%d", i), i, 0)
			gets = append(gets, pipe.Get(ctx, fmt.Sprintf("p:%d", i)))
		}
		same(len(ok(pipe.Exec(ctx))), 100)
		for i, get := range gets {
			same(get.Val(), fmt.Sprint(i))
		}
	}},
	{"an error inside a pipeline stays in its place", func(r *redis.Client) {
		r.Set(ctx, "word", "x", 0)
		pipe := r.Pipeline()
		before, wrong, after := pipe.Set(ctx, "p1", 1, 0), pipe.LPush(ctx, "word", "y"), pipe.Get(ctx, "p1")
		_, err := pipe.Exec(ctx)
		refused(err, "WRONGTYPE")
		refused(wrong.Err(), "WRONGTYPE")
		same(before.Val(), "OK")
		same(after.Val(), "1")
	}},
	{"a transaction on one hash tag", func(r *redis.Client) {
		var count *redis.IntCmd
		ok(r.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.Set(ctx, "{tx}a", 1, 0)
			count = pipe.Incr(ctx, "{tx}a")
			return pipe.RPush(ctx, "{tx}l", "x").Err()
		}))
		same(count.Val(), 2)
	}},
	{"a watched key that changed stops the transaction", func(r *redis.Client) {
		r.Set(ctx, "{w}n", 1, 0)
		err := r.Watch(ctx, func(tx *redis.Tx) error {
			same(ok(tx.Get(ctx, "{w}n").Result()), "1")
			same(ok(r.Set(ctx, "{w}n", 100, 0).Result()), "OK")
			_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error { return pipe.Set(ctx, "{w}n", 2, 0).Err() })
			return err
		}, "{w}n")
		same(errors.Is(err, redis.TxFailedErr), true)
		same(ok(r.Get(ctx, "{w}n").Result()), "100")
	}},
	{"an optimistic lock goes through", func(r *redis.Client) {
		same(r.Watch(ctx, func(tx *redis.Tx) error {
			n := ok(tx.Get(ctx, "{w}n").Int())
			_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error { return pipe.Set(ctx, "{w}n", n+1, 0).Err() })
			return err
		}, "{w}n"), nil)
		same(ok(r.Get(ctx, "{w}n").Result()), "101")
	}},
	{"scan meets every key", func(r *redis.Client) {
		wanted := map[string]bool{}
		pipe := r.Pipeline()
		for i := 0; i < 300; i++ {
			wanted[fmt.Sprintf("scan:%d", i)] = true
			pipe.Set(ctx, fmt.Sprintf("scan:%d", i), 1, 0)
		}
		ok(pipe.Exec(ctx))
		found := map[string]bool{}
		keys := r.Scan(ctx, 0, "scan:*", 50).Iterator()
		for keys.Next(ctx) {
			found[keys.Val()] = true
		}
		same(keys.Err(), nil)
		same(found, wanted)
		same(len(ok(r.Keys(ctx, "scan:29?").Result())), 10)
	}},
	{"messages reach a subscriber", func(r *redis.Client) {
		listener := r.Subscribe(ctx, "news")
		defer listener.Close()
		ok(listener.Receive(ctx))
		ok(r.Publish(ctx, "news", "hello").Result())
		same(ok(listener.ReceiveMessage(ctx)).Payload, "hello")
		same(listener.PSubscribe(ctx, "new?"), nil)
		ok(listener.Receive(ctx))
		ok(r.Publish(ctx, "newt", "swims").Result())
		got := ok(listener.ReceiveMessage(ctx))
		same([]string{got.Channel, got.Pattern, got.Payload}, []string{"newt", "new?", "swims"})
	}},
	{"scripts", func(r *redis.Client) {
		same(ok(r.Eval(ctx, "return {KEYS[1], ARGV[1]}", []string{"lua"}, "x").Result()), any([]any{"lua", "x"}))
		script := redis.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1])")
		same(ok(script.Run(ctx, r, []string{"lua:n"}, 5).Int()), 5)
		same(ok(script.Run(ctx, r, []string{"lua:n"}, 5).Int()), 10)
	}},
	{"blocking pops wait for pushes of another connection", func(r *redis.Client) {
		// Each side pushes only after its own pop: one of the two is always blocked.
		done := make(chan error)
		go func() {
			other := connect(3)
			defer other.Close()
			for i := 0; i < 20; i++ {
				item, err := other.BLPop(ctx, 20*time.Second, "ping").Result()
				if err != nil {
					done <- err
					return
				}
				other.RPush(ctx, "pong", item[1]+"!")
			}
			done <- nil
		}()
		for i := 0; i < 20; i++ {
			r.RPush(ctx, "ping", i)
			same(ok(r.BLPop(ctx, 20*time.Second, "pong").Result()), []string{"pong", fmt.Sprintf("%d!", i)})
		}
		same(<-done, nil)
	}},
	{"both protocol versions give their types", func(r *redis.Client) {
		r.ZAdd(ctx, "proto", redis.Z{Score: 1.5, Member: "m"})
		for _, protocol := range []int{2, 3} {
			client := connect(protocol)
			same(ok(client.ZScore(ctx, "proto", "m").Result()), 1.5)
			same(ok(client.HGetAll(ctx, "none").Result()), map[string]string{})
			client.Close()
		}
		same(ok(r.Do(ctx, "ZSCORE", "proto", "m").Result()), any(1.5))
	}},
	{"the server says who it is", func(r *redis.Client) {
		info := ok(r.Info(ctx).Result())
		for _, line := range []string{"redis_mode:standalone", "cluster_enabled:0", "role:master"} {
			same(strings.Contains(info, line+"\r\n"), true)
		}
		same(ok(r.DBSize(ctx).Result()) > 300, true)
		same(time.Since(ok(r.Time(ctx).Result())) < time.Hour, true)
		same(ok(r.ClientID(ctx).Result()) > 0, true)
	}},
	{"a value of one megabyte", func(r *redis.Client) {
		value := strings.Repeat("0123456789abcdef", 65536)
		same(ok(r.Set(ctx, "big", value, 0).Result()), "OK")
		same(ok(r.StrLen(ctx, "big").Result()), 1<<20)
		same(ok(r.Get(ctx, "big").Result()) == value, true)
	}},
	{"errors keep their code words", func(r *redis.Client) {
		refused(r.LPush(ctx, "word", "y").Err(), "WRONGTYPE")
		refused(r.Do(ctx, "NOSUCHCOMMAND", "x").Err(), "ERR unknown command")
		refused(r.Do(ctx, "GET").Err(), "ERR wrong number of arguments")
	}},
}
