// A plain go-redis Client runs its usual commands against one address and asserts every reply.
//
// usage: checks HOST:PORT      the server is emptied first: give it one that holds nothing of worth
//
// It knows nothing of clusters: what passes on a single redis-server must pass here unchanged.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

var ctx = context.Background()

// fail ends the check that is running.
func fail(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// ok returns the value of a reply that must not be an error.
func ok[T any](value T, err error) T {
	if err != nil {
		fail("unexpected error: %v", err)
	}
	return value
}

func same[T any](got, wanted T) {
	if !reflect.DeepEqual(got, wanted) {
		fail("got %#v, wanted %#v", got, wanted)
	}
}

// none asserts the null reply.
func none(err error) {
	if !errors.Is(err, redis.Nil) {
		fail("wanted a null reply, got error %v", err)
	}
}

func refused(err error, words string) {
	if err == nil || !strings.Contains(err.Error(), words) {
		fail("wanted an error with %q, got %v", words, err)
	}
}

func waitUntil(what string, condition func() bool) {
	for i := 0; i < 3000; i++ {
		if condition() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	fail("never happened: %s", what)
}

func sorted(words []string) []string {
	sort.Strings(words)
	return words
}

func connect(protocol int) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: os.Args[1], Protocol: protocol, ReadTimeout: 30 * time.Second})
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: checks HOST:PORT")
		os.Exit(2)
	}
	client := connect(3)
	defer client.Close()
	failed := 0
	for _, check := range checks {
		if text := run(check.body, client); text != "" {
			failed++
			fmt.Fprintf(os.Stderr, "go: FAILED %s: %s\n", check.name, text)
		}
	}
	if failed > 0 {
		fmt.Printf("go: %d of %d checks failed\n", failed, len(checks))
		os.Exit(1)
	}
	fmt.Printf("go: %d checks passed\n", len(checks))
}

func run(body func(*redis.Client), client *redis.Client) (text string) {
	defer func() {
		if found := recover(); found != nil {
			text = fmt.Sprint(found)
		}
	}()
	body(client)
	return ""
}
