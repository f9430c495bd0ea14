// redis_rate: many callers share the limits of many users; each user gets as many calls as the limit says.
//
// usage: redis_rate HOST:PORT
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

const (
	users   = 60
	burst   = 100
	callers = 8
)

// No further call is allowed for 24 minutes, so the count is exact.
var limit = redis_rate.Limit{Rate: 60, Burst: burst, Period: 24 * time.Hour}

func fail(format string, args ...any) {
	fmt.Printf("FAILED: "+format+"\n", args...)
	os.Exit(1)
}

// failOver asks the runner to fail over the node that holds the key; what it returns is true once that is done.
func failOver(key string) *atomic.Bool {
	var isOver atomic.Bool
	fmt.Printf("fail over the node of %s\n", key)
	go func() {
		answer, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		isOver.Store(strings.TrimSpace(answer) == "failed over")
	}()
	return &isOver
}

func main() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: os.Args[1], ReadTimeout: 30 * time.Second})
	limiter := redis_rate.NewLimiter(client)
	var allowed [users]atomic.Int64
	var asked atomic.Int64

	// ask lets all callers ask for one user after the other until wantsMore says no.
	ask := func(wantsMore func(round int) bool) {
		var group sync.WaitGroup
		for caller := 0; caller < callers; caller++ {
			group.Add(1)
			go func() {
				defer group.Done()
				for round := 0; wantsMore(round); round++ {
					for user := range allowed {
						result, err := limiter.Allow(ctx, fmt.Sprintf("user:%d", user), limit)
						if err != nil {
							fail("user %d: %v", user, err)
						}
						allowed[user].Add(int64(result.Allowed))
						asked.Add(1)
					}
				}
			}()
		}
		group.Wait()
	}

	ask(func(round int) bool { return round < 4 })
	isOver := failOver("rate:user:0")
	before := asked.Load()
	ask(func(int) bool { return !isOver.Load() })
	meanwhile := asked.Load() - before
	ask(func(round int) bool { return round < burst/callers+4 })

	for user := range allowed {
		if got := allowed[user].Load(); got != burst {
			fail("user %d was allowed %d calls of %d", user, got, burst)
		}
	}
	if err := limiter.Reset(ctx, "user:0"); err != nil {
		fail("reset: %v", err)
	}
	if result, err := limiter.AllowAtMost(ctx, "user:0", limit, burst+50); err != nil || result.Allowed != burst {
		fail("after a reset: %+v, %v", result, err)
	}
	fmt.Printf("%d of %d calls were allowed, just %d of each of %d users; %d calls came during the failover\n",
		users*burst, asked.Load(), burst, users, meanwhile)
}
