"""What perf says of samples becomes groups, and a short run of it all adds up."""

from __future__ import annotations

import os
import shutil

import pytest

from bench.side import profile

_ENGINE = "(/tree/proxy/_engine.so)"
_TOLD = f"""engine-0
\tffffffff8201ca27 tcp_ack ([kernel.kallsyms])
\tffffffff81e2f5d0 __x64_sys_sendto ([kernel.kallsyms])
\tffffffff821ed511 do_syscall_64 ([kernel.kallsyms])
\t          10a974 __send (/usr/lib/libc.so.6)

engine-0
\tffffffff8201ca27 tcp_ack ([kernel.kallsyms])
\tffffffff81e66ee1 __napi_poll ([kernel.kallsyms])

engine-0
\t          4060ee _engine::protocol::h1::fields::parse_fields {_ENGINE}

engine-0
\t          4060ee _engine::protocol::h1::forward::write_request {_ENGINE}
\t          4060ee _engine::session::exchange::request::request_arrived {_ENGINE}

engine-0
\t          4060ee _engine::session::exchange::record::record {_ENGINE}

engine-0
\t          4060ee _engine::session::engine::Engine<D>::turn {_ENGINE}

kakehi
\tffffffff8201ca27 hrtimer_nanosleep ([kernel.kallsyms])
\tffffffff81e2f5d0 __x64_sys_clock_nanosleep ([kernel.kallsyms])

"""


def test_a_sample_counts_for_the_call_or_the_room_that_it_is_in() -> None:
    assert profile.divided(_TOLD) == {
        "send": 1,
        "kernel, no call": 1,
        "parse": 1,
        "write heads": 1,
        "exchange": 1,
        "loop, timers, buffers": 1,
        "daemon and shell": 1,
    }


def test_without_samples_it_says_so() -> None:
    with pytest.raises(SystemExit, match="sampled nothing"):
        profile.divided("")


@pytest.mark.serial
@pytest.mark.skipif(
    shutil.which("perf") is None or len(os.sched_getaffinity(0)) < 2,
    reason="perf, and a core for the load, are needed",
)
def test_both_spend_most_of_their_time_in_calls_of_the_kernel(
    capsys: pytest.CaptureFixture[str],
) -> None:
    profile.run(profile.Course(connections=[8], seconds=2))
    rows = {line.split("  ")[0]: line.split()[-2:] for line in capsys.readouterr().out.splitlines()}
    for column in (0, 1):
        send, together = (float(rows[name][column]) for name in ("send", "together"))
        assert 0.05 < send / together < 0.98
