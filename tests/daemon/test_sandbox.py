# SPDX-License-Identifier: BSD-3-Clause
"""What the serving process, each of its threads, can still do; and that the share works from there.

Looked at from outside, in /proc: a process that tells of its own limits might be mistaken.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon.events import ALL, CREATE, ON_CHILD, Watched
from tests.daemon.running import COMMAND, DEADLINE_S, Daemon, root_only
from tests.frontend import ROOT_ID, FuseError, Session
from virtiofsd_py.options import CAPABILITY_NAMES

MODES = ["none", "chroot", "namespace"]
KEPT = ["chown", "dac_override", "fowner", "fsetid", "setgid", "setuid", "mknod", "setfcap"]
FOR_HANDLES = "dac_read_search"
OTHER_USER = 1000


def mask(*names: str) -> int:
    """Return capabilities as /proc shows them."""
    return sum(1 << CAPABILITY_NAMES.index(name) for name in names)


def threads(pid: int) -> dict[str, dict[str, str]]:
    """Return the status of each thread of a process, by its name and number."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        found[f"{status['Name']} {task.name}"] = status
    return found


def wait_for_end(pid_fd: int) -> None:
    """Wait until a process has ended."""
    poller = select.poll()
    poller.register(pid_fd, select.POLLIN)
    assert poller.poll(DEADLINE_S * 1000)


@pytest.fixture(params=[pytest.param(m, marks=root_only if m != "none" else ()) for m in MODES])
def mode(request: pytest.FixtureRequest) -> str:
    """Return each kind of sandbox in turn."""
    return str(request.param)


@pytest.fixture
def daemon(start: Callable[..., Daemon], mode: str) -> Daemon:
    """Return a daemon in a sandbox."""
    return start(f"--sandbox={mode}")


@root_only
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], [*KEPT, FOR_HANDLES]),
        (["--inode-file-handles=never"], KEPT),
        (["--modcaps=+kill:-mknod"], [*KEPT[:6], "setfcap", FOR_HANDLES, "kill"]),
    ],
)
def test_every_thread_is_confined(
    start: Callable[..., Daemon], mode: str, arguments: list[str], names: list[str]
) -> None:
    daemon = start(f"--sandbox={mode}", "--num-request-queues=2", *arguments)
    with Session.connect(daemon.socket) as session:
        session.fuse.init()
        for client in session.clients[:2]:
            client.getattr(ROOT_ID)
        confined = threads(daemon.pid)
        # The control thread, one for events, one for each ring of requests.
        assert len(confined) >= 4
        assert any(name.startswith("vfsd-events ") for name in confined)
        for name, status in confined.items():
            assert status["Seccomp"] == "2", name
            assert status["NoNewPrivs"] == "1", name
            assert int(status["CapEff"], 16) == mask(*names), name
            assert int(status["CapPrm"], 16) == mask(*names), name
            assert [int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Bnd", "Amb")] == [0, 0, 0]
            assert status["Groups"] == "", name


@root_only
def test_modcaps_that_cannot_be_kept_are_named(start: Callable[..., Daemon]) -> None:
    have = int(threads(os.getpid()).popitem()[1]["CapPrm"], 16)
    lacking = [name for name in CAPABILITY_NAMES if not have & mask(name)]
    if not lacking:
        pytest.skip("we have them all")
    daemon = start(f"--modcaps=+{lacking[0]}")
    assert any(f"event=capabilities_missing names={lacking[0]}" in line for line in daemon.log)


def test_seccomp_can_be_left_out(start: Callable[..., Daemon]) -> None:
    daemon = start("--seccomp=none")
    assert {status["Seccomp"] for status in threads(daemon.pid).values()} == {"0"}


@root_only
def test_namespaces(daemon: Daemon, mode: str) -> None:
    def namespaces(pid: int | str) -> dict[str, str]:
        return {k: os.readlink(f"/proc/{pid}/ns/{k}") for k in ("pid", "mnt", "net", "user")}

    ours, its = namespaces("self"), namespaces(daemon.pid)
    changed = {kind for kind in ours if its[kind] != ours[kind]}
    assert changed == ({"pid", "mnt", "net"} if mode == "namespace" else set())
    root = f"/proc/{daemon.pid}/root/"
    assert os.path.samestat(os.stat(root), daemon.share.stat()) == (mode != "none")


@root_only
def test_nothing_but_the_share_is_mounted(start: Callable[..., Daemon]) -> None:
    daemon = start("--sandbox=namespace")
    mounts = Path(f"/proc/{daemon.pid}/mountinfo").read_text().splitlines()
    assert [line.split()[4] for line in mounts] == ["/"]


@root_only
def test_no_descriptor_leads_out(start: Callable[..., Daemon]) -> None:
    daemon = start("--sandbox=namespace")
    tops = set()
    for number in os.listdir(f"/proc/{daemon.pid}/fd"):
        path = f"/proc/{daemon.pid}/fd/{number}"
        if not Path(path).is_dir():
            continue
        while not os.path.samestat(os.stat(path), os.stat(f"{path}/..")):
            path += "/.."
        tops.add((os.stat(path).st_dev, os.stat(path).st_ino))
    its_fds = os.stat(f"/proc/{daemon.pid}/fd")
    share = daemon.share.stat()
    assert (share.st_dev, share.st_ino) in tops
    tops.remove((share.st_dev, share.st_ino))
    assert len(tops) == 1, "only its own /proc/self/fd is left, of a proc that has no other way in"
    assert all(dev != its_fds.st_dev for dev, _ in tops)


@root_only
@pytest.mark.parametrize("prefix", ["", "@"])
def test_no_socket_is_left_that_could_reach_others(
    start: Callable[..., Daemon],
    mode: str,
    prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A datagram socket of another network namespace sends to any name there."""
    name = f"{prefix}{tmp_path}/notify"
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1))
        manager.settimeout(DEADLINE_S)
        daemon = start(f"--sandbox={mode}")
        assert manager.recv(64) == b"READY=1"
        with Session.connect(daemon.socket) as guest:
            guest.fuse.init()
            table = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
            datagrams = {f"socket:[{fields[6]}]" for fields in table if int(fields[4], 16) == 2}
            assert f"socket:[{os.fstat(manager.fileno()).st_ino}]" in datagrams
            its = {os.readlink(fd) for fd in Path(f"/proc/{daemon.pid}/fd").iterdir()}
            assert not its & datagrams


@root_only
def test_the_system_log_is_all_that_its_socket_reaches(tmp_path: Path) -> None:
    """It is of the sandbox's network namespace, where nobody else has a name."""
    devices = tmp_path / "dev"
    devices.mkdir()
    os.mknod(devices / "null", 0o666 | stat.S_IFCHR, os.stat("/dev/null").st_rdev)
    mount = f'mount --bind {devices} /dev && exec "$@"'
    command = [COMMAND, f"--shared-dir={tmp_path}", f"--socket-path={tmp_path}/s", "--syslog"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(devices / "log"))
        log.settimeout(DEADLINE_S)
        process = subprocess.Popen(["unshare", "--mount", "sh", "-c", mount, "sh", *command])
        try:
            while b"event=ready" not in (line := log.recv(4096)):
                pass
            pid = int(line.partition(b" pid=")[2].split()[0])
            table = Path("/proc/net/unix").read_text()
            its = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
            inside = Path(f"/proc/{pid}/net/unix").read_text()
            (own,) = [line for line in inside.splitlines() if line.split()[4] == "0002"]
            assert f"socket:[{own.split()[6]}]" in its
            datagrams = [line.split() for line in table.splitlines() if " 0002 " in line]
            assert not its & {f"socket:[{fields[6]}]" for fields in datagrams}
            Session.connect(tmp_path / "s").close()
            while b"event=disconnected" not in log.recv(4096):
                pass
        finally:
            process.terminate()
            process.wait(DEADLINE_S)


@root_only
def test_network_is_empty(start: Callable[..., Daemon]) -> None:
    from pyroute2 import NetNS

    daemon = start("--sandbox=namespace")
    with NetNS(f"/proc/{daemon.pid}/ns/net") as network:
        assert [(link.get("ifname"), link.get("state")) for link in network.get_links()] == [
            ("lo", "down")
        ]


@root_only
def test_debug_log_tells_of_the_network(start: Callable[..., Daemon]) -> None:
    daemon = start("--sandbox=namespace", "--log-level=debug")
    assert any("event=network links=lo" in line for line in daemon.log)


def test_events_from_inside(daemon: Daemon) -> None:
    """The host's doing is told, the guest's own is not, in one guest after another."""
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        watched = Watched(daemon, guest)
        opened = guest.fuse.open(watched.file, os.O_RDWR)
        guest.fuse.write(watched.file, opened.fh, 0, b"guest")
        guest.fuse.release(watched.file, opened.fh, os.O_RDWR)
        guest.fuse.mkdir(watched.dir, "sub")
        assert watched.short() == []
        (watched.path / "n").touch()
        assert (CREATE, b"n") in watched.short()
        guest.reset()
        guest.fuse.init()
        watched.dir = guest.fuse.lookup(ROOT_ID, "d").nodeid
        guest.fuse.fsnotify(watched.dir, ALL | ON_CHILD)
        guest.fuse.mkdir(watched.dir, "again")
        assert watched.short() == []
        (watched.path / "m").touch()
        assert (CREATE, b"m") in watched.short()


@root_only
def test_handles_hold_inodes(start: Callable[..., Daemon], mode: str) -> None:
    daemon = start(f"--sandbox={mode}", "--inode-file-handles=mandatory")
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        for i in range(500):
            (daemon.share / str(i)).write_text(str(i))
        nodes = [guest.fuse.lookup(ROOT_ID, str(i)).nodeid for i in range(500)]
        assert len(os.listdir(f"/proc/{daemon.pid}/fd")) < 200
        opened = guest.fuse.open(nodes[77])
        assert guest.fuse.read(nodes[77], opened.fh, 0, 10) == b"77"


def test_links_of_the_host_do_not_lead_out(daemon: Daemon) -> None:
    (daemon.share / "link").symlink_to("/etc")
    (daemon.share / "up").symlink_to("../..")
    with Session.connect(daemon.socket) as guest:
        guest.fuse.init()
        for name in ("link", "up"):
            found = guest.fuse.lookup(ROOT_ID, name)
            with pytest.raises(FuseError):
                guest.fuse.lookup(found.nodeid, "passwd")


@root_only
@pytest.mark.parametrize("mode", ["chroot", "namespace"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1])
def test_guardian_ends_as_its_child_did(
    start: Callable[..., Daemon], mode: str, number: signal.Signals
) -> None:
    daemon = start(f"--sandbox={mode}", "--rlimit-nofile=0")
    assert daemon.process.pid != daemon.pid
    if number == signal.SIGUSR1 and mode == "namespace":
        number = signal.SIGKILL  # pid 1 of a namespace takes no other one from outside
    os.kill(daemon.pid, number)
    assert daemon.wait() == -number
    assert list(daemon.socket.parent.iterdir()) == [daemon.share]


@root_only
@pytest.mark.parametrize("mode", ["chroot", "namespace"])
@pytest.mark.parametrize("connected", [False, True])
def test_child_ends_with_its_guardian(
    start: Callable[..., Daemon], mode: str, connected: bool
) -> None:
    daemon = start(f"--sandbox={mode}")
    pid_fd = os.pidfd_open(daemon.pid)
    try:
        session = Session.connect(daemon.socket) if connected else None
        daemon.process.kill()
        wait_for_end(pid_fd)
        if session:
            session.close()
    finally:
        os.close(pid_fd)


def test_lock_names_whoever_was_started(daemon: Daemon) -> None:
    assert Path(f"{daemon.socket}.pid").read_text() == f"{daemon.process.pid}\n"


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Path]:
    """Return a directory that belongs to another user, and that this user can get at."""
    with tempfile.TemporaryDirectory(prefix="virtiofsd-py-", dir="/tmp") as name:
        os.chown(name, OTHER_USER, OTHER_USER)
        (Path(name) / "share").mkdir()
        os.chown(Path(name) / "share", OTHER_USER, OTHER_USER)
        yield Path(name)


def as_other_user(*capabilities: str, group: int | None = None) -> list[str]:
    """Return what runs a command as OTHER_USER, with a supplementary group or none.

    That user need not be able to reach the interpreter, hence one capability.
    """
    names = ",".join(f"+{name}" for name in (FOR_HANDLES, *capabilities))
    return [
        "setpriv",
        f"--reuid={OTHER_USER}",
        f"--regid={OTHER_USER}",
        "--clear-groups" if group is None else f"--groups={group}",
        f"--inh-caps={names}",
        f"--ambient-caps={names}",
    ]


@root_only
def test_other_users_keep_their_id(foreign: Path) -> None:
    with (
        Daemon(foreign, "--sandbox=namespace", launcher=as_other_user()) as daemon,
        Session.connect(daemon.socket) as guest,
    ):
        guest.fuse.init()
        ours = os.readlink("/proc/self/ns/user")
        assert os.readlink(f"/proc/{daemon.pid}/ns/user") != ours
        assert Path(f"/proc/{daemon.pid}/uid_map").read_text().split() == ["1000", "1000", "1"]
        assert Path(f"/proc/{daemon.pid}/gid_map").read_text().split() == ["1000", "1000", "1"]
        for name, status in threads(daemon.pid).items():
            assert status["Seccomp"] == "2", name
            assert int(status["CapEff"], 16) == mask(*KEPT, FOR_HANDLES), name
        made = guest.fuse.mkdir(ROOT_ID, "made")
        assert (daemon.share / "made").stat().st_uid == OTHER_USER
        guest.fuse.fsnotify(made.nodeid, ALL | ON_CHILD)
        (daemon.share / "made" / "n").mkdir()
        assert guest.notifications is not None
        guest.notifications.read_until(lambda r: r.name == b"n")


@root_only
def test_other_user_as_root_of_a_namespace(foreign: Path) -> None:
    own = f":0:{OTHER_USER}:1:"
    with (
        Daemon(
            foreign,
            "--sandbox=namespace",
            f"--uid-map={own}",
            f"--gid-map={own}",
            launcher=as_other_user(),
        ) as daemon,
        Session.connect(daemon.socket) as guest,
    ):
        guest.fuse.init()
        assert Path(f"/proc/{daemon.pid}/uid_map").read_text().split() == ["0", "1000", "1"]
        guest.fuse.mkdir(ROOT_ID, "made")
        assert (daemon.share / "made").stat().st_uid == OTHER_USER


@pytest.fixture
def ranges(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return options for ranges of ids, which go through newuidmap.

    A stand-in with the rights of the real one, for which /etc/subuid would have to change.
    """
    programs = foreign / "bin"
    programs.mkdir()
    if os.statvfs(programs).f_flag & os.ST_NOSUID:
        pytest.skip("the stand-in takes set-user-id")
    shell = programs / "sh"
    shutil.copy("/bin/sh", shell)
    shell.chmod(0o4755)
    for kind in ("uid", "gid"):
        program = programs / f"new{kind}map"
        program.write_text(
            f"#!{shell} -p\n"
            "pid=$1 map=; shift\n"
            'while [ $# -gt 0 ]; do map="$map$1 $2 $3\n"; shift 3; done\n'
            f'printf %s "$map" >/proc/$pid/{kind}_map\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return [
        f"--{kind}-map=:{a}:{b}:{n}:"
        for kind in ("uid", "gid")
        for a, b, n in ((0, 1000, 1), (1, 100000, 65535))
    ]


@root_only
def test_ranges_go_through_newuidmap(foreign: Path, ranges: list[str]) -> None:
    with (
        Daemon(
            foreign,
            "--sandbox=namespace",
            *ranges,
            launcher=as_other_user(),
        ) as daemon,
        Session.connect(daemon.socket) as guest,
    ):
        guest.fuse.init()
        expected = ["0", "1000", "1", "1", "100000", "65535"]
        assert Path(f"/proc/{daemon.pid}/uid_map").read_text().split() == expected
        assert Path(f"/proc/{daemon.pid}/gid_map").read_text().split() == expected
        guest.fuse.uid, guest.fuse.gid = 5, 6
        made = guest.fuse.mkdir(ROOT_ID, "made")
        assert (made.attr.uid, made.attr.gid) == (5, 6)
        status = (daemon.share / "made").stat()
        assert (status.st_uid, status.st_gid) == (100004, 100005)


GROUP = 50


@root_only
@pytest.mark.parametrize("capabilities", [(), ("setgid",)])
def test_groups_of_the_user_do_not_become_a_guests(
    foreign: Path, ranges: list[str], capabilities: tuple[str, ...]
) -> None:
    """Else what a guest's user makes keeps the set-group-id bit of a group that is not its own."""
    directory = foreign / "share" / "sg"
    directory.mkdir()
    os.chown(directory, OTHER_USER, GROUP)
    directory.chmod(0o2777)
    (directory / "secret").write_bytes(b"x")
    os.chown(directory / "secret", 0, GROUP)
    (directory / "secret").chmod(0o060)
    with (
        Daemon(
            foreign,
            "--sandbox=namespace",
            *ranges,
            launcher=as_other_user(*capabilities, group=GROUP),
        ) as daemon,
        Session.connect(daemon.socket) as guest,
    ):
        guest.fuse.init()
        assert {status["Groups"] for status in threads(daemon.pid).values()} == {""}
        assert not any("groups_stay" in line for line in daemon.log)
        guest.fuse.uid, guest.fuse.gid = 5, 6
        node = guest.fuse.lookup(ROOT_ID, "sg").nodeid
        guest.fuse.create(node, "f", 0o102755)
        assert (directory / "f").stat().st_mode == 0o100755
        guest.fuse.uid, guest.fuse.gid = 0, 0
        secret = guest.fuse.lookup(node, "secret").nodeid
        with pytest.raises(FuseError, match="Permission denied"):
            guest.fuse.open(secret)


@root_only
def test_groups_that_have_to_stay_are_told_of(foreign: Path) -> None:
    own = f":0:{OTHER_USER}:1:"
    arguments = ["--sandbox=namespace", f"--uid-map={own}", f"--gid-map={own}"]
    with Daemon(foreign, *arguments, launcher=as_other_user(group=GROUP)) as daemon:
        assert any("event=groups_stay" in line for line in daemon.log)
    # Who may leave them before does.
    with Daemon(foreign, *arguments, launcher=as_other_user("setgid", group=GROUP)) as daemon:
        assert {status["Groups"] for status in threads(daemon.pid).values()} == {""}
