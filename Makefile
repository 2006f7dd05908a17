# SPDX-License-Identifier: BSD-3-Clause
#
# make build    daemon, test guests and QEMU, all under build/; safe to interrupt and to repeat
# make demo     host changes arriving in a real guest (VMM=qemu, or VMM=uml for the fast one)
# make check    what needs no guest, in under two minutes
# make test     everything
# make install  the command and its description for libvirt; PREFIX=/usr/local
# make bench    beside the C and the Rust daemon; QUICK=1 for a minute of it, else docs/bench.md anew
# make bench-guest   the same daemons in one QEMU guest
# make bench-events  how fast events are; make bench-scaling: with up to a million inodes and watches
# make fidelity what watchers in guests see, against what local watchers see
# make test-kernel   the guest cases with a kernel that checks its own locking and memory; slow
# make test-upstream the guest cases on the newest 6.12.y that Debian has; weekly
# make format   rewrite Python and C in the house style
# make clean    remove build/
#
# Long output goes to build/log/; the terminal shows one line a step.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build
MAKEFLAGS += --no-builtin-rules --no-print-directory
unexport PYTHONPATH PYTHONHOME

PYTHON ?= python3
VMM ?= qemu

VENV := build/venv
BIN := $(VENV)/bin
LOG := build/log

# $(call step,NAME) COMMAND: one line on the terminal, all output in build/log/NAME.log, whose end
# is shown should COMMAND fail.
define step
step() { local name=$$1 log=$(LOG)/$$1.log; shift; mkdir -p $(LOG); echo "  $$name"
	"$$@" >"$$log" 2>&1 </dev/null 9>&- || {
		tail -n 60 "$$log" >&2; echo "make: $$name failed, see $$log" >&2; exit 1; }; }
step $(1)
endef

# $(call locked,NAME): what follows in the recipe runs in one make at a time. Commands get no copy of
# descriptor 9: one that leaves a process behind would keep the lock.
locked = mkdir -p build/lock; exec 9>build/lock/$(1); flock 9

# $(call digest,PATHS): a line that changes when a name or a byte below PATHS does.
digest = find $(1) -name __pycache__ -prune -o -type f -print0 | LC_ALL=C sort -z \
	| xargs -0 sha256sum | sha256sum

.PHONY: build
build: build-daemon build-guest build-qemu
	@echo "built $(BIN)/virtiofsd-py, build/guest/uml/linux, build/guest/x86/bzImage," \
		"build/qemu/qemu-system-x86_64"

# -- Debian packages -----------------------------------------------------------------------------

# The script skips what is installed; apt serves one caller at a time.
.PHONY: deps-daemon deps-kernel deps-qemu deps-tests deps-bench
deps-daemon deps-kernel deps-qemu deps-tests deps-bench: deps-%:
	@$(call locked,apt)
	qemu-tests/install-deps $* 9>&-

# -- the daemon ----------------------------------------------------------------------------------

define requirements
import tomllib
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
print(*project["dependencies"], *project["optional-dependencies"]["dev"], sep="\n")
endef
export requirements

.PHONY: venv
venv: deps-daemon
	@$(call locked,venv)
	want=$$({ $(PYTHON) -c 'import sys; print(sys.version)'; cat pyproject.toml; } | sha256sum)
	[ "$$(cat $(VENV)/.stamp 2>/dev/null)" != "$$want" ] || exit 0
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
		echo "make: $$($(PYTHON) --version) is too old, 3.11 or newer is needed" >&2; exit 1; }
	# Anew only for another Python: somebody may be using it. meson's directories belong to it.
	same='import sys; print(sys.version)'
	if [ "$$($(PYTHON) -c "$$same")" != "$$($(BIN)/python -c "$$same" 2>/dev/null)" ]; then
		rm -rf build/native build/asan build/tsan build/tsan-daemon build/faults
		$(call step,venv-create) $(PYTHON) -m venv --clear $(VENV)
	fi
	$(BIN)/python -c "$$requirements" >build/requirements.txt
	$(call step,venv-packages) $(BIN)/pip install --disable-pip-version-check --upgrade pip \
		-r build/requirements.txt
	echo "$$want" >$(VENV)/.stamp

PACKAGE := pyproject.toml meson.build meson.options README.md LICENSE native virtiofsd_py
# meson-python looks for ninja in PATH; nothing but our own build should see the venv there.
PIP_INSTALL := env PATH="$(CURDIR)/$(BIN):$(PATH)" $(BIN)/pip install --disable-pip-version-check \
	--no-build-isolation --no-deps --force-reinstall

# Installed, not editable: it starts fast, and the tests see what users get.
.PHONY: build-daemon
build-daemon: venv
	@$(call locked,daemon)
	want=$$({ cat $(VENV)/.stamp; $(call digest,$(PACKAGE)); } | sha256sum)
	[ "$$(cat $(VENV)/.daemon 2>/dev/null)" != "$$want" ] || exit 0
	$(call step,daemon) $(PIP_INSTALL) -Cbuild-dir=build/native .
	# A function that no C file defines shows only now.
	step daemon-loads $(BIN)/python -P -c 'import virtiofsd_py._native'
	echo "$$want" >$(VENV)/.daemon

# build/asan/virtiofsd-py: the daemon with an instrumented core. Python is not instrumented, so the
# runtime is preloaded into it, and leak reports, which would be Python's own, are off.
define asan_launcher
#!/bin/sh
here=$$(dirname "$$(readlink -f "$$0")")
export LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)"
export PYTHONPATH="$$here/site" PYTHONMALLOC=malloc
export ASAN_OPTIONS="detect_leaks=0:$${ASAN_OPTIONS-}"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:$${UBSAN_OPTIONS-}"
exec "$$here/../venv/bin/python" -P -m virtiofsd_py "$$@"
endef
export asan_launcher

.PHONY: build-asan
build-asan: venv
	@$(call locked,asan)
	want=$$({ cat $(VENV)/.stamp; $(call digest,$(PACKAGE)); } | sha256sum)
	[ "$$(cat build/asan/.daemon 2>/dev/null)" != "$$want" ] || exit 0
	$(call step,daemon-asan) $(PIP_INSTALL) --upgrade --target build/asan/site \
		-Cbuild-dir=build/asan -Csetup-args=-Dbuildtype=debugoptimized \
		-Csetup-args=-Db_sanitize=address,undefined .
	echo "$$asan_launcher" >build/asan/virtiofsd-py
	chmod +x build/asan/virtiofsd-py
	echo "$$want" >build/asan/.daemon

# build/tsan-daemon/virtiofsd-py: the daemon with a core whose threads are watched. Python is not
# instrumented: what it calls from the C library is seen, what it does between its own threads is not
# looked at. gcc's ThreadSanitizer knows only the older, narrower address space layouts.
define tsan_launcher
#!/bin/sh
here=$$(dirname "$$(readlink -f "$$0")")
export LD_PRELOAD="$$(gcc -print-file-name=libtsan.so)"
export PYTHONPATH="$$here/site" PYTHONMALLOC=malloc
export TSAN_OPTIONS="halt_on_error=0:second_deadlock_stack=1:suppressions=$$here/suppressions:$${TSAN_OPTIONS-}"
plain=; ! setarch -R true 2>/dev/null || plain="setarch -R"
exec $$plain "$$here/../venv/bin/python" -P -m virtiofsd_py "$$@"
endef
export tsan_launcher

# Guest memory: that one thread is done with a buffer before another gets it is the guest's business, in
# a process that ThreadSanitizer does not see. These functions touch nothing else.
TSAN_SUPPRESSIONS := race:vfsd_vring_load_desc race:vfsd_cursor_read_pieces race:vfsd_cursor_write

.PHONY: build-tsan-daemon
build-tsan-daemon: venv
	@$(call locked,tsan-daemon)
	want=$$({ cat $(VENV)/.stamp; $(call digest,$(PACKAGE)); echo "$$tsan_launcher" $(TSAN_SUPPRESSIONS); } | sha256sum)
	[ "$$(cat build/tsan-daemon/.daemon 2>/dev/null)" != "$$want" ] || exit 0
	$(call step,daemon-tsan) $(PIP_INSTALL) --upgrade --target build/tsan-daemon/site \
		-Cbuild-dir=build/tsan-daemon -Csetup-args=-Dbuildtype=debugoptimized \
		-Csetup-args=-Db_sanitize=thread .
	echo "$$tsan_launcher" >build/tsan-daemon/virtiofsd-py
	printf '%s\n' $(TSAN_SUPPRESSIONS) >build/tsan-daemon/suppressions
	chmod +x build/tsan-daemon/virtiofsd-py
	echo "$$want" >build/tsan-daemon/.daemon

# build/faults/virtiofsd-py: the daemon that goes wrong when the environment says so, as native/faults.h
# has it. For tests that must be seen to fail.
define faults_launcher
#!/bin/sh
here=$$(dirname "$$(readlink -f "$$0")")
export PYTHONPATH="$$here/site"
exec "$$here/../venv/bin/python" -P -m virtiofsd_py "$$@"
endef
export faults_launcher

.PHONY: build-faults
build-faults: venv
	@$(call locked,faults)
	want=$$({ cat $(VENV)/.stamp; $(call digest,$(PACKAGE)); } | sha256sum)
	[ "$$(cat build/faults/.daemon 2>/dev/null)" != "$$want" ] || exit 0
	$(call step,daemon-faults) $(PIP_INSTALL) --upgrade --target build/faults/site \
		-Cbuild-dir=build/faults -Csetup-args=-Dfaults=true .
	echo "$$faults_launcher" >build/faults/virtiofsd-py
	chmod +x build/faults/virtiofsd-py
	echo "$$want" >build/faults/.daemon

# An environment of its own, as the system's Python may belong to a package manager; libvirt looks for
# descriptions in /etc and in /usr/share, so what lies elsewhere is told in /etc.
PREFIX ?= /usr/local
LIBRARY ?= $(PREFIX)/lib/virtiofsd-py
DESCRIPTIONS ?= $(if $(filter /usr,$(PREFIX)),/usr/share,/etc)/qemu/vhost-user

.PHONY: install
install: build-daemon
	@$(call locked,daemon)
	rm -rf build/wheel
	$(call step,wheel) env PATH="$(CURDIR)/$(BIN):$(PATH)" $(BIN)/pip wheel --no-build-isolation \
		--no-deps --wheel-dir build/wheel -Cbuild-dir=build/native .
	step install-venv $(PYTHON) -m venv --clear $(LIBRARY)
	step install-wheel $(LIBRARY)/bin/pip install --disable-pip-version-check build/wheel/*.whl
	install -d $(PREFIX)/bin $(DESCRIPTIONS)
	ln -sf $(LIBRARY)/bin/virtiofsd-py $(PREFIX)/bin/virtiofsd-py
	sed 's,@bindir@,$(PREFIX)/bin,' virtiofsd_py/50-virtiofsd-py.json.in \
		>$(DESCRIPTIONS)/50-virtiofsd-py.json
	echo "installed $(PREFIX)/bin/virtiofsd-py, $(DESCRIPTIONS)/50-virtiofsd-py.json"

# -- test guests and QEMU ------------------------------------------------------------------------

.PHONY: build-guest build-guest-uml build-guest-x86 build-guest-x86-debug build-qemu
build-guest: build-guest-uml build-guest-x86
build-guest-uml build-guest-x86: build-guest-%: deps-kernel
	@qemu-tests/kernel/build $*

build-guest-x86-debug: deps-kernel
	@qemu-tests/kernel/build x86 --debug

build-qemu: deps-qemu
	@qemu-tests/qemu/build

# -- checks --------------------------------------------------------------------------------------

.PHONY: check lint lint-python lint-c lint-shell test-native test-unit
check: lint test-native test-unit
lint: lint-python lint-c lint-shell

TREES := $(wildcard virtiofsd_py native tests qemu-tests)
# Scripts are known by their first line: $(call scripts,INTERPRETER).
scripts = { grep -rlIE --exclude-dir=__pycache__ '^\#!.*[/ ]$(1)[0-9.]*( |$$)' .ci $(TREES) || true; }

lint-python: venv
	@{ find $(TREES) -name '*.py'; $(call scripts,python); } | sort -u >build/python-files
	mapfile -t files <build/python-files
	$(call step,ruff) $(BIN)/ruff check "$${files[@]}"
	step ruff-format $(BIN)/ruff format --check --diff "$${files[@]}"
	step mypy $(BIN)/mypy --cache-dir build/cache/mypy $(TREES)
	step import-linter $(BIN)/lint-imports --cache-dir build/cache/import-linter

lint-c: venv
	@mapfile -t files < <(find $(TREES) -name '*.[ch]')
	$(call step,clang-format) $(BIN)/clang-format --dry-run -Werror "$${files[@]}"
	for file in native/*.c; do
		room=$$(basename "$$file" .c)
		sed -n '/^rooms = \[/,/^\]/p; /rooms += /p' meson.build | grep -qw "'$$room'" || {
			echo "make: $$file is not in meson.build's rooms" >&2; exit 1; }
	done

lint-shell: venv
	@mapfile -t files < <($(call scripts,(ba|da)?sh))
	$(call step,shellcheck) $(BIN)/shellcheck -x "$${files[@]}"

# $(call meson_test,DIRECTORY,SUITE[,ARGUMENTS]): C tests or fuzz replays of one build. meson finds
# their files by name, but looks only when it configures.
MESON := env PATH="$(CURDIR)/$(BIN):$(PATH)" $(BIN)/meson
define meson_test
files=$$(find native tests/native tests/fuzz -name '*.[ch]' 2>/dev/null | sort || true)
if [ "$$(cat build/$(1)/.files 2>/dev/null)" != "$$files" ]; then
	$(call step,configure-$(1)) $(MESON) setup --reconfigure build/$(1)
	echo "$$files" >build/$(1)/.files
fi
$(call step,$(2)-$(1)) $(MESON) test -C build/$(1) --suite $(2) --print-errorlogs \
	--num-processes 2 $(3)
endef

test-native: build-daemon
	@$(call locked,daemon)
	$(call meson_test,native,native)

PYTEST := env PATH="$(CURDIR)/$(BIN):$(PATH)" PYTHONDONTWRITEBYTECODE=1 $(BIN)/pytest
UNIT_TESTS := $(wildcard tests/unit tests/vhost_user)
test-unit: build-daemon
	@$(PYTEST) -q $(UNIT_TESTS)

# -- everything ----------------------------------------------------------------------------------

.PHONY: test test-asan test-tsan test-fuzz test-daemon-asan test-daemon-tsan test-guest-asan demo
test-asan: build-asan
	@$(call locked,asan)
	$(call meson_test,asan,native)

# Ring, FUSE dispatch and migrated state, then vhost-user messages: 80 s in all. A failure tells its
# seed.
FUZZ_SECONDS ?= 20
test-fuzz: build-daemon build-asan test-asan
	@$(call locked,asan)
	$(call meson_test,asan,fuzz,--test-args='--seconds $(FUZZ_SECONDS)')
	step fuzz-vhost-user env PYTHONDONTWRITEBYTECODE=1 $(BIN)/python \
		tests/fuzz/fuzz_vhost_user.py --seconds $(FUZZ_SECONDS)

# gcc's ThreadSanitizer knows only the older, narrower address space layouts: no randomisation.
test-tsan: venv
	@$(call locked,tsan)
	if [ ! -e build/tsan/build.ninja ]; then
		rm -rf build/tsan
		$(call step,configure-tsan) $(MESON) setup -Db_sanitize=thread build/tsan
	fi
	wrapper=(); ! setarch -R true 2>/dev/null || wrapper=(--wrapper 'setarch -R')
	$(call meson_test,tsan,native,"$${wrapper[@]}")

# The real daemon's tests again, with an instrumented core; two files at a time, for they mostly wait.
test-daemon-asan: deps-tests build-daemon build-asan build-faults
	@$(call step,daemon-asan-tests) env VIRTIOFSD_PY="$(CURDIR)/build/asan/virtiofsd-py" \
		$(PYTEST) -q --numprocesses 2 --dist loadfile --ignore tests/daemon/test_install.py \
		--ignore tests/daemon/test_bench.py tests/daemon

# The whole daemon, with everything at once on several queues. Any report fails the test.
test-daemon-tsan: deps-tests build-daemon build-tsan-daemon
	@$(call step,daemon-tsan-tests) env VIRTIOFSD_PY="$(CURDIR)/build/tsan-daemon/virtiofsd-py" \
		HAMMER_ROUNDS=40 $(PYTEST) -q tests/daemon/test_threads.py

# One guest's worth of events through the instrumented daemon.
test-guest-asan: build-daemon build-asan build-guest-uml
	@$(call step,guest-asan) env RUN_GUEST_DAEMON="$(CURDIR)/build/asan/virtiofsd-py" \
		$(PYTEST) qemu-tests/cases/test_events.py --world uml -k test_seen_exactly_once

# pytest comes last, so that its summaries are what the reader sees last. What needs no guest mostly
# waits, and goes two files at a time.
test: deps-tests lint test-native test-asan test-tsan test-fuzz test-daemon-asan test-daemon-tsan test-guest-asan \
	build build-faults
	@$(PYTEST) --numprocesses 2 --dist loadfile $(UNIT_TESTS) tests/daemon
	$(PYTEST) qemu-tests/cases

# 100 000 rounds of create, watch and remove for each actor and situation: as they come, with delayed
# events, and in server mode.
.PHONY: race
RACE_ROUNDS ?= 100000
race: build-daemon build-faults build-guest-uml
	@env RACE_ROUNDS=$(RACE_ROUNDS) $(PYTEST) -v --durations=0 --world local --world uml \
		qemu-tests/cases/test_race.py

# How fast: tables. The machine should have nothing else to do.
#   make bench QUICK=1           what the goals are about
#   make bench BENCH="--load 'read*' --depth 32 --goals-only"
.PHONY: bench bench-guest bench-events bench-scaling
bench: build-daemon
	@tests/bench/compare $(if $(QUICK),--quick) $(BENCH)

# The same daemons in one QEMU guest: fio and a walk, by turns on each.
bench-guest: build-daemon build-guest-x86 build-qemu deps-bench
	@tests/bench/compare --guest $(BENCH)

.PHONY: bench-programs
bench-programs: build-daemon
	@$(call locked,daemon)
	$(call step,bench-build) $(MESON) setup --reconfigure build/native
	step bench-build $(MESON) compile -C build/native bench_events bench_scaling

bench-events: bench-programs build-guest-uml
	@qemu-tests/bench-events --program build/native/bench_events

# Some minutes; a million files in /var/tmp.
bench-scaling: bench-programs
	@$(BIN)/python -B tests/bench/scaling --program build/native/bench_scaling \
		--command $(BIN)/virtiofsd-py --markdown docs/bench.md

# Whatever such a kernel complains about fails the case in whose guest it does.
.PHONY: test-kernel
test-kernel: deps-tests build-daemon build-guest-x86-debug build-qemu
	@env RUN_GUEST_X86_KERNEL="$(CURDIR)/build/guest/x86-debug/bzImage" \
		$(PYTEST) qemu-tests/cases --world qemu --guest-option=--smp=2 --guest-option=--mem=768

# The guest cases on the newest 6.12.y of all of Debian's suites: does a series still fit?
.PHONY: test-upstream
test-upstream: deps-tests deps-kernel build-daemon
	@qemu-tests/kernel/build uml --newest
	env RUN_GUEST_UML_KERNEL="$(CURDIR)/build/guest-newest/uml/linux" \
		$(PYTEST) qemu-tests/cases --world uml

# Only what this demo needs: the other kind of guest takes as long again to build.
demo_needs_qemu := build-guest-x86 build-qemu
demo_needs_uml := build-guest-uml
demo: build-daemon $(demo_needs_$(VMM))
	@qemu-tests/demo --vmm $(VMM)

# Every scenario by every actor, against a local file system; some minutes. ACTORS, if set, are some.
.PHONY: fidelity
fidelity: build-daemon build-guest-uml
	@$(BIN)/python -B qemu-tests/fidelity $(addprefix --actor ,$(ACTORS))

# -- housekeeping --------------------------------------------------------------------------------

.PHONY: format clean
format: venv
	@{ find $(TREES) -name '*.py'; $(call scripts,python); } | sort -u >build/python-files
	mapfile -t files <build/python-files
	$(BIN)/ruff check --fix --quiet "$${files[@]}" || true
	$(BIN)/ruff format --quiet "$${files[@]}"
	find $(TREES) -name '*.[ch]' -exec $(BIN)/clang-format -i {} +

clean:
	rm -rf build
