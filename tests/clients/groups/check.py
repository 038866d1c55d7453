#!/usr/bin/env python3
"""Consumer groups with foreign clients: members join, leave, crash and return under load, and nothing is
skipped, nor read twice without a rebalance that explains it. And `kafka-consumer-groups`, every command.

    check.py [tools|java-eager|java-cooperative|java-static|confluent|...]...

Needs Python 3, Java 17, Maven, Node 20, kcat; what else it needs it installs under target/clients. The
broker is target/debug/millstream, or $MILLSTREAM. Prints a line for each suite, and fails if one does.
"""
import collections
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
STORE = ROOT / "target" / "clients"
PYTHON = {"confluent-kafka": "2.12.1", "kafka-python": "2.2.15", "aiokafka": "0.12.0"}
NODE = {"kafkajs": "2.2.4", "@platformatic/kafka": "1.35.0"}
PARTITIONS = 4
MORE_PARTITIONS = 6
# They see a topic's new partitions only when their group rebalances for another reason.
BLIND_TO_GROWTH = {"platformatic"}
TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


# What the suites need.


def java_classpath():
    store = STORE / "java"
    store.mkdir(parents=True, exist_ok=True)
    listed = store / "classpath.txt"
    if not listed.exists():
        pom = HERE / "java" / "pom.xml"
        run("mvn", "-q", "-f", pom, "dependency:build-classpath", f"-Dmdep.outputFile={listed}")
    classpath = listed.read_text().strip()
    classes = store / "classes"
    run("javac", "-cp", classpath, "-d", classes, HERE / "java/src/main/java/Member.java")
    return f"{classes}:{classpath}"


def java(*more):
    return ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", java_classpath(), *more]


def python(script):
    venv = STORE / "venv"
    if not (venv / "bin" / "python").exists():
        run(sys.executable, "-m", "venv", venv)
    pip = venv / "bin" / "pip"
    have = {p["name"]: p["version"] for p in json.loads(run(pip, "list", "--format=json"))}
    lacking = [f"{n}=={v}" for n, v in PYTHON.items() if have.get(n) != v]
    if lacking:
        run(pip, "-q", "install", *lacking)
    return [venv / "bin" / "python", HERE / "python" / script]


def node(script):
    folder = STORE / "node"
    folder.mkdir(parents=True, exist_ok=True)
    lacking = [f"{n}@{v}" for n, v in NODE.items() if not (folder / "node_modules" / n).exists()]
    if lacking:
        run("npm", "install", "--silent", "--prefix", folder, *lacking)
    # Modules are looked for beside the script.
    shutil.copy(HERE / "node" / script, folder / script)
    return ["node", folder / script]


def go():
    folder = STORE / "go-member"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ["go.mod", "member.go"]:
        shutil.copy(HERE / "go" / name, folder / name)
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOCACHE": str(folder / "cache")}
    run("go", "mod", "tidy", cwd=folder, env=environment)
    run("go", "build", "-o", "member", ".", cwd=folder, env=environment)
    return [folder / "member"]


def member_of(kind):
    """The command of a member, and its extra arguments."""
    assignor = "partition.assignment.strategy=org.apache.kafka.clients.consumer."
    return {
        "java-eager": lambda: (java("Member"), [assignor + "RangeAssignor"]),
        "java-cooperative": lambda: (java("Member"), [assignor + "CooperativeStickyAssignor"]),
        "java-static": lambda: (java("Member"), []),
        "confluent": lambda: (python("member_confluent.py"), []),
        "confluent-cooperative": lambda: (
            python("member_confluent.py"),
            ["partition.assignment.strategy=cooperative-sticky"],
        ),
        "kafka-python": lambda: (python("member_kafka_python.py"), []),
        "aiokafka": lambda: (python("member_aiokafka.py"), []),
        "kafkajs": lambda: (node("member_kafkajs.js"), []),
        "platformatic": lambda: (node("member_platformatic.mjs"), []),
        "franz-go": lambda: (go(), []),
        "franz-go-eager": lambda: (go(), ["eager"]),
    }[kind]()


SUITES = [
    "tools",
    "java-eager",
    "java-cooperative",
    "java-static",
    "confluent",
    "confluent-cooperative",
    "kafka-python",
    "aiokafka",
    "kafkajs",
    "platformatic",
    "franz-go",
    "franz-go-eager",
]


# The broker.


class Broker:
    def __init__(self, folder):
        binary = os.environ.get("MILLSTREAM", ROOT / "target/debug/millstream")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.log = open(folder / "broker.log", "w")
        self.process = subprocess.Popen(
            [binary, "serve", "--listen", self.address, "--data-dir", folder / "data"]
            + ["--set", "group.initial.rebalance.delay.ms=500"]
            + ["--set", f"num.partitions={PARTITIONS}"],
            stdout=self.log,
            stderr=self.log,
        )
        for _ in range(300):
            if self.process.poll() is not None:
                raise SystemExit(f"the broker ended: {folder / 'broker.log'}")
            if "ready " in (folder / "broker.log").read_text():
                break
            time.sleep(0.1)

    def stop(self):
        self.process.terminate()
        status = self.process.wait(30)
        self.log.close()
        if status:
            raise AssertionError(f"the broker ended with {status}")


def kcat(broker, *arguments, text=None):
    program, environment = "kcat", dict(os.environ)
    if not shutil.which(program):
        program = STORE / "kcat/unpacked/usr/bin/kcat"
        environment["LD_LIBRARY_PATH"] = str(STORE / "kcat/unpacked/usr/lib/x86_64-linux-gnu")
        if not program.exists():
            run(ROOT / "tests/tools/fetch-kcat.sh", STORE / "kcat")
    return run(program, "-b", broker.address, *arguments, input=text, env=environment)


def add_partitions(broker, topic):
    binary = os.environ.get("MILLSTREAM", ROOT / "target/debug/millstream")
    run(binary, "topic", "alter", topic, "--partitions", str(MORE_PARTITIONS), "-b", broker.address)


# Members.


class Member:
    """A process, and what it said: reads, and the times of its rebalances."""

    def __init__(self, name, kind, broker, group, topic, instance="-"):
        self.name = name
        self.killed = False
        self.events = []
        command, more = member_of(kind)
        self.process = subprocess.Popen(
            [*command, broker.address, group, topic, instance, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        for line in self.process.stdout:
            self.events.append((time.monotonic(), line.strip()))

    def said(self, word):
        return [(at, line) for at, line in list(self.events) if line.split(" ")[0] == word]

    def reads(self):
        """What it has read and committed; of one that was killed also what it was committing then."""
        split = [(at, line.split(" ")) for at, line in self.said("read")]
        if self.killed:
            known = {tuple(words[1:3]) for _, words in split}
            last = [(at, line.split(" ")) for at, line in self.said("takes")[-1:]]
            split += [(at, words) for at, words in last if tuple(words[1:3]) not in known]
        return [(at, int(words[1]), int(words[2])) for at, words in split]

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.thread.join(5)
        self.killed = True

    def leave(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.thread.join(5)


class Load:
    """Records, each with its number, until it is told to stop."""

    def __init__(self, broker, topic):
        self.sent = 0
        self.going = True
        self.broker, self.topic = broker, topic
        self.thread = threading.Thread(target=self.go)
        self.thread.start()

    def go(self):
        while self.going:
            lines = "".join(f"{self.sent + n}:{self.sent + n}\n" for n in range(20))
            kcat(self.broker, "-P", "-t", self.topic, "-K", ":", text=lines)
            self.sent += 20
            time.sleep(0.2)

    def stop(self):
        self.going = False
        self.thread.join()


def eventually(what, seconds, condition):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def total(members):
    return len({(p, o) for m in members for _, p, o in m.reads()})


def members_suite(kind, broker):
    topic, group = f"t-{kind}", f"g-{kind}"
    kcat(broker, "-P", "-t", topic, text="first\n")
    static = kind.endswith("static")
    instance = (lambda name: name) if static else (lambda name: "-")
    make = lambda name: Member(name, kind, broker, group, topic, instance(name))
    load = Load(broker, topic)
    members = []
    moments = []

    def step(what, action):
        moments.append((time.monotonic(), what))
        return action()

    def progress(seconds=60):
        before = total(members)
        eventually(f"{kind}: reading goes on", seconds, lambda: total(members) >= before + 60)

    try:
        a = step("a joins", lambda: make("a"))
        members.append(a)
        progress()
        b = step("b joins", lambda: make("b"))
        members.append(b)
        eventually(f"{kind}: b reads", 60, lambda: b.reads())
        progress()
        c = step("c joins", lambda: make("c"))
        members.append(c)
        eventually(f"{kind}: c reads", 60, lambda: c.reads())
        step("partitions are added", lambda: add_partitions(broker, topic))
        grown = lambda: any(p >= PARTITIONS for m in members for _, p, _ in m.reads())
        if kind not in BLIND_TO_GROWTH:
            eventually(f"{kind}: a new partition is read", 60, grown)
        progress()
        step("b is killed", b.kill)
        progress()
        again = step("b is back", lambda: make("b"))
        members.append(again)
        eventually(f"{kind}: b reads again", 60, lambda: again.reads())
        eventually(f"{kind}: a new partition is read", 60, grown)
        step("a leaves", a.leave)
        progress()
    finally:
        load.stop()
    expected = load.sent + 1
    try:
        eventually(f"{kind}: all {expected} are read", 60, lambda: total(members) >= expected)
    except AssertionError as error:
        raise AssertionError(f"{error}; {lacking(members)}") from None
    for member in (c, again):
        member.leave()
    check_reads(kind, members, expected, moments, static)
    rebalances = sum(len(m.said("assigned")) for m in members)
    return f"{expected} records, {len(members)} members, {rebalances} assignments"


def lacking(members):
    """What was left out, and what was said of it."""
    seen = {(p, o) for m in members for _, p, o in m.reads()}
    ends = {p: max(o for q, o in seen if q == p) for p, _ in seen}
    gaps = [(p, o) for p, end in ends.items() for o in range(end) if (p, o) not in seen]
    told = [
        f"{m.name}: {line}"
        for m in members
        for _, line in m.events
        if any(re.match(rf"\w+ {p} {o}( |$)", line) for p, o in gaps[:3])
    ]
    return f"ends {ends}, left out {gaps[:10]}, said of them: {told}"


def check_reads(kind, members, expected, moments, static):
    seen = collections.defaultdict(list)
    for member in members:
        for at, partition, offset in member.reads():
            seen[partition, offset].append((at, member.name))
    ends = collections.Counter(partition for partition, _ in seen)
    for partition, count in ends.items():
        offsets = sorted(o for p, o in seen if p == partition)
        assert offsets == list(range(count)), f"{kind}: partition {partition} has gaps"
    assert sum(ends.values()) == expected, f"{kind}: {sum(ends.values())} of {expected} read"
    # Read twice: only what was read just before a member went or came, and not yet seen as committed.
    changes = [at for at, _ in moments]
    for member in members:
        changes += [at for at, _ in member.said("assigned") + member.said("revoked")]
        changes += [at for at, _ in member.said("lost")]
    for (partition, offset), reads in seen.items():
        for (first, one), (second, other) in zip(sorted(reads), sorted(reads)[1:]):
            explained = any(first - 1 <= at <= second + 1 for at in changes)
            near = min(changes, key=lambda at: abs(at - first))
            said = [
                f"{at - first:+.2f} {m.name}{' (killed)' if m.killed else ''}: {line}"
                for m in members
                for at, line in m.events
                if re.match(rf"\w+ {partition} {offset}( |$)", line) or abs(at - first) < 5 and line.startswith(("assi", "rev"))
            ]
            assert explained, (
                f"{kind}: {partition}/{offset} read twice without a rebalance, by {one} and {second - first:.1f} s "
                f"later by {other}; the nearest change is {near - first:+.1f} s from the first; they said {said}"
            )
    if static:
        # The killed member came back within its session: the others were not disturbed by that.
        back = next(at for at, what in moments if what == "b is back")
        killed = next(at for at, what in moments if what == "b is killed")
        disturbed = [
            line for m in members[:1] for at, line in m.events
            if killed < at < back and line.startswith("revoked")
        ]
        assert back - killed > 6 or not disturbed, f"{kind}: {disturbed}"


# kafka-consumer-groups.


def tools_suite(broker):
    topic, group = "tooled", "tools"
    kcat(broker, "-P", "-t", topic, "-p", "0", text="".join(f"{n}\n" for n in range(10)))
    command = java(TOOL)
    tool = lambda *more: run(*command, "--bootstrap-server", broker.address, *more)
    row = lambda text, start: next(
        re.split(r"\s+", line.strip()) for line in text.splitlines() if line.startswith(start)
    )
    member = Member("m", "java-eager", broker, group, topic)
    eventually("the member reads", 60, lambda: len(member.reads()) == 10)
    assert group in tool("--list").split(), "--list"
    state = row(tool("--describe", "--group", group, "--state"), group)
    assert state[-2:] == ["Stable", "1"] and "range" in state, state
    members = row(tool("--describe", "--group", group, "--members", "--verbose"), group)
    assert f"{topic}:0,1,2,3" in members and "/127.0.0.1" in members, members
    lag = tool("--describe", "--group", group)
    first = next(re.split(r"\s+", line) for line in lag.splitlines() if f"{topic} " in line and " 0 " in line)
    assert first[2:6] == ["0", "10", "10", "0"] and first[6].startswith("consumer-tools"), first
    refused = tool_fails(command, broker, "--delete", "--group", group)
    assert "not empty" in refused or "NonEmpty" in refused, refused
    refused = tool_fails(
        command, broker, "--reset-offsets", "--group", group, "--all-topics", "--to-earliest", "--execute"
    )
    assert "inactive" in refused, refused
    member.leave()
    listed = row(tool("--list", "--state"), group)
    assert listed[1] == "Empty", listed
    for arguments, offset in [
        (["--to-earliest"], "0"),
        (["--to-latest"], "10"),
        (["--shift-by", "-3"], "7"),
        (["--to-offset", "4"], "4"),
    ]:
        where = ["--topic", f"{topic}:0"]
        plan = tool("--reset-offsets", "--group", group, *where, *arguments, "--dry-run")
        assert row(plan, group)[3] == offset, plan
        tool("--reset-offsets", "--group", group, *where, *arguments, "--execute")
        lag = tool("--describe", "--group", group)
        line = next(re.split(r"\s+", l) for l in lag.splitlines() if f"{topic} " in l and " 0 " in l)
        assert line[3] == offset and line[4] == "10", lag
    again = Member("m", "java-eager", broker, group, topic)
    eventually("the member reads from 4", 60, lambda: len(again.reads()) == 6)
    assert [o for _, _, o in again.reads()] == list(range(4, 10))
    again.leave()
    deleted = tool("--delete-offsets", "--group", group, "--topic", f"{topic}:0")
    assert "Successful" in deleted, deleted
    deleted = tool("--delete", "--group", group)
    assert "successful" in deleted, deleted
    assert group not in tool("--list").split()
    return "list, describe (offsets, members, state), reset, delete-offsets, delete"


def tool_fails(command, broker, *more):
    done = subprocess.run(
        [*command, "--bootstrap-server", broker.address, *more],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


def main():
    chosen = sys.argv[1:] or SUITES
    failed = False
    for suite in chosen:
        STORE.mkdir(parents=True, exist_ok=True)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"groups-{suite}-", dir=STORE))
        broker = Broker(folder)
        started = time.monotonic()
        try:
            told = tools_suite(broker) if suite == "tools" else members_suite(suite, broker)
            broker.stop()
            shutil.rmtree(folder)
            print(f"ok      {suite}: {told} ({time.monotonic() - started:.0f} s)", flush=True)
        except (AssertionError, SystemExit, subprocess.TimeoutExpired) as error:
            failed = True
            broker.process.kill()
            print(f"FAILED  {suite}: {error} (data and log in {folder})", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
