"""The systemd unit, by systemd's own tools: it is understood without a remark, and it is tight."""

import configparser
import re
import subprocess
from pathlib import Path

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "kakehi.service"
EXPOSURE_MAX = 2.0


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments, str(UNIT)], capture_output=True, text=True, timeout=60
    )


def settings() -> list[tuple[str, str]]:
    lines = [line.strip() for line in UNIT.read_text().splitlines()]
    pairs = [line.partition("=") for line in lines if line and line[0] not in "#["]
    return [(name, value) for name, _, value in pairs]


def test_systemd_understands_every_line() -> None:
    done = analyze("verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_sandbox_is_tight() -> None:
    done = analyze("security", "--offline=true", "--no-pager")
    exposure = re.search(r"Overall exposure level for kakehi\.service: ([0-9.]+)", done.stdout)
    assert exposure is not None, done.stdout + done.stderr
    assert float(exposure[1]) <= EXPOSURE_MAX


def test_the_security_bar_fails_what_is_over_it() -> None:
    assert analyze("security", "--offline=true", "--threshold=20").returncode == 0


def test_what_the_control_plane_relies_on() -> None:
    unit = dict(settings())
    assert unit["Type"] == "notify"
    assert unit["NotifyAccess"] == "main"
    assert unit["KillMode"] == "process", "workers outlive the control plane"
    assert unit["RuntimeDirectoryPreserve"] == "yes", "their sockets too"
    assert unit["Restart"] == "always"
    assert unit["RestartPreventExitStatus"] == "0", "`kakehi stop` is not undone by a restart"
    assert int(unit["FileDescriptorStoreMax"]) >= 1024
    assert int(unit["WatchdogSec"]) >= 1
    assert "sched_setaffinity" in [
        value for name, value in settings() if name == "SystemCallFilter"
    ]


def test_the_sections_are_in_order() -> None:
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.read(UNIT)
    assert parser.sections() == ["Unit", "Service", "Install"]
