"""Celery: a worker works two queues to the end; each task runs once and its result comes back.

usage: celery_queue.py HOST:PORT
"""

import os
import signal
import subprocess
import sys
import time

os.environ["SERVER"] = f"redis://{sys.argv[1]}/0"

import celery
from celery_tasks import app, database, square, total

from failing_over import FailingOver, require, same

TASKS = 300

words = ["celery", "-A", "celery_tasks", "worker", "--concurrency", "2", "--queues", "celery,totals", "--loglevel", "warning"]
worker = subprocess.Popen([sys.executable, "-m", *words], cwd=os.path.dirname(os.path.abspath(__file__)))
try:
    early = [square.delay(n) for n in range(TASKS)]
    early[TASKS // 3].get(timeout=60)
    failing_over, meanwhile = FailingOver("{jobs}:celery"), []
    while not failing_over.is_over():
        meanwhile.append(square.delay(TASKS + len(meanwhile)))
        time.sleep(0.005)
    late = [square.delay(TASKS + len(meanwhile) + n) for n in range(TASKS)]

    results = [result.get(timeout=60) for result in early + meanwhile + late]
    same(results, [n * n for n in range(len(results))], "the results of all tasks")
    # The last of a chord's tasks to end sends its body to the other queue.
    sum_of_ten = celery.chord([square.s(-n) for n in range(1, 11)], total.s())()
    same(sum_of_ten.get(timeout=60), 385, "the result of a chord")
    runs = {int(n): int(times) for n, times in database.hgetall("times run").items()}
    same(runs, {n: 1 for n in range(-10, len(results))}, "how often each task ran")
    answers = app.control.inspect(timeout=10).ping() or {}
    require(len(answers) == 1, f"one worker answers a ping: {answers}")
finally:
    worker.send_signal(signal.SIGTERM)
    ended = worker.wait(timeout=60)
same(ended, 0, "the worker's exit code")
print(f"{len(results)} tasks ran once each and gave their results, {len(meanwhile)} of them sent during the failover; a chord, too")
