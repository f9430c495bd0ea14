"""redis-py: workers share counters, under a lock and by watched pipelines; none is lost.

usage: redis_py_lock.py HOST:PORT

A counter is read and written in two steps, so two holders of the lock at once lose a count.
"""

import sys
import threading

import redis

from failing_over import FailingOver, same

WORKERS, ROUNDS = 8, 40
COUNTERS = [f"counter:{n}" for n in range(6)]


def connect():
    return redis.Redis.from_url(f"redis://{sys.argv[1]}/0", decode_responses=True, socket_timeout=30)


errors = []
counted, ended = 0, threading.Lock()


def work(rounds_left):
    global counted
    r, rounds = connect(), 0
    try:
        while rounds_left(rounds):
            counter = COUNTERS[rounds % len(COUNTERS)]
            with r.lock(f"lock:{counter}", timeout=60, sleep=0.002, blocking_timeout=60):
                seen = int(r.get(counter) or 0)
                r.set(counter, seen + 1)
            # WATCH, GET, MULTI, SET and EXEC, tried again until nobody came between.
            r.transaction(lambda pipe: add_one(pipe, f"watched:{counter}"), f"watched:{counter}")
            with r.pipeline(transaction=False) as pipe:
                for name in COUNTERS:
                    pipe.incr(f"piped:{name}")
                pipe.execute()
            rounds += 1
    except Exception as error:
        errors.append(error)
    with ended:
        counted += rounds


def add_one(pipe, name):
    seen = int(pipe.get(name) or 0)
    pipe.multi()
    pipe.set(name, seen + 1)


def run(rounds_left):
    workers = [threading.Thread(target=work, args=(rounds_left,)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    same(errors, [], "the errors of all workers")


def few(rounds):
    return rounds < ROUNDS


run(few)
before = counted
failing_over = FailingOver(f"lock:{COUNTERS[0]}")
run(lambda rounds: not failing_over.is_over())
meanwhile = counted - before
run(few)

r = connect()
for prefix, times in (("", 1), ("watched:", 1), ("piped:", len(COUNTERS))):
    values = r.mget([prefix + name for name in COUNTERS])
    same(sum(map(int, values)), counted * times, f"the counts under '{prefix}'")
same(r.keys("lock:*"), [], "the locks that are left")
print(f"{counted} counts under locks, {counted} in watched transactions, none lost, {meanwhile} of each during the failover")
