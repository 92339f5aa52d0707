from reconciler.errors import KakehiError, MachineError


def test_what_the_machine_failed_at_is_an_io_error() -> None:
    error = MachineError("cannot write the journal: no space left")
    assert isinstance(error, KakehiError)
    assert error.exit_code == 1
    assert str(error) == "cannot write the journal: no space left"
