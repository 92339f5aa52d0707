from reconciler import errors
from schemas.diagnostic import Diagnostic


def test_every_error_has_the_code_of_its_reason() -> None:
    codes = {kind.__name__: kind.exit_code for kind in errors.KakehiError.__subclasses__()}
    assert codes == {
        "MachineError": 1,
        "ConfigError": 3,
        "BlockedError": 4,
        "StalePlanError": 5,
        "TransactionError": 6,
        "PolicyError": 7,
        "DeadlineError": 8,
        "DriftError": 9,
        "UsageError": 64,
    }
    assert (errors.EXIT_OK, errors.EXIT_CHANGES) == (0, 2)


def test_an_invalid_configuration_carries_all_diagnostics() -> None:
    error = Diagnostic("error", "a.yaml", 1, 2, "wrong")
    warning = Diagnostic("warning", "a.yaml", 3, 4, "odd")
    caught = errors.ConfigError([error, warning])
    assert caught.errors == (error,)
    assert str(caught) == "a.yaml:1:2: wrong\na.yaml:3:4: warning: odd"
