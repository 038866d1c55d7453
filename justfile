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

# Not built yet; each says so and fails.

# The crash simulator from a seed.
sim seed="":
    @echo "the crash simulator has no command yet: its tests run with 'just test-pure'" && exit 1

# Long crash runs.
crash:
    @echo "long crash runs are not built yet: 'just test-broker' kills the broker twenty times" && exit 1

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
