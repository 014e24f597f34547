# The few commands that people and CI share. `make demo` and `make test` do all set-up on a fresh Debian machine.

.PHONY: help demo quickstart test vm-test check bench build clean

help:
	@echo "make demo        the quickstart, then the main example with and without a Docker engine, pushed, pulled and run"
	@echo "make quickstart  build kiln, bake an image without a daemon, push it, bake it again from the cache"
	@echo "make test        install what the tests need, run all of them, real engines included"
	@echo "make vm-test     the AMI builder with virtual machines behind EC2 on loopback (minutes; qemu without hardware help)"
	@echo "make check       format, lints, documentation, licences"
	@echo "make bench       figures against Debian's packer, as ratios"

build:
	cargo build --release --locked

demo: quickstart
	scripts/install-dependencies.sh
	scripts/demo.sh target/release/kiln

quickstart:
	scripts/install-dependencies.sh quickstart
	cargo build --release --locked
	scripts/quickstart.sh target/release/kiln

test:
	scripts/install-dependencies.sh tests
	scripts/test.sh

vm-test:
	scripts/install-dependencies.sh vm
	scripts/vm-test.sh

check:
	scripts/check.sh

bench:
	scripts/install-dependencies.sh tests
	cargo build --release --locked
	scripts/bench.sh target/release/kiln

clean:
	scripts/services.sh stop
	cargo clean
