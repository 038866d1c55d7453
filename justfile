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

# Micro-benchmarks.
bench-micro:
    cargo bench -p bench-harness

# Serve under perf; the profile is perf.data.
profile *args:
    CARGO_PROFILE_RELEASE_DEBUG=line-tables-only cargo build --release
    perf record -F 499 --call-graph fp -o perf.data target/release/millstream {{args}}

# The crash simulator: 2,000 seeds, or the one given.
sim seed="":
    {{ if seed == "" { "" } else { "MILLSTREAM_SIM_SEED=" + seed } }} cargo test --no-default-features --test crash_simulation -- --nocapture

# A long run of the crash simulator.
crash seeds="20000":
    MILLSTREAM_SIM_SEEDS={{seeds}} cargo test --release --no-default-features --test crash_simulation -- --nocapture

# Not built yet; each says so and fails.

# Fuzzing.
fuzz:
    @echo "fuzz targets are not built yet" && exit 1

# Two benchmark runs side by side.
bench-compare a b:
    @echo "comparing runs is not built yet" && exit 1

# What the host lacks.
tune-check:
    @echo "the check of the host is not built yet: tuning/ says what it should have" && exit 1

# Foreign suites, long torture, comparisons.
deep:
    @echo "foreign suites are not built yet" && exit 1

# Serve on 127.0.0.1:9092 from ./data.
run *args:
    cargo run --release -- {{args}}

# The documentation of the library.
doc:
    cargo doc --no-deps --workspace --open

# What CI runs.
ci:
    .ci/run
