"""The application of celery_queue.py: one address is its broker, its result backend and its database."""

import os

import celery
import redis

SERVER = os.environ["SERVER"]
database = redis.Redis.from_url(SERVER)

app = celery.Celery("tasks", broker=SERVER, backend=SERVER)
# Each queue is four lists, one for each priority, and the worker waits for all of them in one BRPOP:
# that is served where they share a slot.
one_slot = {"global_keyprefix": "{jobs}:"}
app.conf.update(
    broker_transport_options=one_slot,
    result_backend_transport_options=one_slot,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    task_routes={"celery_tasks.total": {"queue": "totals"}},
)


@app.task
def square(n):
    database.hincrby("times run", n, 1)
    return n * n


@app.task
def total(numbers):
    return sum(numbers)
