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

# Serve on 127.0.0.1:9092 from ./data.
run *args:
    cargo run --release -- {{args}}

# The documentation of the library.
doc:
    cargo doc --no-deps --workspace --open

# What CI runs.
ci:
    .ci/run
