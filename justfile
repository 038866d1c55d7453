# Shortcuts. Nothing needs this file: README.md and .ci/run use cargo alone.

# List the recipes.
default:
    @just --list

# Formatting, lints, docs, the tree's own rules.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace
    cargo test --test tidy

# All tests.
test:
    cargo test --workspace

# What needs neither io_uring nor the network: the library without its runtime.
test-pure:
    cargo test --no-default-features --lib

# The real binary under real clients.
test-broker:
    cargo test --test broker

# The same tests, those of the clients only.
test-clients:
    cargo test --test broker clients::

# The figures of core.8, from an optimised build; run it on a quiet machine.
measure-startup:
    cargo test --release --test broker startup:: -- --nocapture --test-threads=1

# The load generator: `just bench --help`.
bench *args:
    cargo run --release -p bench-harness --bin millstream-bench -- {{args}}

# Where the broker stands on this machine, in two minutes.
quick *args:
    cargo build --release --bins --workspace
    target/release/millstream-bench quick {{args}}

# The ratios that `quick` has no time for; about half an hour.
scale *args:
    cargo build --release --bins --workspace
    target/release/millstream-bench run scale --broker target/release/millstream --core 1 --ratios ratios.json {{args}}

# Millstream against Apache Kafka: needs Maven and Java 17; about half an hour.
compare-kafka *args:
    cargo build --release --bins --workspace
    target/release/millstream-bench fetch-kafka
    target/release/millstream-bench compare kafka target/release/millstream --pairs 10 --ratios ratios.json --html compare-kafka.html {{args}}

# Two builds side by side: status 1 if the second is worse.
bench-compare a b *args:
    cargo run --release -p bench-harness --bin millstream-bench -- compare {{a}} {{b}} {{args}}

# What `compare` says of a build and itself, twenty times, and of one slowed by 3 %; hours.
compare-self-test:
    cargo build --release --bins --workspace
    bench-harness/tests/compare-self-test.sh

# How much more the generator can send than the broker takes.
headroom *args:
    cargo build --release --bins --workspace
    target/release/millstream-bench headroom {{args}}

# Micro-benchmarks.
bench-micro:
    cargo bench -p bench-harness

# Serve under perf; the profile is perf.data.
profile *args:
    CARGO_PROFILE_RELEASE_DEBUG=line-tables-only cargo build --release
    perf record -F 499 --call-graph fp -o perf.data target/release/millstream {{args}}

# The crash simulator: 5,000 seeds, or the one given.
sim seed="":
    {{ if seed == "" { "" } else { "MILLSTREAM_SIM_SEED=" + seed } }} cargo test --no-default-features --test crash_simulation -- --nocapture

# A long run of the crash simulator.
crash seeds="20000":
    MILLSTREAM_SIM_SEEDS={{seeds}} cargo test --release --no-default-features --test crash_simulation -- --nocapture

# Other people's clients and tools against the release build; results are written down.
deep:
    cargo build --release
    tests/clients/run
    tests/clients/suites/run

# Not built yet; each says so and fails.

# Fuzzing.
fuzz:
    @echo "fuzz targets are not built yet" && exit 1

# What the host lacks.
tune-check:
    @echo "the check of the host is not built yet: tuning/ says what it should have" && exit 1


# Both real files through confluent-kafka and the Java client; results are written down.
deep-round-trips *clients:
    cargo build
    tests/clients/round-trips/check {{clients}}

# Segment files under Kafka's DumpLogSegments; the result is written down.
deep-segments:
    cargo build
    tests/clients/segments/check

# Groups with foreign clients: `just deep-groups`, or some suites as `just deep-groups tools java-static`.
deep-groups *suites:
    cargo build
    python3 tests/clients/groups/check.py {{suites}}

# A crowd of 200 members for 30 s, and more random histories of groups.
deep-crowd:
    MILLSTREAM_CROWD_SECONDS=30 cargo test --test broker group_kill::a_crowd -- --nocapture
    MILLSTREAM_GROUP_SEEDS=3000 cargo test --test groups histories:: -- --nocapture

# Serve on 127.0.0.1:9092 from ./data.
run *args:
    cargo run --release -- {{args}}

# The documentation of the library.
doc:
    cargo doc --no-deps --workspace --open

# What CI runs.
ci:
    .ci/run
