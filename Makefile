# SPDX-License-Identifier: BSD-3-Clause
#
# make build    daemon, test guests and QEMU, all under build/; safe to interrupt and to repeat
# make demo     host changes arriving in a real guest (VMM=qemu, or VMM=uml for the fast one);
#               GUEST=stock: in one with Debian's own kernel, by virtiofsd-agent
# make check    what needs no guest, in under two minutes
# make test     everything
# make agent    virtiofsd-agent for guests with a stock kernel, and its package, in build/agent
# make install  the command and its description for libvirt; PREFIX=/usr/local
# make bench    beside the C and the Rust daemon; QUICK=1 for a minute of it, else docs/bench.md anew;
#               some of it with BENCH="--load 'read*' --depth 32 --goals-only"
# make bench-guest   the same daemons in one QEMU guest
# make bench-events  how fast events are; make bench-scaling: with up to a million inodes and watches
# make fidelity what watchers in guests see, against what local watchers see; ACTORS="host guest2"
# make race     100 000 rounds (RACE_ROUNDS) of create, watch and remove for each actor and situation
# make test-kernel   the guest cases with a kernel that checks its own locking and memory; slow
# make test-upstream the guest cases on the newest 6.12.y that Debian has; weekly
# make format   rewrite Python and C in the house style
# make clean    remove build/
#
# The recipes are scripts in tools/, bench/ and qemu-tests/, which say with --help what they do. Long
# output goes to build/log/; the terminal shows one line a step.

.DEFAULT_GOAL := build
MAKEFLAGS += --no-builtin-rules --no-print-directory

export PYTHON ?= python3
VMM ?= qemu
GUEST ?= patched
FUZZ_SECONDS ?= 20
RACE_ROUNDS ?= 100000
PREFIX ?= /usr/local
LIBRARY ?= $(PREFIX)/lib/virtiofsd-py
# libvirt looks in /etc and in /usr/share: what lies elsewhere is told in /etc.
DESCRIPTIONS ?= $(if $(filter /usr,$(PREFIX)),/usr/share,/etc)/qemu/vhost-user

BUILD := $(CURDIR)/build
PYTEST := tools/pytest
RUN := build/venv/bin/python -B
UNIT_TESTS := tests/unit tests/vhost_user

.PHONY: build build-daemon build-asan build-faults build-tsan-daemon build-guest build-guest-uml \
	build-guest-x86 build-guest-x86-debug build-qemu build-bench agent venv install check lint lint-python lint-c \
	lint-shell lint-circles test test-native test-unit test-asan test-tsan test-aarch64 test-fuzz \
	test-daemon-asan test-daemon-tsan test-guest-asan test-kernel test-upstream demo fidelity race \
	bench bench-guest bench-events \
	bench-scaling deps-daemon deps-kernel deps-qemu deps-tests deps-bench format clean

build: build-daemon build-guest build-qemu
	@echo "built build/venv/bin/virtiofsd-py, build/guest/uml/linux, build/guest/x86/bzImage," \
		"build/qemu/qemu-system-x86_64"

deps-daemon deps-kernel deps-qemu deps-tests deps-bench: deps-%:
	@tools/install-deps $*
venv: deps-daemon
	@tools/venv
build-daemon: venv
	@tools/build-daemon
build-asan build-faults build-tsan-daemon: build-%: venv
	@tools/build-daemon $*
agent:
	@tools/build-agent
build-guest: build-guest-uml build-guest-x86
build-guest-uml build-guest-x86: build-guest-%: deps-kernel
	@qemu-tests/kernel/build $*
build-guest-x86-debug: deps-kernel
	@qemu-tests/kernel/build x86 --debug
build-qemu: deps-qemu
	@qemu-tests/qemu/build
build-bench: build-daemon
	@tools/build-bench
install: build-daemon
	@tools/install $(PREFIX) $(LIBRARY) $(DESCRIPTIONS)

check: lint lint-circles test-native test-unit
lint: lint-python lint-c lint-shell
lint-python lint-c lint-shell: lint-%: venv
	@tools/lint $*
lint-circles: build-daemon
	@tools/step lint-circles tools/lint-circles
test-native: build-daemon
	@tools/test-c native
test-unit: build-daemon
	@$(PYTEST) -q $(UNIT_TESTS)
test-asan: build-asan
	@tools/test-c asan
test-tsan: venv
	@tools/test-c tsan
test-aarch64: venv
	@tools/test-c aarch64
test-fuzz: build-daemon build-asan test-asan
	@tools/test-fuzz $(FUZZ_SECONDS)
# The real daemon's tests again, with an instrumented core; two files at a time, for they mostly wait.
test-daemon-asan: deps-tests build-daemon build-asan build-faults
	@VIRTIOFSD_PY=$(BUILD)/asan/virtiofsd-py tools/step daemon-asan-tests $(PYTEST) -q \
		--numprocesses 2 --dist loadfile --ignore tests/daemon/test_install.py \
		--ignore tests/daemon/test_bench.py tests/daemon
# The whole daemon, with everything at once on several queues. Any report fails the test.
test-daemon-tsan: deps-tests build-daemon build-tsan-daemon
	@VIRTIOFSD_PY=$(BUILD)/tsan-daemon/virtiofsd-py HAMMER_ROUNDS=40 \
		tools/step daemon-tsan-tests $(PYTEST) -q tests/daemon/test_threads.py
# One guest's worth of events through the instrumented daemon.
test-guest-asan: build-daemon build-asan build-guest-uml
	@RUN_GUEST_DAEMON=$(BUILD)/asan/virtiofsd-py tools/step guest-asan $(PYTEST) \
		qemu-tests/cases/test_events.py --world uml -k test_seen_exactly_once
# pytest comes last, so that its summaries are what the reader sees last. What needs no guest mostly
# waits, and goes two files at a time.
test: deps-tests lint lint-circles test-native test-asan test-tsan test-aarch64 test-fuzz \
		test-daemon-asan test-daemon-tsan test-guest-asan build build-faults agent
	@$(PYTEST) --numprocesses 2 --dist loadfile $(UNIT_TESTS) tests/daemon
	@$(PYTEST) qemu-tests/cases

# Only what this demo needs: the other kind of guest takes as long again to build.
demo_needs_qemu := build-guest-x86 build-qemu
demo_needs_uml := build-guest-uml
demo: build-daemon $(demo_needs_$(VMM)) $(if $(filter stock,$(GUEST)),agent)
	@qemu-tests/demo --vmm $(VMM) --guest $(GUEST)
fidelity: build-daemon build-guest-uml
	@$(RUN) qemu-tests/fidelity $(addprefix --actor ,$(ACTORS))
race: build-daemon build-faults build-guest-uml
	@RACE_ROUNDS=$(RACE_ROUNDS) $(PYTEST) -v --durations=0 --world local --world uml \
		qemu-tests/cases/test_race.py
# Whatever such a kernel complains about fails the case in whose guest it does.
test-kernel: deps-tests build-daemon build-guest-x86-debug build-qemu
	@RUN_GUEST_X86_KERNEL=$(BUILD)/guest/x86-debug/bzImage \
		$(PYTEST) qemu-tests/cases --world qemu --guest-option=--smp=2 --guest-option=--mem=768
test-upstream: deps-tests deps-kernel build-daemon
	@qemu-tests/kernel/build uml --newest
	@RUN_GUEST_UML_KERNEL=$(BUILD)/guest-newest/uml/linux $(PYTEST) qemu-tests/cases --world uml

# Tables of how fast it is; the machine should have nothing else to do.
bench: build-daemon
	@$(RUN) bench/compare $(if $(QUICK),--quick) $(BENCH)
bench-guest: build-daemon build-guest-x86 build-qemu deps-bench
	@$(RUN) bench/guest $(BENCH)
bench-events: build-bench build-guest-uml
	@$(RUN) bench/events
bench-scaling: build-bench
	@$(RUN) bench/scaling

format: venv
	@tools/format
clean:
	rm -rf build
