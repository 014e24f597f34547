# The few commands that people and CI share. `make demo` and `make test` do all set-up on a fresh Debian machine.

.PHONY: help demo test check bench build clean

help:
	@echo "make demo   build kiln, run the main example against a real engine and registry, show what it made"
	@echo "make test   install what the tests need, run all of them, real engines included"
	@echo "make check  format, lints, documentation, licences"
	@echo "make bench  figures against Debian's packer, as ratios"

build:
	cargo build --release --locked

demo:
	scripts/install-dependencies.sh
	cargo build --release --locked
	scripts/demo.sh target/release/kiln

test:
	scripts/install-dependencies.sh tests
	scripts/test.sh

check:
	scripts/check.sh

bench:
	scripts/install-dependencies.sh tests
	cargo build --release --locked
	scripts/bench.sh target/release/kiln

clean:
	scripts/services.sh stop
	cargo clean
