"""What the ledger of a real run predicts is what the run that really does it costs."""

import json

import pytest
from typer.testing import CliRunner

from emulator.cli.app import app

QUICK = """\
name: quick
devices: 3
rounds: 1
tasks: {kind: synthetic, names: [reverse, sort], train_samples: 60, test_samples: 2}
topology: {kind: by_method, degree: 2}
local: {steps: 1}
"""


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """The ledger, as JSON, of a quick run with overrides; each is run once."""
    place = tmp_path_factory.mktemp("runs")
    (place / "quick.yaml").write_text(QUICK)
    told = {}

    def run(*overrides):
        if overrides not in told:
            out = place / str(len(told))
            ran = ["run", place / "quick.yaml", *overrides, "--out", out]
            called([*ran, "--driver", "one_process", "--quiet"])
            told[overrides] = json.loads(called(["ledger", out, "--json"]))
            told[overrides]["summary"] = json.loads((out / "summary.json").read_text())
        return told[overrides]

    return run


def called(arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def predicted(told, what):
    (line,) = [line for line in told["what_if"] if line["what"].startswith(what)]
    return line["total_bytes"]


@pytest.mark.parametrize("method", ["lora", "sparse_orthogonal"])
def test_another_number_type_costs_what_was_predicted(ledger, method):
    """Exactly, both ways: packets, heads, int8 scales and acknowledgements included."""
    two_bytes = ledger(f"method.kind={method}", "wire.value_type=bfloat16")
    one_byte = ledger(f"method.kind={method}", "wire.value_type=int8")
    assert one_byte["total"]["total_bytes"] < two_bytes["total"]["total_bytes"]
    assert predicted(two_bytes, "values as int8") == one_byte["summary"]["bytes"]["total"]
    assert predicted(one_byte, "values as bfloat16") == two_bytes["summary"]["bytes"]["total"]


def test_experts_that_bring_their_masks_cost_nearly_what_was_predicted(ledger):
    """Clusters of one task trade experts, several to a burst: within 0.1 %."""
    alone = ("devices=2", "method.kind=sparse_orthogonal", "topology.kind=tasks")
    two_bytes = ledger(*alone, "wire.value_type=bfloat16")
    one_byte = ledger(*alone, "wire.value_type=int8")
    told = two_bytes["by_traffic"]["final exchange"]
    assert told["mask_bytes"] > 0
    assert predicted(two_bytes, "values as int8") == pytest.approx(
        one_byte["total"]["total_bytes"], rel=1e-3
    )
    assert predicted(one_byte, "values as bfloat16") == pytest.approx(
        two_bytes["total"]["total_bytes"], rel=1e-3
    )


def test_broadcast_costs_what_was_predicted(ledger):
    """Exactly, both ways: all receivers are told the same, and nothing is lost."""
    band = ("method.kind=lora", "topology.kind=complete", "access.kind=ofdma")
    unicast, broadcast = (
        ledger(*band, "access.bandwidth_hz=2e7", f"access.cast={cast}")
        for cast in ("unicast", "broadcast")
    )
    assert broadcast["total"]["total_bytes"] < 0.6 * unicast["total"]["total_bytes"]
    assert predicted(unicast, "broadcast") == broadcast["summary"]["bytes"]["total"]
    assert predicted(broadcast, "unicast") == unicast["summary"]["bytes"]["total"]
    assert predicted(broadcast, "broadcast") == broadcast["summary"]["bytes"]["total"]


def test_masks_as_bitmaps_cost_nearly_what_was_predicted(ledger):
    rice = ledger("method.kind=sparse_orthogonal", "wire.value_type=bfloat16")
    bitmap = ledger("method.kind=sparse_orthogonal", "wire.mask_codec=bitmap")
    assert bitmap["total"]["mask_bytes"] > rice["total"]["mask_bytes"]
    assert predicted(rice, "masks as bitmaps") == pytest.approx(
        bitmap["total"]["total_bytes"], rel=1e-3
    )
