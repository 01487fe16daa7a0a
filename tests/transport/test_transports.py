"""Each transport does the same: bytes in, bytes out, exit codes, eight at once, troubles told apart."""

import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dflow_hpc.errors import ConfigError, HostUnreachable
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.transport import LoginRefused, UnknownHost, open_transport
from dflow_hpc.executors.transport.logins import LoginGate
from dflow_hpc.executors.transport.sshconfig import host_config, own_known_hosts

KINDS = ["local", "paramiko", "openssh"]
SSH = ["paramiko", "openssh"]


@pytest.fixture
def open_kind(request):
    """Return a function that opens a transport, closed at the end of the test."""
    opened = []

    def open_it(kind, host="there", pause=0.0):
        if kind != "local":
            config = str(request.getfixturevalue("sshd").config)
            machine = Machine("m", transport=kind, host=host, ssh_config=config)
        else:
            machine = Machine("m")
        transport = open_transport(machine, login_pause=pause)
        opened.append(transport)
        return transport

    yield open_it
    for transport in opened:
        transport.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_gives_its_output_and_exit_code(kind, open_kind):
    transport = open_kind(kind)
    answer = transport.run("""cat; echo "it's $0 \\"quoted\\" 'so' $((1+1))" >&2; exit 7""", b"\x00\xff in")
    assert (answer.rc, answer.out) == (7, b"\x00\xff in")
    assert answer.err == b"it's /bin/sh \"quoted\" 'so' 2\n"
    assert (transport.commands, transport.sent, transport.logins) == (1, 5, 0 if kind == "local" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_large_streams_flow_in_all_directions_at_once(kind, open_kind):
    data = bytes(range(256)) * 12_000  # 3 MB: more than a window of SSH
    answer = open_kind(kind).run("tee /dev/stderr", data)
    assert (answer.rc, answer.out == data, answer.err == data) == (0, True, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_may_leave_its_input_unread(kind, open_kind):
    assert open_kind(kind).run("exit 3", b"x" * 5_000_000).rc == 3


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_than_eight_run_at_once(kind, open_kind, tmp_path):
    transport = open_kind(kind)
    # Each says how many there are while it runs; those of one login never exceed eight.
    command = f"mkdir {tmp_path}/$$; ls {tmp_path} | wc -l; sleep 0.1; rmdir {tmp_path}/$$"
    with ThreadPoolExecutor(12) as pool:
        counts = [int(answer.out) for answer in pool.map(transport.run, [command] * 12)]
    assert max(counts) <= 8
    assert transport.commands == 12
    assert transport.logins <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_in_time_is_unreachable_and_the_link_goes_on(kind, open_kind):
    transport = open_kind(kind)
    with pytest.raises(HostUnreachable, match="sleep 40"):
        transport.run("sleep 40", timeout=1)
    assert transport.run("echo well").out == b"well\n"
    assert transport.logins <= 1


@pytest.mark.parametrize("kind", SSH)
def test_a_cut_link_ends_commands_in_flight_and_the_next_logs_in_again(kind, open_kind, sshd, tmp_path):
    transport = open_kind(kind)
    errors = []

    def wait():
        try:
            transport.run(f"touch {tmp_path}/on; sleep 40", timeout=60)
        except HostUnreachable as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while not (tmp_path / "on").exists():
        time.sleep(0.01)
    sshd.cut()
    thread.join(30)
    assert len(errors) == 1
    assert transport.run("echo again").out == b"again\n"
    assert transport.logins == 2


@pytest.mark.parametrize("kind", SSH)
def test_jump_hosts_are_followed(kind, open_kind):
    assert open_kind(kind, "jumped").run("echo there").out == b"there\n"


@pytest.mark.parametrize("kind", SSH)
def test_unknown_hosts_are_refused_before_anything_is_sent(kind, open_kind):
    with pytest.raises(UnknownHost, match="host key"):
        open_kind(kind, "stranger").run("true")


@pytest.mark.parametrize("kind", SSH)
def test_a_refused_login_is_not_tried_again_at_once(kind, open_kind):
    transport = open_kind(kind, "refused")
    with pytest.raises(LoginRefused, match="refused the login"):
        transport.run("true")
    with pytest.raises(LoginRefused, match="not tried again for"):
        transport.run("true")


@pytest.mark.parametrize("kind", SSH)
def test_a_stopped_server_is_unreachable(kind, open_kind, sshd):
    transport = open_kind(kind)
    sshd.stop()
    try:
        with pytest.raises(HostUnreachable, match="cannot be reached"):
            transport.run("true")
    finally:
        sshd.start()
    assert transport.run("echo back").out == b"back\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_transport_is_of_no_use(kind, open_kind):
    transport = open_kind(kind)
    transport.run("true")
    transport.close()
    with pytest.raises(HostUnreachable, match="closed"):
        transport.run("true")


def test_a_trusted_key_is_known_to_both(open_kind, sshd):
    from dflow_hpc.executors.transport.paramiko import store_key, unknown_key

    shown = unknown_key("stranger", str(sshd.config))
    assert shown.fingerprint.startswith("SHA256:")
    assert store_key(shown) == own_known_hosts()
    assert unknown_key("stranger", str(sshd.config)) is None
    for kind in SSH:
        assert open_kind(kind, "stranger").run("echo in").out == b"in\n"


def test_a_changed_key_is_told_from_an_unknown_one(open_kind, sshd):
    from dflow_hpc.executors.transport.paramiko import unknown_key

    key = " ".join((sshd.directory / "wrong.pub").read_text().split()[:2])
    own_known_hosts().parent.mkdir(parents=True)
    own_known_hosts().write_text(f"[127.0.0.1]:{sshd.port} {key}\n")
    for ask in (
        lambda: unknown_key("stranger", str(sshd.config)),
        lambda: open_kind("paramiko", "stranger").run("true"),
    ):
        with pytest.raises(UnknownHost, match="NOT the known one"):
            ask()
    with pytest.raises(UnknownHost, match="changed"):
        open_kind("openssh", "stranger").run("true")


def test_a_profile_without_the_program_or_file_it_needs_says_so(sshd, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no host"):
        open_transport(Machine("m", transport="openssh"))
    with pytest.raises(ConfigError, match="no such file"):
        host_config("there", str(tmp_path / "absent"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="Install the OpenSSH client"):
        host_config("there", str(sshd.config))


def test_logins_keep_their_distance_and_refusals_longer_ones():
    now = [1000.0]
    gate = LoginGate(15, clock=lambda: now[0])
    waits = []
    gate.closed.wait = lambda seconds: (waits.append(seconds), now.__setitem__(0, now[0] + seconds))[0]
    gate.enter()
    gate.accepted()
    now[0] += 5
    gate.enter()
    assert waits == [10]
    lengths = []
    for _ in range(7):
        gate.refused(LoginRefused("no"))
        start = now[0]
        with pytest.raises(LoginRefused, match="not tried again"):
            gate.enter()
        while True:
            now[0] += 1
            try:
                gate.enter()
                break
            except LoginRefused:
                pass
        lengths.append(now[0] - start)
    assert lengths == [30, 60, 120, 240, 480, 600, 600]


def test_processes_of_one_user_take_turns(tmp_path):
    waits = []
    for _ in range(3):  # as many processes, at the same time
        gate = LoginGate(15, tmp_path / "state" / "host", clock=lambda: 1000.0)
        gate.closed.wait = waits.append
        gate.enter()
    assert waits == [15, 30]
    (tmp_path / "state" / "host").write_text("9e9")  # of a clock that was wrong
    LoginGate.enter(gate)
    assert waits[-1] == 600


def test_hashed_host_keys_are_known_and_broken_lines_are_named(open_kind, sshd):
    hashed = own_known_hosts()
    hashed.parent.mkdir(parents=True)
    shutil.copy(sshd.directory / "known", hashed)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", hashed], check=True, capture_output=True)
    assert "127.0.0.1" not in hashed.read_text()
    for kind in SSH:
        assert open_kind(kind, "stranger").run("echo in").out == b"in\n"
    hashed.write_text("host ssh-ed25519 AAA\n")
    with pytest.raises(ConfigError, match="a line of it is broken"):
        open_kind("paramiko", "stranger").run("true")
