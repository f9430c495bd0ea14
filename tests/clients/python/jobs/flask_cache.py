"""Flask-Caching: pages and functions cached in Redis are made once; clearing the cache makes them anew.

usage: flask_cache.py HOST:PORT
"""

import sys
from collections import Counter

import flask
from flask_caching import Cache

from failing_over import FailingOver, require, same

PAGES = 50

app = flask.Flask("shop")
cache = Cache(app, config={
    "CACHE_TYPE": "RedisCache",
    "CACHE_REDIS_URL": f"redis://{sys.argv[1]}/0",
    "CACHE_KEY_PREFIX": "shop:",
    "CACHE_DEFAULT_TIMEOUT": 600,
})
made = Counter()


@app.get("/page/<int:number>")
@cache.cached()
def page(number):
    made[f"page {number}"] += 1
    return f"page {number} {price(number)}"


@cache.memoize()
def price(number):
    made[f"price {number}"] += 1
    return number * 100


def visit_all():
    for number in range(PAGES):
        answer = visitor.get(f"/page/{number}")
        same((answer.status_code, answer.text), (200, f"page {number} {number * 100}"), "the page")


def same_makings(times):
    wanted = {f"{what} {n}": times for n in range(PAGES) for what in ("page", "price")}
    same(dict(made), wanted, "how often each page and price was made")


visitor = app.test_client()
visit_all()
failing_over, visits = FailingOver("shop:view//page/0"), 0
while not failing_over.is_over():
    visit_all()
    visits += PAGES
visit_all()
same_makings(1)

with app.app_context():
    require(cache.clear(), "the cache was cleared")
    visit_all()
    same_makings(2)
    many = {f"item {n}": {"n": n} for n in range(100)}
    same(sorted(cache.set_many(many)), sorted(many), "what set_many wrote")
    same(cache.get_many(*many), list(many.values()), "what get_many found")
    cache.delete_memoized(price)
    same([price(n) for n in range(PAGES)], [n * 100 for n in range(PAGES)], "prices forgotten and made anew")
    same(made["price 0"], 3, "how often a forgotten price was made")
    require(cache.delete_many(*many), "delete_many deleted all")
    same(cache.get_many(*many), [None] * 100, "what is left after delete_many")
print(f"{visits + 3 * PAGES} visits, {visits} of them during the failover: each page was made once until the cache was cleared")
