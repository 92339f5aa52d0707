import re

from reconciler.catalog.catalog import load_directory
from schemas.describing.reference import reference_markdown
from schemas.kinds.registry import MODELS, measured_fields
from tests.harness import pki

TEXT = reference_markdown()


def test_every_key_of_every_kind_is_in_it() -> None:
    for model in MODELS.values():
        for name, field in model.model_fields.items():
            assert f"| `{name}` |" in TEXT
            assert str(field.description) in TEXT


def test_bounds_and_defaults_are_in_it() -> None:
    assert "| `timeouts.connect` | duration, 1ms to 168h | `3s` |" in TEXT
    assert "| `limits.head_bytes` | size, 1KiB to 64KiB | `32KiB` |" in TEXT
    assert "| `retries` | number, 0 to 10 | `2` |" in TEXT
    assert "| `listeners` | list of names | required |" in TEXT
    for kind in MODELS:
        for path in measured_fields(kind):
            assert f"| `{'.'.join(path)}` |" in TEXT


def test_its_examples_are_valid_together() -> None:
    examples = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    # The backend's example shows a part of the cluster's once more.
    distinct = [example for example in examples if example.count("clusters:") == 0]
    distinct.append(max((text for text in examples if "clusters:" in text), key=len))
    files = ((f"{number}.yaml", text.encode()) for number, text in enumerate(distinct))
    state, diagnostics = load_directory(files, pki.sample_file)
    assert diagnostics == ()
    assert state is not None
    assert len(state) == 11
