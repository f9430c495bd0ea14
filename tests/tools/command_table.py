#!/usr/bin/env python3
"""Prints the rows of src/command/commands.txt, learned from running servers.

    tests/tools/command_table.py PORT... > new.txt && mv new.txt src/command/commands.txt

Give one port per release, Redis and Valkey, oldest first. Where releases differ, the newest Redis
that has the command speaks for the row (the newest Valkey if no Redis has it) and the loosest arity
wins, so that no request is refused here which some node would accept. Rows of commands that none of
the servers has (modules, releases that could not be run) are kept as they stand.
"""
import pathlib
import re
import socket
import sys

TABLE = pathlib.Path(__file__).resolve().parents[2] / "src" / "command" / "commands.txt"
# Flags that a server works out from the key specs, as the table does.
DERIVED = {"movablekeys"}
# A flag that servers keep to themselves: a replica may be asked these, and they still write.
UNREPORTED = {"may_replicate": {"eval", "evalsha", "fcall", "pfcount", "publish", "spublish"}}


def ask(stream, *args):
    stream.write(b"*%d\r\n" % len(args))
    for arg in args:
        stream.write(b"$%d\r\n%s\r\n" % (len(arg), arg.encode()))
    stream.flush()
    return read(stream)


def read(stream):
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest.decode()
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2].decode()
    if kind == b"*":
        return None if rest == b"-1" else [read(stream) for _ in range(int(rest))]
    raise SystemExit(f"unexpected reply: {line!r}")


def pairs(flat):
    return dict(zip(flat[::2], flat[1::2]))


def key_spec(raw):
    spec = pairs(raw)
    begin, find = pairs(spec["begin_search"]), pairs(spec["find_keys"])
    where, how = pairs(begin["spec"]), pairs(find["spec"])
    if begin["type"] == "index":
        text = str(where["index"])
    elif begin["type"] == "keyword":
        text = f'{where["keyword"]}>{where["startfrom"]}'
    else:
        text = "?"
    if find["type"] == "range":
        last, step, limit = how["lastkey"], how["keystep"], how["limit"]
        if (last, step, limit) != (0, 1, 0):
            text += f"..{last}/{step}" + (f"/{limit}" if limit else "")
    elif find["type"] == "keynum":
        text += f'#{how["keynumidx"]}+{how["firstkey"]}/{how["keystep"]}'
    else:
        text += "?"
    return ",".join(spec["flags"]) + "@" + text


def implied_categories(flags, categories):
    yield "fast" if "fast" in flags else "slow"
    for flag in ("write", "pubsub", "blocking"):
        if flag in flags:
            yield flag
    if "readonly" in flags and "scripting" not in categories:
        yield "read"
    if "admin" in flags:
        yield from ("admin", "dangerous")


def rows(commands, docs, out):
    for name, arity, flags, _, _, _, categories, tips, keys, subcommands in commands:
        name = name.lower()
        categories = [category.lstrip("@") for category in categories]
        implied = set(implied_categories(flags, categories))
        if categories and not implied <= set(categories):
            raise SystemExit(f"{name}: categories {categories} lack some of {implied}")
        doc = pairs(docs.get(name, []))
        out[name] = {
            "arity": arity,
            "group": doc.get("group", "module"),
            "since": doc.get("since", "?"),
            "flags": [flag for flag in flags if flag not in DERIVED]
            + [flag for flag, names in UNREPORTED.items() if name in names],
            "acl": [category for category in categories if category not in implied],
            "keys": [key_spec(key) for key in keys],
            "tips": tips,
        }
        rows(subcommands, {k.lower(): v for k, v in pairs(doc.get("subcommands", [])).items()}, out)
    return out


def server(port):
    with socket.create_connection(("127.0.0.1", port)) as sock:
        stream = sock.makefile("rwb")
        info = ask(stream, "INFO", "server")
        kind = "valkey" if "valkey_version" in info else "redis"
        version = re.search(kind + r"_version:(\S+)", info)[1]
        docs = {k.lower(): v for k, v in pairs(ask(stream, "COMMAND", "DOCS")).items()}
        return kind, version, rows(ask(stream, "COMMAND"), docs, {})


def loosest(arities):
    arities = set(arities) - {-1} or {-1}
    return arities.pop() if len(arities) == 1 else -min(map(abs, arities))


def since(first):
    """One version when both servers count alike (all releases before they parted, at 7.2.4)."""
    if "?" in first.values():
        return "?"
    if len(set(first.values())) == 1 and tuple(map(int, next(iter(first.values())).split("."))) < (7, 2, 5):
        return next(iter(first.values()))
    return ",".join(f"{kind}:{version}" for kind, version in sorted(first.items()))


def merge(servers):
    merged = {}
    for name in {name for _, _, table in servers for name in table}:
        have = [(kind, table[name]) for kind, _, table in servers if name in table]
        redis = [row for kind, row in have if kind == "redis"]
        row = dict((redis or [row for _, row in have])[-1])
        row["arity"] = loosest(row["arity"] for _, row in have)
        row["since"] = since({kind: row["since"] for kind, row in have})
        merged[name] = row
    return merged


def line(name, row):
    def listed(items, by):
        return by.join(items) or "-"

    fields = [
        name, str(row["arity"]), row["group"], row["since"], listed(row["flags"], ","),
        listed(row["acl"], ","), listed(row["keys"], ";"), listed(row["tips"], ","),
    ]
    return " ".join(fields)


def keep_better(new, old):
    """A module's commands come without documents or key specs; what the row says of them is better."""
    new, old = new.split(), old.split()
    if new[3] == "?":
        return " ".join(old)
    if new[2] == "module":
        new[2] = old[2]
    return " ".join(new)


def main():
    servers = [server(int(port)) for port in sys.argv[1:]]
    if not servers:
        raise SystemExit(__doc__)
    lines = {name: line(name, row) for name, row in merge(servers).items()}
    head = []
    for old in TABLE.read_text().splitlines() if TABLE.exists() else []:
        if old.startswith("#"):
            head.append(old)
        elif old:
            name = old.split()[0]
            lines[name] = keep_better(lines[name], old) if name in lines else old
    print("\n".join(head + [lines[name] for name in sorted(lines)]))


if __name__ == "__main__":
    main()
