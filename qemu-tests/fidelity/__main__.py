# SPDX-License-Identifier: BSD-3-Clause
"""``make fidelity``: see the package."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[1]))

from runguest import helpers, paths
from runguest.errors import RunGuestError

from fidelity import rules, scenario
from fidelity.suite import ACTORS, Suite, report


def main() -> int:
    """Entry point; 1 if something differs without a rule that says why."""
    parser = argparse.ArgumentParser(prog="fidelity", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--vmm", choices=("uml", "qemu"), default="uml", help="kind of guest, default uml")
    add("--actor", action="append", choices=ACTORS, help="only this one; repeatable")
    add("--quick", action="store_true", help="watch in fewer ways")
    add("-k", default="", metavar="TEXT", help="only scenarios whose name contains TEXT")
    add("--rules", action="store_true", help="print the rules and end")
    asked = parser.parse_args()
    if asked.rules:
        for rule in rules.RULES:
            print(f"{rule.name} ({', '.join(sorted(rule.actors))})\n  {rule.why}")
        return 0
    chosen = [known for known in scenario.load() if asked.k in known.id]
    home = paths.BUILD / "fidelity" / str(os.getpid())
    different = False
    try:
        helpers.build()
        home.mkdir(parents=True)
        for verdict in Suite(home, asked.vmm, chosen, asked.quick).run(asked.actor or [*ACTORS]):
            report(verdict, sys.stdout)
            different = different or bool(verdict.faults)
    except RunGuestError as error:
        print(f"fidelity: {error}", file=sys.stderr)
        return error.status
    finally:
        shutil.rmtree(home / "share", ignore_errors=True)
    return int(different)


if __name__ == "__main__":
    sys.exit(main())
