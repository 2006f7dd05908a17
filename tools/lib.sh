#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the scripts here share; they source it. It enters the project's directory, to which all
# their paths are relative.

set -euo pipefail

SELF=$(realpath "$0")
readonly SELF
cd "$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")"
unset PYTHONPATH PYTHONHOME

readonly VENV=build/venv
readonly BIN=$PWD/$VENV/bin
readonly LOG=build/log
# What is linted and formatted.
readonly TREES=(.ci bench guest-agent native qemu-tests tests tools virtiofsd_py)

# Prints the comment at the head of the script.
usage() {
	sed -n '4,${ /^#/!q; s/^# \{0,1\}//p; }' "$SELF"
}

# Call as `help_asked "$@"`: prints the usage and ends the script if that is what is asked for.
help_asked() {
	if [[ ${1-} == -h || ${1-} == --help ]]; then
		usage
		exit 0
	fi
}

misused() {
	usage >&2
	exit 2
}

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# step NAME COMMAND...: one line on the terminal, all output in build/log/NAME.log, whose end is
# shown should COMMAND fail.
step() {
	local name=$1 log=$LOG/$1.log

	shift
	mkdir -p "$LOG"
	echo "  $name"
	"$@" >"$log" 2>&1 </dev/null 9>&- || {
		tail -n 60 "$log" >&2
		die "$name failed, see $log"
	}
}

# locked NAME: from here to the script's end one process at a time. Commands that may leave a
# process behind must get no copy of descriptor 9, which would keep the lock.
locked() {
	mkdir -p build/lock
	exec 9>"build/lock/$1"
	flock 9
}

# digest PATH...: a line that changes when a name or a byte below the paths does.
digest() {
	find "$@" -name __pycache__ -prune -o -type f -print0 | LC_ALL=C sort -z |
		xargs -0 sha256sum | sha256sum
}

# scripts INTERPRETER: the scripts of the trees, which are known by their first line.
scripts() {
	find "${TREES[@]}" -name __pycache__ -prune -o -type f -exec awk -v first="^#!.*[/ ]$1[0-9.]*( |$)" \
		'FNR == 1 && $0 ~ first { print FILENAME } { nextfile }' {} + | sort
}

python_files() {
	{
		find "${TREES[@]}" -name '*.py'
		scripts python
	} | sort -u
}

c_files() {
	find "${TREES[@]}" -name '*.[ch]' | sort
}

# Python's build tools, of which meson and meson-python look for others in PATH. Nothing else
# should see the venv there.
in_venv() {
	env PATH="$BIN:$PATH" "$@"
}
