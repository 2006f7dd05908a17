# SPDX-License-Identifier: BSD-3-Clause
"""The share as the upper layer of an overlay file system of the guest.

The overlay keeps its notes in ``trusted.overlay.*`` attributes, which a daemon without
CAP_SYS_ADMIN cannot write on the host, and one with it writes only if its xattrmap says so: either
the map gives them other names there, or it passes them, or the guest mounts with ``userxattr``.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from runguest import paths

DEADLINE_S = 300

SCRIPT = """
set -e
lower=/tmp/lower merged=/tmp/merged
mkdir -p upper work $lower/dir $merged
echo low > $lower/dir/file
echo low > $lower/other
overlay() {
    mount -t overlay overlay $merged \\
        -o lowerdir=$lower,upperdir=/mnt/share/upper,workdir=/mnt/share/work$1
}
overlay "$1"
cd $merged
echo high >> dir/file
rm other
echo new > created
mv created dir/moved
rm -r dir
mkdir dir
echo after > dir/after
python3 -c '
import os
fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
os.write(fd, b"nameless")
here = os.open(".", os.O_PATH)
os.link(f"/proc/self/fd/{fd}", "linked", src_dir_fd=here, dst_dir_fd=here, follow_symlinks=True)
'
cd /
umount $merged
overlay "$1"
find $merged -printf '%P %y %s\\n' | sort
cat $merged/dir/after $merged/linked
umount $merged
"""

SEEN = ["", "dir", "dir/after", "linked"]


@pytest.mark.only("uml")
@pytest.mark.parametrize(
    ("daemon_arguments", "mount_options"),
    [
        (["--daemon-arg=--xattr", "--daemon-arg=--xattrmap=:map::user.virtiofs.:"], ""),
        (["--daemon-arg=--xattr"], ",userxattr"),
        (["--daemon-arg=--modcaps=+sys_admin", "--daemon-arg=--xattrmap=:ok:all:::"], ""),
        (["--daemon-arg=--modcaps=+sys_admin", "--daemon-arg=--xattr"], ",userxattr"),
    ],
    ids=["xattrmap", "userxattr", "sys_admin", "sys_admin-userxattr"],
)
def test_share_is_an_upper_layer(
    vmm: str, tmp_path: Path, daemon_arguments: list[str], mount_options: str
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    done = subprocess.run(
        [
            *(os.fspath(paths.RUN_GUEST), "--vmm", vmm, "--share", os.fspath(share)),
            *daemon_arguments,
            *("--", "sh", "-c", SCRIPT, "sh", mount_options),
        ],
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *listed, content = done.stdout.splitlines()
    # The two files end in one line: the second has no end of line.
    assert [line.split(" ")[0] for line in listed[:-1]] == SEEN, done.stdout
    assert (listed[-1], content) == ("after", "nameless")
    upper = share / "upper"
    whiteout = (upper / "other").lstat()
    assert stat.S_ISCHR(whiteout.st_mode)
    assert whiteout.st_rdev == 0
    assert (upper / "linked").read_bytes() == b"nameless"
    assert not (upper / "dir/file").exists()


MOUNTED_LOWER = """
mount -t tmpfs none "$0/lower/mount"
echo mounted > "$0/lower/mount/file"
exec "$@"
"""
OVER_MOUNT = """
set -e
mkdir /tmp/top /tmp/merged
mount -t tmpfs top /tmp/top
mkdir /tmp/top/upper /tmp/top/work
mount -t overlay overlay /tmp/merged \\
    -o lowerdir=/mnt/share/lower,upperdir=/tmp/top/upper,workdir=/tmp/top/work
cat /tmp/merged/file
cat /tmp/merged/mount/file 2>&1 || true
umount /tmp/merged
"""


@pytest.mark.only("uml")
@pytest.mark.parametrize(
    ("daemon_arguments", "said"),
    [
        (["--daemon-arg=--no-announce-submounts"], "mounted"),
        # Overlay file systems take no submounts: the rest of the lower layer is there.
        ([], "cat: /tmp/merged/mount/file: Object is remote"),
    ],
    ids=["directory", "submount"],
)
def test_mount_in_a_lower_layer(tmp_path: Path, daemon_arguments: list[str], said: str) -> None:
    share = tmp_path / "share"
    (share / "lower/mount").mkdir(parents=True)
    (share / "lower/file").write_text("plain\n")
    done = subprocess.run(
        [
            *("unshare", "--mount", "sh", "-e", "-c", MOUNTED_LOWER, os.fspath(share)),
            *(os.fspath(paths.RUN_GUEST), "--vmm", "uml", "--share", os.fspath(share)),
            *daemon_arguments,
            *("--", "sh", "-c", OVER_MOUNT),
        ],
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["plain", said]
